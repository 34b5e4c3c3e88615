"""The settings of a client of /v1/stream: the format of its audio, and options of the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lwasr_edge.chunking import STREAM_HOP_MS
from lwasr_edge.errors import AudioError, OptionError
from lwasr_edge.serve.opus import CONTAINERS, OpusFormat
from lwasr_edge.serve.pcm import PcmFormat
from lwasr_edge.validate import shown

if TYPE_CHECKING:
    from lwasr_edge.serve.session import AudioFormat
    from lwasr_edge.utterance import EndpointRules

SETTINGS = ("format", "rate", "width", "channels", "hop_ms", "right_context_ms", "silence_s", "endpoint", "language")
FORMATS = ("pcm", "float", *CONTAINERS, "opus")
MAX_OVERLAP = 16  # right context / hop


def parse_settings(given: Mapping[str, Any], rules: EndpointRules, language: str) -> tuple[AudioFormat, dict[str, Any]]:
    """The format of the samples, and the options of `Recognizer.stream`.

    Args:
        given: texts of an address, or values of JSON.
        rules: default end-points.
        language: of the model.

    Raises:
        OptionError, AudioError: an unknown setting, or an invalid value.
    """
    unknown = set(given) - set(SETTINGS)
    if unknown:
        raise OptionError(f"settings must be among {', '.join(SETTINGS)}, got {shown(min(unknown))}")
    wanted = given.get("language", language)
    if str(wanted).lower().replace("_", "-").partition("-")[0] != language:
        raise OptionError(f"language must be {language}, got {shown(wanted)}")
    numbers = {
        name: _number(name, given[name])
        for name in ("rate", "width", "channels", "hop_ms", "right_context_ms", "silence_s")
        if name in given
    }
    form = _format(given.get("format", "pcm"), numbers)
    if "silence_s" in numbers:
        rules = replace(rules, silence_after_speech_s=numbers["silence_s"])
    endpoint = str(given.get("endpoint", True)).lower()
    if endpoint not in ("true", "false"):
        raise OptionError(f"endpoint must be true or false, got {shown(given['endpoint'])}")
    settings: dict[str, Any] = {"endpoint": rules if endpoint == "true" else None}
    settings |= {name: numbers[name] for name in ("hop_ms", "right_context_ms") if name in numbers}
    _check_cost(numbers.get("hop_ms", STREAM_HOP_MS), numbers.get("right_context_ms", 0))
    return form, settings


def _format(kind: Any, numbers: dict[str, Any]) -> AudioFormat:
    if kind not in FORMATS:
        raise AudioError(
            f"format must be one of {', '.join(FORMATS)}, got {shown(kind)}: decode it first, or post files to "
            "/v1/audio/transcriptions"
        )
    if kind in ("pcm", "float"):
        width = numbers.get("width", 4 if kind == "float" else 2)
        return PcmFormat(numbers.get("rate", 16_000), width, numbers.get("channels", 1), kind == "float")
    for name in ("rate", "width") if kind == "opus" else ("rate", "width", "channels"):
        if name in numbers:
            raise OptionError(f"{name} must be left out with format {kind}, got {shown(numbers[name])}")
    return OpusFormat(kind, numbers.get("channels", 1))


def _check_cost(hop_ms: Any, right_context_ms: Any) -> None:
    """Refuse a client that would take a processor for itself: every hop, all of the right context is recognised again.

    Raises:
        OptionError: the right context is too long for the hop.
    """
    are_numbers = isinstance(hop_ms, (int, float)) and isinstance(right_context_ms, (int, float))
    if are_numbers and right_context_ms > MAX_OVERLAP * hop_ms:
        got = f"{shown(right_context_ms)} and {shown(hop_ms)}"
        raise OptionError(f"right_context_ms must be at most {MAX_OVERLAP} times hop_ms, got {got}")


def _number(name: str, value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise OptionError(f"{name} must be a number, got {shown(value)}") from None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
