"""Whether there may be speech: a level that rises above the noise. Saves model calls while nobody speaks."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lwasr_edge.streaming.recent_audio import SILENT_DB

if TYPE_CHECKING:
    from lwasr_edge.streaming.recent_audio import Levels

FLOOR_FRAMES = 75  # 3 s: the noise floor is the lowest level in it
RISE_DB = 4.0  # above the floor; steady noise varies by less than 2 dB, speech as loud as the noise rises by 6
INAUDIBLE_DB = -78.0  # after pre-emphasis; no speech is as soft
CLOSURE_FRAMES = 4  # so long a word may be silent inside: 160 ms
LONGEST_TAIL = 10  # frames in which the sound of a token ends, in noise too


class Activity:
    """The noise floor of a stream, and the frames that rise above it.

    Args:
        first_frame: of the audio.
    """

    def __init__(self, first_frame: int) -> None:
        # A recording may begin inside a word: at first, everything audible is activity.
        self._recent = deque([SILENT_DB] * FLOOR_FRAMES, FLOOR_FRAMES)
        self._first_frame = first_frame
        self._is_active: list[bool] = []  # of each frame from the first one on
        self.last_active: int | None = None  # newest frame that rose above the floor
        self.is_audible = False  # the newest frame is not silent

    def update(self, levels: Levels, end_frame: int) -> int | None:
        """Process the frames up to ``end_frame``; return the first active one of them, or None."""
        begin = self._first_frame + len(self._is_active)
        for frame in range(begin, end_frame):
            level = levels.of_frame(frame)
            self._recent.append(level)
            self.is_audible = level > INAUDIBLE_DB
            self._is_active.append(self.is_audible and level > min(self._recent) + RISE_DB)
            if self._is_active[-1]:
                self.last_active = frame
        return self.first_active(begin, end_frame)

    def first_active(self, first: int, end: int) -> int | None:
        """The first active frame from ``first`` to ``end`` - 1, or None."""
        return next((frame for frame in range(first, end) if self._active(frame)), None)

    def sound_end(self, frame: int) -> int:
        """One after the frame in which the sound of a token that starts in ``frame`` ends, as far as is known."""
        last = frame
        for later in range(frame + 1, frame + LONGEST_TAIL):
            if self._active(later):
                last = later
            elif later - last > CLOSURE_FRAMES:
                break
        return last + 1

    def discard(self, before_frame: int) -> None:
        """Forget the frames before ``before_frame``."""
        count = min(before_frame - self._first_frame, len(self._is_active))
        if count > 0:
            del self._is_active[:count]
            self._first_frame += count

    def _active(self, frame: int) -> bool:
        index = frame - self._first_frame
        return 0 <= index < len(self._is_active) and self._is_active[index]
