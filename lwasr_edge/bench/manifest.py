"""JSONL manifests: one utterance per line, in NeMo's format. Used by training, export and `lwasr bench`.

    {"audio_filepath": "a/1.wav", "duration": 3.2, "text": "my sister left", "speaker": "s1", "id": "1", "offset": 0.0}

`audio_filepath` is relative to the manifest's folder. All other keys are ignored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lwasr_edge.errors import ManifestError
from lwasr_edge.files import read_json_lines
from lwasr_edge.validate import shown

MAX_SECONDS = 1e9
MAX_ID = 1_000  # characters of an id or a speaker


@dataclass(frozen=True)
class ManifestEntry:
    """One recording of a manifest, or one segment of a longer recording."""

    id: str  # by default the file name without its suffix
    path: Path
    duration_s: float  # as the manifest states it; NaN where it need not and does not
    text: str = ""  # "" without a transcript
    speaker: str = ""  # "" if unknown
    offset_s: float | None = None  # start of a segment; None for a full recording


def read_manifest_lines(
    path: Path,
    report: Callable[[int, str], None] | None = None,
    *,
    required: Sequence[str] = ("audio_filepath", "duration"),
) -> list[ManifestEntry]:
    """Read the entries of a manifest; audio files are not opened, and times are not checked.

    An entry without an id whose file name was used by an entry before it gets the id `NAME@LINE`: NeMo's manifests
    have no ids, and a/1.wav and b/1.wav are two recordings. Ids that the manifest states are kept as they are.

    Args:
        path: text in UTF-8, with or without a byte order mark.
        report: called with the number and the fault of a line that is not an entry, which is then skipped; None raises.
        required: keys that each line must have.

    Returns:
        The entries, in order; empty only if every line was reported.

    Raises:
        ManifestError: no such file, not UTF-8, no lines, or a line that is not an entry while `report` is None.
    """
    bad_lines = 0

    def refuse(number: int, fault: object) -> None:
        nonlocal bad_lines
        bad_lines += 1
        reason = f"line must be a JSON object with {' and '.join(required)}, got {fault}"
        if report is None:
            raise ManifestError(f"{path}, line {number}: {reason}")
        report(number, reason)

    entries: list[ManifestEntry] = []
    ids: set[str] = set()
    try:
        for number, value in read_json_lines(path, lambda number, error: refuse(number, f"no JSON: {error}")):
            try:
                entry = parse_manifest_entry(value, path.parent, required)
            except ManifestError as error:
                refuse(number, error)
                continue
            if entry.id in ids and value.get("id") is None:
                entry = replace(entry, id=f"{entry.id}@{number}")
            ids.add(entry.id)
            entries.append(entry)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: manifest must be JSON lines in UTF-8, got other bytes: {error}") from error
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest") from error
    except OSError as error:
        raise ManifestError(f"{path}: manifest cannot be read: {error.strerror}") from error
    if not entries and not bad_lines:
        raise ManifestError(f"{path}: manifest is empty: write a JSON object with {' and '.join(required)} per line")
    return entries


def parse_manifest_entry(
    value: Any, folder: Path, required: Sequence[str] = ("audio_filepath", "duration")
) -> ManifestEntry:
    """Read one JSON value of a manifest in `folder`.

    Raises:
        ManifestError: what was found instead of an entry, to follow "got".
    """
    if not isinstance(value, dict):
        raise ManifestError(_JSON_KINDS.get(type(value), "a number"))
    for key in required:
        if value.get(key) is None:
            raise ManifestError(f"no {key}")
    audio = folder / _audio_filepath(value.get("audio_filepath"))
    duration, offset = value.get("duration"), value.get("offset")
    for key in ("id", "speaker"):
        if len(text := str(value.get(key) or "")) > MAX_ID:
            raise ManifestError(f"{key} of {len(text)} characters")
    return ManifestEntry(
        id=audio.stem if value.get("id") is None else str(value["id"]),
        path=audio,
        duration_s=math.nan if duration is None else _seconds("duration", duration),
        text=str(value.get("text") or ""),
        speaker=str(value.get("speaker") or ""),
        offset_s=None if offset is None else _seconds("offset", offset),
    )


def evenly_spaced(n: int, count: int, rounding: Literal["nearest", "down"] = "nearest") -> NDArray[np.int64]:
    """Indices of at most `count` of `n` items, spread evenly from the first to the last.

    Args:
        n: items to choose from.
        count: items to choose; all are chosen if there are fewer.
        rounding: of positions between two items. Training rounds down, export to the nearest: which recordings they
            choose decides what a model becomes, so neither may change.

    Returns:
        (min(count, n),) indices, ascending.
    """
    positions = np.linspace(0, n - 1, min(count, n))
    return (positions.round() if rounding == "nearest" else positions).astype(np.int64)


_JSON_KINDS: dict[type, str] = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def _audio_filepath(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ManifestError(f"audio_filepath {shown(value)}")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise ManifestError(f"audio_filepath {shown(value)}") from None
    return value


def _seconds(key: str, value: object) -> float:
    """A time as a number; NeMo's tools also write numbers as strings. NaN and infinity are left to the caller.

    Finite ones are below `MAX_SECONDS`: their number of samples is computed.
    """
    try:
        seconds = float(str(value))
    except ValueError:
        raise ManifestError(f"{key} {shown(value)}") from None
    if math.isfinite(seconds) and abs(seconds) > MAX_SECONDS:
        raise ManifestError(f"{key} {shown(value)}")
    return seconds
