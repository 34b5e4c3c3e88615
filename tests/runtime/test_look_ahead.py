"""Look-ahead: the end of a chunk is right context only and begins the next chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_model
from conftest import speak

from lwasr_edge import EndpointRules, Final, ModelError, OptionError, Recognizer
from lwasr_edge.model import Model

SENTENCE = (0.3, "▁one", 0.1, "▁four", "teen", 0.2, "▁two", 1.4, "▁three", "s", 0.06)
TEXT = "one fourteen two threes"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "ahead.onnx"
    onnx.save(tiny_model.build_model(look_ahead=True), path)
    return path


def test_the_frames_ahead_give_no_tokens_and_come_again(path: Path) -> None:
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
        found += [(token, start + frame) for token, frame in zip(result.tokens, result.frames, strict=True)]
        state, start = result.state, start + n_given - ahead
    assert found == list(zip(at_once.tokens, at_once.frames, strict=True))
    assert [tiny_model.VOCABULARY[token] for token, _ in found] == ["▁one", "▁two"]


def test_log_probs_are_those_of_the_frames_consumed(path: Path) -> None:
    model = Model(path)
    result = model.run_chunk(np.zeros(6400, np.float32), model.initial_state(), look_ahead=4, with_log_probs=True)
    assert result.log_probs is not None
    assert result.log_probs.shape == (6, len(tiny_model.VOCABULARY))


@pytest.mark.parametrize("look_ahead", [-1, 10, 11])
def test_invalid_look_ahead(path: Path, look_ahead: int) -> None:
    model = Model(path)
    with pytest.raises(ModelError, match="look_ahead must be 0 to 9 for a chunk of 10 frames, got"):
        model.run_chunk(np.zeros(6400, np.float32), model.initial_state(), look_ahead=look_ahead)


@pytest.mark.parametrize("block", [1, 79, 400, 8000, 10**6])
@pytest.mark.parametrize(("chunk_ms", "look_ahead_ms"), [(640, 320), (640, 600), (160, 80), (80, 40), (1280, 320)])
def test_words_and_times_are_those_without(path: Path, block: int, chunk_ms: int, look_ahead_ms: int) -> None:
    recognizer = Recognizer(path)
    samples = speak(*SENTENCE)
    plain = recognizer.transcribe(samples, 16_000, chunk_ms=chunk_ms, look_ahead_ms=0)
    stream = recognizer.stream(chunk_ms=chunk_ms, look_ahead_ms=look_ahead_ms, endpoint=None)
    assert stream.hop_ms == chunk_ms - look_ahead_ms
    events = [event for i in range(0, len(samples), block) for event in stream.accept(samples[i : i + block])]
    (final,) = [event for event in [*events, *stream.flush()] if isinstance(event, Final)]
    assert final.text == plain.text == TEXT
    assert [(word.start_s, word.end_s) for word in final.words] == [(w.start_s, w.end_s) for w in plain.words]


@pytest.mark.parametrize("look_ahead_ms", [0, 80, 320, 560])
def test_endpoints_come_with_look_ahead_too(path: Path, look_ahead_ms: int) -> None:
    stream = Recognizer(path).stream(
        chunk_ms=640, look_ahead_ms=look_ahead_ms, endpoint=EndpointRules(silence_after_speech_s=0.4)
    )
    samples = speak("▁one", 1.0, "▁two", 1.5)
    finals = []
    for i in range(0, len(samples), 160):
        for event in stream.accept(samples[i : i + 160]):
            if isinstance(event, Final):
                finals.append((event.text, event.reason, stream.time_s - event.words[-1].end_s))
    assert [(text, reason) for text, reason, _ in finals] == [("one", "endpoint"), ("two", "endpoint")]
    for _, _, late_s in finals:
        assert 0.4 <= late_s <= 0.4 + 0.32


def test_defaults_and_refusals(path: Path, recognizer: Recognizer) -> None:
    assert Recognizer(path).stream(chunk_ms=640).hop_ms == 320
    assert Recognizer(path).stream(chunk_ms=1280).hop_ms == 960
    assert Recognizer(path).stream(chunk_ms=160).hop_ms == 80
    assert Recognizer(path).stream(chunk_ms=40).hop_ms == 40
    assert recognizer.stream(chunk_ms=640).hop_ms == 640  # a model without the input
    assert Recognizer(path).stream(chunk_ms=np.int64(640), look_ahead_ms=np.float32(320)).hop_ms == 320
    with pytest.raises(OptionError, match="cannot look ahead"):
        recognizer.stream(look_ahead_ms=160)
    for invalid in (640, 800, -40, 33, "x"):
        with pytest.raises(OptionError, match="look_ahead_ms"):
            Recognizer(path).stream(chunk_ms=640, look_ahead_ms=invalid)  # type: ignore[arg-type]
