"""Where words end: CTC emits the last piece of a word before its sound is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.streaming.recent_audio import LEVELS_PER_FRAME, percentile

if TYPE_CHECKING:
    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.streaming.recent_audio import Levels
    from lwasr_edge.words import Word

# In levels of 10 ms or dB; chosen on the last words of librispeech-dev and an4-test.
LONGEST_LEVELS = 60  # a word ends at most so long after its last piece
GAP_LEVELS = 12  # a closure inside a word is shorter
ONSET_GAP_LEVELS = 4  # silence before the sound of the next word, whose first piece may come later than its sound
FALL_DB = 27.0  # below the loudest part of the word
ABOVE_FLOOR_DB = 6.0  # in noise the word ends earlier
LEAST_FALL_DB = 12.0  # in a recording without a pause the floor is speech
BEFORE_LEVELS = 4
AFTER_LEVELS = 12


def extended_to_sound(words: Sequence[Word], levels: Levels, info: ModelInfo, end_frame: int) -> tuple[Word, ...]:
    """Words that last until their sound falls silent or the next word begins.

    Args:
        words: from a `WordBuilder`: they end with the frame of their last piece.
        levels: of the audio.
        info: of the model.
        end_frame: of the segment; no word ends later.
    """
    if not words:
        return ()
    level_s = info.frame_ms / 1000 / LEVELS_PER_FRAME
    starts = [round(word.start_s / level_s) for word in words]
    limits = [*starts[1:], end_frame * LEVELS_PER_FRAME]
    floor = _floor_db(levels.between(starts[0] - 3 * AFTER_LEVELS, limits[-1]))
    ends = [
        _sound_end(levels, start, round(word.end_s / level_s), limit, floor)
        for word, start, limit in zip(words, starts, limits, strict=True)
    ]
    return tuple(replace(word, end_s=max(word.end_s, end * level_s)) for word, end in zip(words, ends, strict=True))


def _floor_db(levels: np.ndarray) -> float:
    return float(percentile(levels, 5)) if len(levels) else 0.0


def _sound_end(levels: Levels, start: int, end: int, next_start: int, floor_db: float) -> int:
    """The end of a word's sound, as the number of a level, at least ``end``."""
    limit = min(next_start, end + LONGEST_LEVELS, levels.end)
    around = levels.between(start - BEFORE_LEVELS, end + AFTER_LEVELS)
    if limit <= end or not len(around):
        return end
    peak = float(around.max())
    threshold = min(max(peak - FALL_DB, floor_db + ABOVE_FLOOR_DB), peak - LEAST_FALL_DB)
    loud = end + np.flatnonzero(levels.between(end, limit) > threshold)
    steps = np.diff(loud, prepend=end - 1)
    long_gaps = np.flatnonzero(steps > GAP_LEVELS)
    if len(long_gaps):
        loud = loud[: long_gaps[0]]
    elif len(loud) and loud[-1] == next_start - 1:  # the sound after the last silence is that of the next word
        silences = np.flatnonzero(steps > ONSET_GAP_LEVELS)
        loud = loud[: silences[-1]] if len(silences) else loud
    return int(loud[-1]) + 1 if len(loud) else end
