"""Tokens to words, by hand."""

from __future__ import annotations

import pytest
import tiny_model

from lwasr_edge import ModelInfo, Word
from lwasr_edge.words import WordBuilder, frame_start_s, join_words

ONE, TWO, THREE, FOUR, TEEN, S, UNKNOWN, MARK = range(8)
INFO = ModelInfo(**{**tiny_model.INFO, "vocabulary": tuple(tiny_model.VOCABULARY)})


def build(*tokens: tuple[int, int, float]) -> list[Word]:
    builder = WordBuilder(INFO)
    completed = [builder.add(*token) for token in tokens]
    return [word for word in [*completed, builder.close()] if word is not None]


def test_pieces_join_until_the_next_mark() -> None:
    words = build((ONE, 0, 0.9), (FOUR, 3, 0.9), (TEEN, 5, 0.9), (S, 6, 0.9), (TWO, 9, 0.9))
    assert [word.text for word in words] == ["one", "fourteens", "two"]
    assert join_words(words) == "one fourteens two"


def test_times_are_the_edges_of_the_frames() -> None:
    (word,) = build((FOUR, 10, 0.9), (TEEN, 14, 0.9))
    # frame u is centred at sample u * 640 - 40 and 640 samples wide
    assert word.start_s == (10 * 640 - 40 - 320) / 16000
    assert word.end_s == (14 * 640 - 40 + 320) / 16000


def test_no_word_starts_before_the_stream() -> None:
    assert build((ONE, 0, 0.9))[0].start_s == 0.0
    assert frame_start_s(INFO, 0) == 0.0
    assert frame_start_s(INFO, 1) == 280 / 16000


def test_neighbours_touch_and_do_not_overlap() -> None:
    first, second = build((ONE, 4, 0.9), (TWO, 5, 0.9))
    assert first.end_s == second.start_s


def test_confidence_is_the_geometric_mean() -> None:
    assert build((FOUR, 0, 0.9), (TEEN, 1, 0.4))[0].confidence == pytest.approx(0.6)
    assert build((ONE, 0, 1.0))[0].confidence == 1.0
    assert 0.0 < build((ONE, 0, 0.0))[0].confidence < 1e-9


def test_a_piece_without_a_mark_starts_a_word_where_there_is_none() -> None:
    assert [word.text for word in build((TEEN, 2, 0.9), (ONE, 4, 0.9))] == ["teen", "one"]


def test_a_single_mark_starts_a_word_but_is_not_one() -> None:
    assert [word.text for word in build((MARK, 1, 0.9), (TEEN, 3, 0.9), (MARK, 5, 0.9))] == ["teen"]
    assert build((MARK, 1, 0.9), (TEEN, 3, 0.9))[0].start_s == frame_start_s(INFO, 1)


def test_the_unknown_piece_is_written_as_a_sign() -> None:
    assert build((ONE, 0, 0.9), (UNKNOWN, 1, 0.9))[0].text == "one\u2047"


def test_the_open_word_grows_and_is_not_lost() -> None:
    builder = WordBuilder(INFO)
    assert builder.open_word() is None
    builder.add(FOUR, 0, 0.9)
    assert builder.open_word().text == "four"
    builder.add(TEEN, 2, 0.9)
    assert builder.open_word().text == "fourteen"
    assert builder.close().text == "fourteen"
    assert builder.close() is None


def test_clamped_to_the_end_of_the_sound() -> None:
    word = Word("one", 1.0, 1.2, 0.9)
    assert word.clamped(2.0) is word
    assert word.clamped(1.1) == Word("one", 1.0, 1.1, 0.9)
    assert word.clamped(0.5) == Word("one", 0.5, 0.5, 0.9)
