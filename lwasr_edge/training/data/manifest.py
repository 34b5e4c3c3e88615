"""Manifests of training data: reading, writing, and reports of utterances that cannot be used."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.bench.manifest import ManifestEntry, read_manifest_lines
from lwasr_edge.errors import ManifestError
from lwasr_edge.files import atomic_file
from lwasr_edge.validate import printable

SHOWN_FAULTS = 20
Utterance = ManifestEntry


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
    return read_manifest_lines(path)


def parse_manifest(path: Path) -> tuple[list[Utterance], list[Fault]]:
    """Read a manifest, and return the lines that are not utterances as faults.

    Raises:
        ManifestError: it is missing, empty or not UTF-8.
    """
    faults: list[Fault] = []

    def report(number: int, reason: str) -> None:
        faults.append(Fault(Utterance(f"{path}, line {number}", path, 0.0), reason))

    return read_manifest_lines(path, report), faults


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest for `read_manifest`, atomically. Audio below its folder gets a relative path.

    Raises:
        OSError: no space, no permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    with atomic_file(path) as file:
        for utterance in utterances:
            file.write(manifest_line(utterance, folder).encode())


def manifest_line(utterance: Utterance, folder: Path | None = None) -> str:
    """The line of a manifest; audio below ``folder`` gets a relative path."""
    audio = utterance.path.absolute()
    if folder is not None and audio.is_relative_to(folder):
        audio = audio.relative_to(folder)
    row: dict[str, object] = {"id": utterance.id, "audio_filepath": audio.as_posix()}
    if utterance.offset_s is not None:
        row["offset"] = round(utterance.offset_s, 4)
    row |= {"duration": round(utterance.duration_s, 4), "text": utterance.text, "speaker": utterance.speaker}
    return json.dumps(row) + "\n"


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
        print(printable(f"left out: {fault.utterance.id}: {fault.reason}"), file=sys.stderr)
    if len(faults) > SHOWN_FAULTS:
        print(f"left out: {len(faults) - SHOWN_FAULTS} more", file=sys.stderr)
    if len(faults) > max_bad * total:
        first = f"{faults[0].utterance.id}: {faults[0].reason}"
        limit = f" (the limit is {100 * max_bad:g} %)" if max_bad else ""
        raise ManifestError(f"{len(faults)} of {total} utterances cannot be used{limit}; the first is {first}")
    if len(faults) == total:
        raise ManifestError("the manifests contain no usable utterance")
