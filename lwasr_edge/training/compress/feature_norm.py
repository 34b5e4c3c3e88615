"""Fit the running feature normalisation of a student to the utterance normalisation that its reference has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.features import RunningNorm, UtteranceNorm

Batches = list[tuple[Tensor, Tensor]]  # log-mel features (B, T, n_mels) and their lengths (B,)


@torch.inference_mode()
def fit_running_norm(student: AcousticModel, store: WaveformStore, n_utterances: int = 256) -> None:
    """Set prior, gain and offset of the student's `RunningNorm` from training audio; do nothing with another norm.

    The prior is the average of the utterances' statistics. Gain and offset of each band are the least-squares line
    from running-normalised to utterance-normalised features, on which the reference's layers were trained.

    Args:
        student: on the store's device.
        store: training audio.
        n_utterances: how many to use, evenly spaced; all if there are fewer.

    Raises:
        OptionError: the audio is digital silence.
    """
    norm = student.norm
    if not isinstance(norm, RunningNorm):
        return
    chosen = evenly_spaced(len(store.lengths_s), n_utterances, "down")
    batches = [non_silent_log_mel(student, store, indices) for indices in np.array_split(chosen, -(-len(chosen) // 16))]
    statistics = [utterance_statistics(norm, log_mel, lengths) for log_mel, lengths in batches if len(log_mel)]
    if not statistics:
        raise OptionError("training audio must contain sound, got digital silence only: check the recordings")
    shapes, variances = (torch.cat(values) for values in zip(*statistics, strict=True))
    norm.prior_shape.copy_(shapes.mean(0))
    norm.prior_variance.copy_(variances.mean(0))
    gain, offset = fit_lines(norm, UtteranceNorm(student.config.frontend), batches)
    norm.gain.copy_(gain)
    norm.offset.copy_(offset)


def fit_lines(norm: RunningNorm, target_norm: UtteranceNorm, batches: Batches) -> tuple[Tensor, Tensor]:
    """Gain and offset of each band, (n_mels,) each, that map the output of ``norm`` to that of ``target_norm``."""
    moments = torch.zeros(5, len(norm.gain), dtype=torch.float64, device=norm.gain.device)
    for log_mel, lengths in batches:
        valid = torch.arange(log_mel.shape[1], device=log_mel.device) < lengths[:, None]
        running = norm(log_mel, lengths)[valid].double()
        target = target_norm(log_mel, lengths)[valid].double()
        values = torch.ones_like(running), running, target, running.square(), running * target
        moments += torch.stack([value.sum(0) for value in values])
    running, target, squares, cross = moments[1:] / moments[0]
    gain = (cross - running * target) / (squares - running.square()).clamp(min=1e-12)
    return gain, target - gain * running


def non_silent_log_mel(student: AcousticModel, store: WaveformStore, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Log-mel features (B, T, n_mels) and lengths (B,) of the utterances that are not digital silence."""
    batch = store.batch(indices)
    log_mel = student.padded_log_mel(batch.waveform)
    lengths = (batch.n_samples // student.config.frontend.hop_length).clamp(min=1)
    has_sound = batch.waveform.abs().amax(1) > 0
    return log_mel[has_sound], lengths[has_sound]


def utterance_statistics(norm: RunningNorm, log_mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Spectral shape and variance of each utterance, (B, n_mels) each, with the frame weights of `RunningNorm`."""
    valid = torch.arange(log_mel.shape[1], device=log_mel.device) < lengths[:, None]
    weight = norm.moments(log_mel)[:, :, :1] * valid.unsqueeze(2)
    weight = weight / weight.sum(1, keepdim=True)
    mean = (weight * log_mel).sum(1)
    return mean - mean.mean(1, keepdim=True), (weight * log_mel.square()).sum(1) - mean.square()
