"""Memory: of streams while they run and after they are closed, of audio, and of what is loaded at all."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from conftest import speak
from locations import SPEECH_16K
from speech import default_recognizer

from lwasr_edge import Recognizer, StreamError
from lwasr_edge.streaming.recent_audio import RecentAudio

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.06)
HOP = 640  # samples of a frame

GIVEN_BACK = """
import re, sys
from lwasr_edge import Recognizer, load_audio

def anonymous_mb():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

audio = load_audio(sys.argv[1])
recognizer = Recognizer()
def run(count):
    streams = [recognizer.stream() for _ in range(count)]
    for start in range(0, len(audio), 16000):
        for stream in streams:
            stream.accept(audio[start : start + 16000])
    return streams

for stream in run(1):
    stream.close()
before = anonymous_mb()
streams = run(8)
during = anonymous_mb()
for stream in streams:
    stream.close()
closed = anonymous_mb()
recognizer.close()
print(before, during, closed, anonymous_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and glibc")
def test_closed_streams_and_recognizers_give_their_memory_back() -> None:
    default_recognizer().close()
    command = [sys.executable, "-c", GIVEN_BACK, str(SPEECH_16K)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, during, closed, without_model = map(float, printed.split())
    assert during > before + 8  # eight states of 1 MB
    assert closed < before + 3
    assert without_model < before - 6  # of the weights, 14; the heap in which they were loaded keeps some


def test_a_closed_stream_keeps_nothing(recognizer: Recognizer) -> None:
    stream = recognizer.stream(sample_rate=8000)
    stream.accept(speak(*SENTENCE)[::2])
    tracker = weakref.ref(stream._tracker)
    stream.close()
    gc.collect()
    assert tracker() is None
    assert (stream.hop_ms, stream.right_context_ms) == (320, 0)
    assert stream.time_s > 1
    stream.close()
    with pytest.raises(StreamError, match="the stream is closed"):
        stream.accept(np.zeros(80, np.float32))


def test_closing_in_the_middle_of_a_call_lets_it_finish(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler does, which runs in the same thread."""
    stream, samples = recognizer.stream(), speak(*SENTENCE)
    wanted = [event.text for event in recognizer.stream().accept(samples)]
    run_chunk = type(stream._model).run_chunk

    def closes(*args: object, **options: object) -> object:
        stream.close()
        return run_chunk(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(stream._model), "run_chunk", closes)
    assert [event.text for event in stream.accept(samples)] == wanted
    assert not hasattr(stream, "_tracker")
    with pytest.raises(StreamError, match="the stream is closed"):
        stream.flush()


def test_a_stream_in_silence_has_no_state(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.accept(speak(*SENTENCE))
    passes = stream._tracker._live, stream._tracker._segment._pass
    initial = recognizer._model.initial_state()
    assert any(one._state[name] is not initial[name] for one in passes for name in initial)
    stream.accept(np.zeros(16_000 * 4, np.float32))
    assert all(one._state[name] is initial[name] for one in passes for name in initial)


def test_audio_shrinks_after_a_long_utterance() -> None:
    audio = RecentAudio(HOP)
    samples = np.random.default_rng(0).normal(0, 0.1, 500 * HOP).astype(np.float32)
    for start in range(0, len(samples), HOP):
        audio.append(samples[start : start + HOP])
    assert audio._waveform.size < 1.3 * len(samples)
    audio.discard(400)
    np.testing.assert_array_equal(audio.frames(400, 500), samples[400 * HOP :])
    assert audio._waveform.size == 200 * HOP
    audio.append(samples)
    np.testing.assert_array_equal(audio.frames(400, 1000), np.concatenate([samples[400 * HOP :], samples]))


def test_recognition_loads_no_openssl() -> None:
    program = "import sys, lwasr_edge.recognizer, lwasr_edge.decoding.decoder; print('_hashlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
