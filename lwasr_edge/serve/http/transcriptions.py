"""POST /v1/audio/transcriptions, as OpenAI's clients call it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam

from lwasr_edge.errors import AudioError, LimitError, LwasrError, OptionError
from lwasr_edge.serve.http.openai_forms import verbose_json
from lwasr_edge.serve.http.server_sent import send_events
from lwasr_edge.serve.service import to_its_end
from lwasr_edge.validate import shown

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Transcript
    from lwasr_edge.serve.service import Service

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
STREAMED_FORMATS = ("json", "text")
GRANULARITIES = ("segment", "word")
# That clients have built in.
OTHER_NAMES = ("default", "whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
MAX_FIELD_BYTES = 65_536
MAX_PARTS = 64
MIN_BYTES_PER_S = 1_000  # after `idle_s`: slow uploads must not keep others out
LANGUAGE_NAMES = {"en": "english"}

for _category in (
    BadContentDispositionHeader,
    BadContentDispositionParam,
):  # they would put a stranger's text in the log
    warnings.filterwarnings("ignore", category=_category)


@dataclass
class TranscriptionForm:
    """The fields of a request. `prompt`, `temperature`, `include[]` and `chunking_strategy` are read and ignored."""

    file: IO[bytes] | None = None
    values: dict[str, str] = field(default_factory=dict)
    granularities: list[str] = field(default_factory=list)

    def check(self, model: str, language: str) -> None:
        """Refuse what this service cannot do.

        Args:
            model: name of the model.
            language: its code.

        Raises:
            OptionError, AudioError: a missing or invalid field.
        """
        if self.file is None:
            raise AudioError("file must be a recording, got none: send it as the field `file` of multipart/form-data")
        if self.values.get("model", model) not in (model, *OTHER_NAMES):
            raise OptionError(f"model must be {model}, got {shown(self.values['model'])}")
        wanted = self.values.get("language") or language
        if wanted.lower().replace("_", "-").partition("-")[0] not in (language, LANGUAGE_NAMES.get(language)):
            raise OptionError(f"language must be {language}, got {shown(wanted)}")
        if self.response_format not in RESPONSE_FORMATS:
            raise OptionError(
                f"response_format must be one of {', '.join(RESPONSE_FORMATS)}, got {shown(self.response_format)}"
            )
        if self.is_streamed and self.response_format not in STREAMED_FORMATS:
            raise OptionError(f"stream needs response_format json or text, got {self.response_format}")
        unknown = [name for name in self.granularities if name not in GRANULARITIES]
        if unknown:
            raise OptionError(f"timestamp_granularities[] must be segment or word, got {shown(unknown[0])}")
        if self.granularities and self.response_format != "verbose_json":
            raise OptionError(
                f"timestamp_granularities[] needs response_format verbose_json, got {self.response_format}"
            )

    @property
    def is_streamed(self) -> bool:
        """Whether the text is sent as events while it is recognised."""
        return self.values.get("stream", "false").lower() not in ("false", "0", "", "null")

    @property
    def response_format(self) -> str:
        """Of the answer."""
        return self.values.get("response_format") or "json"


async def create_transcription(request: web.Request, service: Service) -> web.StreamResponse:
    """Receive a file, transcribe it, and answer in the form that was asked for.

    Raises:
        LwasrError: what the client has to change, or a limit; see `app` for the status.
    """
    declared = request.content_length
    if declared is not None and declared > service.limits.upload_bytes + MAX_PARTS * MAX_FIELD_BYTES:
        raise _too_large(service)
    with service.file_slot(), tempfile.TemporaryFile() as file:
        result = "error"
        try:
            form = await asyncio.wait_for(_read_form(request, service, file), service.limits.session_s)
            info = service.recognizer.info
            form.check(info.name, info.language or "en")
            if form.is_streamed:
                response = await send_events(request, service, file)
                result = "ok"
                return response
            transcript = await service.transcribe(file)
            result = "ok"
            return await asyncio.to_thread(_response, form, transcript, service)  # hours of words
        except asyncio.TimeoutError:
            raise LimitError(f"an upload must end within {service.limits.session_s:g} s", "idle") from None
        finally:
            service.metrics.files.labels(result).inc()


def served_models(service: Service) -> list[dict[str, Any]]:
    """The models as OpenAI's clients list them: one."""
    info = service.recognizer.info
    return [{"id": info.name, "object": "model", "created": 0, "owned_by": "lwasr-edge"}]


async def _read_form(request: web.Request, service: Service, file: IO[bytes]) -> TranscriptionForm:
    if request.content_type != "multipart/form-data":
        raise OptionError(f"the request must be multipart/form-data, got {shown(request.content_type)}")
    form = TranscriptionForm()
    try:
        reader = await request.multipart()
        for _ in range(MAX_PARTS):
            part = await service.next_of(reader.next())
            if part is None:
                return form
            if not isinstance(part, BodyPartReader):
                raise OptionError("a field must be text or a file, got more parts in it")
            if part.name == "file":
                await _save(part, service, file)
                form.file = file
            elif part.name in ("timestamp_granularities[]", "timestamp_granularities"):
                form.granularities.append(await _text(part, service))
            elif part.name:
                form.values[part.name] = await _text(part, service)
    except LwasrError:
        raise
    except (ValueError, AssertionError, HttpProcessingError, web.RequestPayloadError) as error:
        raise OptionError(f"the request must be valid multipart/form-data: {error}") from error
    raise OptionError(f"a request must have at most {MAX_PARTS} fields, got more")


async def _save(part: BodyPartReader, service: Service, file: IO[bytes]) -> None:
    """Write an uploaded file; the disk may be slow, so a thread writes."""
    size, began_s = 0, time.monotonic()
    file.seek(0)
    file.truncate()
    while chunk := await service.next_of(part.read_chunk(1 << 16)):
        size += len(chunk)
        if size > service.limits.upload_bytes:
            raise _too_large(service)
        if time.monotonic() - began_s > service.limits.idle_s + size / MIN_BYTES_PER_S:
            raise service.refused("idle", f"an upload must have at least {MIN_BYTES_PER_S} bytes/s, got fewer")
        await to_its_end(asyncio.ensure_future(asyncio.to_thread(file.write, chunk)))
    file.seek(0)


async def _text(part: BodyPartReader, service: Service) -> str:
    data = b""
    while chunk := await service.next_of(part.read_chunk()):
        data += chunk
        if len(data) > MAX_FIELD_BYTES:
            raise LimitError(f"the field {shown(part.name)} must have at most {MAX_FIELD_BYTES} bytes", "size")
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode().strip()
    raise OptionError(f"the field {shown(part.name)} must be text in UTF-8")


def _too_large(service: Service) -> LimitError:
    return service.refused("size", f"a file must have at most {service.limits.upload_mb:g} MB, got more: cut it")


def _response(form: TranscriptionForm, transcript: Transcript, service: Service) -> web.StreamResponse:
    if form.response_format == "text":
        return web.Response(text=transcript.text + "\n")
    if form.response_format == "srt":
        return web.Response(text=service.forms.srt(transcript))
    if form.response_format == "vtt":
        return web.Response(text=service.forms.vtt(transcript), content_type="text/vtt")
    if form.response_format == "verbose_json":
        language = service.recognizer.info.language or "en"
        name = LANGUAGE_NAMES.get(language, language)
        return web.json_response(verbose_json(transcript, name, form.granularities or ["segment"]))
    usage = {"type": "duration", "seconds": round(transcript.duration_s, 3)}
    return web.json_response({"text": transcript.text, "usage": usage})
