"""What a model file says of itself: the metadata of contract version 1 (docs/MODEL_FORMAT.md), read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

from lwasr_edge.errors import ModelError, ModelVersionError

FORMAT_VERSION = 1
FORMAT_KEY = "lwasr.contract"
MODEL_KEY = "lwasr.model"
LOOK_AHEAD = "look_ahead"  # input: frames at a chunk's end that are heard but not consumed


@dataclass(frozen=True)
class ModelInfo:
    """The description inside a model file. Fields without a default must be there."""

    sample_rate: int  # Hz of the waveform input
    samples_per_frame: int  # one output frame for so many samples
    frame_delay_samples: int  # frame u is centred at sample u * samples_per_frame - frame_delay_samples
    flush_samples: int  # zeros that must follow the last sample for the last token to come out
    blank_id: int
    vocabulary: tuple[str, ...] = field(repr=False)  # piece of each token id; U+2581 starts a word
    streaming: bool = True  # False: whole recordings only, no state
    chunk_frames: tuple[int, ...] = ()  # chunk sizes the model was trained for
    max_chunk_frames: int = 250  # largest chunk worth using on files
    left_context_frames: int | None = None
    name: str = "unnamed"
    language: str = ""
    precision: str = ""
    layers: int | None = None
    parameters: int | None = None
    multiplications: tuple[int, int] | None = None  # a second of audio: of front and head, and of the layers
    licence: str = ""
    attribution: str = ""
    created: str = ""
    source: str = ""  # SHA-256 of the checkpoint it was exported from

    def __post_init__(self) -> None:
        for name in ("sample_rate", "samples_per_frame", "max_chunk_frames"):
            _check_integer(name, getattr(self, name), minimum=1)
        for name in ("flush_samples", "blank_id"):
            _check_integer(name, getattr(self, name), minimum=0)
        _check_integer("frame_delay_samples", self.frame_delay_samples, minimum=None)
        for frames in self.chunk_frames:
            _check_integer("chunk_frames", frames, minimum=1)
        if len(self.vocabulary) < 2 or not all(isinstance(piece, str) for piece in self.vocabulary):
            raise ModelError("the model's vocabulary is expected to be a list of at least two strings")
        if self.blank_id >= len(self.vocabulary):
            raise ModelError(
                f"the model's blank_id is {self.blank_id}, outside its vocabulary of {len(self.vocabulary)} pieces"
            )

    @property
    def frame_ms(self) -> float:
        """Length of one output frame in milliseconds."""
        return 1000.0 * self.samples_per_frame / self.sample_rate

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> ModelInfo:
        """Read the `metadata_props` of an ONNX file.

        Raises:
            ModelVersionError: written for a newer contract.
            ModelError: no such metadata, or impossible values in it.
        """
        check_format_version(metadata)
        try:
            described = json.loads(metadata[MODEL_KEY])
        except KeyError:
            raise ModelError(f"the model has no {MODEL_KEY!r} in its metadata: export it again") from None
        except ValueError as error:
            raise ModelError(f"the model's {MODEL_KEY!r} is not JSON ({error}): export it again") from None
        if not isinstance(described, dict):
            raise ModelError(f"the model's {MODEL_KEY!r} is expected to be a JSON object: export it again")
        known = {f.name: _tuple_if_list(described[f.name]) for f in fields(cls) if f.name in described}
        try:
            return cls(**known)
        except TypeError as error:
            raise ModelError(f"the model's {MODEL_KEY!r} is incomplete ({error}): export it again") from None


def check_format_version(metadata: dict[str, str]) -> None:
    """Refuse a file without a contract, or with a newer one.

    Raises:
        ModelError, ModelVersionError
    """
    if FORMAT_KEY not in metadata:
        raise ModelError(
            f"an ONNX file without {FORMAT_KEY!r} in its metadata is not a model of this project: "
            "make one with lwasr-export CHECKPOINT -o MODEL.onnx"
        )
    text = metadata[FORMAT_KEY]
    if not text.isdecimal() or int(text) < 1:
        raise ModelError(f"{FORMAT_KEY!r} is expected to be a whole number from 1; came {text!r}")
    if int(text) > FORMAT_VERSION:
        raise ModelVersionError(
            f"the model obeys contract {text}; this runtime knows contracts up to {FORMAT_VERSION}: "
            "pip install --upgrade lwasr-edge"
        )


def _check_integer(name: str, value: Any, minimum: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or (minimum is not None and value < minimum):
        limit = "" if minimum is None else f" from {minimum}"
        raise ModelError(f"the model's {name} is expected to be a whole number{limit}; came {value!r}")


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
