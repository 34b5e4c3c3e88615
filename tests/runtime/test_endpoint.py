"""Endpoints: the values of the rules, and when each applies. Tokens are given by hand, frame by frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_model

from lwasr_edge import EndpointRules, ModelInfo, OptionError
from lwasr_edge.utterance import NO_ENDPOINTS, UtteranceEnds
from lwasr_edge.words import TimedToken, build_words, join_words

ONE, TWO, THREE, FOUR, TEEN = range(5)
INFO = ModelInfo(**{**tiny_model.INFO, "vocabulary": tuple(tiny_model.VOCABULARY)})


End = tuple[str, str, int]  # text, reason, frame


def ends(spoken: dict[int, int], n_frames: int, rules: EndpointRules, step: int = 1, sound: int = 1) -> list[End]:
    """The ends of utterances whose tokens begin in given frames (40 ms each), known `step` frames at a time.

    The sound of a token lasts `sound` frames. The last item is what no rule has ended, with the reason "".
    """
    found: list[End] = []
    utterances = UtteranceEnds(INFO, rules, lambda frame: frame + sound)
    start = 0
    for until in [*range(step, n_frames, step), n_frames]:
        while True:
            tokens = [TimedToken(token, frame, 0.9) for frame, token in spoken.items() if start <= frame < until]
            end = utterances.first(tokens, until)
            if end is None:
                break
            before = [token for token in tokens if token.frame < end.end_frame]
            assert end.silence_from is None or not before
            found.append((join_words(build_words(INFO, before)), end.reason, end.end_frame))
            start = end.end_frame
    return [*found, (join_words(build_words(INFO, tokens)), "", n_frames)]


def finals(found: list[End]) -> list[tuple[str, str]]:
    return [(text, reason) for text, reason, _ in found if text or reason]


@pytest.mark.parametrize("field", ["silence_before_speech_s", "silence_after_speech_s", "max_utterance_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e308, "1", True])
def test_invalid_values(field: str, value: object) -> None:
    with pytest.raises(
        OptionError, match=f"{field} must be a finite number <= 1e.09 and > 0, got .*: give seconds, or None"
    ):
        EndpointRules(**{field: value})


def test_numpy_numbers_are_limits_too() -> None:
    rules = EndpointRules(np.float64(2.4), np.float32(0.8), np.int64(20))
    assert rules.in_frames(40.0) == (60, 20, 500)
    assert {type(value) for value in vars(rules).values()} == {float}


def test_limits_in_frames_are_rounded_up() -> None:
    assert EndpointRules().in_frames(40.0) == (math.inf, 20, 500)
    assert EndpointRules(2.41, 0.8, None).in_frames(40.0) == (61, 20, math.inf)
    assert EndpointRules(0.001, 1.2, 0.28).in_frames(40.0) == (1, 30, 7)


def test_silence_after_speech() -> None:
    rules = EndpointRules(silence_after_speech_s=0.4)  # 10 frames
    assert finals(ends({5: ONE}, 15, rules)) == [("one", "")]
    assert ends({5: ONE}, 16, rules) == [("one", "endpoint", 16), ("", "", 16)]


def test_silence_begins_where_the_sound_ends() -> None:
    rules = EndpointRules(silence_after_speech_s=0.4)
    assert finals(ends({5: ONE}, 20, rules, sound=6)) == [("one", "")]
    assert ends({5: ONE}, 21, rules, sound=6)[0] == ("one", "endpoint", 21)
    assert finals(ends({5: ONE, 20: TWO}, 21, rules, sound=6)) == [("one two", "")]


def test_a_shorter_pause_does_not_cut() -> None:
    rules = EndpointRules(silence_after_speech_s=0.4)
    assert finals(ends({5: ONE, 15: TWO}, 16, rules)) == [("one two", "")]
    assert finals(ends({5: ONE, 16: TWO}, 17, rules)) == [("one", "endpoint"), ("two", "")]


def test_silence_before_speech_is_reported_once() -> None:
    assert ends({}, 100, EndpointRules(silence_before_speech_s=0.4))[:-1] == [("", "endpoint", 10)]


def test_silence_before_speech_is_reported_again_after_speech() -> None:
    rules = EndpointRules(silence_before_speech_s=0.4, silence_after_speech_s=0.2)
    assert [text for text, _, _ in ends({20: ONE}, 60, rules)] == ["", "one", "", ""]


def test_the_longest_utterance_is_cut_between_words() -> None:
    rules = EndpointRules(silence_after_speech_s=0.4, max_utterance_s=0.8)  # 10 and 20 frames
    spoken = {0: ONE, 8: TWO, 16: FOUR, 24: TEEN, 30: THREE}
    assert finals(ends(spoken, 60, rules)) == [("one two", "length"), ("fourteen", "length"), ("three", "endpoint")]


def test_a_lone_word_over_the_limit_is_cut_itself() -> None:
    rules = EndpointRules(max_utterance_s=0.4, silence_after_speech_s=None)
    assert finals(ends({0: FOUR, 8: TEEN, 16: TEEN}, 20, rules)) == [("fourteen", "length"), ("teen", "")]


def test_no_rules_no_ends() -> None:
    assert ends({0: ONE, 500: TWO}, 2000, NO_ENDPOINTS) == [("one two", "", 2000)]


@pytest.mark.parametrize("step", [2, 3, 7, 16, 64, 400])
@pytest.mark.parametrize(
    "rules",
    [EndpointRules(), EndpointRules(0.2, 0.2, 0.4), EndpointRules(None, 0.4, 0.3), EndpointRules(1.0, None, 1.0)],
)
def test_frames_at_a_time_do_not_move_the_cuts(step: int, rules: EndpointRules) -> None:
    rng = np.random.default_rng(1)
    frames = np.flatnonzero(rng.random(400) < 0.08)
    spoken = {int(frame): int(rng.integers(0, 5)) for frame in frames}
    assert ends(spoken, 400, rules, step) == ends(spoken, 400, rules)
    assert len(ends(spoken, 400, rules)) >= 3
