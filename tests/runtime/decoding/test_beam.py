"""Prefix beam search against enumeration; language model and phrases inside it."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from ctc_cases import BLANK_ID, PIECES, VOCABULARY, log_probs_of_path, random_log_probs, spelled_probabilities

from lwasr_edge import LanguageModelError, OptionError
from lwasr_edge.decoding.beam import BeamSearch, PrefixBeamSearch
from lwasr_edge.decoding.language_model import LanguageModel, WordScorer
from lwasr_edge.decoding.ngram import NGram
from lwasr_edge.decoding.phrases import BiasScorer, PhraseList, SequenceScorer, phrase_trie
from lwasr_edge.decoding.spelling import unmark_words

EVERYTHING = {"width": 10_000, "min_posterior": 0.0}


def texts_by_enumeration(log_probs: np.ndarray) -> dict[str, float]:
    """Probability of each text, as words."""
    total: dict[str, float] = {}
    for spelled, probability in spelled_probabilities(log_probs)[0].items():
        text = unmark_words(spelled)
        total[text] = total.get(text, 0.0) + probability
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_frames", [1, 3, 4])
def test_an_unpruned_search_is_exact(n_frames: int, seed: int) -> None:
    log_probs = random_log_probs(n_frames, seed)
    expected = texts_by_enumeration(log_probs)
    found = PrefixBeamSearch(PIECES, BLANK_ID, **EVERYTHING).search(log_probs)
    assert {h.text for h in found} == set(expected)
    for hypothesis in found:
        assert math.exp(hypothesis.score) == pytest.approx(expected[hypothesis.text], rel=1e-5)
        assert hypothesis.log_likelihood == hypothesis.score
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_narrow_search_comes_close(seed: int) -> None:
    log_probs = random_log_probs(4, seed, sharpness=5.0)
    expected = texts_by_enumeration(log_probs)
    best = PrefixBeamSearch(PIECES, BLANK_ID, min_posterior=1e-6).search(log_probs)[0]
    assert expected[best.text] > 0.5 * max(expected.values())
    assert 0.5 * expected[best.text] < math.exp(best.score) < 1.001 * expected[best.text]


def test_alignments_of_a_text_are_summed() -> None:
    # In each frame blank is most likely (0.6), but "a" in one of two frames is more likely than in none: 0.64 to 0.36.
    probs = np.full((2, 8), 1e-9)
    probs[:, BLANK_ID], probs[:, 3] = 0.6, 0.4
    found = PrefixBeamSearch(PIECES, BLANK_ID).search(np.log(probs).astype(np.float32))
    assert [h.text for h in found] == ["a", ""]
    assert math.exp(found[0].score) == pytest.approx(0.64, abs=1e-6)


def test_repeats_need_a_blank() -> None:
    search = PrefixBeamSearch(PIECES, BLANK_ID)
    assert search.search(log_probs_of_path([3, 3, 3], 8))[0].text == "a"
    assert search.search(log_probs_of_path([3, 7, 3], 8))[0].text == "a a"


@pytest.mark.parametrize("options", [{"width": 0}, {"width": 2.5}, {"nbest": 0}, {"min_posterior": 1.0}])
def test_invalid_options(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        BeamSearch(**options)  # type: ignore[arg-type]


def unigrams(**log10: float) -> NGram:
    return NGram(1, {(word,): (value, 0.0) for word, value in {"</s>": -1.0, "<unk>": -6.0, **log10}.items()})


def test_a_language_model_decides_between_like_texts() -> None:
    probs = np.full((2, 8), 1e-9)
    probs[0, [0, 3]] = 0.01, 0.99  # "a" beyond doubt
    probs[1, [1, BLANK_ID]] = 0.45, 0.55  # then perhaps "b"
    log_probs = np.log(probs).astype(np.float32)
    for log10_ab, expected in ((-3.0, "a"), (-0.5, "ab")):
        scorer = WordScorer(LanguageModel(unigrams(a=-1.0, ab=log10_ab), weight=1.0, word_bonus=0.0), PIECES)
        found = PrefixBeamSearch(PIECES, BLANK_ID, scorers=[scorer]).search(log_probs)
        assert found[0].text == expected
        log10 = {"a": -1.0, "ab": log10_ab}[expected] - 1.0  # and the end of the sentence
        assert found[0].score - found[0].log_likelihood == pytest.approx(log10 * math.log(10))


def test_unknown_words_cost_by_the_letter() -> None:
    options = LanguageModel(unigrams(a=-1.0, abab=-1.0), weight=0.5, word_bonus=0.0, unknown_letter_cost=2.0)
    scorer = WordScorer(options, PIECES)
    state = scorer.start()
    after = []
    for piece in ("\u2581ab", "a", "a", "\u2581a"):
        state = scorer.extend(state, VOCABULARY.index(piece))
        after.append(scorer.bonus(state))
    # "ab" and "aba" may become "abab"; "abaa" is unknown: 4 letters, then the n-gram's own price as well
    unknown = -0.5 * 6.0 * math.log(10)
    assert after == pytest.approx([0.0, 0.0, -4.0, -4.0 + unknown])
    assert scorer.final_bonus(state) == pytest.approx(-4.0 + unknown - 0.5 * 2.0 * math.log(10))


def test_a_language_model_in_capitals_is_refused() -> None:
    with pytest.raises(LanguageModelError, match="got none, for example 'AB': if they are in capitals"):
        WordScorer(LanguageModel(unigrams(AB=-1.0)), PIECES)


def test_word_bonus_counts_words() -> None:
    scorer = WordScorer(LanguageModel(unigrams(a=0.0), weight=0.0, word_bonus=2.0), PIECES)
    found = PrefixBeamSearch(PIECES, BLANK_ID, scorers=[scorer]).search(log_probs_of_path([3, 7, 3], 8))
    assert found[0].text == "a a"
    assert found[0].score - found[0].log_likelihood == pytest.approx(4.0)


@pytest.mark.parametrize("seed", range(3))
def test_sequences_are_all_phrases_one_after_the_other(seed: int) -> None:
    log_probs = random_log_probs(4, seed)
    phrases = PhraseList({"ab": 2.0, "a": 1.0, "a ab": 1.0}, "sequence")
    scorer = SequenceScorer(phrases, phrase_trie(phrases, PIECES))
    found = {h.text: h for h in PrefixBeamSearch(PIECES, BLANK_ID, **EVERYTHING, scorers=[scorer]).search(log_probs)}
    spelled, _ = spelled_probabilities(log_probs)
    expected = {unmark_words(s): p for s, p in spelled.items() if re.fullmatch("(\u2581ab|\u2581a)+", s)}
    assert set(found) == set(expected)
    for text, hypothesis in found.items():
        assert math.exp(hypothesis.log_likelihood) == pytest.approx(expected[text], rel=1e-5)
        earned = hypothesis.score - hypothesis.log_likelihood
        assert earned == pytest.approx(text.split().count("ab") * math.log(2.0))


def earned_by_bias(phrases: PhraseList, *pieces: str) -> tuple[list[float], float | None]:
    """Bonus after each piece, and at the end."""
    scorer = BiasScorer(phrases, phrase_trie(phrases, PIECES), PIECES)
    state, after = scorer.start(), []
    for piece in pieces:
        following = scorer.extend(state, VOCABULARY.index(piece))
        assert following is not None, "any text is allowed"
        state = following
        after.append(scorer.bonus(state))
    return after, scorer.final_bonus(state)


A, AB, MARK = "\u2581a", "\u2581ab", "\u2581"


@pytest.mark.parametrize(
    ("pieces", "after", "at_end"),
    [
        ((AB, A), [2.0, 4.0], 4.0),  # two words, two nats each
        ((A, "b", MARK, "a"), [4 / 3, 2.0, 3.0, 4.0], 4.0),  # letter by letter; the mark is a letter
        ((A, AB, A), [4 / 3, 2.0, 4.0], 4.0),
        ((AB,), [2.0], 0.0),  # taken back: the phrase broke off
        ((AB, "a"), [2.0, 0.0], 0.0),
        ((AB, AB, A), [2.0, 2.0, 4.0], 4.0),
        ((AB, A, "a"), [2.0, 4.0, 0.0], 0.0),  # "ab aa" is another word
        (("a", "b"), [0.0, 0.0], 0.0),
    ],
)
def test_bias_is_kept_for_complete_phrases_only(pieces: tuple[str, ...], after: list[float], at_end: float) -> None:
    assert earned_by_bias(PhraseList(["ab a"], "bias", bonus=2.0), *pieces) == (pytest.approx(after), at_end)


def test_bias_counts_a_phrase_within_a_phrase_once() -> None:
    phrases = PhraseList({"ab": 1.0, "ab a": 1.0}, "bias", bonus=2.0)
    assert earned_by_bias(phrases, AB)[1] == 2.0
    assert earned_by_bias(phrases, AB, A)[1] == 4.0
    assert earned_by_bias(phrases, AB, AB)[1] == 4.0
    assert earned_by_bias(phrases, AB, A, "a")[1] == 2.0


def test_bias_weighs() -> None:
    assert earned_by_bias(PhraseList({"ab": 1.5}, "bias", bonus=2.0), AB)[1] == 3.0


def test_bias_decides_between_like_texts() -> None:
    probs = np.full((1, 8), 1e-9)
    probs[0, [3, 5]] = 0.7, 0.3
    phrases = PhraseList(["ab"], "bias", bonus=2.0)
    scorer = BiasScorer(phrases, phrase_trie(phrases, PIECES), PIECES)
    found = PrefixBeamSearch(PIECES, BLANK_ID, scorers=[scorer]).search(np.log(probs).astype(np.float32))
    assert [h.text for h in found[:2]] == ["ab", "a"]


def test_impossible_posteriors_have_no_text() -> None:
    log_probs = np.full((5, BLANK_ID + 1), -2000.0, np.float32)  # as a damaged model gives them
    assert PrefixBeamSearch(PIECES, BLANK_ID).search(log_probs) == []
