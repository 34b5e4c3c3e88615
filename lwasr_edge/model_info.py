"""The metadata inside a model file, read and checked: model format 2 (docs/MODEL_FORMAT.md)."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lwasr_edge.errors import ModelError, ModelVersionError
from lwasr_edge.files import read_regular
from lwasr_edge.validate import number, shown, whole_number

FORMAT_VERSION = 2  # the model format that this version reads
FORMAT_KEY = "lwasr.contract"  # metadata key of the format version; its name is older than the term
MODEL_KEY = "lwasr.model"
MAX_VOCABULARY = 100_000  # pieces
MAX_PIECE = 1_000  # characters
MAX_CHUNK_SIZES = 1_000
MAX_FLUSH_S = 10  # also of the frame delay and of one frame
MAX_CHUNK_S = 3_600
MAX_METADATA = 1 << 22  # characters
MAX_TEXT = 100_000  # characters of any other text
LOOK_AHEAD = "look_ahead"  # input: frames at the end of a chunk with which the next chunk begins

# Smallest and largest value. A damaged number in a file must not make a program ask for terabytes.
_LIMITS = {
    "sample_rate": (1, 1_000_000),
    "samples_per_frame": (1, 1_000_000),
    "max_chunk_frames": (1, 100_000),
    "format_version": (1, FORMAT_VERSION),
    "flush_samples": (0, 10_000_000),
    "blank_id": (0, MAX_VOCABULARY),
    "frame_delay_samples": (-10_000_000, 10_000_000),
}
_OPTIONAL_LIMITS = {"left_context_frames": (0, 1_000_000), "layers": (0, 100_000), "parameters": (0, 10**12)}
MAX_CONFIDENCE_POINTS = 32
_SETTING_LIMITS = {
    "weight": (0.0, 100.0),
    "word_bonus": (-100.0, 100.0),
    "unknown_letter_cost": (0.0, 100.0),
    "blank_penalty": (0.0, 100.0),
}
_TUNE_AGAIN = "tune it again with `lwasr lm tune`"
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_TEXTS = ("name", "language", "precision", "licence", "attribution", "created", "source")


@dataclass(frozen=True)
class DecodingSettings:
    """How a model is decoded with a language model, tuned by `lwasr lm tune`.

    Raises:
        ModelError: an invalid value.
    """

    weight: float  # of the language model's log probabilities
    word_bonus: float  # nats per word
    unknown_letter_cost: float  # nats per letter of an unknown word, of 5 at most, before the weight
    blank_penalty: float  # nats taken off the blank's log posterior before the search
    confidence: tuple[tuple[float, float], ...] = ()  # (posterior, share of right words), ascending; empty: as it is

    def __post_init__(self) -> None:
        for name, limits in _SETTING_LIMITS.items():
            value = number(f"decoding's {name}", getattr(self, name), *limits, error=ModelError, hint=_TUNE_AGAIN)
            object.__setattr__(self, name, value)
        points = self.confidence
        is_map = isinstance(points, (tuple, list)) and len(points) != 1 and len(points) <= MAX_CONFIDENCE_POINTS
        is_map = is_map and all(isinstance(point, (tuple, list)) and len(point) == 2 for point in points)
        flat = [value for point in points for value in point] if is_map else []
        is_map = is_map and all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v <= 1 for v in flat)
        is_map = is_map and all(one[0] < other[0] and one[1] <= other[1] for one, other in itertools.pairwise(points))
        if not is_map:
            raise ModelError(
                f"confidence must be none or 2 to {MAX_CONFIDENCE_POINTS} ascending pairs of numbers, 0 to 1, "
                f"got {shown(points)}: {_TUNE_AGAIN}"
            )
        object.__setattr__(self, "confidence", tuple((float(one), float(other)) for one, other in points))

    @classmethod
    def from_json(cls, described: Any) -> DecodingSettings:
        """From the field "decoding" of a model file, or from a file with it alone; other keys are ignored.

        Raises:
            ModelError: a missing or an invalid value.
        """
        if not isinstance(described, dict):
            raise ModelError(f"decoding must be a JSON object, got {shown(described)}: {_TUNE_AGAIN}")
        known = {field.name: described[field.name] for field in fields(cls) if field.name in described}
        try:
            return cls(**known)
        except TypeError as error:
            raise ModelError(f"decoding is incomplete ({error}): {_TUNE_AGAIN}") from None

    @classmethod
    def read(cls, path: Path) -> DecodingSettings:
        """From a JSON file of `lwasr lm tune --json`.

        Raises:
            ModelError: it cannot be read, or an invalid value.
        """
        try:
            described = json.loads(read_regular(path, MAX_METADATA))
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelError(
                f"{path} must be JSON with the settings of decoding, got {reason}: {_TUNE_AGAIN}"
            ) from None
        try:
            return cls.from_json(described)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model file. Fields without a default are required.

    Raises:
        ModelError: a field has an invalid value.
    """

    sample_rate: int  # Hz of the waveform input
    samples_per_frame: int  # samples for one output frame
    frame_delay_samples: int  # frame u is centred at sample u * samples_per_frame - frame_delay_samples
    flush_samples: int  # zeros after the last sample that complete the last token
    blank_id: int
    vocabulary: tuple[str, ...] = field(repr=False)  # piece of each token id; U+2581 starts a word
    streaming: bool = True  # False: full context only, no state
    chunk_frames: tuple[int, ...] = ()  # chunk sizes the model was trained for
    max_chunk_frames: int = 250  # of one call, if streaming; the file is made for no larger chunk
    left_context_frames: int | None = None
    name: str = "unnamed"
    language: str = ""
    precision: str = ""
    layers: int | None = None
    parameters: int | None = None
    multiplications: tuple[int, int] | None = None  # MACs per second of audio: subsampling and CTC head; layers
    licence: str = ""
    attribution: str = ""
    created: str = ""
    source: str = ""  # SHA-256 of the checkpoint it was exported from
    decoding: DecodingSettings | None = None  # with a language model; None: greedy by default
    format_version: int = FORMAT_VERSION  # of the file

    def __post_init__(self) -> None:
        for name in ("chunk_frames", "vocabulary"):
            self._require(name, isinstance(getattr(self, name), (tuple, list)), "a list")
        self._require("chunk_frames", len(self.chunk_frames) <= MAX_CHUNK_SIZES, f"at most {MAX_CHUNK_SIZES} numbers")
        integers = [(name, getattr(self, name), limits) for name, limits in _LIMITS.items()]
        integers += [("chunk_frames", frames, _LIMITS["max_chunk_frames"]) for frames in self.chunk_frames]
        optional = [(name, getattr(self, name), limits) for name, limits in _OPTIONAL_LIMITS.items()]
        for name, value, limits in [*integers, *(entry for entry in optional if entry[1] is not None)]:
            whole_number(f"the model's {name}", value, *limits, error=ModelError, hint="export it again")
        for name in _TEXTS:
            self._require(name, isinstance(getattr(self, name), str), "a string")
            self._require(name, len(getattr(self, name)) <= MAX_TEXT, f"at most {MAX_TEXT} characters")
        self._require("streaming", isinstance(self.streaming, bool), "true or false")
        macs = self.multiplications
        is_pair = macs is None or (isinstance(macs, (tuple, list)) and len(macs) == 2 and all(map(_is_count, macs)))
        self._require("multiplications", is_pair, "two whole numbers")
        for name in ("flush_samples", "frame_delay_samples", "samples_per_frame"):
            seconds = abs(getattr(self, name)) / self.sample_rate
            self._require(name, seconds <= MAX_FLUSH_S, f"at most {MAX_FLUSH_S} s")
        for frames in (self.max_chunk_frames, *self.chunk_frames):
            fits = frames * self.frame_ms <= 1000 * MAX_CHUNK_S
            self._require("max_chunk_frames", fits, f"chunks of at most {MAX_CHUNK_S} s")
        self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        is_text = len(self.vocabulary) >= 2 and all(isinstance(piece, str) for piece in self.vocabulary)
        self._require("vocabulary", is_text, "a list of at least two strings")
        size = len(self.vocabulary)
        self._require("vocabulary", size <= MAX_VOCABULARY, f"at most {MAX_VOCABULARY} pieces")
        # Pieces become text on terminals and in files, where a control character is a command.
        is_plain = all(len(piece) <= MAX_PIECE and not _CONTROLS.search(piece) for piece in self.vocabulary)
        self._require("vocabulary", is_plain, f"pieces of at most {MAX_PIECE} characters without control characters")
        self._require("blank_id", self.blank_id < size, f"less than {size}, the size of its vocabulary")

    def _require(self, name: str, is_valid: bool, kind: str) -> None:
        if not is_valid:
            value = shown(getattr(self, name), 60)
            raise ModelError(f"the model's {name} must be {kind}, got {value}: export it again")

    @property
    def has_general_lm(self) -> bool:
        """Whether the general language model, which is English, is used by default."""
        return self.decoding is not None and self.language.lower().partition("-")[0] in ("en", "")

    @property
    def frame_ms(self) -> float:
        """Length of one output frame in milliseconds."""
        return 1000.0 * self.samples_per_frame / self.sample_rate

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> ModelInfo:
        """Read the `metadata_props` of an ONNX file.

        Raises:
            ModelVersionError: the model format is newer or older than the one this version reads.
            ModelError: no such metadata, or invalid values in it.
        """
        format_version = check_format_version(metadata)
        try:
            if len(metadata[MODEL_KEY]) > MAX_METADATA:
                raise ModelError(f"the model's {MODEL_KEY!r} must have at most {MAX_METADATA} characters, got more")
            described = json.loads(metadata[MODEL_KEY])
        except KeyError:
            raise ModelError(f"the model has no {MODEL_KEY!r} in its metadata: export it again") from None
        except ModelError:
            raise
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the model's {MODEL_KEY!r} must be JSON ({error}): export it again") from None
        if not isinstance(described, dict):
            raise ModelError(f"the model's {MODEL_KEY!r} must be a JSON object: export it again")
        known = {f.name: _tuple_if_list(described[f.name]) for f in fields(cls) if f.name in described}
        if known.get("decoding") is not None:
            known["decoding"] = DecodingSettings.from_json(known["decoding"])
        try:
            return cls(**{**known, "format_version": format_version})
        except TypeError as error:
            raise ModelError(f"the model's {MODEL_KEY!r} is incomplete ({error}): export it again") from None


def check_format_version(metadata: dict[str, str]) -> int:
    """Return the model format of a file that this version can read.

    Raises:
        ModelVersionError: the format is newer or older than the one this version reads.
        ModelError: no format version in the metadata, or an invalid one.
    """
    if FORMAT_KEY not in metadata:
        raise ModelError(
            f"a model must have {FORMAT_KEY!r} in its metadata, got an ONNX file without it: "
            "make a model with lwasr-export CHECKPOINT -o MODEL.onnx"
        )
    text = metadata[FORMAT_KEY]
    if not text.isdecimal() or not text.strip("0"):
        raise ModelError(f"{FORMAT_KEY!r} must be a whole number >= 1, got {text[:20]!r}: export the model again")
    if len(text) > 9 or int(text) > FORMAT_VERSION:
        raise ModelVersionError(
            f"model format {text[:20]} is newer than this version supports ({FORMAT_VERSION}): "
            "pip install --upgrade lwasr-edge"
        )
    if int(text) < FORMAT_VERSION:
        raise ModelVersionError(
            f"model format {int(text)} is older than this version reads ({FORMAT_VERSION}): fetch the model again, or "
            "export its checkpoint again with lwasr-export"
        )
    return int(text)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
