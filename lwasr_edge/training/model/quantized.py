"""Students that learn with rounded weights, whose files can be compressed.

A weight of a layer's product is a whole number of steps: one step for each output, an eighth of the standard deviation
of its weights. As int8, such weights are mostly small numbers that come again and again: five bits say each of them,
where plain int8, whose step is as fine as eight bits allow, needs nearly eight. The runtime multiplies both alike.

Training rounds at every step what computes and moves what is not rounded (the straight-through estimator, Bengio et al.
2013, arXiv 1308.3432; for recognisers: Ding et al. 2022, arXiv 2203.15952). A uniform step behind an entropy code is
within a quarter of a bit of what any code can do (Gish & Pierce 1968).
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from lwasr_edge.training.compress.smooth_quant import equalise
from lwasr_edge.training.model.acoustic_model import AcousticModel

SCALES_PER_DEVIATION = 8.0
LARGEST = 64  # steps: two neighbours stay within what int8 products can add up (`lwasr_edge.export.quantize`)


def prepare_qat(model: AcousticModel) -> None:
    """Give the products of a model steps, in place; their weights are not rounded yet.

    The layer norms are balanced for good (`balance`), in place of the export, which could not without rounding anew.
    """
    if model.config.qat:
        return
    equalise(model)
    model.config = dataclasses.replace(model.config, qat=True)
    model.add_scales()
    for product in model.quantized_layers().values():
        weight = product.weight.detach()
        deviation = weight.square().mean(1).sqrt()
        step = torch.maximum(deviation / SCALES_PER_DEVIATION, weight.abs().amax(1) / LARGEST)
        product.get_buffer("step").copy_(step.clamp(min=1e-12))


def quantized_values(weight: Tensor, step: Tensor) -> Tensor:
    """A weight (outputs, inputs) in whole steps (outputs,): float32, up to `LARGEST` in size."""
    return (weight / step[:, None]).round().clamp(-LARGEST, LARGEST)


@torch.no_grad()
def quantize_weights(model: AcousticModel, source: AcousticModel) -> None:
    """Give a model the weights of another of the same shape, float32, rounded; nothing where they are not to be."""
    given = source.quantized_layers()
    for name, product in model.quantized_layers().items():
        step = given[name].get_buffer("step")
        product.weight.copy_(quantized_values(given[name].weight, step).mul_(step[:, None]))


def quantized_copy(model: AcousticModel) -> AcousticModel:
    """A model as its checkpoint and its file hold it: itself, or a copy with rounded weights."""
    if not model.config.qat:
        return model
    stored = copy.deepcopy(model)
    quantize_weights(stored, model)
    return stored


def to_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of weights and steps by name, those that have a step, in whole steps, int8, and the steps, float32."""
    steps = {name: value.float() for name, value in state.items() if name.endswith(".step")}
    weights = {name: name.removesuffix("step") + "weight" for name in steps}
    return steps | {
        weights[name]: quantized_values(state[weights[name]].float(), step).to(torch.int8)
        for name, step in steps.items()
    }


def from_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `packed`, of float weights by name."""
    steps = {name.removesuffix("step"): value for name, value in state.items() if name.endswith(".step")}
    return state | {f"{name}weight": state[f"{name}weight"] * step[:, None] for name, step in steps.items()}
