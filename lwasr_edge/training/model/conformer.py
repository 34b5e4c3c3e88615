"""The Conformer encoder (Gulati et al. 2020, arXiv 2005.08100): one definition for reference, students and export.

It runs in three ways with the same weights:

* full context: every frame attends to the full recording;
* chunked, for training: the full recording in one forward pass with the context of a stream (`Chunking`);
* streaming: chunk by chunk, with the cached keys, values and convolution inputs passed in and out (`past`).

Attention and convolution use all of the current chunk; of earlier audio, attention uses ``left_context_frames`` frames
and the convolution half a kernel; of later audio, nothing (dynamic chunk convolution, Li et al. 2023, arXiv
2304.09325). The last ``look_ahead_frames`` of a `Chunking` are right context only: the next chunk begins with them.

Shape letters: B batch, T mel frames, U encoder frames of 40 ms (T / 4), D width, H heads, A width of all heads
together, L left context, S = L + U.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.model.config import EncoderConfig

MEL_CONTEXT = 3  # past mel frames that an encoder frame needs in addition to its own four
MASKED = -1e4  # added to a masked score; finite, so that a row with every key masked stays a number


class LayerPast(NamedTuple):
    """Cache of a layer: keys, values and convolution inputs of the frames before a chunk; None without the module."""

    keys: Tensor | None  # (B, L, A)
    values: Tensor | None  # (B, L, A)
    conv: Tensor | None  # (B, kernel // 2, D)


@dataclass(frozen=True)
class Chunks:
    """Division of recordings of U frames into C overlapping chunks, which a layer computes at once as rows."""

    batch: int  # B
    n_frames: int  # U
    size: int  # frames of a chunk
    hop: int  # frames by which chunks advance: the rest of a chunk is look-ahead

    @property
    def count(self) -> int:
        """C, the number of chunks."""
        return -(-self.n_frames // self.hop)

    def split(self, x: Tensor) -> Tensor:
        """(B, U, D) -> (B C, size, D); zeros beyond the end."""
        return self.windows(x, self.size)

    def kept(self, rows: Tensor) -> Tensor:
        """Drop the look-ahead of each chunk. (B C, size, D) -> (B, C hop, D)"""
        return rows.unflatten(0, (self.batch, self.count))[:, :, : self.hop].flatten(1, 2)

    def join(self, rows: Tensor) -> Tensor:
        """(B C, size, D) -> (B, U, D)."""
        return self.kept(rows)[:, : self.n_frames]

    def before(self, rows: Tensor, n_before: int) -> Tensor:
        """The ``n_before`` frames before each chunk, zeros before a recording's first. -> (B C, n_before, D)"""
        if n_before == 0:
            return rows[:, :0]
        return self.windows(F.pad(self.kept(rows), (0, 0, n_before, 0)), n_before)

    def windows(self, x: Tensor, size: int) -> Tensor:
        """Overlapping windows, one every ``hop`` frames. (B, T, D) -> (B C, size, D), zeros beyond T

        Built from reshaped views, because the gradient of `Tensor.unfold` takes many times as long.
        """
        parts = -(-size // self.hop)
        padding = (self.count + parts - 1) * self.hop - x.shape[1]
        blocks = F.pad(x, (0, 0, 0, padding)).unflatten(1, (-1, self.hop))  # (B, C + parts - 1, hop, D)
        shifted = [blocks[:, part : part + self.count] for part in range(parts)]
        shifted[-1] = shifted[-1][:, :, : size - (parts - 1) * self.hop]
        return torch.cat(shifted, dim=2).flatten(0, 1)


class Limits(NamedTuple):
    """Positions and masks of the rows that the layers compute: recordings, or chunks of them."""

    positions: Tensor  # (S + U - 1, D) from `relative_positions`
    mask: Tensor | None = (
        None  # broadcastable to (B, H, U, S): 0 for keys to attend to, else MASKED; None: attend to all
    )
    valid: Tensor | None = None  # (B, U, 1), 0 at padding frames, else 1; None without padding
    chunks: Chunks | None = None  # None: rows are recordings

    def split(self, x: Tensor) -> Tensor:
        """Recordings (B, U, D) as rows."""
        return x if self.chunks is None else self.chunks.split(x)

    def join(self, rows: Tensor) -> Tensor:
        """Rows as recordings (B, U, D)."""
        return rows if self.chunks is None else self.chunks.join(rows)


class Subsampling(nn.Module):
    """Two 3x3 convolutions of stride 2, ReLU, then a linear layer: 10 ms mel frames to 40 ms frames of width D."""

    def __init__(self, n_mels: int, channels: int, d_model: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, kernel_size=3, stride=2, padding=(0, 1))
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=(0, 1))
        n_bands = (n_mels + 1) // 2
        n_bands = (n_bands + 1) // 2
        self.linear = nn.Linear(channels * n_bands, d_model)

    def forward(self, features: Tensor) -> Tensor:
        """(B, MEL_CONTEXT + 4 U, n_mels), the past first -> (B, U, D)."""
        return self.linear(self.convolve(features))

    def convolve(self, features: Tensor) -> Tensor:
        """Input of the linear layer, channel by channel: (B, MEL_CONTEXT + 4 U, n_mels) -> (B, U, C n_mels / 4)."""
        channels_last = features.unsqueeze(3).permute(0, 3, 1, 2)  # channels-last strides: a fraction of the time
        x = F.relu(self.conv1(channels_last))  # (B, C, 2 U + 1, n_mels / 2)
        x = F.relu(self.conv2(x))  # (B, C, U, n_mels / 4)
        return x.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """Layer norm, expansion, SiLU, contraction; the caller adds half of it to its input."""

    def __init__(self, d_model: int, d_feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, d_feed_forward)
        self.linear2 = nn.Linear(d_feed_forward, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, D)."""
        return self.linear2(self.dropout(F.silu(self.linear1(self.norm(x)))))


def relative_positions(n_queries: int, n_keys: int, d_model: int, like: Tensor) -> Tensor:
    """Sinusoids of every distance from a query back to a key (Dai et al. 2019, arXiv 1901.02860).

    Queries are the last ``n_queries`` of the keys, so distances run from n_keys - 1 down to -(n_queries - 1).

    Returns:
        (n_keys + n_queries - 1, D) in the dtype and on the device of ``like``; sine at even indices, cosine at odd.
    """
    distance = torch.arange(n_keys - 1, -n_queries, -1, device=like.device, dtype=torch.float32)
    rate = torch.arange(0, d_model, 2, device=like.device, dtype=torch.float32) * (-math.log(10000.0) / d_model)
    angle = distance[:, None] * torch.exp(rate)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).to(like.dtype)


class RelativeAttention(nn.Module):
    """Multi-head self-attention with relative positions and a position bias per layer (arXiv 1901.02860, eq. 3)."""

    def __init__(self, d_model: int, d_attention: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(d_model)
        self.query = nn.Linear(d_model, d_attention)
        self.key = nn.Linear(d_model, d_attention)
        self.value = nn.Linear(d_model, d_attention)
        self.position = nn.Linear(d_model, d_attention, bias=False)
        self.out = nn.Linear(d_attention, d_model)
        self.content_bias = nn.Parameter(torch.zeros(n_heads, d_attention // n_heads))
        self.position_bias = nn.Parameter(torch.zeros(n_heads, d_attention // n_heads))

    def forward(
        self, x: Tensor, limits: Limits, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from the frames of ``x`` to those of the past and of ``x``.

        Args:
            x: (B, U, D).
            limits: positions and mask; chunks attend to the frames before them.
            past: keys and values of the L frames before ``x``, (B, L, A) each, in a stream; None elsewhere.

        Returns:
            (B, U, D), and keys and values (B, S, A) for the next chunk.
        """
        x = self.norm(x)
        query, keys, values = self.query(x), self.key(x), self.value(x)
        if limits.chunks is not None:
            n_before = len(limits.positions) + 1 - 2 * x.shape[1]
            past = limits.chunks.before(keys, n_before), limits.chunks.before(values, n_before)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 1), torch.cat([past[1], values], 1)
        query = query.unflatten(2, (self.n_heads, -1))  # (B, U, H, A / H)
        content = (query + self.content_bias).transpose(1, 2)
        position = (query + self.position_bias).transpose(1, 2)
        distances = self.position(limits.positions).unflatten(1, (self.n_heads, -1))
        distances = distances.permute(1, 2, 0)  # (H, A / H, S + U - 1)
        scale = 1 / math.sqrt(query.shape[3])
        bias = self.by_key(position @ distances, keys.shape[1]) * scale
        if limits.mask is not None:
            bias = bias + limits.mask
        heads_k = keys.unflatten(2, (self.n_heads, -1)).permute(0, 2, 3, 1)  # (B, H, A / H, S)
        heads_v = values.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        weights = torch.softmax(content @ heads_k * scale + bias, dim=3)
        out = (weights @ heads_v).transpose(1, 2).flatten(2)
        return self.out(out), keys, values

    @staticmethod
    def by_key(scores: Tensor, n_keys: int) -> Tensor:
        """Rearrange scores by distance into scores by key (Dai et al. 2019, arXiv 1901.02860, appendix B).

        Args:
            scores: (B, H, U, S + U - 1), in the order of `relative_positions`.
            n_keys: S.

        Returns:
            (B, H, U, S): query u and key s have the distance S - U + u - s.
        """
        batch, heads, n_queries, n_distances = scores.shape
        padded = F.pad(scores, (1, 0)).view(batch, heads, n_distances + 1, n_queries)
        return padded[:, :, 1:].reshape(batch, heads, n_queries, n_distances)[:, :, :, :n_keys]


class FixedBatchNorm(nn.Module):
    """Batch norm with fixed statistics, also in training: students take them from the reference, and batches are small.

    A model trained from scratch learns ``weight`` and ``bias`` against statistics of 0 and 1.
    """

    epsilon = 1e-5
    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, D)."""
        scale = self.weight * torch.rsqrt(self.variance + self.epsilon)
        return x * scale + (self.bias - self.mean * scale)


class ConvModule(nn.Module):
    """Layer norm, pointwise, GLU, depth-wise over time, norm, SiLU, pointwise."""

    def __init__(self, d_model: int, kernel: int, norm: str) -> None:
        super().__init__()
        self.half_kernel = kernel // 2
        self.norm = nn.LayerNorm(d_model)
        self.pointwise1 = nn.Linear(d_model, 2 * d_model)
        self.depthwise = nn.Conv1d(d_model, d_model, kernel, groups=d_model)
        self.depthwise_norm = FixedBatchNorm(d_model) if norm == "batch_norm" else nn.LayerNorm(d_model)
        self.pointwise2 = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, limits: Limits, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve over the past and the own row.

        Args:
            x: (B, U, D).
            limits: mask of valid frames; chunks use the frames before them.
            past: (B, kernel // 2, D) gated values before ``x``, in a stream; None for zeros.

        Returns:
            (B, U, D), and the last kernel // 2 gated values.
        """
        gated = F.glu(self.pointwise1(self.norm(x)), dim=2)
        if limits.valid is not None:
            gated = gated * limits.valid
        if limits.chunks is not None:
            past = limits.chunks.before(gated, self.half_kernel)
        elif past is None:
            past = gated.new_zeros(gated.shape[0], self.half_kernel, gated.shape[2])
        gated = torch.cat([past, gated], dim=1)  # (B, kernel // 2 + U, D)
        convolved = self.convolve(F.pad(gated, (0, 0, 0, self.half_kernel)))
        return self.pointwise2(F.silu(self.depthwise_norm(convolved))), gated[:, -self.half_kernel :]

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve each channel over time. (B, kernel - 1 + U, D) -> (B, U, D)

        As an image one pixel high in channels-last layout: this avoids a transposition, which takes up to a quarter of
        the module's time.
        """
        image = x.unsqueeze(1).permute(0, 3, 1, 2)  # (B, D, 1, kernel - 1 + U)
        weight = self.depthwise.weight.unsqueeze(2)
        return F.conv2d(image, weight, self.depthwise.bias, groups=len(weight)).permute(0, 2, 3, 1).squeeze(1)


class ConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, layer norm; all but the last are residual.

    A student's layer may lack modules, which are None.
    """

    feed_forward1: FeedForward | None
    attention: RelativeAttention | None
    conv: ConvModule | None
    feed_forward2: FeedForward | None

    def __init__(self, config: EncoderConfig, dropout: float, index: int = 0) -> None:
        super().__init__()
        width, units, kernel = config.d_model, config.d_feed_forward, config.conv_kernel
        self.feed_forward1 = FeedForward(width, units, dropout) if config.has(index, "feed_forward1") else None
        self.attention = None
        if config.has(index, "attention"):
            self.attention = RelativeAttention(width, config.attention_width, config.n_heads)
        self.conv = ConvModule(width, kernel, config.conv_norm) if config.has(index, "conv") else None
        self.feed_forward2 = FeedForward(width, units, dropout) if config.has(index, "feed_forward2") else None
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, limits: Limits, past: LayerPast | None = None) -> tuple[Tensor, LayerPast]:
        """Run the layer over rows: recordings, all chunks of them, or one chunk of a stream.

        Args:
            x: (B, U, D).
            limits: see `Conformer.limits`.
            past: the cache after the previous chunk, in a stream; None elsewhere.

        Returns:
            (B, U, D), and the next cache, with keys and values of all S frames: the caller keeps the last L.
        """
        keys = values = conv_past = None
        if self.feed_forward1 is not None:
            x = x + 0.5 * self.dropout(self.feed_forward1(x))
        if self.attention is not None:
            attended, keys, values = self.attention(x, limits, None if past is None else past[:2])
            x = x + self.dropout(attended)
        if self.conv is not None:
            convolved, conv_past = self.conv(x, limits, None if past is None else past.conv)
            x = x + self.dropout(convolved)
        if self.feed_forward2 is not None:
            x = x + 0.5 * self.dropout(self.feed_forward2(x))
        return self.norm(x), LayerPast(keys, values, conv_past)


class Conformer(nn.Module):
    """Conformer encoder: log-mel features to ``encoder_out``."""

    def __init__(self, config: EncoderConfig, n_mels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.subsampling = Subsampling(n_mels, config.subsampling_channels, config.d_model)
        self.layers = nn.ModuleList(ConformerLayer(config, dropout, i) for i in range(config.n_layers))
        self.input_scale = math.sqrt(config.d_model) if config.xscaling else 1.0

    def embed(self, features: Tensor) -> Tensor:
        """Subsample features that begin with their past. (B, MEL_CONTEXT + 4 U, n_mels) -> (B, U, D)"""
        return self.subsampling(features) * self.input_scale

    def forward(
        self, features: Tensor, lengths: Tensor, chunking: Chunking | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode recordings from their beginning.

        Args:
            features: (B, 4 U, n_mels), zero from each recording's end on.
            lengths: (B,) encoder frames of each recording.
            chunking: in encoder frames; None for full context.

        Returns:
            encoder_out (B, U, D), and the hidden states: the input of the first layer, then the output of each layer,
            n_layers + 1 tensors (B, U, D).
        """
        hidden = [self.embed(F.pad(features, (0, 0, MEL_CONTEXT, 0)))]
        limits = self.limits(hidden[0], lengths, chunking)
        x = limits.split(hidden[0])
        for layer in self.layers:
            x, _ = layer(x, limits)
            hidden.append(limits.join(x))
        return hidden[-1], hidden

    def limits(self, x: Tensor, lengths: Tensor, chunking: Chunking | None) -> Limits:
        """Positions and masks for the layers' input ``x`` (B, U, D); for the other arguments see `forward`."""
        batch, n_frames, width = x.shape
        if chunking is None:
            valid = torch.arange(n_frames, device=x.device) < lengths[:, None]
            mask = torch.where(valid[:, None, None, :], 0.0, MASKED).to(x.dtype)
            return Limits(relative_positions(n_frames, n_frames, width, x), mask, valid.unsqueeze(2).to(x.dtype))
        chunks = Chunks(batch, n_frames, chunking.chunk_frames, chunking.hop_frames)
        n_before = min(self.config.left_context_frames, (chunks.count - 1) * chunks.hop)
        first = torch.arange(chunks.count, device=x.device)[:, None] * chunks.hop  # of each chunk
        frame = first + torch.arange(-n_before, chunks.size, device=x.device)  # (C, S)
        valid = ((frame >= 0) & (frame < lengths[:, None, None])).flatten(0, 1)  # (B C, S)
        mask = torch.where(valid[:, None, None, :], 0.0, MASKED).to(x.dtype)
        positions = relative_positions(chunks.size, n_before + chunks.size, width, x)
        return Limits(positions, mask, valid[:, n_before:, None].to(x.dtype), chunks)
