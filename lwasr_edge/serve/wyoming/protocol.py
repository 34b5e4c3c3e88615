"""Events of the Wyoming protocol with limits on their size, and what this service says about itself."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from lwasr_edge import __version__
from lwasr_edge.errors import AudioError, LimitError
from lwasr_edge.validate import shown

if TYPE_CHECKING:
    from lwasr_edge.model_info import ModelInfo

MAX_HEADER_BYTES = 65_536  # also the limit of the reader
MAX_DATA_BYTES = 1 << 20
NEMO_URL = "https://catalog.ngc.nvidia.com/orgs/nvidia/teams/nemo/models/stt_en_conformer_ctc_small"


async def read_event(reader: asyncio.StreamReader, max_payload_bytes: int) -> Event | None:
    """Read one event; None at the end of the connection.

    wyoming's own function has no limits: a header may ask for any number of bytes.

    Raises:
        AudioError: what came is no event.
        LimitError: it is larger than allowed.
    """
    try:
        line = await reader.readline()
    except ValueError:  # asyncio's LimitOverrunError
        raise LimitError(f"the header of an event must have at most {MAX_HEADER_BYTES} bytes", "size") from None
    if not line:
        return None
    header = _json_object(line)
    kind, data = header.get("type"), header.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise AudioError(f"an event must have a type and perhaps data, got {shown(header)}")
    data_length = _length(header, "data_length", MAX_DATA_BYTES)
    payload_length = _length(header, "payload_length", max_payload_bytes)
    try:
        if data_length:
            data = {**data, **_json_object(await reader.readexactly(data_length))}
        payload = await reader.readexactly(payload_length) if payload_length else None
    except asyncio.IncompleteReadError:
        return None
    return Event(type=kind, data=data, payload=payload)


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise AudioError(f"an event must be a line of JSON, got {shown(text)}") from None
    if not isinstance(value, dict):
        raise AudioError(f"an event must be a JSON object, got {shown(value)}")
    return value


def _length(header: dict[str, Any], name: str, maximum: int) -> int:
    value = header.get(name)
    value = 0 if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise AudioError(f"{name} must be a number of bytes, got {shown(value)}")
    if value > maximum:
        raise LimitError(f"{name} must be at most {maximum}, got {value}: send smaller pieces of audio", "size")
    return value


def describe(info: ModelInfo, *, needs_external_vad: bool) -> Event:
    """The answer to `describe`: one program with one model.

    Args:
        info: of the model.
        needs_external_vad: whether the client has to find the end of a command and send audio-stop.
    """
    source = Attribution(name="NVIDIA NeMo; see NOTICE", url=NEMO_URL)
    language = info.language or "en"
    model = AsrModel(
        name=info.name,
        attribution=source,
        installed=True,
        description=f"{info.name}, {language}, on this device",
        version=None,
        languages=[language],
    )
    program = AsrProgram(
        name="lwasr",
        attribution=source,
        installed=True,
        description="Streaming speech recognition on the device",
        version=__version__,
        models=[model],
        supports_transcript_streaming=True,
        requires_external_vad=needs_external_vad,
        prefers_auto_gain_enabled=False,
        prefers_noise_reduction_enabled=False,
    )
    return Info(asr=[program]).event()
