"""Word error rate, with the one text normaliser that every figure of this project uses. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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
        """Errors per reference word; above 1 if more was heard than said. NaN without reference words."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.words if self.words else float("nan")


def align_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Align two word sequences with the fewest edits (Levenshtein).

    Returns:
        Pairs of indices in order: (i, j) for reference word i heard as hypothesis word j, rightly or wrongly; (i, None)
        for a deletion; (None, j) for an insertion.
    """
    costs = [list(range(len(hypothesis) + 1))]
    for i, word in enumerate(reference, 1):
        row = [i]
        for j, heard in enumerate(hypothesis, 1):
            row.append(min(costs[-1][j - 1] + (word != heard), costs[-1][j] + 1, row[-1] + 1))
        costs.append(row)
    i, j = len(reference), len(hypothesis)
    pairs: list[tuple[int | None, int | None]] = []
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (reference[i - 1] != hypothesis[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def word_errors(references: Iterable[str], hypotheses: Iterable[str]) -> WordErrors:
    """Count the errors over a set of recordings, after `normalize_text` on both sides.

    Args:
        references: what was said, a text for each recording.
        hypotheses: what was heard, in the same order.

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
