"""Endpoints: the values of the rules, and when each applies. Tokens are given by hand, frame by frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_model

from lwasr_edge import EndpointRules, Event, Final, ModelInfo, OptionError, Partial
from lwasr_edge.model import ChunkResult
from lwasr_edge.utterance import NO_ENDPOINTS, UtteranceTracker

ONE, TWO, THREE, FOUR, TEEN = range(5)
INFO = ModelInfo(**{**tiny_model.INFO, "vocabulary": tuple(tiny_model.VOCABULARY)})


def track(
    spoken: dict[int, int], n_frames: int, rules: EndpointRules, chunk_frames: int = 1, end_s: float | None = None
) -> list[Event]:
    """Events for tokens at given frames (40 ms each), pushed in chunks; `end_s` finishes the stream."""
    tracker = UtteranceTracker(INFO, rules)
    events: list[Event] = []
    for start in range(0, n_frames, chunk_frames):
        frames = [frame for frame in spoken if start <= frame < start + chunk_frames]
        result = ChunkResult(
            tokens=np.array([spoken[frame] for frame in frames], np.int64),
            frames=np.array(frames, np.int64) - start,
            scores=np.full(len(frames), 0.9, np.float32),
            state={},
            log_probs=None,
        )
        events += tracker.push(result, min(chunk_frames, n_frames - start))
    return events if end_s is None else events + tracker.finish(end_s)


def finals(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.text, event.reason) for event in events if isinstance(event, Final)]


@pytest.mark.parametrize("field", ["silence_before_speech_s", "silence_after_speech_s", "max_utterance_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", True])
def test_invalid_values(field: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"{field} must be a finite number > 0, got .*: give seconds, or None"):
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
    assert finals(track({5: ONE}, 15, rules)) == []
    events = track({5: ONE}, 16, rules)
    assert finals(events) == [("one", "endpoint")]
    assert events[-1].start_s == events[-1].words[0].start_s
    assert events[-1].end_s == events[-1].words[0].end_s


def test_a_shorter_pause_does_not_cut() -> None:
    rules = EndpointRules(silence_after_speech_s=0.4)
    assert finals(track({5: ONE, 15: TWO}, 16, rules)) == []
    assert finals(track({5: ONE, 16: TWO}, 17, rules)) == [("one", "endpoint")]


def test_an_endpoint_inside_a_chunk() -> None:
    events = track({5: ONE, 50: TWO}, 64, EndpointRules(), chunk_frames=64)
    assert [type(event) for event in events] == [Final, Partial]
    assert [event.text for event in events] == ["one", "two"]


def test_silence_before_speech_is_reported_once() -> None:
    rules = EndpointRules(silence_before_speech_s=0.4)
    events = track({}, 100, rules)
    assert finals(events) == [("", "endpoint")]
    assert (events[0].start_s, events[0].end_s) == (0.0, (10 * 640 - 360) / 16000)


def test_silence_before_speech_is_reported_again_after_speech() -> None:
    rules = EndpointRules(silence_before_speech_s=0.4, silence_after_speech_s=0.2)
    assert finals(track({20: ONE}, 60, rules)) == [("", "endpoint"), ("one", "endpoint"), ("", "endpoint")]


def test_the_longest_utterance_is_cut_between_words() -> None:
    rules = EndpointRules(silence_after_speech_s=0.4, max_utterance_s=0.8)  # 10 and 20 frames
    spoken = {0: ONE, 8: TWO, 16: FOUR, 24: TEEN, 30: THREE}
    events = track(spoken, 60, rules, end_s=2.4)
    assert finals(events) == [("one two", "length"), ("fourteen", "length"), ("three", "endpoint")]


def test_a_lone_word_over_the_limit_is_cut_itself() -> None:
    rules = EndpointRules(max_utterance_s=0.4, silence_after_speech_s=None)
    events = track({0: FOUR, 8: TEEN, 16: TEEN}, 20, rules, end_s=0.8)
    assert finals(events) == [("fourteen", "length"), ("teen", "flush")]


@pytest.mark.parametrize("rules", [EndpointRules(), EndpointRules(max_utterance_s=0.4, silence_after_speech_s=2.0)])
def test_a_word_mark_alone_is_no_utterance(rules: EndpointRules) -> None:
    mark = ModelInfo(**{**tiny_model.INFO, "vocabulary": ("\u2581", *tiny_model.VOCABULARY[1:])})
    tracker = UtteranceTracker(mark, rules)
    one = np.zeros(1, np.int64)
    result = ChunkResult(tokens=one, frames=one + 2, scores=np.ones(1, np.float32), state={}, log_probs=None)
    assert finals(tracker.push(result, 100)) == []
    assert tracker.finish(4.0) == []


def test_no_rules_no_ends() -> None:
    events = track({0: ONE, 500: TWO}, 2000, NO_ENDPOINTS, end_s=80.0)
    assert finals(events) == [("one two", "flush")]


def test_no_speech_no_final() -> None:
    assert track({}, 40, NO_ENDPOINTS, end_s=1.6) == []


@pytest.mark.parametrize("chunk_frames", [2, 3, 7, 16, 64, 400])
@pytest.mark.parametrize(
    "rules",
    [EndpointRules(), EndpointRules(0.2, 0.2, 0.4), EndpointRules(None, 0.4, 0.3), EndpointRules(1.0, None, 1.0)],
)
def test_the_chunk_size_does_not_move_the_cuts(chunk_frames: int, rules: EndpointRules) -> None:
    rng = np.random.default_rng(1)
    frames = np.flatnonzero(rng.random(400) < 0.08)
    spoken = {int(frame): int(rng.integers(0, 5)) for frame in frames}

    def cuts(size: int) -> list[Final]:
        return [event for event in track(spoken, 400, rules, size, end_s=16.0) if isinstance(event, Final)]

    assert cuts(chunk_frames) == cuts(1)
    assert len(cuts(1)) >= 3


def test_partials_come_when_the_text_grows_with_their_stable_part() -> None:
    events = track({0: ONE, 4: FOUR, 8: TEEN, 12: TWO}, 16, EndpointRules())
    assert [(event.stable_text, event.text) for event in events] == [
        ("", "one"),
        ("one", "one four"),
        ("one", "one fourteen"),
        ("one fourteen", "one fourteen two"),
    ]
    assert [round(event.time_s, 6) for event in events] == [0.04, 0.2, 0.36, 0.52]
    assert [word.text for word in events[-1].words] == ["one", "fourteen", "two"]
    assert [word.text for word in events[-1].stable_words] == ["one", "fourteen"]


def test_a_partial_stays_what_it_was() -> None:
    events = track({0: ONE, 4: TWO, 8: THREE}, 40, EndpointRules())
    assert events[1].text == "one two"
    assert [event.text for event in events if isinstance(event, Partial)] == ["one", "one two", "one two three"]
