"""Counts of words and of n-grams, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lwasr_edge.decoding.ngram import END, START, UNKNOWN
from lwasr_edge.errors import LanguageModelError

MAX_WORDS = 1 << 20  # of a vocabulary: three numbers fit into 63 bits
MAX_DISTINCT = 4_000_000  # words that are counted, of which rare ones are then forgotten
MAX_GRAMS = 12_000_000  # 200 MB; of more, those counted once are forgotten
BATCH = 2_000_000  # words


@dataclass(frozen=True)
class Counts:
    """N-grams of the highest order.

    Attributes:
        words: of the vocabulary; the first three are `<unk>`, `<s>`, `</s>`.
        order: words in an n-gram.
        keys: (n,) int64, ascending: the words' numbers as digits, the first word highest.
        counts: (n,) int64.
    """

    words: list[str]
    order: int
    keys: np.ndarray
    counts: np.ndarray


def vocabulary(sentences: Iterable[list[str]], n_words: int, min_count: int) -> list[str]:
    """The most frequent words, after the three markers.

    Args:
        sentences: of the text.
        n_words: at most.
        min_count: a word must occur so often.

    Raises:
        LanguageModelError: no word is left.
    """
    counted: Counter[str] = Counter()
    for sentence in sentences:
        counted.update(sentence)
        if len(counted) > MAX_DISTINCT:
            counted = Counter({word: count for word, count in counted.items() if count > 1})
    kept = [word for word, count in counted.most_common(min(n_words, MAX_WORDS - 3)) if count >= min_count]
    if not kept:
        raise LanguageModelError(f"text must have words that occur {min_count} times, got none: give more text")
    return [UNKNOWN, START, END, *sorted(kept)]


def count(sentences: Iterable[list[str]], words: list[str], order: int) -> Counts:
    """Count the n-grams of one order; words that are not in the vocabulary are `<unk>`.

    Args:
        sentences: of the text.
        words: the vocabulary.
        order: 2 or 3.
    """
    number_of = {word: number for number, word in enumerate(words)}
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    batch: list[int] = []
    for sentence in sentences:
        batch.append(1)
        batch.extend([number_of.get(word, 0) for word in sentence])
        batch.append(2)
        if len(batch) >= BATCH:
            keys, counts = _merged(keys, counts, _keys_of(batch, len(words), order))
            batch = []
    keys, counts = _merged(keys, counts, _keys_of(batch, len(words), order))
    return Counts(words, order, keys, counts)


def _keys_of(batch: list[int], n_words: int, order: int) -> np.ndarray:
    """The n-grams in consecutive sentences, none across two of them."""
    numbers = np.array(batch, np.int64)
    if len(numbers) < order:
        return np.zeros(0, np.int64)
    n_grams = len(numbers) - order + 1
    key = np.zeros(n_grams, np.int64)
    is_inside = np.ones(n_grams, bool)
    for offset in range(order):
        part = numbers[offset : offset + n_grams]
        key = key * n_words + part
        if offset < order - 1:
            is_inside &= part != 2
    return key[is_inside]


def _merged(keys: np.ndarray, counts: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add n-grams, each of which counts one."""
    both = np.concatenate([keys, new])
    order = np.argsort(both, kind="stable")
    both = both[order]
    weights = np.concatenate([counts, np.ones(len(new), np.int64)])[order]
    begins = np.flatnonzero(np.diff(both, prepend=-1))
    if not len(begins):
        return both, weights
    keys, counts = both[begins], np.add.reduceat(weights, begins)
    if len(keys) > MAX_GRAMS:
        keys, counts = keys[counts > 1], counts[counts > 1]
    return keys, counts
