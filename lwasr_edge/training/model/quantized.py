"""The quantised weights of models trained with quantisation-aware training (QAT), whose files can be compressed.

Each weight of a layer's linear modules is an integer times a scale; there is one scale per output channel, an eighth of
the standard deviation of its weights. Stored as int8, such weights are mostly small, frequent numbers: entropy coding
needs about five bits for each. Plain int8, whose scale is as fine as eight bits allow, needs nearly eight. The runtime
multiplies both alike.

Training computes with the quantised weights and updates the float ones (the straight-through estimator, Bengio et al.
2013, arXiv 1308.3432; for speech recognition: Ding et al. 2022, arXiv 2203.15952). A uniform quantiser followed by an
entropy code is within a quarter of a bit of the best possible code (Gish & Pierce 1968).
`lwasr_edge.training.compress.qat` prepares a model for it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lwasr_edge.training.model.acoustic_model import SCALE, AcousticModel

LEVELS_PER_DEVIATION = 8.0
MAX_LEVEL = 64  # so that any two neighbouring weights respect LARGEST_PAIR of `lwasr_edge.export.quantize`


def quantized_values(weight: Tensor, scale: Tensor) -> Tensor:
    """Quantise a weight.

    Args:
        weight: (outputs, inputs) float.
        scale: (outputs,) float.

    Returns:
        (outputs, inputs) integers as float32, -`MAX_LEVEL` to `MAX_LEVEL`.
    """
    return (weight / scale[:, None]).round().clamp(-MAX_LEVEL, MAX_LEVEL)


@torch.no_grad()
def quantize_weights(model: AcousticModel, source: AcousticModel) -> None:
    """Set a model's QAT weights to the quantised float32 weights of `source`, a model of the same shape."""
    given = source.quantized_layers()
    for name, linear in model.quantized_layers().items():
        scale = given[name].get_buffer(SCALE)
        linear.weight.copy_(quantized_values(given[name].weight, scale).mul_(scale[:, None]))


def quantized_copy(model: AcousticModel) -> AcousticModel:
    """The model as its checkpoint stores it: itself, or, after QAT, a copy with quantised weights."""
    if not model.config.qat:
        return model
    stored = copy.deepcopy(model)
    quantize_weights(stored, model)
    return stored


def to_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The QAT weights of a state dict as int8, and their scales as float32; other tensors are left out."""
    scales = {name: value.float() for name, value in state.items() if name.endswith(f".{SCALE}")}
    weights = {name: name.removesuffix(SCALE) + "weight" for name in scales}
    return scales | {
        weights[name]: quantized_values(state[weights[name]].float(), scale).to(torch.int8)
        for name, scale in scales.items()
    }


def from_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `to_int8`, applied to a state dict of float tensors.

    Raises:
        KeyError: a scale without its weight.
        RuntimeError: a scale whose shape does not fit its weight.
    """
    scales = {name.removesuffix(SCALE): value for name, value in state.items() if name.endswith(f".{SCALE}")}
    return state | {f"{name}weight": state[f"{name}weight"] * scale[:, None] for name, scale in scales.items()}
