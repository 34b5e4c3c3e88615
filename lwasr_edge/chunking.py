"""How audio is divided into chunks for the model: one rule for files, streams, training, export and benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwasr_edge.errors import OptionError
from lwasr_edge.validate import number, whole_number

if TYPE_CHECKING:
    from lwasr_edge.model_info import ModelInfo

STREAM_HOP_MS = 320.0
STREAM_RIGHT_CONTEXT_MS = 640.0
FILE_LOOK_AHEAD_MS = 640.0
MAX_HOP_MS = 10_000.0


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
    def of_stream(
        cls,
        frame_ms: float,
        hop_ms: float = STREAM_HOP_MS,
        right_context_ms: float | None = None,
        *,
        can_look_ahead: bool = True,
    ) -> Chunking:
        """Chunks of a stream, in milliseconds.

        Args:
            frame_ms: length of an encoder frame.
            hop_ms: from one chunk to the next, a positive multiple of `frame_ms`.
            right_context_ms: look-ahead of a chunk, a multiple of `frame_ms`; None for the default, 640 ms, and 0 where
                the model cannot look ahead.
            can_look_ahead: whether the model accepts a look-ahead.

        Raises:
            OptionError: an invalid value.
        """
        hop_frames = _frames("hop_ms", hop_ms, frame_ms, minimum=1, most_ms=MAX_HOP_MS)
        if right_context_ms is None:
            right_context_ms = STREAM_RIGHT_CONTEXT_MS // frame_ms * frame_ms if can_look_ahead else 0.0
        right_context = _frames("right_context_ms", right_context_ms, frame_ms, minimum=0, most_ms=MAX_HOP_MS)
        if right_context and not can_look_ahead:
            raise OptionError(
                f"right_context_ms must be 0 with this model, which cannot look ahead, got {right_context_ms!r}"
            )
        return cls(hop_frames + right_context, right_context)

    @classmethod
    def for_files(cls, info: ModelInfo, chunk_ms: float | None = None, *, can_look_ahead: bool = True) -> Chunking:
        """Chunks of a segment that is decoded with full context: 640 ms of look-ahead, at most half of the chunk.

        Args:
            info: of the model.
            chunk_ms: length of a chunk, a positive multiple of the model's frame; None for the largest.
            can_look_ahead: whether the model accepts a look-ahead.

        Raises:
            OptionError: an invalid value.
        """
        frames = info.max_chunk_frames
        if chunk_ms is not None:
            frames = _frames("chunk_ms", chunk_ms, info.frame_ms, minimum=1, most_ms=frames * info.frame_ms)
        look_ahead = min(int(FILE_LOOK_AHEAD_MS / info.frame_ms), frames // 2) if can_look_ahead else 0
        return cls(frames, look_ahead)


def _frames(name: str, value_ms: float, frame_ms: float, *, minimum: int, most_ms: float) -> int:
    """Milliseconds as a number of frames."""
    frames = number(name, value_ms, 0, hint="give milliseconds") / frame_ms
    if not minimum <= frames <= most_ms / frame_ms or frames != math.floor(frames):
        kind = "a positive multiple" if minimum else "a multiple"
        raise OptionError(
            f"{name} must be {kind} of the model's frame, {frame_ms:g} ms, up to {most_ms:g}, got {value_ms!r}"
        )
    return int(frames)
