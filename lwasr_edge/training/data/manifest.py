"""JSONL manifests (one utterance a line, as NeMo's) and the audio they name."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from lwasr_edge.audio.reader import AudioReader, load_audio
from lwasr_edge.errors import AudioError, AudioWarning, ManifestError, OutputError

SHOWN_FAULTS = 20
DECODED_AT_ONCE = 256  # recordings
AUDIO_SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".sph", ".wav"})


@dataclass(frozen=True)
class Utterance:
    """One recording of a manifest, or one stretch of a long recording."""

    id: str
    path: Path
    duration_s: float
    text: str  # "" where there is no transcript
    speaker: str
    offset_s: float | None = None  # where a stretch begins; None for the whole recording


@dataclass(frozen=True)
class Fault:
    """Why an utterance cannot be used."""

    utterance: Utterance
    reason: str


def read_manifest(path: Path) -> list[Utterance]:
    """Read a manifest; relative ``audio_filepath`` are relative to its folder.

    Raises:
        ManifestError: missing, empty, not text, or a line that is not an utterance (its number is named).
    """
    utterances, faults = parse_manifest(path)
    for fault in faults:
        raise ManifestError(f"{fault.utterance.id}: {fault.reason}")
    return utterances


def parse_manifest(path: Path) -> tuple[list[Utterance], list[Fault]]:
    """Read the lines that can be read; the others come back with the reason.

    Raises:
        ManifestError: missing, empty, or not text.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: expected a JSONL manifest in UTF-8: {error}") from error
    utterances: list[Utterance] = []
    faults: list[Fault] = []
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            utterance = parse_entry(entry, path.parent)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            nameless = Utterance(f"{path}, line {number}", path, 0.0, "", "")
            faults.append(Fault(nameless, f"expected a JSON object with audio_filepath and duration: {error!r}"))
            continue
        if utterance.id in names and entry.get("id") is None:  # NeMo's have no ids: a/1.wav and b/1.wav are two
            utterance = replace(utterance, id=f"{utterance.id}@{number}")  # of the line
        names.add(utterance.id)
        utterances.append(utterance)
    if not utterances and not faults:
        raise ManifestError(f"{path}: the manifest is empty")
    return utterances, faults


def parse_entry(entry: dict[str, object], folder: Path) -> Utterance:
    """One line of a manifest whose audio lies relative to ``folder``; impossible times are found when it is decoded."""
    audio = folder / str(entry["audio_filepath"])
    offset = entry.get("offset")
    return Utterance(
        id=audio.stem if entry.get("id") is None else str(entry["id"]),
        path=audio,
        duration_s=float(str(entry["duration"])),
        text=str(entry.get("text") or ""),
        speaker=str(entry.get("speaker") or ""),
        offset_s=None if offset is None else float(str(offset)),
    )


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write what `read_manifest` reads; the file is replaced as a whole. Audio beside it is named relative to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    partial_file = path.with_suffix(".part")
    with partial_file.open("w", encoding="utf-8") as file:
        for utterance in utterances:
            audio = utterance.path.absolute()
            inside = audio.is_relative_to(folder)
            row: dict[str, object] = {"id": utterance.id}
            row["audio_filepath"] = (audio.relative_to(folder) if inside else audio).as_posix()
            if utterance.offset_s is not None:
                row["offset"] = round(utterance.offset_s, 4)
            row |= {"duration": round(utterance.duration_s, 4), "text": utterance.text, "speaker": utterance.speaker}
            file.write(json.dumps(row) + "\n")
    partial_file.replace(path)


def recording_s(path: Path) -> float:
    """Seconds that a recording's header announces.

    Raises:
        AudioError: it is missing, not a recording, or empty.
    """
    with AudioReader(path) as audio:
        if not audio.total_samples:
            raise AudioError(f"{path} holds no audio: 0 samples")
        return audio.total_samples / audio.sample_rate


def read_audio_folder(folder: Path) -> list[Utterance]:
    """Every recording in a folder and below it, without transcripts.

    Raises:
        AudioError: a file that is named as a recording is none.
        ManifestError: there are no recordings.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise ManifestError(f"{folder}: the folder holds no recordings ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return [Utterance(str(path.relative_to(folder)), path, recording_s(path), "", "") for path in files]


@dataclass(frozen=True)
class Corpus:
    """Utterances with their audio decoded once, in one array."""

    utterances: list[Utterance]
    samples: np.ndarray  # int16, (all samples,)
    starts: np.ndarray  # int64, (n,) first sample of each utterance, in any order
    lengths: np.ndarray  # int64, (n,) samples of each utterance

    @property
    def seconds(self) -> float:
        """Audio in all, at the 16 kHz of training."""
        return float(self.lengths.sum()) / 16000

    def waveform(self, place: int) -> np.ndarray:
        """Samples of one utterance, (N,) float32 in [-1, 1]."""
        start = self.starts[place]
        return self.samples[start : start + self.lengths[place]].astype(np.float32) / np.float32(32768)

    def select(self, places: list[int]) -> Corpus:
        """The corpus of these utterances alone; the samples are shared, not copied."""
        return Corpus([self.utterances[i] for i in places], self.samples, self.starts[places], self.lengths[places])


def load_corpus(utterances: Iterable[Utterance], sample_rate: int = 16000) -> Corpus:
    """Decode all audio into memory, resampled to ``sample_rate``: 115 MB an hour at 16 kHz.

    Raises:
        ManifestError: audio that is missing or cannot be used; every such utterance is named.
    """
    corpus, faults = decode_corpus(utterances, sample_rate)
    refuse_faults(faults, len(corpus.utterances) + len(faults), max_bad=0.0)
    return corpus


def decode_corpus(
    utterances: Iterable[Utterance], sample_rate: int = 16000, spool: Path | None = None
) -> tuple[Corpus, list[Fault]]:
    """Decode what can be decoded; the others come back with the reason.

    Args:
        utterances: of manifests.
        sample_rate: Hz, to resample to.
        spool: a folder for the samples, in a file that goes with this process; None keeps them in memory.
    """
    utterances = list(utterances)
    results: list[tuple[int, int] | Fault | None] = list(impossible(utterances))  # first sample, samples
    by_file: dict[Path, list[int]] = {}  # a long recording is decoded once for all its stretches
    for place, (utterance, fault) in enumerate(zip(utterances, results, strict=True)):
        if fault is None:
            by_file.setdefault(utterance.path, []).append(place)

    def decode(path: Path) -> list[np.ndarray | Fault]:
        wanted = [utterances[place] for place in by_file[path]]
        try:
            waveform = load_audio(path, target_hz=sample_rate)
        except AudioError as error:
            return [Fault(utterance, str(error)) for utterance in wanted]
        samples = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
        return [cut(samples, utterance, sample_rate) for utterance in wanted]

    files = list(by_file)
    with Samples(spool) as samples, ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # a file cut short is told by its duration
        with tqdm(total=len(files), desc="decode", unit="file", mininterval=1) as progress:
            for first in range(0, len(files), DECODED_AT_ONCE):
                some = files[first : first + DECODED_AT_ONCE]
                for path, pieces in zip(some, pool.map(decode, some), strict=True):
                    for place, piece in zip(by_file[path], pieces, strict=True):
                        results[place] = piece if isinstance(piece, Fault) else (samples.add(piece), len(piece))
                    progress.update()
        together = samples.together()
    good = [(u, span) for u, span in zip(utterances, results, strict=True) if isinstance(span, tuple)]
    faults = [span for span in results if isinstance(span, Fault)]
    spans = np.array([span for _, span in good], np.int64).reshape(-1, 2)
    return Corpus([u for u, _ in good], together, spans[:, 0].copy(), spans[:, 1].copy()), faults


class Samples:
    """Decoded audio as it comes: in memory, or in a file that nobody else sees and that goes with its last user."""

    def __init__(self, folder: Path | None) -> None:
        """Begin.

        Args:
            folder: for the file; None keeps all in memory.

        Raises:
            OutputError: the folder takes no files.
        """
        self.folder = folder
        self.pieces: list[np.ndarray] = []
        self.count = 0
        self.file: IO[bytes] | None = None
        if folder is not None:
            with self.explained():
                folder.mkdir(parents=True, exist_ok=True)
                self.file = tempfile.TemporaryFile(dir=folder, prefix=".audio.", buffering=0)  # noqa: SIM115 - __exit__

    def __enter__(self) -> Samples:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.file is not None:
            self.file.close()  # a mapping of it stays

    def add(self, piece: np.ndarray) -> int:
        """Keep (N,) int16 samples; returns how many came before them.

        Raises:
            OutputError: the file cannot grow.
        """
        start = self.count
        self.count += len(piece)
        if self.file is None:
            self.pieces.append(piece)
            return start
        rest = memoryview(piece.tobytes())
        with self.explained():
            while rest:
                rest = rest[self.file.write(rest) :]  # a disk that is nearly full takes a part
        return start

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Say of what the system refuses what it was for, and what to do."""
        try:
            yield
        except OSError as error:
            kept = f"{self.count / 16000 / 3600:.1f} h so far"
            raise OutputError(
                f"{self.folder}: cannot keep the decoded audio there, {kept} ({error.strerror}): expected a writable "
                "folder with 115 MB free for each hour of audio: make room, or choose another with -o"
            ) from error

    def together(self) -> np.ndarray:
        """All samples, (N,) int16."""
        if self.count == 0:
            return np.zeros(0, np.int16)
        if self.file is None:
            return np.concatenate(self.pieces)
        return np.memmap(self.file, np.int16, "r+", shape=(self.count,))


def impossible(utterances: Iterable[Utterance]) -> Iterator[Fault | None]:
    """For each utterance, what is wrong before its audio is even looked at: times, or an id that came before."""
    first: dict[str, Path] = {}
    for utterance in utterances:
        if not 0 < utterance.duration_s < math.inf:
            yield Fault(utterance, f"its manifest says that it lasts {utterance.duration_s:g} s")
        elif utterance.offset_s is not None and not 0 <= utterance.offset_s < math.inf:
            yield Fault(utterance, f"its manifest says that it begins at {utterance.offset_s:g} s")
        elif utterance.id in first:
            yield Fault(utterance, f"its id came before, with {first[utterance.id]}")
        else:
            first[utterance.id] = utterance.path
            yield None


def cut(samples: np.ndarray, utterance: Utterance, sample_rate: int) -> np.ndarray | Fault:
    """An utterance's own samples out of its recording's, (N,)."""
    if utterance.offset_s is not None:
        start = round(utterance.offset_s * sample_rate)
        samples = samples[start : start + round(utterance.duration_s * sample_rate)].copy()
    reason = duration_fault(utterance, len(samples) / sample_rate)
    return Fault(utterance, reason) if reason else samples


def duration_fault(utterance: Utterance, found_s: float) -> str | None:
    """Say so if an utterance is not as long as its manifest states, by more than 0.25 s and 2 %, or has no samples."""
    if found_s > 0 and abs(found_s - utterance.duration_s) <= 0.25 + 0.02 * utterance.duration_s:
        return None
    where = "" if utterance.offset_s is None else f" from {utterance.offset_s:.2f} s on"
    return f"lasts {found_s:.2f} s{where}; its manifest says {utterance.duration_s:.2f} s"


def refuse_faults(faults: list[Fault], total: int, max_bad: float) -> None:
    """List utterances that are left out, and stop where they are too many.

    Args:
        faults: what is left out.
        total: utterances with them.
        max_bad: share of the total from which on the data as a whole is in doubt, 0 to 1.

    Raises:
        ManifestError: more than ``max_bad`` are bad, or nothing is left.
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
        raise ManifestError("the manifests hold no utterance that can be used")
