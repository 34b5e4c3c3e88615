"""Look-ahead: the end of a chunk gives provisional tokens and begins the next chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_model
from conftest import speak

from lwasr_edge import EndpointRules, Final, ModelError, OptionError, Partial, Recognizer
from lwasr_edge.model import Model

SENTENCE = (0.3, "▁one", 0.1, "▁four", "teen", 0.2, "▁two", 1.4, "▁three", "s", 0.06)
TEXT = "one fourteen two threes"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "ahead.onnx"
    onnx.save(tiny_model.build_model(look_ahead=True), path)
    return path


def test_the_frames_ahead_come_again(path: Path) -> None:
    model = Model(path)
    samples = speak("▁one", 0.2, "▁two", 0.2)
    samples = np.pad(samples, (0, -len(samples) % 640))
    n_frames = len(samples) // 640
    at_once = model.run_chunk(samples, model.initial_state())
    found, state, start = [], model.initial_state(), 0
    while start < n_frames:
        ahead = min(3, n_frames - start - 1)
        result = model.run_chunk(samples[start * 640 : (start + 2 + ahead) * 640], state, look_ahead=ahead)
        n_given = min(2 + ahead, n_frames - start)
        assert result.committed_frames == n_given - ahead
        found += result.timed_tokens(start, committed=True)
        state, start = result.state, start + n_given - ahead
    assert [(token, frame) for token, frame, _ in found] == list(zip(at_once.tokens, at_once.frames, strict=True))
    assert [tiny_model.VOCABULARY[token] for token, _, _ in found] == ["▁one", "▁two"]


def test_the_frames_ahead_give_provisional_tokens(path: Path) -> None:
    model = Model(path)
    samples = speak(0.08, "▁one", 0.08, "▁two", 0.2)[:9600]
    result = model.run_chunk(samples, model.initial_state(), look_ahead=11, with_log_probs=True)
    assert [tiny_model.VOCABULARY[token] for token in result.tokens] == ["▁one", "▁two"]
    assert [frame < result.committed_frames for frame in result.frames] == [True, False]
    assert [token.token for token in result.timed_tokens(100, committed=True)] == [0]
    assert [token.frame for token in result.timed_tokens(100)] == [100 + frame for frame in result.frames]
    assert result.log_probs is not None
    assert result.log_probs.shape == (15, len(tiny_model.VOCABULARY))


@pytest.mark.parametrize("look_ahead", [-1, 10, 11])
def test_invalid_look_ahead(path: Path, look_ahead: int) -> None:
    model = Model(path)
    with pytest.raises(ModelError, match="look_ahead must be 0 to 9 for a chunk of 10 frames, got"):
        model.run_chunk(np.zeros(6400, np.float32), model.initial_state(), look_ahead=look_ahead)


@pytest.mark.parametrize("block", [1, 79, 400, 8000, 10**6])
@pytest.mark.parametrize(("hop_ms", "right_context_ms"), [(320, 320), (320, 640), (80, 80), (40, 40), (960, 320)])
def test_words_and_times_are_those_without(path: Path, block: int, hop_ms: int, right_context_ms: int) -> None:
    recognizer = Recognizer(path)
    samples = speak(*SENTENCE)
    plain = recognizer.transcribe(samples, 16_000)
    stream = recognizer.stream(hop_ms=hop_ms, right_context_ms=right_context_ms)
    assert (stream.hop_ms, stream.right_context_ms) == (hop_ms, right_context_ms)
    events = [event for i in range(0, len(samples), block) for event in stream.accept(samples[i : i + block])]
    finals = [event for event in [*events, *stream.flush()] if isinstance(event, Final)]
    assert " ".join(final.text for final in finals) == plain.text == TEXT
    words = [word for final in finals for word in final.words]
    assert [word.start_s for word in words] == [word.start_s for word in plain.words]
    assert [word.end_s for word in words] == pytest.approx([word.end_s for word in plain.words], abs=0.041)


def test_words_are_shown_before_they_are_stable(path: Path) -> None:
    stream = Recognizer(path).stream(hop_ms=160, right_context_ms=640)
    samples = speak(0.2, "▁one", 0.2, "▁two", 0.2, "▁three", 0.2, "▁four", 0.2, "▁one", 0.4)
    partials = [event for event in stream.accept(samples) if isinstance(event, Partial)]
    assert [event.text for event in partials][-1] == "one two three four one"
    assert next(event.time_s for event in partials if "two" in event.text) <= 1.0
    stable_from = next(event.time_s for event in partials if "two" in event.stable_text)
    assert stable_from >= 0.64 + 0.64  # its end, and the right context
    for event in partials:
        assert event.text.startswith(event.stable_text)


@pytest.mark.parametrize("right_context_ms", [0, 80, 320, 560])
def test_endpoints_come_with_right_context_too(path: Path, right_context_ms: int) -> None:
    stream = Recognizer(path).stream(
        right_context_ms=right_context_ms, endpoint=EndpointRules(silence_after_speech_s=0.4)
    )
    samples = speak("▁one", 1.0, "▁two", 1.5)
    finals = []
    for i in range(0, len(samples), 160):
        for event in stream.accept(samples[i : i + 160]):
            if isinstance(event, Final):
                finals.append((event.text, event.reason, stream.time_s - event.words[-1].end_s))
    assert [(text, reason) for text, reason, _ in finals] == [("one", "endpoint"), ("two", "endpoint")]
    for _, _, late_s in finals:
        assert 0.38 <= round(late_s, 3) <= 0.46


def test_defaults_and_refusals(path: Path, recognizer: Recognizer) -> None:
    stream = Recognizer(path).stream()
    assert (stream.hop_ms, stream.right_context_ms) == (320, 640)
    without = recognizer.stream()  # a model without the input
    assert (without.hop_ms, without.right_context_ms) == (320, 0)
    stream = Recognizer(path).stream(hop_ms=np.int64(80), right_context_ms=np.float32(0))
    assert (stream.hop_ms, stream.right_context_ms) == (80, 0)
    with pytest.raises(OptionError, match="right_context_ms must be 0 with this model, which cannot look ahead"):
        recognizer.stream(right_context_ms=160)
    for invalid in (-40, 33, "x", 20_000):
        with pytest.raises(OptionError, match="right_context_ms"):
            Recognizer(path).stream(right_context_ms=invalid)  # type: ignore[arg-type]
