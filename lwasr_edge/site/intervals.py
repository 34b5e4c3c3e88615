"""Errors in a hundred words with the uncertainty of a small set of recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lwasr_edge.streaming.recent_audio import percentile

RESAMPLES = 2000
SEED = 0
Z = 1.96


@dataclass(frozen=True)
class Rate:
    """Errors in a hundred words, and the 95 % interval of what another such set would have."""

    per_hundred: float
    low: float
    high: float
    errors: int
    words: int
    recordings: int


def error_rate(errors: Sequence[int], words: Sequence[int]) -> Rate:
    """The rate of a set of recordings.

    The interval is the wider of two: a bootstrap over recordings (Bisani and Ney 2004), as errors come together, and
    Wilson's over words, as a bootstrap of recordings without errors has no width.

    Args:
        errors, words: of each recording; at least one word together.
    """
    total_errors, total_words = sum(errors), sum(words)
    resampled = _resampled(np.array(errors, float), np.array(words, float))
    low, high = (float(percentile(resampled, percent)) for percent in (2.5, 97.5))
    wilson_low, wilson_high = wilson(min(total_errors, total_words), total_words)
    return Rate(
        100 * total_errors / total_words,
        100 * min(low, wilson_low),
        100 * max(high, wilson_high),
        total_errors,
        total_words,
        len(errors),
    )


def difference(before: Sequence[int], after: Sequence[int], words: Sequence[int]) -> tuple[float, float]:
    """95 % interval of the errors in a hundred words that a change adds; below 0 it removes some.

    Args:
        before, after: errors of each recording: the comparison is paired.
        words: of each recording.
    """
    resampled = _resampled(np.array(after, float) - np.array(before, float), np.array(words, float))
    return 100 * float(percentile(resampled, 2.5)), 100 * float(percentile(resampled, 97.5))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if count == 0:
        return 0.0, 1.0
    share = hits / count
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def _resampled(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """(RESAMPLES,) errors per word of sets that are drawn with replacement."""
    random = np.random.default_rng(SEED)
    rates = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = random.integers(0, len(errors), len(errors))
        rates[index] = errors[drawn].sum() / max(1.0, words[drawn].sum())
    return rates
