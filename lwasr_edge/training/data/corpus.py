"""Corpora: the utterances of manifests or folders with their decoded audio."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from lwasr_edge.audio.reader import AudioReader, load_audio
from lwasr_edge.errors import AudioError, AudioWarning, ManifestError, OutputError
from lwasr_edge.files import is_pipe_or_device
from lwasr_edge.training.data.manifest import Fault, Utterance, duration_fault, metadata_faults, refuse_faults

DECODED_AT_ONCE = 256  # recordings
AUDIO_SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".sph", ".wav"})


@dataclass(frozen=True)
class Corpus:
    """Utterances and their audio, decoded once into one array."""

    utterances: list[Utterance]
    samples: np.ndarray  # int16, (all samples,)
    starts: np.ndarray  # int64, (n,) first sample of each utterance, in any order
    lengths: np.ndarray  # int64, (n,) samples of each utterance

    @property
    def seconds(self) -> float:
        """Duration of all utterances, at the 16 kHz of training."""
        return float(self.lengths.sum()) / 16000

    def waveform(self, index: int) -> np.ndarray:
        """Samples of one utterance, (N,) float32 in [-1, 1]."""
        start = self.starts[index]
        return self.samples[start : start + self.lengths[index]].astype(np.float32) / np.float32(32768)

    def select(self, indices: list[int]) -> Corpus:
        """The corpus of some utterances; the samples are shared, not copied."""
        return Corpus([self.utterances[i] for i in indices], self.samples, self.starts[indices], self.lengths[indices])


def recording_s(path: Path) -> float:
    """Duration of a recording in seconds, from its header.

    Raises:
        AudioError: it is missing, not a recording, or empty.
    """
    with AudioReader(path) as audio:
        if not audio.total_samples:
            raise AudioError(f"{path} must contain audio, got 0 samples")
        return audio.total_samples / audio.sample_rate


def read_audio_folder(folder: Path) -> list[Utterance]:
    """All recordings in a folder and its sub-folders, without transcripts.

    Raises:
        AudioError: a file with the suffix of a recording is none.
        ManifestError: there are no recordings.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise ManifestError(f"{folder} must contain recordings ({', '.join(sorted(AUDIO_SUFFIXES))}), got none")
    return [Utterance(str(path.relative_to(folder)), path, recording_s(path), "", "") for path in files]


def load_corpus(utterances: Iterable[Utterance], sample_rate: int = 16000) -> Corpus:
    """Decode all audio into memory, resampled to ``sample_rate``: 115 MB per hour at 16 kHz.

    Raises:
        ManifestError: audio that is missing or cannot be used; all such utterances are printed.
    """
    corpus, faults = decode_corpus(utterances, sample_rate)
    refuse_faults(faults, len(corpus.utterances) + len(faults), max_bad=0.0)
    return corpus


def decode_corpus(
    utterances: Iterable[Utterance], sample_rate: int = 16000, spool: Path | None = None, *, quiet: bool = False
) -> tuple[Corpus, list[Fault]]:
    """Decode audio, and return the utterances that cannot be decoded as faults.

    Args:
        utterances: of manifests.
        sample_rate: Hz, to resample to.
        spool: folder for a temporary file of the samples, which is deleted with the process; None: in memory.
        quiet: show no progress.

    Raises:
        OutputError: ``spool`` cannot be written to.
    """
    utterances = list(utterances)
    results: list[tuple[int, int] | Fault | None] = list(metadata_faults(utterances))  # first sample, samples
    by_file: dict[Path, list[int]] = {}  # a long recording is decoded once for all its segments
    for index, (utterance, fault) in enumerate(zip(utterances, results, strict=True)):
        if fault is None:
            by_file.setdefault(utterance.path, []).append(index)

    def decode(path: Path) -> list[np.ndarray | Fault]:
        return decode_segments(path, [utterances[index] for index in by_file[path]], sample_rate)

    files = list(by_file)
    with Samples(spool) as samples, ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # truncated files are found by their duration
        with tqdm(total=len(files), desc="decode", unit="file", mininterval=1, disable=quiet) as progress:
            for first in range(0, len(files), DECODED_AT_ONCE):
                some = files[first : first + DECODED_AT_ONCE]
                for path, segments in zip(some, pool.map(decode, some), strict=True):
                    for index, segment in zip(by_file[path], segments, strict=True):
                        if isinstance(segment, Fault):
                            results[index] = segment
                        else:
                            results[index] = samples.add(segment), len(segment)
                    progress.update()
        array = samples.array()
    good = [(u, span) for u, span in zip(utterances, results, strict=True) if isinstance(span, tuple)]
    faults = [span for span in results if isinstance(span, Fault)]
    spans = np.array([span for _, span in good], np.int64).reshape(-1, 2)
    return Corpus([u for u, _ in good], array, spans[:, 0].copy(), spans[:, 1].copy()), faults


def decode_segments(path: Path, utterances: list[Utterance], sample_rate: int) -> list[np.ndarray | Fault]:
    """Decode the utterances of one recording: (N,) int16 samples of each, or the reason that there are none."""
    if is_pipe_or_device(path):
        return [Fault(utterance, f"{path} must be a file, got a pipe or a device") for utterance in utterances]
    try:
        waveform = load_audio(path, target_hz=sample_rate)
    except AudioError as error:
        return [Fault(utterance, str(error)) for utterance in utterances]
    samples = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    return [segment_of(samples, utterance, sample_rate) for utterance in utterances]


def segment_of(samples: np.ndarray, utterance: Utterance, sample_rate: int) -> np.ndarray | Fault:
    """The samples of an utterance, (N,), from those of its recording."""
    if utterance.offset_s is not None:
        start = round(utterance.offset_s * sample_rate)
        samples = samples[start : start + round(utterance.duration_s * sample_rate)].copy()
    reason = duration_fault(utterance, len(samples) / sample_rate)
    return Fault(utterance, reason) if reason else samples


class Samples:
    """Storage for decoded audio: in memory, or in a temporary file that is deleted with its last user."""

    def __init__(self, folder: Path | None) -> None:
        """Open the storage.

        Args:
            folder: of the file; None: in memory.

        Raises:
            OutputError: the folder cannot be written to.
        """
        self.folder = folder
        self.pieces: list[np.ndarray] = []
        self.count = 0
        self.file: IO[bytes] | None = None
        if folder is not None:
            with self.output_errors():
                folder.mkdir(parents=True, exist_ok=True)
                self.file = tempfile.TemporaryFile(dir=folder, prefix=".audio.", buffering=0)  # noqa: SIM115 - __exit__

    def __enter__(self) -> Samples:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.file is not None:
            self.file.close()  # a memory map of it stays valid

    def add(self, piece: np.ndarray) -> int:
        """Append (N,) int16 samples and return the number of samples before them.

        Raises:
            OutputError: there is no space.
        """
        start = self.count
        self.count += len(piece)
        if self.file is None:
            self.pieces.append(piece)
            return start
        rest = memoryview(piece.tobytes())
        with self.output_errors():
            while rest:
                rest = rest[self.file.write(rest) :]  # a disk that is nearly full takes a part
        return start

    @contextlib.contextmanager
    def output_errors(self) -> Iterator[None]:
        """Raise errors of the file system as OutputError."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.folder} must be a writable folder with 115 MB of space per hour of audio, got "
                f"{error.strerror!r} after {self.count / 16000 / 3600:.1f} h: free space, or choose another with -o"
            ) from error

    def array(self) -> np.ndarray:
        """All samples, (N,) int16."""
        if self.count == 0:
            return np.zeros(0, np.int16)
        if self.file is None:
            return np.concatenate(self.pieces)
        return np.memmap(self.file, np.int16, "r+", shape=(self.count,))
