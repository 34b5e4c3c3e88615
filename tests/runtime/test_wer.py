"""Word error rates, counted by hand."""

from __future__ import annotations

import math

import pytest

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
