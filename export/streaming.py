"""The exportable model: a chunk of waveform and the state of a stream in, tokens and the next state out.

This is docs/MODEL_FORMAT.md in torch. Chunk by chunk, it computes what `AcousticModel.log_probs` computes for full
recordings with the same chunk size; tests/export/test_export_streaming.py compares the two.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwasr_edge.export.layers import FoldedLogMel, MatMulLinear, MatMulSubsampling, Positions, StreamingLayer
from lwasr_edge.training.compress.smooth_quant import equalise
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.conformer import MASKED, MEL_CONTEXT, LayerPast, relative_positions
from lwasr_edge.training.model.features import FRAME_DELAY, SUBSAMPLING_FACTOR, RunningNorm

# 8 s: larger chunks are not more accurate. The table of positions, computed at load, has the distances of such a chunk.
MAX_CHUNK_FRAMES = 200
TIME_DIMENSIONS = (2, 2, 1)  # of keys, values and gated values
CHUNK_OUTPUTS = ("tokens", "frames", "scores", "log_probs")


class StateTensor(NamedTuple):
    """One tensor of the state: input ``state_<name>``, output ``next_<name>``."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def zeros(self) -> Tensor:
        """Its value at the start of a stream."""
        return torch.zeros(self.shape, dtype=self.dtype)


class Tokens(NamedTuple):
    """Tokens of a chunk, those of its look-ahead included, and the state for the next chunk."""

    tokens: Tensor  # (L,) int64
    frames: Tensor  # (L,) int64
    scores: Tensor  # (L,) float32, posterior probability
    last: Tensor  # (1,) int64, best token of the last consumed frame plus 1


def collapse(log_probs: Tensor, last: Tensor, blank_id: int, consumed: Tensor | None = None) -> Tokens:
    """Greedy CTC decoding of one chunk of a stream (Graves et al. 2006, the map B).

    Not `lwasr_edge.training.scoring.decode.collapse`: this one continues from the chunk before, returns frames and
    scores too, and uses operators that ONNX has.

    Args:
        log_probs: (U, V).
        last: (1,) int64, best token of the frame before this chunk plus 1; 0 at the start.
        blank_id: of the vocabulary.
        consumed: (1,) int64, frames before the look-ahead, in which the next chunk begins. None for all U.
    """
    best_log_probs, best = log_probs.max(dim=1)
    new = (best != blank_id) & (best != torch.cat([last - 1, best[:-1]]))
    newest = best[-1:] if consumed is None else best.index_select(0, consumed - 1)
    frames = new.nonzero().flatten()
    return Tokens(best.index_select(0, frames), frames, best_log_probs.index_select(0, frames).exp(), newest + 1)


class ExportedModel(nn.Module):
    """Base of both kinds of model: features, subsampling, layers, head."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.config = model.config
        encoder = model.encoder
        self.log_mel = FoldedLogMel(model.log_mel)
        self.feature_norm = model.norm
        self.subsampling = MatMulSubsampling(encoder.subsampling, self.config.frontend.n_mels, encoder.input_scale)
        self.layers = nn.ModuleList(StreamingLayer(layer) for layer in encoder.layers)
        self.head = MatMulLinear(model.head)

    def log_probs(self, x: Tensor) -> Tensor:
        """(1, U, D) -> (U, V)."""
        return torch.log_softmax(self.head(x), dim=2).squeeze(0)


class StreamingModel(ExportedModel):
    """A model with running normalisation, one chunk at a time."""

    feature_norm: RunningNorm

    def state_tensors(self) -> list[StateTensor]:
        """The state, in the order of `forward`; all zero at the start of a stream."""
        frontend, encoder = self.config.frontend, self.config.encoder
        by_head = (1, encoder.n_heads, encoder.left_context_frames, encoder.attention_width // encoder.n_heads)
        state = [
            StateTensor("audio", (self.log_mel.left_samples,), torch.float32),
            StateTensor("mel", (MEL_CONTEXT, frontend.n_mels), torch.float32),
            StateTensor("norm", (1, self.feature_norm.state_size), torch.float32),
            StateTensor("heard", (1,), torch.int64),  # past frames in the cache, at most left_context_frames
            StateTensor("last_token", (1,), torch.int64),
        ]
        for i in range(encoder.n_layers):
            if encoder.has(i, "attention"):
                state += [StateTensor(f"{name}_{i:02}", by_head, torch.float32) for name in ("keys", "values")]
            if encoder.has(i, "conv"):
                context = (1, encoder.conv_kernel // 2, encoder.d_model)
                state.append(StateTensor(f"conv_{i:02}", context, torch.float32))
        return state

    def beginning(self) -> list[Tensor]:
        """The arguments of `forward` after the waveform at the start of a stream, without look-ahead."""
        return [torch.zeros(1, dtype=torch.int64), *(tensor.zeros() for tensor in self.state_tensors())]

    def forward(
        self,
        waveform: Tensor,
        look_ahead: Tensor,
        audio: Tensor,
        mel: Tensor,
        norm: Tensor,
        n_cached: Tensor,
        last: Tensor,
        *layers: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run one chunk.

        Args:
            waveform: (640 U,) samples in [-1, 1].
            look_ahead: (1,) int64, 0 to U - 1: frames at the chunk's end that do not enter the state; the next chunk
                begins with them. Their tokens are provisional: the next chunk gives them again with more right context.
            audio, mel, norm, n_cached, last, layers: the state, as in `state_tensors`.

        Returns:
            tokens (L,), frames (L,), scores (L,), log_probs (U, V), then the next state in the same order.
        """
        n_frames = waveform.shape[0] // (SUBSAMPLING_FACTOR * self.config.frontend.hop_length)
        consumed = n_frames - look_ahead
        waveform = torch.cat([audio, waveform])
        log_mel = self.log_mel(waveform)
        consumed_mel = consumed * SUBSAMPLING_FACTOR
        normalised, norm = self.feature_norm.step(log_mel.unsqueeze(0), norm, consumed_mel)
        features = torch.cat([mel, normalised.squeeze(0)])
        x, next_layers = self.encode(features, n_cached, consumed, layers)
        log_probs = self.log_probs(x)
        found = collapse(log_probs, last, self.config.blank_id, consumed)
        n_cached = torch.clamp(n_cached + consumed, max=self.config.encoder.left_context_frames)
        consumed_samples = consumed_mel * self.config.frontend.hop_length
        next_audio = last_consumed(waveform, 0, consumed_samples, audio.shape[0])
        next_mel = last_consumed(features, 0, consumed_mel, MEL_CONTEXT)
        return *found[:3], log_probs, next_audio, next_mel, norm, n_cached, found.last, *next_layers

    def encode(
        self, features: Tensor, n_cached: Tensor, consumed: Tensor, past: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode features that begin with their past.

        Args:
            features: (MEL_CONTEXT + 4 U, n_mels).
            n_cached: (1,) int64, frames of the past that are in the cache.
            consumed: (1,) int64, frames that enter the next state.
            past: state of the layers.

        Returns:
            encoder_out (1, U, D), and the next state of the layers.
        """
        left_context = self.config.encoder.left_context_frames
        x = self.subsampling(features)
        n_frames = x.shape[1]
        n_keys = left_context + n_frames
        farthest = left_context + MAX_CHUNK_FRAMES
        table = sinusoids(farthest, farthest + MAX_CHUNK_FRAMES, self.config.encoder.d_model, x)
        positions = Positions(table, MAX_CHUNK_FRAMES - n_frames + torch.arange(n_keys + n_frames))
        keys_valid = (torch.arange(n_keys) >= left_context - n_cached).to(torch.int32)[None]
        half_kernel = self.config.encoder.conv_kernel // 2
        state: list[Tensor] = []
        unread = iter(past)
        for layer in self.layers:
            lengths = (*([left_context] * 2 if layer.attention else [0, 0]), half_kernel if layer.conv else 0)
            layer_past = LayerPast(*(next(unread) if length else None for length in lengths))
            x, layer_next = layer(x, positions, keys_valid, None, layer_past)
            for tensor, length, dim in zip(layer_next, lengths, TIME_DIMENSIONS, strict=True):
                if tensor is not None:
                    state.append(last_consumed(tensor, dim, consumed, length))
        return x, state


def sinusoids(largest: int, count: int, d_model: int, like: Tensor) -> Tensor:
    """Rows of `relative_positions` for ``count`` distances from ``largest`` down. (count, D)"""
    distance = largest - torch.arange(count, dtype=torch.float32)
    rate = torch.arange(0, d_model, 2, dtype=torch.float32) * (-math.log(10000.0) / d_model)
    angle = distance[:, None] * torch.exp(rate)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).to(like.dtype)


def last_consumed(x: Tensor, dim: int, consumed: Tensor, length: int) -> Tensor:
    """The last ``length`` consumed entries of ``x``, which begins with ``length`` entries of the past.

    A gather: onnxruntime's Slice takes twice as long.
    """
    return x.index_select(dim, torch.arange(length) + consumed)


class FullContextModel(ExportedModel):
    """A model with utterance normalisation: one full recording at a time, no state.

    The recording ends at its last sample that is not 0. The rest is the caller's padding, which must not enter the
    statistics, and whose frames are blank.
    """

    def state_tensors(self) -> list[StateTensor]:
        """The state, which is empty."""
        return []

    def beginning(self) -> list[Tensor]:
        """The state at the start, which is empty."""
        return []

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """(640 U,) samples -> tokens (L,), frames (L,), scores (L,), log_probs (U, V)."""
        hop_length = self.config.frontend.hop_length
        n_samples = torch.where(waveform != 0, torch.arange(1, waveform.shape[0] + 1), 0).max()
        mel_lengths = torch.div(n_samples + FRAME_DELAY, hop_length, rounding_mode="floor") + 1
        lengths = torch.div(mel_lengths + 3, 4, rounding_mode="floor")
        log_mel = self.log_mel(torch.cat([waveform.new_zeros(self.log_mel.left_samples), waveform]))
        features = self.feature_norm(log_mel.unsqueeze(0), mel_lengths.unsqueeze(0)).squeeze(0)
        x = self.subsampling(torch.cat([features.new_zeros(MEL_CONTEXT, features.shape[1]), features]))
        n_frames = x.shape[1]
        sinusoids = relative_positions(n_frames, n_frames + 1, self.config.encoder.d_model, x)
        positions = Positions(sinusoids, None)
        valid = torch.arange(n_frames) < lengths
        keys_valid = valid.to(torch.int32)[None]
        for layer in self.layers:
            x, _ = layer(x, positions, keys_valid, valid[None, :, None].to(x.dtype), None)
        blank = torch.where(torch.arange(len(self.config.vocabulary)) == self.config.blank_id, 0.0, MASKED)
        log_probs = torch.where(valid[:, None], self.log_probs(x), blank)
        found = collapse(log_probs, torch.zeros(1, dtype=torch.int64), self.config.blank_id)
        return *found[:3], log_probs


def exported_model(model: AcousticModel) -> StreamingModel | FullContextModel:
    """The exportable form of a trained model, in evaluation mode; the model is not changed."""
    kind = StreamingModel if isinstance(model.norm, RunningNorm) else FullContextModel
    return kind(equalised(model)).eval().requires_grad_(False)


def equalised(model: AcousticModel) -> AcousticModel:
    """A copy for int8, with equalised layer norms; with QAT they were equalised before the training."""
    model = copy.deepcopy(model)
    if not model.config.qat:
        equalise(model)
    return model
