"""Losses of both training steps: what a batch costs each student. The loop knows nothing else of the steps.

Frames beyond a recording's end are masked everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.training.model.acoustic_model import AcousticModel, Encoded
from lwasr_edge.training.model.conformer import MEL_CONTEXT


@dataclass(frozen=True)
class LossWeights:
    """What each part of the loss counts; a part of weight 0 is not computed."""

    mse: float = 1.0  # encoder outputs, frame by frame
    clip: float = 0.1  # encoder outputs, pooled over time
    kl: float = 1.0  # CTC posteriors
    hidden: float = 0.5  # outputs of the layers before the last, each against its place in the reference
    ctc: float = 0.0  # transcripts

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise OptionError(f"the weight of {name} is {value}: expected 0 or more")
        if not any(vars(self).values()):
            raise OptionError(f"every loss weighs 0: one of {', '.join(vars(self))} must teach")

    @property
    def needs_reference(self) -> bool:
        """Whether any part compares with the reference."""
        return any((self.mse, self.clip, self.kl, self.hidden))


@dataclass(frozen=True)
class Example:
    """One batch as every student of a family meets it."""

    features: Tensor  # (B, 4 U, n_mels), the student's own
    lengths: Tensor  # (B,) frames
    heard: Tensor  # (B, U) 1 at frames of the recording
    chunking: Chunking | None  # in encoder frames; None for full context
    reference: Encoded | None  # of the same recordings, undistorted
    targets: Tensor  # (B, L) token ids
    target_lengths: Tensor  # (B,)


def reference_indices(student: AcousticModel) -> list[int]:
    """Which of the reference's `Encoded.hidden` each of the student's should equal.

    Layer i of the student is layer k_i of the reference: what it is given should be what layer k_i was given, and what
    it gives, what layer k_(i+1) was given; so each layer does the work of those removed after it. Where k_0 > 0, the
    student's front does the work of the layers removed before it. The last output is the encoder's.
    """
    return [*student.config.reference_layers, -1]


def end_to_end_losses(student: AcousticModel, example: Example, weights: LossWeights) -> dict[str, Tensor]:
    """The weighted parts of a student's loss on its own outputs."""
    encoded = student(example.features, example.lengths, example.chunking)
    heard, reference = example.heard, example.reference
    parts: dict[str, Tensor] = {}
    if reference is not None:
        if weights.mse:
            parts["mse"] = weights.mse * frame_mse(encoded.hidden[-1], reference.hidden[-1], heard)
        if weights.clip:
            parts["clip"] = weights.clip * clip(encoded.hidden[-1], reference.hidden[-1], heard)
        if weights.kl:
            parts["kl"] = weights.kl * posterior_kl(encoded.logits, reference.logits, heard)
        if weights.hidden:
            inner = [
                frame_mse(own, reference.hidden[place], heard)
                for own, place in zip(encoded.hidden[:-1], reference_indices(student)[:-1], strict=True)
            ]
            parts["hidden"] = weights.hidden * torch.stack(inner).mean()
    if weights.ctc:
        parts["ctc"] = weights.ctc * ctc(
            encoded.logits, encoded.lengths, example.targets, example.target_lengths, student.config.blank_id
        )
    return parts


def layerwise_losses(student: AcousticModel, example: Example) -> dict[str, Tensor]:
    """Each layer alone: given the reference's input to it, it must do the work of the layers removed after it too.

    See `reference_indices`. Gradients do not pass from one layer to another.
    """
    if example.reference is None:
        raise ValueError("layers learn alone from a reference, and the example has none")
    hidden = example.reference.hidden
    places = reference_indices(student)
    encoder = student.encoder
    front = encoder.embed(F.pad(example.features, (0, 0, MEL_CONTEXT, 0)))
    errors = [frame_mse(front, hidden[places[0]], example.heard)]
    limits = encoder.limits(front, example.lengths, example.chunking)
    for layer, given, wanted in zip(encoder.layers, places[:-1], places[1:], strict=True):
        out, _ = layer(limits.split(hidden[given].to(front.dtype)), limits)
        errors.append(frame_mse(limits.join(out), hidden[wanted], example.heard))
    return {"layers": torch.stack(errors).sum()}


def frame_mse(student: Tensor, reference: Tensor, heard: Tensor) -> Tensor:
    """Mean squared error relative to the reference's own variance: 1 is what a constant would score.

    Args:
        student: (B, U, D).
        reference: (B, U, D).
        heard: (B, U) 1 at frames of the recording, 0 beyond.

    Returns:
        Scalar, float32.
    """
    weight = heard.unsqueeze(2)
    count = weight.sum() * student.shape[2]
    reference = reference.float()
    mean = (reference * weight).sum((0, 1)) / weight.sum()
    variance = ((reference - mean).square() * weight).sum() / count
    return ((student.float() - reference).square() * weight).sum() / count / variance.clamp(min=1e-12)


def pooled(encoder_out: Tensor, heard: Tensor) -> Tensor:
    """Mean over a recording's own frames, to length 1. (B, U, D), (B, U) -> (B, D)"""
    mean = (encoder_out.float() * heard.unsqueeze(2)).sum(1) / heard.sum(1, keepdim=True)
    return F.normalize(mean, dim=1)


def clip(student: Tensor, reference: Tensor, heard: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrastive loss: each student vector must find its reference vector among the batch's, and the reverse.

    Symmetric cross-entropy over B x B cosine similarities (Radford et al. 2021, arXiv 2103.00020), as in the encoder
    loss of Hannan et al. 2025, arXiv 2505.16991. A batch of one teaches nothing: its loss is 0.

    Args:
        student: (B, U, D).
        reference: (B, U, D).
        heard: (B, U) 1 at frames of the recording, 0 beyond.
        temperature: divides the similarities.
    """
    similarity = pooled(student, heard) @ pooled(reference, heard).T / temperature
    own = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def posterior_kl(student_logits: Tensor, reference_logits: Tensor, heard: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the CTC posteriors, of the student from the reference, mean over frames (nats).

    Args:
        student_logits: (B, U, V), before the softmax.
        reference_logits: (B, U, V).
        heard: (B, U) 1 at frames of the recording, 0 beyond.
    """
    target = reference_logits.float().log_softmax(2)
    divergence = (target.exp() * (target - student_logits.float().log_softmax(2))).sum(2)
    return (divergence * heard).sum() / heard.sum()


def ctc(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank_id: int) -> Tensor:
    """CTC loss per frame (Graves et al. 2006), each recording with its own length; 0 where none can be aligned.

    Args:
        logits: (B, U, V).
        lengths: (B,) frames of each recording.
        targets: (B, L) token ids, no blanks, no markers of begin or end.
        target_lengths: (B,).
        blank_id: index of the blank.
    """
    log_probs = logits.float().log_softmax(2).transpose(0, 1)
    losses = F.ctc_loss(log_probs, targets, lengths, target_lengths, blank_id, reduction="none", zero_infinity=True)
    return losses.sum() / lengths.sum()
