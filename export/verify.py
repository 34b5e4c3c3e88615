"""Verification of exported files: float ONNX against torch by log-probabilities, int8 against float by WER."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import VerificationError
from lwasr_edge.export.run_model import log_probs_of, padded, run_file, run_in_chunks, text_of
from lwasr_edge.model import Model
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.scoring.scores import score

TOLERANCE = 1e-3  # of log-probabilities, for another order of float32 additions
TOLERANCE_FACTOR = 6.0  # ... plus so many times the error of torch in float32, in case a model amplifies rounding
PARITY_CHUNKS = (1, 3, 16, None)  # frames; None: full context
PARITY_SECONDS = 7.5  # of each recording; one chunk
GAINS = (1.0, 1 + 1e-7, 1 - 2e-7, 1 + 3e-7, 1 - 4e-7)  # the same audio up to the last bits, so that rounding differs
MAX_DIVERGENCE = 0.1  # nats, without transcripts; int8 has a quarter of it, overflowing products several times it
MAX_WER_LOSS = 1.0  # percent, absolute, if the caller sets no limit


@dataclass(frozen=True)
class Recording:
    """Audio and its reference text."""

    waveform: np.ndarray  # (N,) float32
    text: str | None  # None without a transcript


def synthetic_recordings(sample_rate: int, n_recordings: int = 3, duration_s: float = 5.0) -> list[Recording]:
    """Speech-like signals: a voice of changing pitch with moving formants, pauses, noise and two levels."""
    random = np.random.default_rng(5)
    time = np.arange(round(duration_s * sample_rate)) / sample_rate
    recordings = []
    for i in range(n_recordings):
        pitch = 110 * (i + 1) * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * time + i))
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        formants = [600 + 300 * np.sin(2 * np.pi * 2.3 * time + i), 1700 + 700 * np.sin(2 * np.pi * 1.7 * time)]
        voice = np.zeros_like(time)
        for harmonic in range(1, 25):
            hz = harmonic * pitch
            gain = sum(np.exp(-(((hz - formant) / 200) ** 2)) for formant in formants) * (hz < sample_rate / 2)
            voice += gain * np.sin(harmonic * phase)
        syllables = np.clip(np.sin(2 * np.pi * 3.1 * time), 0, 1) * (np.sin(2 * np.pi * 0.3 * time) > -0.6)
        level = np.where(time < duration_s / 2, 0.05, 0.3)
        waveform = level * voice * syllables + random.normal(0, 1e-3, len(time))
        recordings.append(Recording(waveform.astype(np.float32), None))
    return recordings


@dataclass(frozen=True)
class RecordingSet:
    """The recordings of a manifest, or synthetic ones."""

    name: str
    recordings: list[Recording]


def read_sets(manifests: Sequence[Path], sample_rate: int) -> list[RecordingSet]:
    """A set per manifest; synthetic signals without manifests."""
    if not manifests:
        return [RecordingSet("synthetic signals", synthetic_recordings(sample_rate))]
    return [RecordingSet(manifest.stem, read_recordings(manifest, sample_rate)) for manifest in manifests]


def read_recordings(manifest: Path, sample_rate: int, limit: int | None = None) -> list[Recording]:
    """Audio and transcripts of a manifest; with a limit, so many of them, evenly spaced."""
    utterances = read_manifest(manifest)
    if limit is not None and len(utterances) > limit:
        utterances = [utterances[i] for i in evenly_spaced(len(utterances), limit)]
    corpus = load_corpus(utterances, sample_rate)
    has_texts = any(utterance.text for utterance in corpus.utterances)  # one empty text among others is of silence
    texts = [utterance.text if has_texts else None for utterance in corpus.utterances]
    return [Recording(corpus.waveform(i), text) for i, text in enumerate(texts)]


@dataclass(frozen=True)
class Parity:
    """Largest differences of log-probabilities from the torch model in float64."""

    chunk_frames: int | None  # None: full context
    onnx: float
    torch_float32: float  # of torch in float32, the largest over `GAINS`

    @property
    def holds(self) -> bool:
        """Whether the difference is explained by rounding."""
        return self.onnx <= TOLERANCE + TOLERANCE_FACTOR * self.torch_float32


def float_parity(torch_model: AcousticModel, path: Path, recordings: Sequence[Recording]) -> list[Parity]:
    """Compare the log-probabilities of the torch model and the float ONNX file.

    Raises:
        VerificationError: they differ by more than rounding.
    """
    model = Model(path)
    config = torch_model.config
    double = AcousticModel(config).eval()
    double.load_state_dict(torch_model.state_dict())
    double = double.double()
    results = []
    for chunk_frames in PARITY_CHUNKS if model.info.streaming else (None,):
        chunking = None if chunk_frames is None else Chunking(chunk_frames)
        differences = []
        for recording in recordings:
            waveform = recording.waveform[: round(PARITY_SECONDS * config.frontend.sample_rate)]
            batch, n_samples = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
            exact = double.log_probs(batch.double(), n_samples, chunking)[0][0].numpy()
            singles = [torch_model.log_probs(batch * g, n_samples, chunking)[0][0].numpy() for g in GAINS]
            exported = log_probs_of(run_in_chunks(model, padded(model, waveform, len(exact)), chunk_frames))
            rounding = max(np.abs(single - exact).max() for single in singles)
            differences.append((np.abs(exported - exact).max(), rounding))
        results.append(Parity(chunk_frames, *(float(value) for value in np.max(differences, axis=0))))
    failed = [parity for parity in results if not parity.holds]
    if failed:
        shown = "; ".join(
            f"chunks of {p.chunk_frames or 'all'} frames differ by {p.onnx:.2g} (float32 torch {p.torch_float32:.2g})"
            for p in failed
        )
        raise VerificationError(
            f"log-probabilities of the exported graph must be those of torch, got: {shown}: report a bug"
        )
    return results


class Decoded(NamedTuple):
    """The result of one file for one recording."""

    log_probs: np.ndarray  # (U, V)
    text: str


@dataclass(frozen=True)
class Agreement:
    """Comparison of a file in another precision with the float file, on the same recordings."""

    name: str  # of the set
    recordings: int
    frames_alike: float  # share of frames with the same best token
    divergence: float  # of the posteriors, nats: `typical_divergence`
    float_wer: float | None  # percent; None without transcripts
    wer: float | None  # percent

    @property
    def wer_loss(self) -> float | None:
        """Increase of WER, percent, absolute; None without transcripts."""
        return None if self.wer is None or self.float_wer is None else self.wer - self.float_wer


def divergence(log_probs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of each frame, in nats. (U, V) each -> (U,)"""
    return (np.exp(log_probs) * (log_probs - other)).sum(1)


def typical_divergence(pairs: Iterable[tuple[np.ndarray, np.ndarray]], blank_id: int) -> float:
    """The 80th percentile of the `divergence` of frames in which either file has a token.

    Not the mean: CTC posteriors are spikes of one frame. When a spike moves by a frame, no word changes, but two frames
    of a thousand outweigh all others. Not all frames: in silence nothing diverges.

    Args:
        pairs: log-probabilities of recordings, of the float file and of the other, (U, V) each.
        blank_id: index of the blank. If neither file has any token, all frames are used.
    """
    divergences, has_token = [], []
    for wanted, found in pairs:
        divergences.append(divergence(wanted, found))
        has_token.append((wanted.argmax(1) != blank_id) | (found.argmax(1) != blank_id))
    nats, counts = np.concatenate(divergences), np.concatenate(has_token)
    return float(np.quantile(nats[counts] if counts.any() else nats, 0.8))


def compare(recordings: RecordingSet, results: Iterable[tuple[Decoded, Decoded]], blank_id: int) -> Agreement:
    """Compare the results of the float file and another file on a set."""
    alike, pairs = [], []
    texts: tuple[list[str], list[str]] = ([], [])
    for wanted, found in results:
        alike.append(wanted.log_probs.argmax(1) == found.log_probs.argmax(1))
        pairs.append((wanted.log_probs, found.log_probs))
        for one, transcripts in zip((wanted, found), texts, strict=True):
            transcripts.append(one.text)
    wers: tuple[float | None, float | None] = (None, None)
    if all(recording.text is not None for recording in recordings.recordings):
        references = [recording.text or "" for recording in recordings.recordings]
        wers = 100 * score(references, texts[0]).wer, 100 * score(references, texts[1]).wer
    measures = float(np.concatenate(alike).mean()), typical_divergence(pairs, blank_id)
    return Agreement(recordings.name, len(recordings.recordings), *measures, *wers)


def agreements(float_path: Path, path: Path, sets: Sequence[RecordingSet]) -> list[Agreement]:
    """Run both files over each set, and compare posteriors and, with transcripts, WER."""
    models = Model(float_path), Model(path)

    def decode(model: Model, recording: Recording) -> Decoded:
        results = run_file(model, recording.waveform)
        return Decoded(log_probs_of(results), text_of(model, results))

    return [
        compare(
            one,
            ((decode(models[0], recording), decode(models[1], recording)) for recording in one.recordings),
            models[0].info.blank_id,
        )
        for one in sets
    ]


def require_agreement(found: Sequence[Agreement], max_wer_loss: float) -> None:
    """Check that a file is about as accurate as the float model on every set.

    Args:
        found: from `agreements`.
        max_wer_loss: percent, absolute; without transcripts, `MAX_DIVERGENCE` is the limit.

    Raises:
        VerificationError: it is less accurate.
    """
    for one in found:
        if one.wer_loss is None:
            if not one.divergence <= MAX_DIVERGENCE:
                raise VerificationError(
                    f"{one.name}: divergence of the posteriors from float must be at most {MAX_DIVERGENCE:g} nats, got "
                    f"{one.divergence:.3f} ({100 * one.frames_alike:.1f} % of the best tokens agree): keep the most "
                    "sensitive layers in float with --verify MANIFEST --max-wer-loss 0.1"
                )
        elif not one.wer_loss <= max_wer_loss:
            raise VerificationError(
                f"{one.name}: WER must be at most {max_wer_loss:g} % above the {one.float_wer:.2f} % of float, got "
                f"{one.wer:.2f} %: see --max-wer-loss"
            )
