"""Preparation of a model for quantisation-aware training (see `lwasr_edge.training.model.quantized`)."""

from __future__ import annotations

import dataclasses

import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.smooth_quant import equalise
from lwasr_edge.training.model.acoustic_model import SCALE, AcousticModel
from lwasr_edge.training.model.quantized import LEVELS_PER_DEVIATION, MAX_LEVEL


def prepare_qat(model: AcousticModel, levels: float = LEVELS_PER_DEVIATION) -> None:
    """Add quantisation scales to the linear modules of the layers, in place; a model that has them is left as it is.

    The weights stay in float: `quantize_weights` quantises them. The layer norms are equalised (`equalise`) here rather
    than at export, which would have to quantise the weights a second time.

    Args:
        model: float, or with QAT.
        levels: of a weight in a standard deviation of the weights of its output.

    Raises:
        OptionError: ``levels`` is not between 1 and `MAX_LEVEL`.
    """
    if not 1 <= levels <= MAX_LEVEL:
        raise OptionError(f"--qat-levels must be 1 to {MAX_LEVEL}, got {levels}")
    if model.config.qat:
        return
    equalise(model)
    model.config = dataclasses.replace(model.config, qat=True)
    model.add_scales()
    for linear in model.quantized_layers().values():
        weight = linear.weight.detach()
        deviation = weight.square().mean(1).sqrt()
        scale = torch.maximum(deviation / levels, weight.abs().amax(1) / MAX_LEVEL)
        linear.get_buffer(SCALE).copy_(scale.clamp(min=1e-12))
