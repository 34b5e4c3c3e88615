"""The modules of the model, rewritten for onnxruntime: the same numbers with fewer and cheaper operators.

Nothing here is trained. Every export compares these modules with the originals (`lwasr_edge.export.verify`).

* Linear layers are ``x @ weight + bias`` on three-dimensional input: torch would export two-dimensional ones as Gemm,
  which dynamic quantisation does not cover. Factors (0.5 of the feed-forward halves, 1 / sqrt(d) of the attention) are
  multiplied into the weights; query, key and value are one MatMul.
* The spectrum is a MatMul with cosines and sines. The window is symmetric, so with phase 0 at its middle the cosine
  part depends only on x(n) + x(-n) and the sine part only on x(n) - x(-n): half of the MACs.
* The large convolution of the subsampling, half of the model's MACs, is a MatMul over gathered patches (im2col):
  onnxruntime's MatMulInteger is four times as fast as its float convolution, its ConvInteger three times slower.
* Batch norm is folded into the depth-wise convolution.

Shape letters as in `lwasr_edge.training.model.conformer`; B is always 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lwasr_edge.export.fused import attend, attention, by_head
from lwasr_edge.training.model.acoustic_model import SCALE
from lwasr_edge.training.model.conformer import (
    ConformerLayer,
    ConvModule,
    FeedForward,
    FixedBatchNorm,
    LayerPast,
    RelativeAttention,
    Subsampling,
)
from lwasr_edge.training.model.features import LogMel


class MatMulLinear(nn.Module):
    """``x @ weight + bias`` with the weight stored as (inputs, outputs).

    ``scale`` is (outputs,), the scales of QAT weights (`lwasr_edge.training.model.quantized`), or None.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    scale: Tensor | None

    def __init__(self, *linears: nn.Linear, factor: float = 1.0) -> None:
        """Concatenate the outputs of ``linears``, which have the same input, and multiply them by ``factor``."""
        super().__init__()
        self.weight = nn.Parameter(torch.cat([linear.weight for linear in linears]).detach().T.contiguous() * factor)
        self.scale = None
        if hasattr(linears[0], SCALE):
            self.scale = torch.cat([linear.get_buffer(SCALE) for linear in linears]) * factor
        if linears[0].bias is None:
            self.bias = None
        else:
            self.bias = nn.Parameter(torch.cat([linear.bias for linear in linears]).detach() * factor)

    def forward(self, x: Tensor) -> Tensor:
        """(1, U, inputs) -> (1, U, outputs)."""
        out = torch.matmul(x, self.weight)
        return out if self.bias is None else out + self.bias


def _cos(angle: Tensor) -> Tensor:
    """Cosine, computed as a sine: onnxruntime 1.18 has no cosine in float64."""
    return torch.sin(angle + math.pi / 2)


class FoldedLogMel(nn.Module):
    """`LogMel` as MatMuls; onnxruntime computes window, cosines and sines at load."""

    filters: Tensor

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.config = log_mel.config
        self.left_samples = log_mel.left_samples
        self.register_buffer("filters", log_mel.filters)

    def basis(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Windowed cosines and sines, (half of win_length, n_fft // 2 + 1) each, phase 0 at the window's middle."""
        win_length, n_fft = self.config.win_length, self.config.n_fft
        n_half = (win_length + 1) // 2
        twice_time = 2 * torch.arange(n_half) - (win_length - 1)  # in half samples from the middle
        steps = torch.remainder(twice_time[:, None] * torch.arange(n_fft // 2 + 1), 2 * n_fft)  # exact in integers
        angle = steps.double() * (math.pi / n_fft)
        window = 0.5 + 0.5 * _cos(twice_time.double() * (math.pi / (win_length - 1)))
        once = torch.where(twice_time == 0, 0.5, 1.0)  # the middle of an odd window is its own mirror image
        weight = (window * once)[:, None]
        return (_cos(angle) * weight).to(dtype), (torch.sin(angle) * weight).to(dtype)

    def forward(self, waveform: Tensor) -> Tensor:
        """(left_samples + N,) samples -> (N / hop_length, n_mels)."""
        hop_length, win_length = self.config.hop_length, self.config.win_length
        emphasised = waveform[1:] - self.config.preemphasis * waveform[:-1]
        n_hops = -(-win_length // hop_length)  # hops that a window touches
        padding = (n_hops - 1) * hop_length - (self.left_samples - 1)
        hops = F.pad(emphasised, (0, padding)).view(-1, hop_length)  # (T + n_hops - 1, hop_length)
        windows = torch.cat(neighbours(hops, n_hops), dim=1)
        n_half = (win_length + 1) // 2
        first = windows[:, :n_half]
        mirrored = windows[:, win_length - n_half : win_length].flip(1)
        cosines, sines = self.basis(waveform.dtype)
        real, imaginary = (first + mirrored) @ cosines, (first - mirrored) @ sines
        power = real * real + imaginary * imaginary
        return torch.log(power @ self.filters + self.config.log_guard)


class MatMulSubsampling(nn.Module):
    """`Subsampling` with its convolutions as MatMuls over gathered patches, channels last."""

    def __init__(self, subsampling: Subsampling, n_mels: int, factor: float) -> None:
        """Convert a trained module.

        Args:
            subsampling: the trained module.
            n_mels: bands of its input.
            factor: multiplies the output.
        """
        super().__init__()
        self.n_channels = subsampling.conv1.out_channels
        # weights are (C out, C in, 3 in time, 3 in frequency); the first convolution is a two-dimensional linear layer,
        # which becomes Gemm, stays in float and is fused with bias and ReLU
        self.first = nn.Linear(9, self.n_channels)
        self.first.weight = nn.Parameter(subsampling.conv1.weight.detach().flatten(1))
        self.first.bias = subsampling.conv1.get_parameter("bias")
        second = nn.Linear(9 * self.n_channels, self.n_channels)
        second.weight = nn.Parameter(subsampling.conv2.weight.detach().permute(0, 2, 3, 1).flatten(1))
        second.bias = subsampling.conv2.get_parameter("bias")
        self.second = MatMulLinear(second)
        self.linear = MatMulLinear(subsampling.linear, factor=factor)
        by_channel = self.linear.weight.detach().unflatten(0, (self.n_channels, -1))
        self.linear.weight = nn.Parameter(by_channel.transpose(0, 1).flatten(0, 1).contiguous())
        self.n_mels = n_mels

    def forward(self, features: Tensor) -> Tensor:
        """(MEL_CONTEXT + 4 U, n_mels), the past first -> (1, U, D)."""
        # -1 is always the time, never the bands: torch.export then has a symbol for U, not a quotient to simplify
        x = F.relu(self.first(self.windows(features))).view(-1, (self.n_mels + 1) // 2, self.n_channels)
        x = patches(x).view(1, -1, 9 * self.n_channels)  # (1, U n_mels / 4, 9 C)
        x = F.relu(self.second(x))
        return self.linear(x.view(1, -1, self.linear.weight.shape[0]))

    def windows(self, features: Tensor) -> Tensor:
        """Input patches of the first convolution, (T, n_mels) -> (rows n_mels / 2, 9).

        Three rows are concatenated, so one index serves them all; it does not depend on T and is computed at load.
        """
        n_bands = features.shape[1]
        rows = torch.cat(neighbours(F.pad(features, (1, 1)), 3, 2), 1)  # (n_rows, 3 (n_mels + 2))
        band = 2 * torch.arange((n_bands + 1) // 2)[:, None, None] + torch.arange(3)
        index = (n_bands + 2) * torch.arange(3)[:, None] + band  # (n_mels / 2, 3, 3)
        return rows.index_select(1, index.view(-1)).view(-1, 9)


def neighbours(x: Tensor, count: int, step: int = 1) -> list[Tensor]:
    """Entries i, i + 1, ... of the first dimension together with their next ones: ``count`` tensors.

    The ends of the slices do not depend on the length, so the graph does not compute it.
    """
    return [x[i : (i + 1 - count) or None : step] for i in range(count)]


def patches(x: Tensor) -> Tensor:
    """Input patches of a 3x3 convolution of stride 2 (im2col), with zeros beyond the first and the last band.

    Args:
        x: (2 n + 1, bands, C).

    Returns:
        (n, 9 bands / 2 rounded up, C), the nine inputs of a band together, times first.
    """
    n_bands = x.shape[1]
    n_out = (n_bands + 1) // 2
    n_padded = 2 * n_out + 1
    band = 2 * torch.arange(n_out)[:, None, None] + torch.arange(3)  # (n_out, 1, 3)
    index = n_padded * torch.arange(3)[:, None] + band  # (n_out, 3, 3)
    padded = F.pad(x, (0, 0, 1, n_padded - 1 - n_bands))
    return torch.cat(neighbours(padded, 3, 2), 1).index_select(1, index.view(-1))


class StreamingFeedForward(nn.Module):
    """`FeedForward`, times 0.5, as the layer adds it."""

    def __init__(self, feed_forward: FeedForward) -> None:
        super().__init__()
        self.norm = feed_forward.norm
        self.linear1 = MatMulLinear(feed_forward.linear1)
        self.linear2 = MatMulLinear(feed_forward.linear2, factor=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(1, U, D) -> (1, U, D)."""
        return self.linear2(F.silu(self.linear1(self.norm(x))))


class PositionLinear(nn.Module):
    """Projection of positions: a MatMul per head, which avoids a transposition."""

    def __init__(self, linear: nn.Linear, n_heads: int) -> None:
        super().__init__()
        by_head = linear.weight.detach().T.unflatten(1, (n_heads, -1)).transpose(0, 1)
        self.weight = nn.Parameter(by_head.contiguous())  # (H, D, A / H)

    def forward(self, x: Tensor) -> Tensor:
        """(n, D) -> (H, n, A / H)."""
        return torch.matmul(x, self.weight)


class Positions(NamedTuple):
    """Sinusoids of the distances S down to 1 - U of a chunk.

    A table that does not depend on the chunk is projected by onnxruntime at load, and a chunk uses a part of it.
    """

    table: Tensor  # (n, D)
    used: Tensor | None  # (S + U,) int64, the rows that the chunk uses; None for all

    def projected(self, projection: PositionLinear) -> Tensor:
        """Projected sinusoids by head, (H, S + U, A / H)."""
        table = projection(self.table)
        return table if self.used is None else table.index_select(1, self.used)


class StreamingAttention(nn.Module):
    """`RelativeAttention` as onnxruntime's MultiHeadAttention, with keys and values cached by head."""

    def __init__(self, original: RelativeAttention) -> None:
        super().__init__()
        self.n_heads = original.n_heads
        self.norm = original.norm
        self.projection = MatMulLinear(original.query, original.key, original.value)
        self.position = PositionLinear(original.position, self.n_heads)
        self.out = MatMulLinear(original.out)
        width = original.out.in_features
        factor = 1 / math.sqrt(width // self.n_heads)
        bias = self.projection.get_parameter("bias")
        with torch.no_grad():  # the projection gives the query for positions
            self.projection.weight[:, :width] *= factor
            if self.projection.scale is not None:
                self.projection.scale[:width] *= factor
            bias[:width] = (bias[:width] + original.position_bias.flatten()) * factor
        to_content = (original.content_bias - original.position_bias).detach().flatten() * factor
        self.bias = nn.Parameter(torch.cat([to_content, torch.zeros(2 * width)]))

    def forward(
        self, x: Tensor, positions: Positions, valid: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from the frames of ``x`` to those of the past and of ``x``.

        Args:
            x: (1, U, D).
            positions: distances from S down to 1 - U.
            valid: (1, S) int32, 0 for keys that are masked.
            past: keys and values of the L frames before, (1, H, L, A / H) each, or None.

        Returns:
            (1, U, D), and keys and values (1, H, S, A / H).
        """
        n_frames = x.shape[1]
        query, key, value = self.projection(self.norm(x)).chunk(3, 2)  # (1, U, A)
        distances = positions.projected(self.position)  # (H, S + U, A / H)
        for_positions = query.view(n_frames, self.n_heads, -1).transpose(0, 1)  # (H, U, A / H)
        by_distance = torch.matmul(for_positions, distances.transpose(1, 2))  # (H, U, S + U)
        # Row u has key s at index U - u + s. Without the first U numbers, rows are one shorter and keys are aligned
        # (arXiv 1901.02860, appendix B; the distance S, which no key has, replaces the padding).
        by_key = by_distance.view(self.n_heads, -1)[:, n_frames:].view(1, self.n_heads, n_frames, -1)
        by_key = by_key[:, :, :, : valid.shape[1]]  # (1, H, U, S)
        if past is None:
            keys, values = by_head(key, self.n_heads), by_head(value, self.n_heads)
            attended = attend(query, keys, values, self.bias, valid, by_key)
        else:
            attended, keys, values = attention(query, key, value, self.bias, valid, by_key, past)
        return self.out(attended), keys, values


class StreamingConv(nn.Module):
    """`ConvModule` with batch norm folded into the depth-wise convolution, which is two-dimensional (width 1).

    onnxruntime's fast, channel-blocked convolution has two dimensions only.
    """

    def __init__(self, conv: ConvModule) -> None:
        super().__init__()
        self.half_kernel = conv.half_kernel
        self.norm = conv.norm
        self.pointwise1 = MatMulLinear(conv.pointwise1)
        self.pointwise2 = MatMulLinear(conv.pointwise2)
        weight, bias = (
            conv.depthwise.weight.detach(),
            conv.depthwise.get_parameter("bias").detach(),
        )  # (D, 1, kernel), (D,)
        self.depthwise_norm: nn.Module = conv.depthwise_norm
        if isinstance(conv.depthwise_norm, FixedBatchNorm):
            batch_norm = conv.depthwise_norm
            scale = (batch_norm.weight * torch.rsqrt(batch_norm.variance + batch_norm.epsilon)).detach()
            weight = weight * scale[:, None, None]
            bias = (bias - batch_norm.mean) * scale + batch_norm.bias.detach()
            self.depthwise_norm = nn.Identity()
        self.weight, self.bias = nn.Parameter(weight.unsqueeze(3)), nn.Parameter(bias)

    def forward(self, x: Tensor, valid: Tensor | None, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Convolve one chunk.

        Args:
            x: (1, U, D).
            valid: (1, U, 1), 0 at padding frames, else 1; None without padding.
            past: (1, kernel // 2, D) gated values before ``x``; None for zeros.

        Returns:
            (1, U, D), and the gated values of past and chunk, (1, kernel // 2 + U, D).
        """
        gated = F.glu(self.pointwise1(self.norm(x)), dim=2)
        if valid is not None:
            gated = gated * valid
        past = gated.new_zeros(1, self.half_kernel, gated.shape[2]) if past is None else past
        gated = torch.cat([past, gated], dim=1)
        # (1, D, U + kernel - 1, 1); onnxruntime merges the transposition with the convolution's own layout change
        padded = F.pad(gated.unsqueeze(2).permute(0, 3, 1, 2), (0, 0, 0, self.half_kernel))
        convolved = F.conv2d(padded, self.weight, self.bias, groups=self.weight.shape[0])
        convolved = convolved.permute(0, 2, 3, 1).squeeze(2)
        out = self.pointwise2(F.silu(self.depthwise_norm(convolved)))
        return out, gated


class StreamingLayer(nn.Module):
    """`ConformerLayer`, without the modules that it lacks."""

    def __init__(self, layer: ConformerLayer) -> None:
        super().__init__()
        first, attention, conv, second = layer.feed_forward1, layer.attention, layer.conv, layer.feed_forward2
        self.feed_forward1 = None if first is None else StreamingFeedForward(first)
        self.attention = None if attention is None else StreamingAttention(attention)
        self.conv = None if conv is None else StreamingConv(conv)
        self.feed_forward2 = None if second is None else StreamingFeedForward(second)
        self.norm = layer.norm

    def forward(
        self, x: Tensor, positions: Positions, keys_valid: Tensor, valid: Tensor | None, past: LayerPast | None
    ) -> tuple[Tensor, LayerPast]:
        """(1, U, D) -> (1, U, D), and keys, values and gated values of past and chunk, which the caller truncates."""
        keys = values = gated = None
        if self.feed_forward1 is not None:
            x = x + self.feed_forward1(x)
        if self.attention is not None:
            keys_values = None
            if past is not None and past.keys is not None and past.values is not None:
                keys_values = past.keys, past.values
            attended, keys, values = self.attention(x, positions, keys_valid, keys_values)
            x = x + attended
        if self.conv is not None:
            convolved, gated = self.conv(x, valid, None if past is None else past.conv)
            x = x + convolved
        if self.feed_forward2 is not None:
            x = x + self.feed_forward2(x)
        return self.norm(x), LayerPast(keys, values, gated)
