"""Small untrained models for the tests of export: every kind of layer, with odd sizes."""

from __future__ import annotations

import torch

from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig
from lwasr_edge.training.model.features import RunningNorm

PIECES = ("▁a", "▁be", "▁see", "t", "s", "ing", "▁", "o")


def random_model(
    normalization: str = "running",
    *,
    conv_norm: str = "batch_norm",
    n_mels: int = 80,
    d_model: int = 24,
    n_heads: int = 3,
    d_attention: int | None = None,
    channels: int = 12,
    kernel: int = 7,
    left_context_frames: int = 10,
    removed: tuple[str, ...] = (),
    seed: int = 0,
) -> AcousticModel:
    """Two layers of random weights and statistics, large enough to emit tokens."""
    torch.manual_seed(seed)
    config = ModelConfig(
        FrontendConfig(normalization=normalization, n_mels=n_mels),
        EncoderConfig(
            n_layers=2,
            d_model=d_model,
            n_heads=n_heads,
            d_attention=d_attention,
            d_feed_forward=40,
            conv_kernel=kernel,
            conv_norm=conv_norm,
            subsampling_channels=channels,
            left_context_frames=left_context_frames,
            removed=removed,
        ),
        (*PIECES, "<blank>"),
    )
    model = AcousticModel(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("variance"):
            tensor.uniform_(0.5, 2)
        elif tensor.dim() < 2 or name.endswith(("content_bias", "position_bias")):
            tensor.add_(torch.randn_like(tensor) * 0.1)
    if isinstance(model.norm, RunningNorm):
        model.norm.prior_variance.fill_(4)
    model.encoder.subsampling.linear.weight.mul_(6)
    model.head.weight.mul_(6)
    return model
