"""Preparation of a model for quantisation-aware training (see `lwasr_edge.training.model.quantized`)."""

from __future__ import annotations

import dataclasses

import torch

from lwasr_edge.training.compress.smooth_quant import equalise
from lwasr_edge.training.model.acoustic_model import SCALE, AcousticModel
from lwasr_edge.training.model.quantized import LEVELS_PER_DEVIATION, MAX_LEVEL


def prepare_qat(model: AcousticModel) -> None:
    """Add quantisation scales to the linear modules of the layers, in place; a model that has them is left as it is.

    The weights stay in float: `quantize_weights` quantises them. The layer norms are equalised (`equalise`) here rather
    than at export, which would have to quantise the weights a second time.
    """
    if model.config.qat:
        return
    equalise(model)
    model.config = dataclasses.replace(model.config, qat=True)
    model.add_scales()
    for linear in model.quantized_layers().values():
        weight = linear.weight.detach()
        deviation = weight.square().mean(1).sqrt()
        scale = torch.maximum(deviation / LEVELS_PER_DEVIATION, weight.abs().amax(1) / MAX_LEVEL)
        linear.get_buffer(SCALE).copy_(scale.clamp(min=1e-12))
