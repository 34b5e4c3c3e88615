"""Model configuration: the sizes of features, encoder and head. Stored as JSON inside every checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from lwasr_edge.errors import CheckpointError
from lwasr_edge.validate import number, whole_number

NORMALIZATIONS = ("utterance", "running")
FORMER_MEMORY = "forget_s"  # of older checkpoints, whose statistics also decayed inside a chunk
CONV_NORMS = ("batch_norm", "layer_norm")
# A damaged number in a file must not make the program ask for terabytes.
MAX_SAMPLE_RATE = 1 << 20  # Hz
MAX_SIZE = 1 << 16  # of the other fields
MAX_LAYERS = 1 << 10
MODULES = ("feed_forward1", "attention", "conv", "feed_forward2")  # of a layer, in the order of the data


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise a CheckpointError if the value is not allowed."""
    if value not in allowed:
        raise CheckpointError(f"{name} must be one of {', '.join(allowed)}, got {value!r:.60}")


def size(name: str, value: Any, maximum: int = MAX_SIZE) -> None:
    """Raise a CheckpointError if the value is not a whole number from 1 to `maximum`."""
    if whole_number(name, value, 1, error=CheckpointError) > maximum:
        raise CheckpointError(f"{name} must be at most {maximum}, got {value}")


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
    normalization: str = "utterance"  # "utterance": over the full recording; "running": past and current chunk only
    norm_memory_s: float = 0.6  # s, time constant of the running statistics of audio before the chunk
    prior_frames: float = 40.0  # frames, weight of the prior in the running statistics

    def __post_init__(self) -> None:
        one_of("normalization", self.normalization, NORMALIZATIONS)
        size("sample_rate", self.sample_rate, MAX_SAMPLE_RATE)
        for name in ("win_length", "hop_length", "n_fft", "n_mels"):
            size(name, getattr(self, name))
        for name in ("norm_memory_s", "log_guard"):
            number(name, getattr(self, name), above=0, error=CheckpointError)
        for name in ("preemphasis", "prior_frames"):
            number(name, getattr(self, name), error=CheckpointError)
        if self.win_length > self.n_fft:
            raise CheckpointError(f"win_length must be at most n_fft, {self.n_fft}, got {self.win_length}")
        number("f_max_hz", self.f_max_hz, maximum=self.sample_rate / 2, above=0, error=CheckpointError)
        number("f_min_hz", self.f_min_hz, 0, below=self.f_max_hz, error=CheckpointError)


@dataclass(frozen=True)
class EncoderConfig:
    """A Conformer (Gulati et al. 2020) behind a convolutional subsampling by four."""

    n_layers: int = 16
    d_model: int = 176  # D
    n_heads: int = 4
    d_feed_forward: int = 704
    conv_kernel: int = 31  # encoder frames of 40 ms, odd
    conv_norm: str = "batch_norm"
    subsampling_channels: int = 176
    xscaling: bool = True  # multiply the encoder's input by sqrt(D)
    left_context_frames: int = 128  # encoder frames of 40 ms before a chunk that its attention can use
    d_attention: int | None = None  # A, width of queries, keys and values over all heads; None: D
    removed: tuple[str, ...] = ()  # modules that layers lack, as "3.attention"

    @property
    def attention_width(self) -> int:
        """A."""
        return self.d_attention or self.d_model

    def has(self, layer: int, module: str) -> bool:
        """Whether a layer has a module of `MODULES`."""
        return f"{layer}.{module}" not in self.removed

    def __post_init__(self) -> None:
        size("n_layers", self.n_layers, MAX_LAYERS)
        for name in ("d_model", "n_heads", "d_feed_forward", "conv_kernel", "subsampling_channels"):
            size(name, getattr(self, name))
        size("left_context_frames", self.left_context_frames)
        if self.d_attention is not None:
            size("d_attention", self.d_attention)
        if self.attention_width % self.n_heads:
            name = "d_attention" if self.d_attention else "d_model"
            raise CheckpointError(f"{name} must be a multiple of n_heads, {self.n_heads}, got {self.attention_width}")
        if self.d_model % 2:  # positions are pairs of sine and cosine
            raise CheckpointError(f"d_model must be even, got {self.d_model}")
        if self.conv_kernel % 2 == 0:  # the kernel must have a middle
            raise CheckpointError(f"conv_kernel must be odd, got {self.conv_kernel}")
        one_of("conv_norm", self.conv_norm, CONV_NORMS)
        possible = {f"{layer}.{module}" for layer in range(self.n_layers) for module in MODULES}
        if not isinstance(self.removed, tuple) or not possible.issuperset(self.removed):
            raise CheckpointError(f'removed must be modules of the layers, as "0.attention", got {self.removed!r:.60}')
        if not isinstance(self.xscaling, bool):
            raise CheckpointError(f"xscaling must be true or false, got {self.xscaling!r:.60}")


@dataclass(frozen=True)
class ModelConfig:
    """A CTC model: log-mel features, encoder, and a linear layer to ``vocabulary``, whose last entry is the blank."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    vocabulary: tuple[str, ...] = ()
    reference_layers: tuple[int, ...] = ()  # of a student: the reference's layers that it was initialised from
    qat: bool = False  # the layers' weights are quantised (see `quantized`); checkpoints call it "rounded"

    def __post_init__(self) -> None:
        if not all(isinstance(token, str) for token in self.vocabulary):
            raise CheckpointError("vocabulary must be a list of strings")
        for index in self.reference_layers:
            whole_number("reference_layers", index, 0, error=CheckpointError)
        if not isinstance(self.qat, bool):
            raise CheckpointError(f"rounded must be true or false, got {self.qat!r:.60}")

    @property
    def multiplications(self) -> tuple[int, int]:
        """Multiply-accumulate operations (MACs) per second of audio: of subsampling and head, and of all layers.

        Attention scores are left out: they depend on the chunk, and add a few per cent.
        """
        encoder, frontend = self.encoder, self.frontend
        frames = frontend.sample_rate / frontend.hop_length / 4  # encoder frames a second
        width, channels = encoder.d_model, encoder.subsampling_channels
        bands = (frontend.n_mels + 1) // 2, ((frontend.n_mels + 1) // 2 + 1) // 2
        subsampling = 2 * bands[0] * channels * 9 + bands[1] * channels * channels * 9 + bands[1] * channels * width
        head = width * len(self.vocabulary)
        feed_forward = 2 * width * encoder.d_feed_forward
        attention, convolution = 5 * width * encoder.attention_width, 3 * width * width + width * encoder.conv_kernel
        costs = dict(zip(MODULES, (feed_forward, attention, convolution, feed_forward), strict=True))
        layers = sum(costs[name] for i in range(encoder.n_layers) for name in MODULES if encoder.has(i, name))
        return round(frames * (subsampling + head)), round(frames * layers)

    @property
    def blank_id(self) -> int:
        """Index of the blank: the vocabulary's last entry."""
        return len(self.vocabulary) - 1

    def to_dict(self) -> dict[str, Any]:
        """The config as values that JSON can hold."""
        values = dataclasses.asdict(self)
        values["rounded"] = values.pop("qat")  # the key in checkpoints
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Read the result of `to_dict`.

        Raises:
            CheckpointError: a field is missing or unknown, or has a wrong type or an impossible value.
        """
        # `FORMER_MEMORY` is left out: with its 10 s, speech after a loud noise would not be recognised.
        for name in ("vocabulary", "reference_layers"):
            if isinstance(values, dict) and not isinstance(values.get(name), list | tuple):
                raise CheckpointError(f"{name} must be a list, got {values.get(name)!r:.40}")
        try:
            return cls(
                frontend=FrontendConfig(**{k: v for k, v in values["frontend"].items() if k != FORMER_MEMORY}),
                encoder=EncoderConfig(**values["encoder"] | {"removed": tuple(values["encoder"].get("removed", ()))}),
                vocabulary=tuple(values["vocabulary"]),
                reference_layers=tuple(values["reference_layers"]),
                qat=values.get("rounded", False),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"config must have the fields of this version: {error!r:.200}: upgrade lwasr-edge"
            ) from error
