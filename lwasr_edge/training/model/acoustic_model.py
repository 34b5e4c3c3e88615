"""The acoustic model in torch: waveform in, CTC log-probabilities out."""

from __future__ import annotations

from typing import NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.model.conformer import Conformer
from lwasr_edge.training.model.features import FRAME_DELAY, NORMS, SUBSAMPLING_FACTOR, LogMel

SCALE = "step"  # the name of a linear module's QAT scales in checkpoints and training states


class Encoded(NamedTuple):
    """The output of a model for a batch of recordings, padded to U encoder frames."""

    hidden: list[Tensor]  # n_layers + 1 of (B, U, D): the first layer's input, then each layer's output
    logits: Tensor  # (B, U, V), before the softmax
    lengths: Tensor  # (B,) frames


class AcousticModel(nn.Module):
    """Log-mel features, Conformer encoder and CTC head."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.frontend)
        self.norm = NORMS[config.frontend.normalization](config.frontend)
        self.encoder = Conformer(config.encoder, config.frontend.n_mels, dropout)
        self.head = nn.Linear(config.encoder.d_model, len(config.vocabulary))
        if config.qat:
            self.add_scales()

    def add_scales(self) -> None:
        """Add a buffer of quantisation scales, (outputs,), to each module of `quantized_layers`."""
        for linear in self.quantized_layers().values():
            linear.register_buffer(SCALE, torch.ones(linear.out_features))

    def quantized_layers(self) -> dict[str, nn.Linear]:
        """Modules with QAT weights, by name: the layers' linear modules except the position projections.

        Empty for a model without QAT.
        """
        return {
            name: module
            for name, module in self.named_modules()
            if self.config.qat
            and name.startswith("encoder.layers.")
            and isinstance(module, nn.Linear)
            and not name.endswith(".position")
        }

    @property
    def samples_per_frame(self) -> int:
        """Samples between two encoder frames."""
        return self.config.frontend.hop_length * SUBSAMPLING_FACTOR

    @overload
    def frames(self, n_samples: int) -> int: ...

    @overload
    def frames(self, n_samples: Tensor) -> Tensor: ...

    def frames(self, n_samples: Tensor | int) -> Tensor | int:
        """Encoder frames centred within ``n_samples`` samples (plus the frame delay)."""
        return (n_samples + FRAME_DELAY) // self.samples_per_frame + 1

    def padded_log_mel(self, waveform: Tensor) -> Tensor:
        """Log-mel features of full recordings, padded to a multiple of an encoder frame. (B, N) -> (B, 4 U, n_mels)"""
        padding = self.frames(waveform.shape[1]) * self.samples_per_frame - waveform.shape[1]
        return self.log_mel(F.pad(waveform, (self.log_mel.left_samples, padding)))

    def features(self, waveform: Tensor, n_samples: Tensor, chunking: Chunking | None = None) -> tuple[Tensor, Tensor]:
        """Normalised log-mel features, in float32.

        Args:
            waveform: (B, N) samples in [-1, 1], zero from each recording's end on.
            n_samples: (B,) samples of each recording.
            chunking: in encoder frames; None for full context.

        Returns:
            (B, 4 U, n_mels), and (B,) encoder frames of each recording.
        """
        lengths = self.frames(n_samples)
        log_mel = self.padded_log_mel(waveform)
        if self.config.frontend.normalization == "utterance":
            mel_lengths = (n_samples + FRAME_DELAY) // self.config.frontend.hop_length + 1
        else:
            mel_lengths = lengths * SUBSAMPLING_FACTOR
        return self.norm(log_mel, mel_lengths, chunking and chunking.scaled(SUBSAMPLING_FACTOR)), lengths

    def forward(self, features: Tensor, lengths: Tensor, chunking: Chunking | None = None) -> Encoded:
        """Encode the features and lengths that `features` returned."""
        encoder_out, hidden = self.encoder(features, lengths, chunking)
        return Encoded(hidden, self.head(encoder_out), lengths)

    @torch.inference_mode()
    def log_probs(self, waveform: Tensor, n_samples: Tensor, chunking: Chunking | None = None) -> tuple[Tensor, Tensor]:
        """(B, N) waveforms -> (B, U, V) log-probabilities in float32 and (B,) frames of each recording."""
        features, lengths = self.features(waveform, n_samples, chunking)
        encoded = self(features, lengths, chunking)
        return encoded.logits.float().log_softmax(2), encoded.lengths
