"""One connection of the Wyoming protocol: a satellite, or Home Assistant."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong

from lwasr_edge.errors import AudioError, LimitError, LwasrError
from lwasr_edge.events import Event, Final
from lwasr_edge.serve.pcm import PcmFormat
from lwasr_edge.serve.session import Session, open_session
from lwasr_edge.serve.wyoming.protocol import MAX_HEADER_BYTES, describe, read_event
from lwasr_edge.utterance import EndpointRules
from lwasr_edge.validate import shown

if TYPE_CHECKING:
    from wyoming.event import Event as Message

    from lwasr_edge.serve.service import Service

log = logging.getLogger("lwasr_edge.serve")

SILENCE_S = {"aggressive": 0.4, "relaxed": 1.3}  # of `vad_sensitivity`, if the service finds the end of commands
NOBODY_SPEAKS_S = 8.0  # ... and gives up
DISCARD_S = 5.0  # in which a client that got an error may finish what it sends
STOPPING_S = 1.0  # ... when the service ends
IDLE_CONNECTION = 20  # times `idle_s`, between two requests


class WyomingConnection:
    """Answer the events of one client until it disconnects.

    The text of an utterance is sent as a transcript-chunk when it ends, and the whole text as a transcript after
    audio-stop. With `ends_commands`, the transcript is sent at the end of the first utterance instead, and audio after
    it is ignored until audio-stop.

    Args:
        service: recognises.
        rules: end-points of streams.
        ends_commands: whether the service finds the end of a command, not the client.
        reader, writer: of the connection.
    """

    def __init__(
        self,
        service: Service,
        rules: EndpointRules,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        ends_commands: bool = False,
    ) -> None:
        self._service = service
        self._rules = rules
        self._ends_commands = ends_commands
        self._reader = reader
        self._writer = writer
        self._request = Transcribe()
        self._session: Session[Event] | None = None
        self._slot = contextlib.ExitStack()  # of the session
        self._texts: list[str] = []
        self._is_answered = False  # before audio-stop

    async def run(self) -> None:
        """Serve the client; return when the connection is closed."""
        try:
            while (message := await self._next()) is not None:
                await self._handle(message)
        except LimitError as error:
            if error.reason == "stopping" and self._session is not None and not self._is_answered:
                await self._finish()  # what was said until now
            await self._refuse(str(error), error.reason)
        except (LwasrError, KeyError, TypeError, ValueError) as error:
            detail = error if isinstance(error, LwasrError) else f"{type(error).__name__}: {error}"
            await self._refuse(f"{detail}", "invalid")
        finally:
            self._end_session()

    async def _next(self) -> Message | None:
        maximum = self._service.limits.message_bytes
        idle = 1 if self._session is not None else IDLE_CONNECTION
        return await self._service.next_of(read_event(self._reader, maximum), idle)

    async def _handle(self, message: Message) -> None:
        kind = message.type
        if AudioChunk.is_type(kind):
            await self._chunk(_format(message), message.payload or b"")
        elif AudioStart.is_type(kind):
            await self._start(_format(message))
        elif AudioStop.is_type(kind):
            await self._stop()
        elif Transcribe.is_type(kind):
            self._request = Transcribe.from_event(message)
            self._check_language()
        elif Describe.is_type(kind):
            info = self._service.recognizer.info
            await self._write(describe(info, needs_external_vad=not self._ends_commands))
        elif Ping.is_type(kind):
            await self._write(Pong(text=Ping.from_event(message).text).event())

    def _check_language(self) -> None:
        language, own = self._request.language, self._service.recognizer.info.language or "en"
        if language and str(language).lower().replace("_", "-").partition("-")[0] != own:
            raise AudioError(f"language must be {own}, got {shown(language)}: choose another model")

    async def _start(self, form: PcmFormat) -> None:
        if self._session is not None:
            raise AudioError("audio-start must come after audio-stop, got two of it")
        self._is_answered = False
        self._slot.enter_context(self._service.stream_slot("wyoming"))
        self._session = await open_session(self._service, form, lambda event: event, endpoint=self._endpoint())

    def _endpoint(self) -> EndpointRules:
        if not self._ends_commands:
            return self._rules
        sensitivity = getattr(self._request.vad_sensitivity, "value", self._request.vad_sensitivity)
        return EndpointRules(
            silence_before_speech_s=NOBODY_SPEAKS_S,
            silence_after_speech_s=SILENCE_S.get(str(sensitivity), self._rules.silence_after_speech_s),
            max_utterance_s=self._rules.max_utterance_s,
        )

    async def _chunk(self, form: PcmFormat, data: bytes) -> None:
        if self._is_answered:
            return
        if self._session is None:  # some clients send no audio-start
            await self._start(form)
        assert self._session is not None
        if form != self._session.form:
            raise AudioError(f"audio must keep its format, got {form} after {self._session.form}: send audio-stop")
        async for event in self._session.accept(data):
            await self._show(event)
            if self._ends_commands and isinstance(event, Final):
                await self._answer()
                self._is_answered = True
                return

    async def _stop(self) -> None:
        if not self._is_answered:
            await self._finish()
        self._is_answered = False
        self._request = Transcribe()

    async def _finish(self) -> None:
        """The last words, then the transcript."""
        if self._session is not None:
            for event in await self._session.finish():
                await self._show(event)
        await self._answer()

    async def _show(self, event: Event) -> None:
        if not isinstance(event, Final) or not event.text:
            return
        await self._begin_answer()
        await self._write(TranscriptChunk(text=(" " if self._texts else "") + event.text).event())
        self._texts.append(event.text)

    async def _begin_answer(self) -> None:
        if not self._texts:
            await self._write(TranscriptStart(language=self._language).event())

    async def _answer(self) -> None:
        """The transcript, which ends the session; without words, it has no chunks."""
        await self._begin_answer()
        text = " ".join(self._texts)
        self._end_session()
        await self._write(Transcript(text=text, language=self._language).event())
        await self._write(TranscriptStop().event())

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None
        self._texts = []
        self._slot.close()

    @property
    def _language(self) -> str:
        return self._request.language or self._service.recognizer.info.language or "en"

    async def _refuse(self, text: str, code: str) -> None:
        log.debug("wyoming: %s", text)
        self._end_session()  # others may have its stream now
        with contextlib.suppress(LimitError, OSError):
            await self._write(Error(text=text, code=code).event())
            await self._discard(STOPPING_S if code == "stopping" else DISCARD_S)

    async def _discard(self, at_most_s: float) -> None:
        """Read what the client still sends, or it gets a reset connection instead of the error."""
        with contextlib.suppress(asyncio.TimeoutError, NotImplementedError, ValueError):
            self._writer.write_eof()
            await asyncio.wait_for(self._read_to_end(), at_most_s)

    async def _read_to_end(self) -> None:
        while await self._reader.read(MAX_HEADER_BYTES):
            pass

    async def _write(self, message: Any) -> None:
        """Send an event.

        Raises:
            LimitError: the client does not read.
        """
        idle_s = self._service.limits.idle_s
        try:
            await asyncio.wait_for(async_write_event(message, self._writer), idle_s)
        except asyncio.TimeoutError:
            raise LimitError(f"results must be read within {idle_s:g} s", "idle") from None


def _format(message: Message) -> PcmFormat:
    """The format of audio-start or audio-chunk.

    Raises:
        AudioError: it is missing or invalid.
    """
    missing = [name for name in ("rate", "width", "channels") if name not in message.data]
    if missing:
        raise AudioError(f"{message.type} must have rate, width and channels, got no {missing[0]}")
    return PcmFormat(message.data["rate"], message.data["width"], message.data["channels"])
