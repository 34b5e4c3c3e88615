"""Equalise layer norms and the linear layers after them, so that int8 quantisation loses less (SmoothQuant).

Dynamic int8 quantises the input of a linear layer to 255 levels over all its channels: one loud channel leaves few
levels for the others. The weights of a layer norm show how loud each channel is, so part of the loudness can move into
the linear layer's weights, which have a scale per output channel (Xiao et al. 2023, arXiv 2211.10438, eq. 4 with
exponent 0.5, and the norm's weights instead of calibration audio). The float model is unchanged up to rounding errors.
"""

from __future__ import annotations

import torch
from torch import nn

from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.conformer import ConvModule, FeedForward, RelativeAttention

DEVIATIONS = 3.0  # assumed range of a normalised value
SMALLEST = 1e-4


def equalise(model: AcousticModel) -> None:
    """Equalise, in place, every layer norm whose output only linear layers use."""
    for module in model.encoder.modules():
        if isinstance(module, FeedForward):
            equalise_norm(module.norm, module.linear1)
        elif isinstance(module, RelativeAttention):
            equalise_norm(module.norm, module.query, module.key, module.value)
        elif isinstance(module, ConvModule):
            equalise_norm(module.norm, module.pointwise1)
    last = model.encoder.layers[-1].norm
    if isinstance(last, nn.LayerNorm):
        equalise_norm(last, model.head)


@torch.no_grad()
def equalise_norm(norm: nn.LayerNorm, *linears: nn.Linear) -> None:
    """Divide the output channels of ``norm`` by factors, and multiply the weights of ``linears`` by them, in place.

    The factors' geometric mean is 1, so the weights keep their magnitude for training.
    """
    loudness = (DEVIATIONS * norm.weight.abs() + norm.bias.abs()).clamp(min=SMALLEST)
    largest = torch.stack([linear.weight.abs().amax(0) for linear in linears]).amax(0).clamp(min=SMALLEST)
    factors = (loudness / largest).sqrt()
    factors /= factors.log().mean().exp()
    norm.weight.div_(factors)
    norm.bias.div_(factors)
    for linear in linears:
        linear.weight.mul_(factors)
