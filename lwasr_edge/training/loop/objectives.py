"""The training steps as objectives: what a batch costs each student. The loop knows nothing else of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lwasr_edge.errors import OptionError
from lwasr_edge.training.loop import losses
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
    chunk_frames: int | None  # that a chunk hears; None for whole recordings
    look_ahead_frames: int  # of these, the last, which are context only
    reference: Encoded | None  # of the same recordings, undistorted
    targets: Tensor  # (B, L) token ids
    target_lengths: Tensor  # (B,)


def reference_places(student: AcousticModel) -> list[int]:
    """Which of the reference's `Encoded.hidden` each of the student's should equal.

    Layer i of the student is layer k_i of the reference: what it is given should be what layer k_i was given, and what
    it gives, what layer k_(i+1) was given; so each layer does the work of those removed after it. Where k_0 > 0, the
    student's front does the work of the layers removed before it. The last output is the encoder's.
    """
    return [*student.config.reference_layers, -1]


def end_to_end(student: AcousticModel, example: Example, weights: LossWeights) -> dict[str, Tensor]:
    """The weighted parts of a student's loss on its own outputs."""
    encoded = student(example.features, example.lengths, example.chunk_frames, example.look_ahead_frames)
    heard, reference = example.heard, example.reference
    parts: dict[str, Tensor] = {}
    if reference is not None:
        if weights.mse:
            parts["mse"] = weights.mse * losses.frame_mse(encoded.hidden[-1], reference.hidden[-1], heard)
        if weights.clip:
            parts["clip"] = weights.clip * losses.clip(encoded.hidden[-1], reference.hidden[-1], heard)
        if weights.kl:
            parts["kl"] = weights.kl * losses.posterior_kl(encoded.logits, reference.logits, heard)
        if weights.hidden:
            inner = [
                losses.frame_mse(own, reference.hidden[place], heard)
                for own, place in zip(encoded.hidden[:-1], reference_places(student)[:-1], strict=True)
            ]
            parts["hidden"] = weights.hidden * torch.stack(inner).mean()
    if weights.ctc:
        parts["ctc"] = weights.ctc * losses.ctc(
            encoded.logits, encoded.lengths, example.targets, example.target_lengths, student.config.blank_id
        )
    return parts


def layer_by_layer(student: AcousticModel, example: Example) -> dict[str, Tensor]:
    """Each layer alone: given the reference's input to it, it must do the work of the layers removed after it too.

    See `reference_places`. Gradients do not pass from one layer to another.
    """
    if example.reference is None:
        raise ValueError("layers learn alone from a reference, and the example has none")
    hidden = example.reference.hidden
    places = reference_places(student)
    encoder = student.encoder
    front = encoder.embed(F.pad(example.features, (0, 0, MEL_CONTEXT, 0)))
    errors = [losses.frame_mse(front, hidden[places[0]], example.heard)]
    limits = encoder.limits(front, example.lengths, example.chunk_frames, example.look_ahead_frames)
    for layer, given, wanted in zip(encoder.layers, places[:-1], places[1:], strict=True):
        out, _ = layer(limits.split(hidden[given].to(front.dtype)), limits)
        errors.append(losses.frame_mse(limits.join(out), hidden[wanted], example.heard))
    return {"layers": torch.stack(errors).sum()}
