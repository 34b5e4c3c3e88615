"""Where recordings are cut into segments: at pauses, found in the levels of the audio."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lwasr_edge.streaming.recent_audio import LEVELS_PER_FRAME

# In levels of 10 ms. Chosen on 240 recordings of the development sets, apart and joined.
AT_ONCE = 2400  # levels in which pauses are sought together
AROUND = 300  # loudness and noise floor of a level are those of so many levels to either side
STRIDE = 10  # loudness and floor are computed once for so many levels
FIRST_CUT = 1000  # speech without a pause is cut at its quietest moment between these two
LAST_CUT = 2000
DIP = 12  # length of such a moment
BEFORE = 10  # kept of the pause before a segment
AFTER = 20  # ... and after it
# In dB.
BELOW_SPEECH_DB = 20.0
ABOVE_FLOOR_DB = 9.0
INAUDIBLE_DB = -78.0


class Cut(NamedTuple):
    """Segments of some levels, as (first, end) pairs, and how many levels they leave for the next call."""

    segments: list[tuple[int, int]]
    used: int


def find_segments(levels: np.ndarray, shortest_pause: int, *, is_last: bool) -> Cut:
    """Divide the levels at their pauses.

    Args:
        levels: (n,) in dB, `AT_ONCE` of them, or fewer if they are the last.
        shortest_pause: in levels; shorter ones are part of a segment.
        is_last: no levels follow. Otherwise the last segment is left for the next call.

    Returns:
        Segments with a little of the pauses around them; silence belongs to none.
    """
    pauses = [run for run in _runs(_is_quiet(levels)) if _is_pause(run, shortest_pause, len(levels))]
    speech = list(zip([0, *(end for _, end in pauses)], [*(first for first, _ in pauses), len(levels)], strict=True))
    bounds = [(first, end) for first, end in speech if first < end]
    used = len(levels)
    if not is_last and bounds and bounds[-1][1] == len(levels):
        used = max(0, bounds.pop()[0] - BEFORE)
        if used < LEVELS_PER_FRAME and not bounds:  # at least a frame is used in every call
            cut = (FIRST_CUT + _quietest(levels[FIRST_CUT:LAST_CUT])) // LEVELS_PER_FRAME * LEVELS_PER_FRAME
            return Cut([(0, cut)], cut)
    segments: list[tuple[int, int]] = []
    for number, (first, end) in enumerate(bounds):
        previous_end = bounds[number - 1][1] if number else 0
        next_first = bounds[number + 1][0] if number + 1 < len(bounds) else used if not is_last else len(levels)
        middle_before, middle_after = (previous_end + first) // 2, (end + max(end, next_first) + 1) // 2
        before = first - BEFORE if not number else max(first - BEFORE, middle_before)
        after = end + AFTER if number + 1 == len(bounds) else min(end + AFTER, middle_after)
        segments.append((max(0, before), min(after, len(levels))))
    return Cut(segments, used)


def _is_quiet(levels: np.ndarray) -> np.ndarray:
    """Whether each level is that of a pause: far below the speech around it, and near the noise floor. (n,) bool"""
    power = np.convolve(10 ** (levels / 10), np.full(3, 1 / 3), "same")
    smoothed = 10 * np.log10(power + 1e-12)
    padded = np.pad(smoothed, AROUND, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)[::STRIDE]
    floor, loud = np.percentile(around, (5, 95), axis=1)
    threshold = np.maximum(np.minimum(loud - BELOW_SPEECH_DB, floor + ABOVE_FLOOR_DB), INAUDIBLE_DB)
    return np.asarray(smoothed < np.repeat(threshold, STRIDE)[: len(levels)])


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of each run of True."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _is_pause(run: tuple[int, int], shortest: int, n_levels: int) -> bool:
    first, end = run
    return end - first >= shortest or first == 0 or end == n_levels


def _quietest(levels: np.ndarray) -> int:
    """The middle of the quietest `DIP` levels."""
    power = np.convolve(10 ** (levels / 10), np.ones(DIP), "valid")
    return int(np.argmin(power)) + DIP // 2
