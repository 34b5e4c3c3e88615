"""What a student is taught by. Frames beyond a recording's end count nowhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
