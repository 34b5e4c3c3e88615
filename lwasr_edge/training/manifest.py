"""JSONL manifests (one utterance a line, as NeMo's) and the audio they name."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lwasr_edge.audio import load_audio
from lwasr_edge.errors import AudioError, AudioWarning, ManifestError

SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Utterance:
    """One recording of a manifest."""

    id: str
    path: Path
    duration_s: float
    text: str  # "" where there is no transcript
    speaker: str


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
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: expected a JSONL manifest in UTF-8: {error}") from error
    utterances = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            utterances.append(parse_entry(json.loads(line), path.parent))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            expected = "expected a JSON object with audio_filepath and duration"
            raise ManifestError(f"{path}, line {number}: {expected}: {error!r}") from error
    if not utterances:
        raise ManifestError(f"{path}: the manifest is empty")
    return utterances


def parse_entry(entry: dict[str, object], folder: Path) -> Utterance:
    """One line of a manifest whose audio lies relative to ``folder``."""
    audio = folder / str(entry["audio_filepath"])
    duration_s = float(str(entry["duration"]))
    if not 0 < duration_s < math.inf:
        raise ValueError(f"duration is {duration_s}")
    return Utterance(
        id=str(entry.get("id", audio.stem)),
        path=audio,
        duration_s=duration_s,
        text=str(entry.get("text") or ""),
        speaker=str(entry.get("speaker") or ""),
    )


@dataclass(frozen=True)
class Corpus:
    """Utterances with their audio decoded once, end to end in one array."""

    utterances: list[Utterance]
    samples: np.ndarray  # int16, (all samples,)
    starts: np.ndarray  # int64, (n,) first sample of each utterance
    lengths: np.ndarray  # int64, (n,) samples of each utterance

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


def decode_corpus(utterances: Iterable[Utterance], sample_rate: int = 16000) -> tuple[Corpus, list[Fault]]:
    """Decode what can be decoded; the others come back with the reason."""
    utterances = list(utterances)

    def decode(utterance: Utterance) -> np.ndarray | Fault:
        try:
            waveform = load_audio(utterance.path, target_hz=sample_rate)
        except AudioError as error:
            return Fault(utterance, str(error))
        reason = duration_fault(utterance, len(waveform) / sample_rate)
        if reason:
            return Fault(utterance, reason)
        return np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # a file cut short is told by its duration
        decoded = pool.map(decode, utterances)
        pieces = list(tqdm(decoded, total=len(utterances), desc="decode", unit="file", mininterval=1))
    good = [(u, piece) for u, piece in zip(utterances, pieces, strict=True) if not isinstance(piece, Fault)]
    faults = [piece for piece in pieces if isinstance(piece, Fault)]
    lengths = np.array([len(piece) for _, piece in good], np.int64)
    samples = np.concatenate([piece for _, piece in good]) if good else np.zeros(0, np.int16)
    return Corpus([u for u, _ in good], samples, np.cumsum(lengths) - lengths, lengths), faults


def duration_fault(utterance: Utterance, found_s: float) -> str | None:
    """Say so if a recording is not as long as its manifest states, by more than 0.25 s and 2 %."""
    if abs(found_s - utterance.duration_s) <= 0.25 + 0.02 * utterance.duration_s:
        return None
    return f"lasts {found_s:.2f} s; its manifest says {utterance.duration_s:.2f} s"


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
