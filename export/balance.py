"""Make the inputs of products easy to round, at no cost: what a layer norm scales up, the weights behind scale down.

Dynamic int8 rounds the input of a product in 255 equal steps over all its channels: one loud channel leaves few steps
for the others. A layer norm's own weights say how loud each channel is, so part of the loudness can move into the rows
of the weight matrix, which has a step of its own for each output (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438,
eq. 4 with exponent 0.5, and the norm's weights in the place of calibration audio). In float nothing changes but
rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lwasr_edge.export.layers import MatMulLinear

if TYPE_CHECKING:
    from lwasr_edge.export.streaming import ExportedModel

REACH = 3.0  # deviations: how far a normalised value is taken to go
SMALLEST = 1e-4


def balance(model: ExportedModel) -> None:
    """Balance, in place, every product that a layer norm feeds and nothing else does."""
    for layer in model.layers:
        for part, product in (
            (layer.feed_forward1, layer.feed_forward1.linear1),
            (layer.attention, layer.attention.projection),
            (layer.conv, layer.conv.pointwise1),
            (layer.feed_forward2, layer.feed_forward2.linear1),
        ):
            balance_pair(part.norm, product)
    balance_pair(model.layers[-1].norm, model.head)


@torch.no_grad()
def balance_pair(norm: nn.LayerNorm, product: MatMulLinear) -> None:
    """Divide what ``norm`` gives, channel by channel, by what the rows of ``product`` are multiplied with."""
    loudness = (REACH * norm.weight.abs() + norm.bias.abs()).clamp(min=SMALLEST)
    scale = (loudness / product.weight.abs().amax(1).clamp(min=SMALLEST)).sqrt()
    norm.weight /= scale
    norm.bias /= scale
    product.weight *= scale[:, None]
