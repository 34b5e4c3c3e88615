"""JSONL manifests (one utterance per line, as NeMo's), and reports of utterances that cannot be used."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lwasr_edge.errors import ManifestError
from lwasr_edge.files import atomic_file, read_json_lines

SHOWN_FAULTS = 20
SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can escape half a character, which no file name or tokenizer takes


@dataclass(frozen=True)
class Utterance:
    """A recording of a manifest, or a segment of one."""

    id: str
    path: Path
    duration_s: float
    text: str  # "" without a transcript
    speaker: str
    offset_s: float | None = None  # start of the segment; None for the full recording


@dataclass(frozen=True)
class Fault:
    """An utterance that cannot be used, and the reason."""

    utterance: Utterance
    reason: str


def read_manifest(path: Path) -> list[Utterance]:
    """Read a manifest; relative ``audio_filepath`` are relative to its folder.

    Raises:
        ManifestError: it is missing, empty or not UTF-8, or has a line that is not an utterance, whose number is given.
    """
    utterances, faults = parse_manifest(path)
    for fault in faults:
        raise ManifestError(f"{fault.utterance.id}: {fault.reason}")
    return utterances


def parse_manifest(path: Path) -> tuple[list[Utterance], list[Fault]]:
    """Read a manifest, and return the lines that are not utterances as faults.

    Raises:
        ManifestError: it is missing, empty or not UTF-8.
    """
    utterances: list[Utterance] = []
    faults: list[Fault] = []
    ids: set[str] = set()

    def report(number: int, error: Exception) -> None:
        unnamed = Utterance(f"{path}, line {number}", path, 0.0, "", "")
        faults.append(Fault(unnamed, f"line must be a JSON object with audio_filepath and duration: {error}"))

    for number, entry in manifest_lines(path, report):
        try:
            utterance = parse_entry(entry, path.parent)
        except ManifestError as error:
            report(number, error)
            continue
        if utterance.id in ids and entry.get("id") is None:  # NeMo's entries have no ids, and names may repeat
            utterance = replace(utterance, id=f"{utterance.id}@{number}")
        ids.add(utterance.id)
        utterances.append(utterance)
    if not utterances and not faults:
        raise ManifestError(f"{path}: the manifest is empty")
    return utterances, faults


def manifest_lines(path: Path, report: Callable[[int, Exception], None]) -> Iterator[tuple[int, Any]]:
    """`read_json_lines`, with errors of the file as ManifestError."""
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest")
    try:
        yield from read_json_lines(path, report)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: manifest must be JSON lines in UTF-8: {error}") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error


def parse_entry(entry: Any, folder: Path) -> Utterance:
    """An utterance from a line of a manifest. Impossible times are found by `metadata_faults`.

    Args:
        entry: the JSON value of the line.
        folder: that relative audio paths are relative to.

    Raises:
        ManifestError: a field is missing or has a wrong type.
    """
    if not isinstance(entry, dict):
        raise ManifestError(f"got {entry!r:.40}")
    audio = folder / text_field(entry, "audio_filepath", required=True)
    offset = entry.get("offset")
    name = entry.get("id")
    return Utterance(
        id=audio.stem if name is None else label_field(entry, "id"),
        path=audio,
        duration_s=seconds_field(entry, "duration"),
        text=text_field(entry, "text"),
        speaker=label_field(entry, "speaker"),
        offset_s=None if offset is None else seconds_field(entry, "offset"),
    )


def text_field(entry: dict[str, Any], name: str, required: bool = False) -> str:
    """A string of an entry; "" where it is missing or null."""
    value = entry.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or "\0" in value or SURROGATE.search(value):
        raise ManifestError(f"{name} must be a string, got {value!r:.40}")
    return value


def label_field(entry: dict[str, Any], name: str) -> str:
    """A string of an entry that may be given as a whole number, such as a speaker; "" where it is missing or null."""
    value = entry.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(entry, name)


def seconds_field(entry: dict[str, Any], name: str) -> float:
    """A number of an entry, which may be NaN or infinity."""
    value = entry.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ManifestError(f"{name} must be a number of seconds, got {value!r:.40}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest for `read_manifest`, atomically. Audio below its folder gets a relative path.

    Raises:
        OSError: no space, no permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    with atomic_file(path) as file:
        for utterance in utterances:
            audio = utterance.path.absolute()
            inside = audio.is_relative_to(folder)
            row: dict[str, object] = {"id": utterance.id}
            row["audio_filepath"] = (audio.relative_to(folder) if inside else audio).as_posix()
            if utterance.offset_s is not None:
                row["offset"] = round(utterance.offset_s, 4)
            row |= {"duration": round(utterance.duration_s, 4), "text": utterance.text, "speaker": utterance.speaker}
            file.write((json.dumps(row) + "\n").encode())


def metadata_faults(utterances: Iterable[Utterance]) -> Iterator[Fault | None]:
    """For each utterance, an impossible time or a repeated id, found before its audio is read; None without one."""
    first: dict[str, Path] = {}
    for utterance in utterances:
        if not 0 < utterance.duration_s < math.inf:
            yield Fault(utterance, f"duration must be a positive number of seconds, got {utterance.duration_s:g}")
        elif utterance.offset_s is not None and not 0 <= utterance.offset_s < math.inf:
            yield Fault(utterance, f"offset must be a number of seconds >= 0, got {utterance.offset_s:g}")
        elif utterance.id in first:
            yield Fault(utterance, f"id must be unique, got the id of {first[utterance.id]} again")
        else:
            first[utterance.id] = utterance.path
            yield None


def duration_fault(utterance: Utterance, found_s: float) -> str | None:
    """The reason if an utterance is empty, or its duration differs from its manifest's by more than 0.25 s and 2 %."""
    if found_s > 0 and abs(found_s - utterance.duration_s) <= 0.25 + 0.02 * utterance.duration_s:
        return None
    where = "" if utterance.offset_s is None else f" from {utterance.offset_s:.2f} s on"
    return f"duration must be {utterance.duration_s:.2f} s, as in its manifest, got {found_s:.2f} s of audio{where}"


def refuse_faults(faults: list[Fault], total: int, max_bad: float) -> None:
    """Print the utterances that are left out, and stop if they are too many.

    Args:
        faults: of the utterances that are left out.
        total: number of utterances including them.
        max_bad: largest share of the total that may be left out, 0 to 1.

    Raises:
        ManifestError: more than ``max_bad`` are left out, or all.
    """
    for fault in faults[:SHOWN_FAULTS]:
        print(f"left out: {fault.utterance.id}: {fault.reason}", file=sys.stderr)
    if len(faults) > SHOWN_FAULTS:
        print(f"left out: {len(faults) - SHOWN_FAULTS} more", file=sys.stderr)
    if len(faults) > max_bad * total:
        first = f"{faults[0].utterance.id}: {faults[0].reason}"
        limit = f" (the limit is {100 * max_bad:g} %)" if max_bad else ""
        raise ManifestError(f"{len(faults)} of {total} utterances cannot be used{limit}; the first is {first}")
    if len(faults) == total:
        raise ManifestError("the manifests contain no usable utterance")
