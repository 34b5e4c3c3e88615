"""Confidences that are shares of right words: a monotone map fitted on recordings with transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lwasr_edge.wer import align_words

N_POINTS = 12  # of the map, at most
N_BINS = 10
PRIOR_WORDS = 2.0  # of each kind, at both ends of the map: a few words are no proof of 0 or 1

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Bin:
    """Words of similar confidence."""

    words: int
    confidence: float  # mean
    right: float  # share


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Whether each word of the hypothesis is right."""
    right = [False] * len(hypothesis)
    for i, j in align_words(reference, hypothesis):
        if i is not None and j is not None:
            right[j] = reference[i] == hypothesis[j]
    return right


def fit_map(confidences: np.ndarray, right: np.ndarray) -> Points:
    """The monotone map of piecewise linear form: groups of equally many words, made monotone (pool adjacent violators).

    Args:
        confidences: (n,) of words, 0 to 1.
        right: (n,) bool.

    Returns:
        At least two points; () without words.
    """
    if len(confidences) < 2 * N_POINTS:
        return ()
    order = np.argsort(confidences, kind="stable")
    blocks: list[list[float]] = []  # (words, sum of confidences, right words)
    for group in np.array_split(order, N_POINTS):
        blocks.append([float(len(group)), float(confidences[group].sum()), float(right[group].sum())])
        while len(blocks) > 1 and blocks[-2][2] / blocks[-2][0] >= blocks[-1][2] / blocks[-1][0]:
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    points = [
        (round(total / words, 4), round((n_right + PRIOR_WORDS) / (words + 2 * PRIOR_WORDS), 4))
        for words, total, n_right in blocks
    ]
    shares = np.maximum.accumulate([share for _, share in points]).tolist()
    firsts = [confidence for confidence, _ in points]
    ends = [(0.0, round(shares[0] / 2, 4)), *zip(firsts, shares, strict=True), (1.0, shares[-1])]
    return tuple(point for before, point in zip([(-1.0, 0.0), *ends], ends, strict=False) if point[0] > before[0])


def reliability(confidences: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Words by tenths of confidence; empty bins are left out."""
    number = np.minimum((confidences * N_BINS).astype(int), N_BINS - 1)
    bins = []
    for one in range(N_BINS):
        chosen = number == one
        if chosen.any():
            bins.append(Bin(int(chosen.sum()), float(confidences[chosen].mean()), float(right[chosen].mean())))
    return bins


def expected_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of confidence and share, by words."""
    n_words = sum(one.words for one in bins)
    return sum(one.words * abs(one.confidence - one.right) for one in bins) / n_words if n_words else 0.0
