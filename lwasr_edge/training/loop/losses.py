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
    """Weights of the losses; one of weight 0 is not computed."""

    mse: float = 1.0  # encoder outputs, frame by frame
    clip: float = 0.1  # encoder outputs, pooled over time
    kl: float = 1.0  # CTC posteriors
    hidden: float = 0.5  # outputs of the layers before the last, each against a layer of the reference
    ctc: float = 0.0  # transcripts

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise OptionError(f"the weight of --loss {name} must be a finite number >= 0, got {value}")
        if not any(vars(self).values()):
            raise OptionError(f"--loss must give one of {', '.join(vars(self))} a weight above 0, got 0 for all")

    @property
    def needs_reference(self) -> bool:
        """Whether any loss compares with the reference."""
        return any((self.mse, self.clip, self.kl, self.hidden))

    @property
    def compares_layers(self) -> bool:
        """Whether any loss compares outputs of layers with the reference's; the others compare posteriors."""
        return any((self.mse, self.clip, self.hidden))


@dataclass(frozen=True)
class Example:
    """One batch, as every student of a family is given it."""

    features: Tensor  # (B, 4 U, n_mels), augmented
    lengths: Tensor  # (B,) frames
    mask: Tensor  # (B, U) 1 at frames of the recording that are compared with the reference, 0 elsewhere
    chunking: Chunking | None  # in encoder frames; None for full context
    reference: Encoded | None  # of the same recordings, without augmentation
    targets: Tensor  # (B, L) token ids
    target_lengths: Tensor  # (B,)


def reference_indices(student: AcousticModel) -> list[int]:
    """Indices into the reference's `Encoded.hidden` that the student's hidden states should equal.

    Layer i of the student is layer k_i of the reference. Its input should equal the input of layer k_i, and its output
    the input of layer k_(i+1): each layer replaces the layers removed after it. Where k_0 > 0, the subsampling replaces
    the layers removed before it. The last output is the encoder's.
    """
    return [*student.config.reference_layers, -1]


def end_to_end_losses(student: AcousticModel, example: Example, weights: LossWeights) -> dict[str, Tensor]:
    """The weighted losses of a student's outputs, by name."""
    encoded = student(example.features, example.lengths, example.chunking)
    mask, reference = example.mask, example.reference
    found: dict[str, Tensor] = {}
    if reference is not None:
        if weights.mse:
            found["mse"] = weights.mse * frame_mse(encoded.hidden[-1], reference.hidden[-1], mask)
        if weights.clip:
            found["clip"] = weights.clip * clip(encoded.hidden[-1], reference.hidden[-1], mask)
        if weights.kl:
            found["kl"] = weights.kl * posterior_kl(encoded.logits, reference.logits, mask)
        if weights.hidden:
            inner = [
                frame_mse(own, reference.hidden[index], mask)
                for own, index in zip(encoded.hidden[:-1], reference_indices(student)[:-1], strict=True)
            ]
            found["hidden"] = weights.hidden * torch.stack(inner).mean()
    if weights.ctc:
        found["ctc"] = weights.ctc * ctc(
            encoded.logits, encoded.lengths, example.targets, example.target_lengths, student.config.blank_id
        )
    return found


def layerwise_losses(student: AcousticModel, example: Example) -> dict[str, Tensor]:
    """The loss of each layer alone, given the reference's hidden state as its input; see `reference_indices`.

    No gradient flows from one layer to another.
    """
    if example.reference is None:
        raise ValueError("layerwise losses need a reference, and the example has none")
    hidden = example.reference.hidden
    indices = reference_indices(student)
    encoder = student.encoder
    embedded = encoder.embed(F.pad(example.features, (0, 0, MEL_CONTEXT, 0)))
    errors = [frame_mse(embedded, hidden[indices[0]], example.mask)]
    limits = encoder.limits(embedded, example.lengths, example.chunking)
    for layer, given, wanted in zip(encoder.layers, indices[:-1], indices[1:], strict=True):
        out, _ = layer(limits.split(hidden[given].to(embedded.dtype)), limits)
        errors.append(frame_mse(limits.join(out), hidden[wanted], example.mask))
    return {"layers": torch.stack(errors).sum()}


def frame_mse(student: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error relative to the variance of the reference: the best constant scores 1.

    Args:
        student: (B, U, D).
        reference: (B, U, D).
        mask: (B, U) 1 at frames of the recording, 0 beyond.

    Returns:
        Scalar, float32.
    """
    weight = mask.unsqueeze(2)
    count = weight.sum() * student.shape[2]
    reference = reference.float()
    mean = (reference * weight).sum((0, 1)) / weight.sum()
    variance = ((reference - mean).square() * weight).sum() / count
    return ((student.float() - reference).square() * weight).sum() / count / variance.clamp(min=1e-12)


def pooled(encoder_out: Tensor, mask: Tensor) -> Tensor:
    """Masked mean over time, L2-normalised. (B, U, D), (B, U) -> (B, D)"""
    mean = (encoder_out.float() * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
    return F.normalize(mean, dim=1)


def clip(student: Tensor, reference: Tensor, mask: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrastive loss between the pooled outputs of student and reference, over the recordings of a batch.

    Symmetric cross-entropy over B x B cosine similarities (Radford et al. 2021, arXiv 2103.00020), as in the encoder
    loss of Hannan et al. 2025, arXiv 2505.16991. A batch of one has a loss of 0.

    Args:
        student: (B, U, D).
        reference: (B, U, D).
        mask: (B, U) 1 at frames of the recording, 0 beyond.
        temperature: divides the similarities.
    """
    similarity = pooled(student, mask) @ pooled(reference, mask).T / temperature
    own = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def posterior_kl(student_logits: Tensor, reference_logits: Tensor, mask: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the CTC posteriors, of the student from the reference, mean over frames (nats).

    Args:
        student_logits: (B, U, V), before the softmax.
        reference_logits: (B, U, V).
        mask: (B, U) 1 at frames of the recording, 0 beyond.
    """
    target = reference_logits.float().log_softmax(2)
    divergence = (target.exp() * (target - student_logits.float().log_softmax(2))).sum(2)
    return (divergence * mask).sum() / mask.sum().clamp(min=1)


def ctc(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank_id: int) -> Tensor:
    """CTC loss per frame (Graves et al. 2006), with each recording's own length; 0 where no alignment exists.

    Recordings without tokens do not count: they have no transcript.

    Args:
        logits: (B, U, V).
        lengths: (B,) frames of each recording.
        targets: (B, L) token ids, without blanks and sentence markers.
        target_lengths: (B,).
        blank_id: index of the blank.
    """
    log_probs = logits.float().log_softmax(2).transpose(0, 1)
    losses = F.ctc_loss(log_probs, targets, lengths, target_lengths, blank_id, reduction="none", zero_infinity=True)
    is_known = target_lengths > 0
    return (losses * is_known).sum() / (lengths * is_known).sum().clamp(min=1)
