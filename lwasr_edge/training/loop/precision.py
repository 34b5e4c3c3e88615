"""Mixed precision: float32 students, and copies of them that compute in another precision."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.quantized import quantize_weights


def in_precision(model: AcousticModel, dtype: torch.dtype) -> AcousticModel:
    """A copy whose encoder and head compute in `dtype`; features stay float32."""
    model = copy.deepcopy(model)
    model.encoder.to(dtype)
    model.head.to(dtype)
    return model


class ComputeCopies:
    """Copies of a family's students that compute outputs and gradients.

    The optimiser updates the float32 students with the copies' gradients. The copies are then refreshed from the
    students, quantised where these are trained with QAT.

    Attributes:
        models: the copies, by the students' names.
        student_weights: parameters of each student, in the order of `models`.
    """

    def __init__(self, students: dict[str, AcousticModel], precision: torch.dtype) -> None:
        self._students = students
        self.models = {name: in_precision(student, precision) for name, student in students.items()}
        # listed once: walking a model takes as long as a small training step
        self.student_weights: list[list[Tensor]] = [list(student.parameters()) for student in students.values()]
        self._copied_weights: list[list[Tensor]] = [list(model.parameters()) for model in self.models.values()]
        self.refresh()

    def gradients(self) -> list[Tensor]:
        """The gradients of all copies, to be summed over processes in place."""
        return [weight.grad for weights in self._copied_weights for weight in weights if weight.grad is not None]

    def move_gradients(self) -> None:
        """Move the copies' gradients to the students, as float32."""
        for weights, copies in zip(self.student_weights, self._copied_weights, strict=True):
            for weight, copied in zip(weights, copies, strict=True):
                weight.grad = None if copied.grad is None else copied.grad.float()
                copied.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the students' weights into the copies."""
        for weights, copies in zip(self.student_weights, self._copied_weights, strict=True):
            torch._foreach_copy_(copies, weights)
        for name, student in self._students.items():
            quantize_weights(self.models[name], student)
