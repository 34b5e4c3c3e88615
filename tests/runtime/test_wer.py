"""Word error rates counted by hand, and the alignment against a simple implementation."""

from __future__ import annotations

import itertools
import math
import random
import time
import tracemalloc
from collections.abc import Sequence

import pytest

from lwasr_edge import wer
from lwasr_edge.wer import WordErrors, align_words, normalize_text, word_errors


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("Hello, World!", "hello world"),
        ("it's  O'Clock\n", "it's o'clock"),
        ("it\u2019s", "it's"),
        ("twenty-one", "twenty one"),
        ("\u2014", ""),
    ],
)
def test_normalize(text: str, normalized: str) -> None:
    assert normalize_text(text) == normalized


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("a b c", "a b c", (0, 0, 0, 3)),
        ("a b c", "a x c", (1, 0, 0, 3)),
        ("a b c", "a c", (0, 1, 0, 3)),
        ("a c", "a b c", (0, 0, 1, 2)),
        ("a b c", "", (0, 3, 0, 3)),
        ("", "a b", (0, 0, 2, 0)),
        ("the cat sat", "cat sat down", (0, 1, 1, 3)),
    ],
)
def test_counts(reference: str, hypothesis: str, errors: tuple[int, int, int, int]) -> None:
    assert word_errors([reference], [hypothesis]) == WordErrors(*errors)


def test_errors_add_up_over_recordings() -> None:
    counted = word_errors(["One two.", "three"], ["one too", "three four"])
    assert counted == WordErrors(substitutions=1, deletions=0, insertions=1, words=3)
    assert counted.wer == pytest.approx(2 / 3)
    assert math.isnan(word_errors([], []).wer)


def test_alignment_pairs_what_belongs_together() -> None:
    assert align_words(["a", "b", "c"], ["b", "c", "d"]) == [(0, None), (1, 0), (2, 1), (None, 2)]
    assert align_words(["a", "b"], ["a", "x", "b"]) == [(0, 0), (None, 1), (1, 2)]
    assert align_words(["a"], ["b"]) == [(0, 0)]


def test_as_many_hypotheses_as_references() -> None:
    with pytest.raises(ValueError, match="zip"):
        word_errors(["a", "b"], ["a"])


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein, with the full table."""
    costs = [list(range(len(hypothesis) + 1))]
    for i, word in enumerate(reference, 1):
        row = [i]
        for j, other in enumerate(hypothesis, 1):
            row.append(min(costs[-1][j - 1] + (word != other), costs[-1][j] + 1, row[-1] + 1))
        costs.append(row)
    return costs[-1][-1]


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Edits of `align_words`, whose pairs must contain every index of both sequences in order."""
    pairs = align_words(reference, hypothesis)
    assert [i for i, _ in pairs if i is not None] == list(range(len(reference)))
    assert [j for _, j in pairs if j is not None] == list(range(len(hypothesis)))
    return sum(i is None or j is None or reference[i] != hypothesis[j] for i, j in pairs)


@pytest.mark.parametrize("max_table", [1 << 20, 100, 9, 0])
def test_the_alignment_has_the_fewest_edits(monkeypatch: pytest.MonkeyPatch, max_table: int) -> None:
    """Also if the sequences are divided, which only long ones are by default."""
    monkeypatch.setattr(wer, "_MAX_TABLE", max_table)
    rng = random.Random(0)
    for n, m in itertools.product([0, 1, 2, 3, 7, 20], repeat=2):
        for words in ("ab", "abcde", "abcdefghijklmnopqrst"):
            reference, hypothesis = rng.choices(words, k=n), rng.choices(words, k=m)
            assert edits(reference, hypothesis) == edit_distance(reference, hypothesis)


def test_an_hour_of_words_in_little_memory_and_time() -> None:
    rng = random.Random(0)
    reference = [str(rng.randrange(2000)) for _ in range(10_000)]
    changes = (rng.random() for _ in reference)
    hypothesis = [
        word if change < 0.8 else "other" for word, change in zip(reference, changes, strict=True) if change < 0.9
    ]
    tracemalloc.start()
    started = time.process_time()
    found = edits(reference, hypothesis)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - started < 60  # 3 s on an idle machine; the full table took minutes
    assert peak < 100e6  # bytes; the full table took gigabytes
    assert len(reference) - len(hypothesis) <= found <= 0.25 * len(reference)
