"""What a model is: the numbers that fix its shape. Stored as JSON inside every checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from lwasr_edge.errors import CheckpointError

NORMALIZATIONS = ("utterance", "running")
CONV_NORMS = ("batch_norm", "layer_norm")


@dataclass(frozen=True)
class FrontendConfig:
    """Log-mel features, one vector every ``hop_length`` samples."""

    sample_rate: int = 16000  # Hz
    win_length: int = 400  # samples
    hop_length: int = 160  # samples
    n_fft: int = 512  # points
    n_mels: int = 80  # bands
    f_min_hz: float = 0.0
    f_max_hz: float = 8000.0
    preemphasis: float = 0.97
    log_guard: float = 2.0**-24  # added to the power before the logarithm
    normalization: str = "utterance"  # "utterance": over the whole recording; "running": past and own chunk only
    forget_s: float = 10.0  # s, time constant of the running statistics
    prior_frames: float = 40.0  # frames, weight of the prior in the running statistics

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise CheckpointError(f"normalization is {self.normalization!r}: expected one of {NORMALIZATIONS}")
        for name in ("sample_rate", "win_length", "hop_length", "n_fft", "n_mels", "forget_s", "log_guard"):
            if not getattr(self, name) > 0:
                raise CheckpointError(f"{name} is {getattr(self, name)}: expected a positive number")
        if self.win_length > self.n_fft:
            raise CheckpointError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")
        if self.f_max_hz > self.sample_rate / 2:
            raise CheckpointError(f"f_max_hz {self.f_max_hz} is above half of the sample rate {self.sample_rate}")


@dataclass(frozen=True)
class EncoderConfig:
    """A Conformer (Gulati et al. 2020) behind a convolutional subsampling by four."""

    n_layers: int = 16
    d_model: int = 176  # D
    n_heads: int = 4
    d_feed_forward: int = 704
    conv_kernel: int = 31  # frames of 40 ms, odd
    conv_norm: str = "batch_norm"
    subsampling_channels: int = 176
    xscaling: bool = True  # multiply the encoder's input by sqrt(D)
    left_context_frames: int = 128  # frames of 40 ms a chunk may look back
    d_attention: int | None = None  # A, of queries, keys and values of all heads together; None: D

    @property
    def attention_width(self) -> int:
        """A."""
        return self.d_attention or self.d_model

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "d_feed_forward", "conv_kernel", "subsampling_channels"):
            if getattr(self, name) < 1:
                raise CheckpointError(f"{name} is {getattr(self, name)}: expected a positive number")
        if self.left_context_frames < 1:
            raise CheckpointError(f"left_context_frames is {self.left_context_frames}: expected a positive number")
        if self.d_attention is not None and self.d_attention < 1:
            raise CheckpointError(f"d_attention is {self.d_attention}: expected a positive number, or null for d_model")
        if self.attention_width % self.n_heads:
            name = "d_attention" if self.d_attention else "d_model"
            raise CheckpointError(f"{name} {self.attention_width} does not divide into {self.n_heads} heads")
        if self.d_model % 2:
            raise CheckpointError(f"d_model {self.d_model} is odd: positions are pairs of sine and cosine")
        if self.conv_kernel % 2 == 0:
            raise CheckpointError(f"conv_kernel {self.conv_kernel} is even: the kernel must have a middle")
        if self.conv_norm not in CONV_NORMS:
            raise CheckpointError(f"conv_norm is {self.conv_norm!r}: expected one of {CONV_NORMS}")


@dataclass(frozen=True)
class ModelConfig:
    """A CTC recogniser: front end, encoder, a linear layer to ``vocabulary`` (the blank is its last entry)."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    vocabulary: tuple[str, ...] = ()
    reference_layers: tuple[int, ...] = ()  # for a student: which layers of the reference it inherited
    qat: bool = False  # the layers' weights are quantised (`quantized`); checkpoints call it "rounded"

    @property
    def multiplications(self) -> tuple[int, int]:
        """Multiply-accumulate operations for a second of audio: of front and head, and of all layers.

        Attention scores are left out: they depend on the chunk, and are a few per cent.
        """
        encoder, frontend = self.encoder, self.frontend
        frames = frontend.sample_rate / frontend.hop_length / 4  # encoder frames a second
        width, channels = encoder.d_model, encoder.subsampling_channels
        bands = (frontend.n_mels + 1) // 2, ((frontend.n_mels + 1) // 2 + 1) // 2
        front = 2 * bands[0] * channels * 9 + bands[1] * channels * channels * 9 + bands[1] * channels * width
        head = width * len(self.vocabulary)
        attention, convolution = 5 * width * encoder.attention_width, 3 * width * width + width * encoder.conv_kernel
        layer = 4 * width * encoder.d_feed_forward + attention + convolution
        return round(frames * (front + head)), round(frames * encoder.n_layers * layer)

    @property
    def blank_id(self) -> int:
        """Index of the blank: the vocabulary's last entry."""
        return len(self.vocabulary) - 1

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON can hold it."""
        values = dataclasses.asdict(self)
        values["rounded"] = values.pop("qat")  # its name in every checkpoint so far
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote.

        Raises:
            CheckpointError: a field is missing, unknown, of another type or impossible.
        """
        try:
            return cls(
                frontend=FrontendConfig(**values["frontend"]),
                encoder=EncoderConfig(**values["encoder"]),
                vocabulary=tuple(values["vocabulary"]),
                reference_layers=tuple(values["reference_layers"]),
                qat=values.get("rounded", False),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint's config is not one this version knows: {error}") from error
