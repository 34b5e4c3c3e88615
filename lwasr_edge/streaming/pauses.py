"""Where recordings are cut into segments: at pauses, found in the levels of the audio."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lwasr_edge.streaming.recent_audio import INAUDIBLE_DB, LEVELS_PER_FRAME, percentile

# In levels of 10 ms. Chosen on recordings of the development sets, apart and joined.
PAUSE = 60  # a segment ends here; inside a sentence pauses are seldom as long
SHORT_PAUSE = 30  # ... and here, if it would be longer than LONG
LONG = 800  # what the model can use as one chunk
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


class Cut(NamedTuple):
    """Segments of some levels, as (first, end) pairs, and how many levels they leave for the next call."""

    segments: list[tuple[int, int]]
    used: int


def find_segments(levels: np.ndarray, *, is_last: bool) -> Cut:
    """Divide the levels at their pauses.

    Args:
        levels: (n,) in dB, `AT_ONCE` of them, or fewer if they are the last.
        is_last: no levels follow. Otherwise the last segment is left for the next call.

    Returns:
        Segments with a little of the pauses around them; silence belongs to none.
    """
    pauses = [run for run in _runs(_is_quiet(levels)) if _is_pause(run, SHORT_PAUSE, len(levels))]
    bounds = _between([run for run in pauses if _is_pause(run, PAUSE, len(levels))], 0, len(levels))
    used = len(levels)
    if not is_last and bounds and bounds[-1][1] == len(levels):
        used = max(0, bounds.pop()[0] - BEFORE)
        if used < LEVELS_PER_FRAME and not bounds:  # at least a frame is used in every call
            cut = (FIRST_CUT + _quietest(levels[FIRST_CUT:LAST_CUT])) // LEVELS_PER_FRAME * LEVELS_PER_FRAME
            return Cut([(0, cut)], cut)
    bounds = [part for bound in bounds for part in _divided(bound, pauses)]
    segments: list[tuple[int, int]] = []
    for number, (first, end) in enumerate(bounds):
        previous_end = bounds[number - 1][1] if number else 0
        next_first = bounds[number + 1][0] if number + 1 < len(bounds) else used if not is_last else len(levels)
        middle_before, middle_after = (previous_end + first) // 2, (end + max(end, next_first) + 1) // 2
        before = first - BEFORE if not number else max(first - BEFORE, middle_before)
        after = end + AFTER if number + 1 == len(bounds) else min(end + AFTER, middle_after)
        segments.append((max(0, before), min(after, len(levels))))
    return Cut(segments, used)


def _between(pauses: list[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """What is left of ``first`` to ``end`` - 1 without the pauses."""
    bounds = zip([first, *(stop for _, stop in pauses)], [*(start for start, _ in pauses), end], strict=True)
    return [(start, stop) for start, stop in bounds if start < stop]


def _divided(segment: tuple[int, int], pauses: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The segment, cut at its longest pause until no part is longer than `LONG`, as far as it has pauses."""
    first, end = segment
    inside = [pause for pause in pauses if first < pause[0] and pause[1] < end]
    if end - first <= LONG or not inside:
        return [segment]
    longest = max(inside, key=lambda pause: pause[1] - pause[0])
    return [part for half in _between([longest], first, end) for part in _divided(half, pauses)]


def _is_quiet(levels: np.ndarray) -> np.ndarray:
    """Whether each level is that of a pause: far below the speech around it, and near the noise floor. (n,) bool"""
    power = np.convolve(10 ** (levels / 10), np.full(3, 1 / 3), "same")
    smoothed = 10 * np.log10(power + 1e-12)
    padded = np.pad(smoothed, AROUND, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)[::STRIDE]
    floor, loud = (percentile(around, percent, axis=1) for percent in (5, 95))
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
