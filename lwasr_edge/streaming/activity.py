"""Whether there may be speech: sound that rises above the noise. Saves model calls while nobody speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.streaming.recent_audio import INAUDIBLE_DB, LEVELS_PER_FRAME, SILENT_DB, percentile

if TYPE_CHECKING:
    from lwasr_edge.streaming.recent_audio import RecentAudio

BAND_EDGES_HZ = (100, 300, 500, 800, 1200, 1800, 2600, 3800, 5400)
FLOOR_FRAMES = 75  # 3 s: the noise floor of a band is the tenth percentile of its levels in it
ONE_BAND_DB = 10.0  # above the floor in one band: steady noise stays below, and speech in noise as loud rises more
MANY_BANDS, MANY_BANDS_DB = 3, 6.0
CLEAR_DB = 15.0  # a pause so far below the speech is certain
CLOSURE_FRAMES = 4  # so long a word may be silent inside: 160 ms
LONGEST_TAIL = 10  # frames in which the sound of a token ends, in noise too


class Activity:
    """The noise floor of a stream in several bands, and the frames that rise above it.

    Args:
        first_frame: of the audio.
        sample_rate: Hz of the audio.
        samples_per_frame: of the audio.
    """

    def __init__(self, first_frame: int, sample_rate: int, samples_per_frame: int) -> None:
        self._edges = [round(hz * samples_per_frame / sample_rate) for hz in BAND_EDGES_HZ]
        self._window = np.hanning(samples_per_frame).astype(np.float32)
        # A recording may begin inside a word: at first, everything audible is activity.
        self._recent = np.full((FLOOR_FRAMES, len(BAND_EDGES_HZ) - 1), SILENT_DB, np.float32)
        self._first_frame = first_frame
        self._is_active: list[bool] = []  # of each frame from the first one on
        self.last_active: int | None = None  # newest frame that rose above the floor
        self.is_audible = False  # the newest frame is not silent
        self.is_clear = False  # the newest frame is far below the loudest one of the last 3 s

    def update(self, audio: RecentAudio, end_frame: int) -> int | None:
        """Process the frames up to ``end_frame``; return the first active one of them, or None."""
        begin = self._first_frame + len(self._is_active)
        if begin >= end_frame:
            return None
        frames = audio.frames(begin, end_frame).reshape(end_frame - begin, -1) * self._window
        power = np.square(np.abs(np.fft.rfft(frames))) / (len(self._window) * 0.375 * len(self._window) / 2)
        bands_db = 10 * np.log10(np.add.reduceat(power, self._edges, axis=1)[:, :-1] + 10 ** (SILENT_DB / 10))
        floor_db = percentile(self._recent, 10)
        rise_db = bands_db - floor_db
        is_loud = (rise_db > ONE_BAND_DB).any(1) | ((rise_db > MANY_BANDS_DB).sum(1) >= MANY_BANDS)
        levels = audio.levels.between(begin * LEVELS_PER_FRAME, end_frame * LEVELS_PER_FRAME)
        is_audible = levels.reshape(len(frames), LEVELS_PER_FRAME).max(1) > INAUDIBLE_DB
        self._is_active += (is_loud & is_audible).tolist()
        self._recent = np.concatenate([self._recent, bands_db.astype(np.float32)])[-FLOOR_FRAMES:]
        self.is_audible = bool(is_audible[-1])
        total_db = self._recent.max(1)
        self.is_clear = bool(total_db[-1] < total_db.max() - CLEAR_DB)
        active = [begin + int(index) for index in np.flatnonzero(is_loud & is_audible)]
        self.last_active = active[-1] if active else self.last_active
        return active[0] if active else None

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
