"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999), and pruning to a size.

Pruning drops the n-grams that the shorter ones predict best (weighted difference: Seymore and Rosenfeld 1996), then
computes the back-off weights again, so that the model stays a distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lwasr_edge.decoding.ngram_layout import N_VALUES, word_dtype
from lwasr_edge.lm.counting import Counts
from lwasr_edge.lm.tables import LOWEST, Grams

START_NUMBER = 1  # of `<s>` in a vocabulary
_FALLBACK = (0.5, 1.0, 1.5)  # discounts where the text is too small to estimate them
_LEAST = 1e-9  # probability that a back-off weight leaves
_ROUNDS = 40  # of the search for the threshold


@dataclass
class _Level:
    """The n-grams of one order, n >= 2."""

    keys: np.ndarray  # (count,) int64, ascending
    prob: np.ndarray  # (count,) float64
    back_off_to: np.ndarray  # (count,) what the shorter n-gram gives
    occurs: np.ndarray  # (count,) number of times
    kept: np.ndarray  # (count,) bool


def estimate(counts: Counts, max_bytes: float) -> list[Grams]:
    """The n-grams of each order with natural log probabilities and back-off weights.

    Args:
        counts: of the highest order.
        max_bytes: of the file, approximately; single words are always kept.
    """
    n_words = len(counts.words)
    orders = [(counts.keys, counts.counts, counts.counts)]
    for n in range(counts.order, 1, -1):
        orders.insert(0, _shorter(orders[0][0], orders[0][2], n, n_words))
    single = _single(orders[0][0], orders[0][1], n_words)
    levels: list[_Level] = []
    for n, (keys, number, occurs) in enumerate(orders[1:], 2):
        levels.append(_level(keys, number, occurs, n, n_words, levels[-1] if levels else single))
    letters = sum(len(word.encode()) + 4 for word in counts.words)
    values = 4 * N_VALUES * (2 * counts.order - 1)
    _prune(levels, max_bytes - letters - 6 * n_words - values, n_words)
    return _grams(single, levels, n_words)


def _shorter(keys: np.ndarray, occurs: np.ndarray, n: int, n_words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The (n - 1)-grams inside n-grams: their keys, the counts of Kneser-Ney, and how often they occur.

    A count is the number of words that precede; at the beginning of a sentence none does, and the n-gram keeps its own.
    """
    suffixes, index = _distinct(keys % n_words ** (n - 1))
    preceded = np.bincount(index, minlength=len(suffixes))
    times = np.bincount(index, occurs, minlength=len(suffixes))
    if n > 2:
        first = keys // n_words ** (n - 1) == START_NUMBER
        prefixes, index = _distinct(keys[first] // n_words)
        begins = np.bincount(index, occurs[first], minlength=len(prefixes))
        suffixes = np.concatenate([suffixes, prefixes])
        preceded, times = np.concatenate([preceded, begins]), np.concatenate([times, begins])
    order = np.argsort(suffixes, kind="stable")
    return suffixes[order], preceded[order], times[order]


def _distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different keys, ascending, and for each key its position among them."""
    order = np.argsort(keys, kind="stable")
    is_first = np.diff(keys[order], prepend=-1) != 0
    index = np.empty(len(keys), np.int64)
    index[order] = np.cumsum(is_first) - 1
    return keys[order][is_first], index


def _discounts(number: np.ndarray) -> np.ndarray:
    """What is taken off each count: it depends on whether that is 1, 2, or more."""
    n = [float(np.count_nonzero(number == k)) for k in range(1, 5)]
    found = list(_FALLBACK)
    if min(n) > 0:
        y = n[0] / (n[0] + 2 * n[1])
        found = [min(max(k - (k + 1) * y * n[k] / n[k - 1], 0.05), k - 0.05) for k in (1, 2, 3)]
    return np.array([0.0, *found])[np.minimum(number, 3).astype(np.int64)]


def _single(keys: np.ndarray, number: np.ndarray, n_words: int) -> np.ndarray:
    """Probability of each word; all but `<s>` have some, `<unk>` among them."""
    discounts, total = _discounts(number), number.sum()
    prob = np.full(n_words, discounts.sum() / total / (n_words - 1))
    prob[keys] += (number - discounts) / total
    prob[START_NUMBER] = 0.0
    return prob


def _level(
    keys: np.ndarray, number: np.ndarray, occurs: np.ndarray, n: int, n_words: int, shorter: _Level | np.ndarray
) -> _Level:
    context, discounts = keys // n_words, _discounts(number)
    begins = np.flatnonzero(np.diff(context, prepend=-1))
    sizes = np.diff(np.append(begins, len(keys)))
    total = np.repeat(np.add.reduceat(number, begins), sizes)
    left = np.repeat(np.add.reduceat(discounts, begins), sizes) / total
    if isinstance(shorter, _Level):
        back_off_to = left * shorter.prob[np.searchsorted(shorter.keys, keys % n_words ** (n - 1))]
    else:
        back_off_to = left * shorter[keys % n_words]
    prob = (number - discounts) / total + back_off_to
    return _Level(keys, prob, back_off_to, occurs, np.ones(len(keys), bool))


def _prune(levels: list[_Level], max_bytes: float, n_words: int) -> None:
    """Set `kept`: the n-grams that matter most, with all that they begin with."""
    word_bytes = np.dtype(word_dtype(n_words)).itemsize
    sizes = [word_bytes + 6] * (len(levels) - 1) + [word_bytes + 1]  # in the highest order: no back-off, no children
    gains = [level.occurs * (np.log(level.prob) - np.log(level.back_off_to)) for level in levels]

    def keep(least: float) -> float:
        longer: np.ndarray | None = None
        total = 0.0
        for level, gain, size in zip(levels[::-1], gains[::-1], sizes[::-1], strict=True):
            level.kept = gain >= least
            if longer is not None:
                row = np.minimum(np.searchsorted(level.keys, longer), len(level.keys) - 1)
                level.kept[row[level.keys[row] == longer]] = True
            longer = level.keys[level.kept] // n_words
            total += size * np.count_nonzero(level.kept)
        return total

    low = min(float(gain.min()) for gain in gains)
    if keep(low) <= max_bytes:
        return
    high = max(float(gain.max()) for gain in gains) + 1.0
    shift = 1e-6 - low
    for _ in range(_ROUNDS):  # the gains are of many magnitudes: the middle is the geometric mean
        middle = float(np.sqrt((low + shift) * (high + shift))) - shift
        low, high = (low, middle) if keep(middle) <= max_bytes else (middle, high)
    keep(high)


def _grams(single: np.ndarray, levels: list[_Level], n_words: int) -> list[Grams]:
    """The kept n-grams with back-off weights that make every context's probabilities sum to 1."""
    numbers = np.arange(n_words)[:, None]
    with np.errstate(divide="ignore"):
        found = [(numbers, np.stack([np.maximum(np.log(single), LOWEST), np.zeros(n_words)], axis=1))]
    keys_before, prob_before = np.arange(n_words), single
    for n, level in enumerate(levels, 2):
        keys, prob = level.keys[level.kept], level.prob[level.kept]
        lower = _by_shorter(keys % n_words ** (n - 1), keys_before, prob_before, found, single, n_words)
        context = keys // n_words
        begins = np.flatnonzero(np.diff(context, prepend=-1))
        if len(begins):
            left = np.maximum(1 - np.add.reduceat(prob, begins), _LEAST)
            lower_left = np.maximum(1 - np.add.reduceat(lower, begins), _LEAST)
            row = np.minimum(np.searchsorted(keys_before, context[begins]), len(keys_before) - 1)
            known = keys_before[row] == context[begins]
            found[-1][1][row[known], 1] = np.log(left / lower_left)[known]
        digits = [keys // n_words**power % n_words for power in range(n - 1, -1, -1)]
        found.append((np.stack(digits, axis=1), np.stack([np.log(prob), np.zeros(len(keys))], axis=1)))
        keys_before, prob_before = keys, prob
    return [(words, values.astype(np.float32)) for words, values in found]


def _by_shorter(
    suffixes: np.ndarray,
    keys: np.ndarray,
    prob: np.ndarray,
    found: list[Grams],
    single: np.ndarray,
    n_words: int,
) -> np.ndarray:
    """The probability of the last word by the kept (n - 1)-grams, or else by single words."""
    if len(found) == 1:
        return single[suffixes]
    backed_off = np.exp(found[0][1][suffixes // n_words, 1]) * single[suffixes % n_words]
    if not len(keys):
        return backed_off
    row = np.minimum(np.searchsorted(keys, suffixes), len(keys) - 1)
    return np.where(keys[row] == suffixes, prob[row], backed_off)
