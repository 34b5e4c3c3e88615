"""How audio is divided into chunks for the model: one rule for files, streams, training, export and benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwasr_edge.errors import OptionError
from lwasr_edge.validate import number, whole_number

if TYPE_CHECKING:
    from lwasr_edge.model_info import ModelInfo

STREAM_CHUNK_MS = 640.0
STREAM_LOOK_AHEAD_MS = 320.0
FILE_LOOK_AHEAD_MS = 640.0


@dataclass(frozen=True)
class Chunking:
    """The size of one model call, and how much of it is right context only.

    The last `look_ahead_frames` of a chunk give no tokens and do not change the state; the next chunk begins with them.
    Full context, where the recording is one chunk, is None in place of a Chunking.

    Raises:
        OptionError: no frames, or a look-ahead that is not shorter than the chunk.
    """

    chunk_frames: int  # encoder frames of one call, look-ahead included
    look_ahead_frames: int = 0  # last frames of the chunk, right context only

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk_frames", whole_number("chunk_frames", self.chunk_frames, 1))
        object.__setattr__(self, "look_ahead_frames", whole_number("look_ahead_frames", self.look_ahead_frames, 0))
        if self.look_ahead_frames >= self.chunk_frames:
            raise OptionError(
                f"look_ahead_frames must be less than the {self.chunk_frames} frames of a chunk, "
                f"got {self.look_ahead_frames}"
            )

    @property
    def hop_frames(self) -> int:
        """Frames from the start of one chunk to the start of the next."""
        return self.chunk_frames - self.look_ahead_frames

    def scaled(self, factor: int) -> Chunking:
        """The same chunks in a unit `factor` times finer: mel frames, or samples, instead of encoder frames."""
        return Chunking(self.chunk_frames * factor, self.look_ahead_frames * factor)

    @classmethod
    def from_ms(
        cls,
        frame_ms: float,
        chunk_ms: float = STREAM_CHUNK_MS,
        look_ahead_ms: float | None = None,
        *,
        can_look_ahead: bool = True,
    ) -> Chunking:
        """Chunks of a stream, in milliseconds.

        Args:
            frame_ms: length of an encoder frame.
            chunk_ms: length of a chunk, a positive multiple of `frame_ms`.
            look_ahead_ms: a multiple of `frame_ms`, less than `chunk_ms`; None for the default: 320 ms, at most half
                of the chunk, and 0 where the model cannot look ahead.
            can_look_ahead: whether the model accepts a look-ahead.

        Raises:
            OptionError: an invalid value.
        """
        chunk_frames = _frames("chunk_ms", chunk_ms, frame_ms, minimum=1)
        return cls(
            chunk_frames, _look_ahead(chunk_frames, frame_ms, look_ahead_ms, STREAM_LOOK_AHEAD_MS, can_look_ahead)
        )

    @classmethod
    def for_files(cls, info: ModelInfo, look_ahead_ms: float | None = None, *, can_look_ahead: bool = True) -> Chunking:
        """Chunks of a file: the largest that improve accuracy, with 640 ms of look-ahead by default.

        Args:
            info: of the model.
            look_ahead_ms, can_look_ahead: as for `from_ms`.

        Raises:
            OptionError: an invalid value.
        """
        frames = info.max_chunk_frames
        return cls(frames, _look_ahead(frames, info.frame_ms, look_ahead_ms, FILE_LOOK_AHEAD_MS, can_look_ahead))


def _look_ahead(
    chunk_frames: int, frame_ms: float, look_ahead_ms: float | None, default_ms: float, can_look_ahead: bool
) -> int:
    if look_ahead_ms is None:
        return min(int(default_ms / frame_ms), chunk_frames // 2) if can_look_ahead else 0
    frames = _frames("look_ahead_ms", look_ahead_ms, frame_ms, minimum=0)
    if frames and not can_look_ahead:
        raise OptionError(f"look_ahead_ms must be 0 with this model, which cannot look ahead, got {look_ahead_ms!r}")
    if frames >= chunk_frames:
        raise OptionError(
            f"look_ahead_ms must be less than the chunk, {chunk_frames * frame_ms:g} ms, got {look_ahead_ms!r}"
        )
    return frames


def _frames(name: str, value_ms: float, frame_ms: float, minimum: int) -> int:
    """Milliseconds as a number of frames."""
    frames = number(name, value_ms, 0, hint="give milliseconds") / frame_ms
    if not minimum <= frames < 1e6 or frames != math.floor(frames):
        kind = "a positive multiple" if minimum else "a multiple"
        raise OptionError(f"{name} must be {kind} of the model's frame, {frame_ms:g} ms, got {value_ms!r}")
    return int(frames)
