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

from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.conformer import ConvModule, FeedForward, RelativeAttention

REACH = 3.0  # deviations: how far a normalised value is taken to go
SMALLEST = 1e-4


def equalise(model: AcousticModel) -> None:
    """Balance, in place, every product that a layer norm feeds and nothing else does."""
    for module in model.encoder.modules():
        if isinstance(module, FeedForward):
            balance_behind(module.norm, module.linear1)
        elif isinstance(module, RelativeAttention):
            balance_behind(module.norm, module.query, module.key, module.value)
        elif isinstance(module, ConvModule):
            balance_behind(module.norm, module.pointwise1)
    last = model.encoder.layers[-1].norm
    if isinstance(last, nn.LayerNorm):
        balance_behind(last, model.head)


@torch.no_grad()
def balance_behind(norm: nn.LayerNorm, *products: nn.Linear) -> None:
    """Divide what ``norm`` gives, channel by channel, by what the weights of ``products`` are multiplied with.

    The factors' geometric mean is 1, so that training finds weights of the size that they had.
    """
    loudness = (REACH * norm.weight.abs() + norm.bias.abs()).clamp(min=SMALLEST)
    largest = torch.stack([product.weight.abs().amax(0) for product in products]).amax(0).clamp(min=SMALLEST)
    scale = (loudness / largest).sqrt()
    scale /= scale.log().mean().exp()
    norm.weight.div_(scale)
    norm.bias.div_(scale)
    for product in products:
        product.weight.mul_(scale)
