"""Is the exported file the same model? torch against float ONNX by numbers, float against int8 by words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lwasr_edge.audio import load_audio
from lwasr_edge.errors import VerificationError
from lwasr_edge.export.run import log_probs_of, padded, run_file, run_in_chunks, text_of
from lwasr_edge.model import Model
from lwasr_edge.training.evaluate import score
from lwasr_edge.training.manifest import read_manifest
from lwasr_edge.training.model import AcousticModel

ROUNDING = 1e-3  # of log-probabilities: what orders of float32 additions may differ by
ROUNDING_FACTOR = 4.0  # ... and, where a model amplifies rounding, so many times what torch itself loses in float32
PARITY_CHUNKS = (1, 3, 16, None)  # frames; None: whole
PARITY_SECONDS = 8.0  # of each recording
MIN_TOKEN_AGREEMENT = 0.9
MAX_WER_LOSS = 1.0  # percent, absolute, where the caller sets no limit


@dataclass(frozen=True)
class Recording:
    waveform: np.ndarray  # (N,) float32
    text: str | None  # None where there is no transcript


def made_up_recordings(sample_rate: int, n_recordings: int = 3, duration_s: float = 5.0) -> list[Recording]:
    """Signals with something of speech: a gliding voice under moving formants, pauses, noise, two levels."""
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


def read_recordings(manifest: Path, sample_rate: int, limit: int | None = None) -> list[Recording]:
    """Audio and transcripts of a manifest; with a limit, so many spread over it."""
    utterances = read_manifest(manifest)
    if limit is not None and len(utterances) > limit:
        utterances = [utterances[i] for i in np.linspace(0, len(utterances) - 1, limit).round().astype(int)]
    return [Recording(load_audio(utterance.path, sample_rate), utterance.text or None) for utterance in utterances]


@dataclass(frozen=True)
class Parity:
    """Largest differences of log-probabilities from the torch model in float64."""

    chunk_frames: int | None  # None: whole
    onnx: float
    torch_float32: float  # what torch itself loses in float32: rounding, amplified by this model

    @property
    def holds(self) -> bool:
        return self.onnx <= ROUNDING + ROUNDING_FACTOR * self.torch_float32


def float_parity(torch_model: AcousticModel, path: Path, recordings: Sequence[Recording]) -> list[Parity]:
    """Compare the training path of the torch model with the float ONNX file, frame by frame.

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
        differences = []
        for recording in recordings:
            waveform = recording.waveform[: round(PARITY_SECONDS * config.frontend.sample_rate)]
            batch, n_samples = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
            exact = double.log_probs(batch.double(), n_samples, chunk_frames)[0][0].numpy()
            single = torch_model.log_probs(batch, n_samples, chunk_frames)[0][0].numpy()
            exported = log_probs_of(run_in_chunks(model, padded(model, waveform, len(exact)), chunk_frames))
            differences.append((np.abs(exported - exact).max(), np.abs(single - exact).max()))
        results.append(Parity(chunk_frames, *(float(value) for value in np.max(differences, axis=0))))
    failed = [parity for parity in results if not parity.holds]
    if failed:
        shown = "; ".join(
            f"chunks of {p.chunk_frames or 'all'} frames: {p.onnx:.2g} (torch {p.torch_float32:.2g})" for p in failed
        )
        raise VerificationError(f"the exported graph does not compute what torch does: largest difference at {shown}")
    return results


@dataclass(frozen=True)
class Agreement:
    """Float file against the stored precision, over the same recordings."""

    recordings: int
    frames_alike: float  # share of frames with the same best token
    float_wer: float | None  # percent; None without transcripts
    wer: float | None  # percent

    @classmethod
    def of(
        cls, recordings: Sequence[Recording], frames_alike: float, float_texts: list[str], texts: list[str]
    ) -> Agreement:
        """Score what the float file and the other heard, if all recordings have transcripts."""
        if any(recording.text is None for recording in recordings):
            return cls(len(recordings), frames_alike, None, None)
        references = [recording.text or "" for recording in recordings]
        float_wer, wer = (100 * score(references, heard).wer for heard in (float_texts, texts))
        return cls(len(recordings), frames_alike, float_wer, wer)

    @property
    def wer_loss(self) -> float | None:
        """Percent, absolute."""
        return None if self.wer is None or self.float_wer is None else self.wer - self.float_wer


def agreement(float_path: Path, path: Path, recordings: Sequence[Recording]) -> Agreement:
    """Run both files over ``recordings`` and compare their best tokens and, where there are transcripts, their WER."""
    models = Model(float_path), Model(path)
    alike, n_frames = 0, 0
    texts: tuple[list[str], list[str]] = ([], [])
    for recording in recordings:
        results = [run_file(model, recording.waveform) for model in models]
        best = [log_probs_of(result).argmax(1) for result in results]
        alike += int((best[0] == best[1]).sum())
        n_frames += len(best[0])
        for model, result, transcripts in zip(models, results, texts, strict=True):
            transcripts.append(text_of(model, result))
    return Agreement.of(recordings, alike / n_frames, *texts)


def require_agreement(found: Agreement, max_wer_loss: float) -> None:
    """Refuse a file whose words are not those of the float model.

    Args:
        found: from `agreement`.
        max_wer_loss: percent, absolute; without transcripts, `MIN_TOKEN_AGREEMENT` of the frames must agree.

    Raises:
        VerificationError
    """
    if found.wer_loss is None:
        if found.frames_alike < MIN_TOKEN_AGREEMENT:
            raise VerificationError(
                f"only {100 * found.frames_alike:.1f} % of the frames have the best token of the float model; "
                f"{100 * MIN_TOKEN_AGREEMENT:.0f} % are expected: --verify MANIFEST --max-wer-loss 0.1 keeps in "
                "float what suffers"
            )
    elif found.wer_loss > max_wer_loss:
        raise VerificationError(
            f"WER rises from {found.float_wer:.2f} % in float to {found.wer:.2f} %; at most {max_wer_loss:g} % more is "
            "allowed: see --max-wer-loss"
        )
