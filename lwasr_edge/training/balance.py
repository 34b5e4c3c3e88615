"""Make the inputs of products easy to round, at no cost: what a layer norm scales up, the weights behind scale down.

Dynamic int8 rounds the input of a product in 255 equal steps over all its channels: one loud channel leaves few steps
for the others. A layer norm's own weights say how loud each channel is, so part of the loudness can move into the
weights behind it, which have a step of their own for each output (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438,
eq. 4 with exponent 0.5, and the norm's weights in the place of calibration audio). In float nothing changes but
rounding.
"""

from __future__ import annotations

import torch
from torch import nn

from lwasr_edge.training.model import AcousticModel

REACH = 3.0  # deviations: how far a normalised value is taken to go
SMALLEST = 1e-4


def balance(model: AcousticModel) -> None:
    """Balance, in place, every product that a layer norm feeds and nothing else does."""
    for layer in model.encoder.layers:
        attention = layer.attention
        balance_behind(layer.feed_forward1.norm, layer.feed_forward1.linear1)
        balance_behind(attention.norm, attention.query, attention.key, attention.value)
        balance_behind(layer.conv.norm, layer.conv.pointwise1)
        balance_behind(layer.feed_forward2.norm, layer.feed_forward2.linear1)
    balance_behind(model.encoder.layers[-1].norm, model.head)


@torch.no_grad()
def balance_behind(norm: nn.LayerNorm, *products: nn.Linear) -> None:
    """Divide what ``norm`` gives, channel by channel, by what the weights of ``products`` are multiplied with.

    The factors' geometric mean is 1, so that training finds weights of the size that they had.
    """
    loudness = (REACH * norm.weight.abs() + norm.bias.abs()).clamp(min=SMALLEST)
    largest = torch.stack([product.weight.abs().amax(0) for product in products]).amax(0).clamp(min=SMALLEST)
    scale = (loudness / largest).sqrt()
    scale /= scale.log().mean().exp()
    norm.weight /= scale
    norm.bias /= scale
    for product in products:
        product.weight *= scale
