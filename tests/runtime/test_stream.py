"""Streams: any blocks, any rate, the last word, times, threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import speak

from lwasr_edge import (
    AudioError,
    EndpointRules,
    Event,
    Final,
    OptionError,
    Partial,
    Recognizer,
    Stream,
    StreamError,
)
from lwasr_edge.model import ChunkResult, Model
from lwasr_edge.streaming import segment

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.06)
TEXT = "one fourteen two threes"


def feed(stream: Stream, samples: np.ndarray, sizes: Callable[[], int]) -> list[Event]:
    events, start = [], 0
    while start < len(samples):
        size = sizes()
        events += stream.accept(samples[start : start + size])
        start += size
    return events + stream.flush()


def final_words(events: list[Event]) -> list[tuple[str, float, float, float]]:
    finals = [event for event in events if isinstance(event, Final)]
    return [(w.text, w.start_s, w.end_s, w.confidence) for event in finals for w in event.words]


@pytest.mark.parametrize("chunk_ms", [40, 160, 320, 640, 1280, 10_000])
@pytest.mark.parametrize("block", [1, 79, 160, 400, 8000, 10**6])
def test_blocks_of_any_size_give_the_same_events(recognizer: Recognizer, chunk_ms: int, block: int) -> None:
    samples = speak(*SENTENCE)
    events = feed(recognizer.stream(hop_ms=chunk_ms), samples, lambda: block)
    at_once = feed(recognizer.stream(hop_ms=chunk_ms), samples, lambda: len(samples))
    assert final_words(events) == final_words(at_once)
    assert [event.text for event in events] == [event.text for event in at_once]
    assert " ".join(text for text, *_ in final_words(events)) == TEXT


def test_blocks_of_random_sizes(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(3)
    samples = speak(*SENTENCE)
    expected = recognizer.transcribe(samples, 16000, chunk_ms=320)
    for _ in range(20):
        stream = recognizer.stream(hop_ms=320, endpoint=None)
        (final,) = [e for e in feed(stream, samples, lambda: int(rng.integers(0, 3000))) if isinstance(e, Final)]
        assert final.words == expected.words


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_any_rate_and_type(recognizer: Recognizer, sample_rate: int, dtype: type) -> None:
    samples = speak(*SENTENCE, sample_rate=sample_rate)
    if dtype is np.int16:
        samples = (samples * 32767).astype(np.int16)
    events = feed(recognizer.stream(sample_rate), np.stack([samples, samples], axis=1), lambda: 481)
    assert " ".join(text for text, *_ in final_words(events)) == TEXT
    reference = final_words(feed(recognizer.stream(), speak(*SENTENCE), lambda: 8000))
    np.testing.assert_allclose([w[1] for w in final_words(events)], [w[1] for w in reference], atol=0.041)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.9])
def test_the_level_is_left_to_the_model(recognizer: Recognizer, level: float) -> None:
    events = feed(recognizer.stream(), speak(*SENTENCE, level=level), lambda: 1000)
    assert " ".join(text for text, *_ in final_words(events)) == TEXT


def test_events_in_order(recognizer: Recognizer) -> None:
    events = feed(recognizer.stream(hop_ms=160), speak(*SENTENCE), lambda: 160)
    seen = [(type(e).__name__, e.text, e.stable_text if isinstance(e, Partial) else e.reason) for e in events]
    assert seen == [
        ("Partial", "one", "one"),
        ("Partial", "one fourteen", "one"),  # a word is shown when no token has followed for 200 ms
        ("Partial", "one fourteen two", "one fourteen"),
        ("Final", "one fourteen two", "endpoint"),
        ("Final", "threes", "flush"),
    ]


def test_a_partial_comes_as_soon_as_its_hop_is_full(recognizer: Recognizer) -> None:
    stream = recognizer.stream(hop_ms=320)
    assert stream.accept(speak("\u2581one", 0.2)[:5119]) == []
    (partial,) = stream.accept(np.zeros(1, np.float32))
    assert (partial.text, partial.time_s) == ("one", 0.32)


def test_times_are_right_and_continue_through_endpoints(recognizer: Recognizer) -> None:
    words = final_words(feed(recognizer.stream(), speak(*SENTENCE), lambda: 777))
    starts = {text: start for text, start, _, _ in words}
    assert starts["one"] == pytest.approx(0.30, abs=0.02)
    assert starts["fourteen"] == pytest.approx(0.52, abs=0.02)
    assert starts["two"] == pytest.approx(0.96, abs=0.02)
    assert starts["threes"] == pytest.approx(2.48, abs=0.02)  # after an endpoint
    assert all(0 <= start < end <= 2.78 for _, start, end, _ in words)


@pytest.mark.parametrize("n_samples", [0, 1, 399, 639, 640, 641, 2559, 2560, 2561, 10239, 10240, 10241])
@pytest.mark.parametrize("chunk_ms", [40, 160, 640])
def test_short_audio(recognizer: Recognizer, n_samples: int, chunk_ms: int) -> None:
    stream = recognizer.stream(hop_ms=chunk_ms)
    assert stream.accept(np.zeros(n_samples, np.float32)) == []
    assert stream.flush() == []
    assert stream.time_s == n_samples / 16000


def test_flush_of_a_stream_without_audio(recognizer: Recognizer) -> None:
    assert recognizer.stream(48000).flush() == []


@pytest.mark.parametrize("cut", range(0, 640, 37))
def test_the_last_word_is_never_lost(recognizer: Recognizer, cut: int) -> None:
    samples = speak(0.3, "\u2581one", 0.2, "\u2581two")
    samples = samples[: len(samples) - cut]
    (*_, final) = feed(recognizer.stream(), samples, lambda: 1000)
    assert (final.text, final.reason) == ("one two", "flush")
    assert final.end_s <= len(samples) / 16000


def test_the_last_frame_needs_the_flush(recognizer: Recognizer) -> None:
    stream = recognizer.stream(hop_ms=160)
    audio = speak(0.12, "\u2581two")[: 4 * 640]  # the last 360 samples belong to the frame after the end
    audio[: 4 * 640 - 340] = 0
    assert stream.accept(audio) == []
    assert [event.text for event in stream.flush()][-1] == "two"


def test_flush_ends_and_reset_restarts(recognizer: Recognizer) -> None:
    stream = recognizer.stream(44100)
    samples = speak(0.2, "\u2581one", "\u2581two", sample_rate=44100)
    first = feed(stream, samples, lambda: 5000)
    assert stream.flush() == []
    with pytest.raises(StreamError, match=r"flushed: call reset\(\)"):
        stream.accept(samples)
    stream.reset()
    assert stream.time_s == 0.0
    second = feed(stream, samples, lambda: 4999)
    assert final_words(first) == final_words(second)


def test_reset_clears_the_words(recognizer: Recognizer) -> None:
    stream = recognizer.stream(hop_ms=160)
    stream.accept(speak("\u2581one", 0.1))
    stream.reset()
    (*_, final) = feed(stream, speak("\u2581one", 0.2), lambda: 100)  # the same token: the state is zero again
    assert (final.text, final.start_s) == ("one", 0.0175)


def test_a_closed_stream_cannot_be_used(recognizer: Recognizer) -> None:
    with recognizer.stream() as stream:
        stream.accept(np.zeros(100, np.float32))
    stream.close()
    for use in (lambda: stream.accept(np.zeros(1, np.float32)), stream.flush, stream.reset):
        with pytest.raises(StreamError, match="closed"):
            use()


def test_invalid_samples_are_refused(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.accept(np.zeros(500, np.float32))
    with pytest.raises(AudioError, match="got nan at sample 502"):
        stream.accept(np.array([0.0, 0.0, np.nan]))
    assert stream.time_s == 500 / 16000
    stream.accept(speak("\u2581one", 0.1))
    assert [event.text for event in stream.flush()][-1] == "one"


@pytest.mark.parametrize("hop_ms", [0, -40, 50, 41, 39, 10_040, "160", float("nan"), float("inf"), None, True])
def test_invalid_hops(recognizer: Recognizer, hop_ms: object) -> None:
    if hop_ms is None:  # the Recognizer's own
        assert recognizer.stream(hop_ms=None).hop_ms == 320
        return
    with pytest.raises(
        OptionError, match="hop_ms must be a (positive multiple of the model's frame, 40 ms|finite number)"
    ):
        recognizer.stream(hop_ms=hop_ms)  # type: ignore[arg-type]


def test_other_options_are_checked(recognizer: Recognizer) -> None:
    with pytest.raises(AudioError, match="sample_rate must be a whole number of Hz from 1000"):
        recognizer.stream(0)
    with pytest.raises(OptionError, match=r"endpoint must be EndpointRules\(\.\.\.\) or None, got 0\.8"):
        recognizer.stream(endpoint=0.8)


def test_endpoint_rules_of_the_caller(recognizer: Recognizer) -> None:
    samples = speak("\u2581one", 0.5, "\u2581two", 0.5)
    texts = {}
    for silence_s in (0.2, 1.0):
        events = feed(recognizer.stream(endpoint=EndpointRules(silence_after_speech_s=silence_s)), samples, lambda: 640)
        texts[silence_s] = [event.text for event in events if isinstance(event, Final)]
    assert texts == {0.2: ["one", "two"], 1.0: ["one two"]}


@pytest.mark.parametrize("lead_s", [0.1, 0.2, 0.3, 0.45, 0.6, 0.7])
@pytest.mark.parametrize("chunk_ms", [160, 320, 640])
def test_an_endpoint_does_not_wait_for_its_chunk(recognizer: Recognizer, lead_s: float, chunk_ms: int) -> None:
    stream = recognizer.stream(hop_ms=chunk_ms, endpoint=EndpointRules(silence_after_speech_s=0.8))
    samples = speak(lead_s, "\u2581one", 2.0)
    for start in range(0, len(samples), 160):
        finals = [event for event in stream.accept(samples[start : start + 160]) if isinstance(event, Final)]
        if finals:
            break
    assert [event.text for event in finals] == ["one"]
    assert 0.78 <= round(stream.time_s - finals[0].words[-1].end_s, 3) <= 0.85  # a frame is 0.04 s


@pytest.mark.parametrize("chunk_ms", [80, 640, 1280])
def test_endpoints_do_not_change_the_words(recognizer: Recognizer, chunk_ms: int) -> None:
    rng = np.random.default_rng(5)
    samples = np.concatenate([speak("\u2581one", rng.uniform(0.05, 0.6), "\u2581two", "s") for _ in range(20)])
    rules = EndpointRules(silence_before_speech_s=0.2, silence_after_speech_s=0.2, max_utterance_s=1.0)
    cut = feed(recognizer.stream(hop_ms=chunk_ms, endpoint=rules), samples, lambda: 997)
    uncut = feed(recognizer.stream(hop_ms=chunk_ms, endpoint=None), samples, lambda: 997)
    assert len([event for event in cut if isinstance(event, Final)]) > 10
    for word, other in zip(final_words(cut), final_words(uncut), strict=True):
        assert (word[0], word[1]) == (other[0], other[1])
        assert word[2] == pytest.approx(other[2], abs=0.041)  # where a sound ends is judged within its utterance


def test_strided_read_only_and_big_endian_blocks(recognizer: Recognizer) -> None:
    samples = speak("\u2581one", 0.1, "\u2581two", 0.1, sample_rate=48000)
    read_only = np.frombuffer(samples.tobytes(), np.float32)
    for block in (
        read_only,
        np.stack([samples, samples * 0], axis=1)[:, 0],
        samples.astype(">f4"),
        samples[::-1][::-1],
    ):
        stream = recognizer.stream(48000)
        assert [event.text for event in stream.accept(block) + stream.flush()][-1] == "one two"


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
@pytest.mark.parametrize("lost_s", [0.0, 0.013, 1.0, 3600.0])
def test_missing_samples_end_the_utterance_and_times_continue(
    recognizer: Recognizer, sample_rate: int, lost_s: float
) -> None:
    before = speak(0.2, "\u2581four", sample_rate=sample_rate)
    after = speak("teen", 0.1, "\u2581two", 0.1, sample_rate=sample_rate)
    stream = recognizer.stream(sample_rate, endpoint=None)
    events = stream.accept(before)
    events += stream.skip(round(lost_s * sample_rate))
    assert stream.time_s == pytest.approx(0.32 + lost_s, abs=1e-4)
    events += [*stream.accept(after), *stream.flush()]
    finals = [event for event in events if isinstance(event, Final)]
    assert [(final.text, final.reason) for final in finals] == [("four", "gap"), ("teen two", "flush")]
    alone = recognizer.transcribe(after, sample_rate).words
    for word, word_alone in zip(finals[1].words, alone, strict=True):
        assert word.start_s == pytest.approx(word_alone.start_s + 0.32 + lost_s, abs=0.041)
    assert all(word.end_s <= 0.32 for word in finals[0].words)
    stream.reset()
    assert stream.time_s == 0.0


def test_a_gap_before_and_after_nothing(recognizer: Recognizer) -> None:
    stream = recognizer.stream(endpoint=EndpointRules(silence_before_speech_s=1.0))
    assert stream.skip(160_000) + stream.skip(0) == []
    assert stream.accept(np.zeros(8000, np.float32)) == []
    (nobody,) = stream.accept(np.zeros(16000, np.float32))
    assert (nobody.text, nobody.reason, nobody.start_s) == ("", "endpoint", pytest.approx(10.0, abs=0.04))
    assert stream.flush() == []
    with pytest.raises(StreamError, match="the stream was flushed"):
        stream.skip(1)


@pytest.mark.parametrize("n_samples", [-1, 1.0, True, None])
def test_an_invalid_gap(recognizer: Recognizer, n_samples: object) -> None:
    with pytest.raises(OptionError, match="n_samples must be a whole number >= 0"):
        recognizer.stream().skip(n_samples)


def test_a_gap_with_phrases(model_path: Path) -> None:
    stream = Recognizer(model_path, phrases=["one four", "two"]).stream()
    events = stream.accept(speak(0.2, "\u2581one", 0.1, "\u2581four"))
    events += stream.skip(16_000 * 600)
    events += [*stream.accept(speak(0.2, "\u2581two", 0.1)), *stream.flush()]
    finals = [event for event in events if isinstance(event, Final)]
    assert [(final.text, final.reason) for final in finals] == [("one four", "gap"), ("two", "flush")]
    assert finals[1].start_s == pytest.approx(600.74, abs=0.04)


@pytest.mark.parametrize("interrupted", [1, 2, 5])
def test_ctrl_c_during_a_chunk_loses_no_words(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, interrupted: int
) -> None:
    steps = 0
    step = Model.run_chunk

    def step_with_ctrl_c(*args: Any, **kwargs: Any) -> ChunkResult:
        nonlocal steps
        steps += 1
        if steps == interrupted:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    samples = speak(*SENTENCE)
    expected = recognizer.transcribe(samples, 16000, chunk_ms=160)
    monkeypatch.setattr(Model, "run_chunk", step_with_ctrl_c)
    stream = recognizer.stream(hop_ms=160, endpoint=None)
    for start in range(0, len(samples), 160):  # the last block of a chunk ends with it
        with contextlib.suppress(KeyboardInterrupt):
            stream.accept(samples[start : start + 160])
    (*_, final) = stream.flush()
    assert steps > interrupted
    assert final.words == expected.words


def test_any_thread_may_use_a_stream(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    samples = speak(*SENTENCE)
    with ThreadPoolExecutor(4) as pool:
        events = [
            event
            for start in range(0, len(samples), 800)
            for event in pool.submit(stream.accept, samples[start : start + 800]).result()
        ]
    finals = [event for event in [*events, *stream.flush()] if isinstance(event, Final)]
    assert " ".join(final.text for final in finals) == TEXT


def test_calls_of_two_threads_wait_for_each_other(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    running, overlaps = threading.Lock(), []
    step = Model.run_chunk

    def watched(*args: Any, **kwargs: Any) -> ChunkResult:
        if not running.acquire(blocking=False):
            overlaps.append(threading.current_thread().name)
            return step(*args, **kwargs)
        try:
            return step(*args, **kwargs)
        finally:
            running.release()

    monkeypatch.setattr(Model, "run_chunk", watched)
    stream = recognizer.stream(hop_ms=40)
    tone = speak("\u2581one", 0.1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stream.accept(tone), range(40)))
        events = pool.submit(stream.flush).result()
    assert overlaps == []
    assert stream.time_s == pytest.approx(40 * len(tone) / 16000)
    assert isinstance(events[-1], Final)


async def feed_from_a_client(recognizer: Recognizer, samples: np.ndarray) -> str:
    stream = recognizer.stream()
    events: list[Event] = []
    for start in range(0, len(samples), 1600):
        events += await asyncio.to_thread(stream.accept, samples[start : start + 1600])
    events += await asyncio.to_thread(stream.flush)
    return " ".join(event.text for event in events if isinstance(event, Final))


def test_asyncio_programs_with_several_clients(recognizer: Recognizer) -> None:
    async def serve() -> list[str]:
        return await asyncio.gather(*(feed_from_a_client(recognizer, speak(*SENTENCE)) for _ in range(5)))

    assert asyncio.run(serve()) == [TEXT] * 5


@pytest.mark.parametrize("block", [1, 3, 799, 10_001])
def test_bytes_of_int16_cut_anywhere(recognizer: Recognizer, block: int) -> None:
    samples = (speak(*SENTENCE) * 32767).astype("<i2")
    data = samples.tobytes()
    stream = recognizer.stream()
    events: list[Event] = []
    for number, start in enumerate(range(0, len(data), block)):
        kind = (bytes, bytearray, memoryview)[number % 3]
        events += stream.accept(kind(data[start : start + block]))
    assert final_words(events + stream.flush()) == final_words(feed(recognizer.stream(), samples, lambda: 500))
    assert stream.time_s == len(samples) / 16000


def test_a_partial_shows_its_text(recognizer: Recognizer) -> None:
    (partial,) = recognizer.stream().accept(speak("\u2581one", 0.4))
    assert repr(partial) == "Partial('one', stable_text='', time_s=0.32)"


def test_streams_of_one_recognizer_in_many_threads(recognizer: Recognizer) -> None:
    names = ["\u2581one", "\u2581two", "\u2581three", "\u2581four"]
    barrier = threading.Barrier(8)

    def work(seed: int) -> tuple[str, str]:
        spoken = [names[i] for i in np.random.default_rng(seed).integers(0, 4, 30)]
        samples = np.concatenate([speak(piece, 0.12) for piece in spoken])
        barrier.wait()
        stream = recognizer.stream(hop_ms=160, endpoint=None)
        (*_, final) = feed(stream, samples, lambda: 997)
        return final.text, " ".join(piece[1:] for piece in spoken)

    with ThreadPoolExecutor(8) as pool:
        for found, expected in pool.map(work, range(8)):
            assert found == expected


def test_memory_is_flat_and_the_text_right_to_the_end(recognizer: Recognizer) -> None:
    """Ten minutes at 40 ms a chunk: the number of chunks of almost three hours at 640 ms."""
    stream = recognizer.stream(hop_ms=40)
    minute = np.concatenate([speak("\u2581one", 0.2, "\u2581two", 1.56), np.zeros(0, np.float32)] * 30)
    assert len(minute) == 60 * 16000
    tracemalloc.start()
    sizes, texts = [], []
    for _ in range(10):
        texts += [event.text for event in stream.accept(minute) if isinstance(event, Final)]
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0] - sum(map(len, texts)) - 200 * len(texts))
    tracemalloc.stop()
    events = stream.flush()
    assert texts + [e.text for e in events if isinstance(e, Final)] == ["one two"] * 300
    assert max(sizes[4:]) - min(sizes[4:]) < 100_000
    assert stream.time_s == 600.0


def test_a_pause_costs_no_more_after_an_hour_without_endpoints(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is built once, at the end: a draft in each pause would take longer and longer."""
    built = []
    monkeypatch.setattr(segment, "build_words", lambda info, tokens: built.append(len(tokens)) or [])
    stream = recognizer.stream(endpoint=None)
    sentence = speak("\u2581one", 0.1, "\u2581two", 0.9)
    for _ in range(20):
        stream.accept(sentence)
    assert built == []
    stream.flush()
    assert built == [40]
