"""Word error rate, with the one text normaliser that every result of this project uses."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_MAX_TABLE = 1 << 20  # entries of a full cost table (4 MB); longer sequences are divided first
Pair = tuple[int | None, int | None]


def normalize_text(text: str) -> str:
    """Lower case, a to z and apostrophe; everything else separates words."""
    return " ".join(re.sub(r"[^a-z']+", " ", text.lower().replace("\u2019", "'")).split())


@dataclass(frozen=True)
class WordErrors:
    """Errors of hypotheses against their references, counted in words."""

    substitutions: int
    deletions: int
    insertions: int
    words: int  # in the references

    @property
    def wer(self) -> float:
        """Errors per reference word; above 1 with many insertions, NaN without reference words."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.words if self.words else float("nan")


def align_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Align two word sequences with the fewest edits (Levenshtein), in memory linear in their length.

    Returns:
        Pairs of indices in order: (i, j) for reference word i recognised as hypothesis word j, correctly or not;
        (i, None) for a deletion; (None, j) for an insertion.
    """
    ids: dict[str, int] = {}
    words, others = (np.array([ids.setdefault(word, len(ids)) for word in text]) for text in (reference, hypothesis))
    return list(_align(words, others, 0, 0))


def _align(reference: np.ndarray, hypothesis: np.ndarray, i: int, j: int) -> Iterator[Pair]:
    """Align (N,) and (M,) word ids, the first of them at indices i and j (Hirschberg 1975: divide and conquer)."""
    if (len(reference) + 1) * (len(hypothesis) + 1) <= _MAX_TABLE or len(reference) < 2:
        yield from _trace(reference, hypothesis, i, j)
        return
    half = len(reference) // 2
    before = deque(_cost_rows(reference[:half], hypothesis), maxlen=1)[0]
    after = deque(_cost_rows(reference[half:][::-1], hypothesis[::-1]), maxlen=1)[0]
    cut = int(np.argmin(before + after[::-1]))
    yield from _align(reference[:half], hypothesis[:cut], i, j)
    yield from _align(reference[half:], hypothesis[cut:], i + half, j + cut)


def _cost_rows(reference: np.ndarray, hypothesis: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, for 0 to N reference words, the (M + 1,) int32 edits to the first 0 to M words of the hypothesis."""
    columns = np.arange(len(hypothesis) + 1, dtype=np.int32)
    row = columns
    yield row
    for word in reference:
        best = row + 1  # deletions
        np.minimum(best[1:], row[:-1] + (hypothesis != word), out=best[1:])
        row = np.minimum.accumulate(best - columns) + columns  # insertions: the best start, plus one for each word
        yield row


def _trace(reference: np.ndarray, hypothesis: np.ndarray, first_i: int, first_j: int) -> list[Pair]:
    """Align with a full cost table: from its end, follow the edits back."""
    costs = [row.tolist() for row in _cost_rows(reference, hypothesis)]
    words, others = reference.tolist(), hypothesis.tolist()
    i, j = len(words), len(others)
    pairs: list[Pair] = []
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (words[i - 1] != others[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((first_i + i, first_j + j))
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
            pairs.append((first_i + i, None))
        else:
            j -= 1
            pairs.append((None, first_j + j))
    return pairs[::-1]


def word_errors(references: Iterable[str], hypotheses: Iterable[str]) -> WordErrors:
    """Count the errors over a set of recordings, after `normalize_text` on both sides.

    Args:
        references: the reference text of each recording.
        hypotheses: the recognised text of each, in the same order.

    Raises:
        ValueError: the two differ in number.
    """
    substitutions = deletions = insertions = words = 0
    for reference_text, hypothesis_text in zip(references, hypotheses, strict=True):
        reference, hypothesis = normalize_text(reference_text).split(), normalize_text(hypothesis_text).split()
        words += len(reference)
        for i, j in align_words(reference, hypothesis):
            if i is None:
                insertions += 1
            elif j is None:
                deletions += 1
            elif reference[i] != hypothesis[j]:
                substitutions += 1
    return WordErrors(substitutions, deletions, insertions, words)
