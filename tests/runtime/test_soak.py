"""Hours through one stream, an hour in one file: memory stays flat and the words right to the end.

The short versions run with the tiny model. Ten hours with the default model: `make test-long`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import speak
from speech import default_recognizer, own_utterances, pause

from lwasr_edge import EndpointRules, Final, Recognizer
from lwasr_edge.bench.memory import resident_memory
from lwasr_edge.hub.catalog import find_model

HOURS = float(os.environ.get("LWASR_SOAK_HOURS", "10"))
SETTLED_LAP = 24  # after 6 minutes
MAX_PERIOD = 32  # laps, see period_of
MEGABYTE = 1 << 20
RATE = 16_000

needs_linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from Linux's /proc")


class Lap:
    """One repetition of a piece of audio in a stream: the words recognised in it, and the memory used after it."""

    def __init__(self, index: int, finals: list[Final], seconds: float) -> None:
        self.resident = resident_memory().now or 0
        self.text = " ".join(final.text for final in finals)
        self.starts_s = [word.start_s - index * seconds for final in finals for word in final.words]


def laps(recognizer: Recognizer, samples: np.ndarray, count: int, block: int) -> Iterator[Lap]:
    """Give one stream the samples `count` times, in blocks, as a microphone would."""
    seconds = len(samples) / RATE
    with recognizer.stream(endpoint=EndpointRules(max_utterance_s=None)) as stream:
        for index in range(count):
            finals = []
            for start in range(0, len(samples), block):
                events = stream.accept(samples[start : start + block])
                finals += [event for event in events if isinstance(event, Final)]
            yield Lap(index, finals, seconds)
        assert stream.flush() == []  # a lap ends in silence: nothing is left over
        assert stream.time_s == pytest.approx(count * seconds)


def padded_to_chunks(samples: np.ndarray, chunk_ms: int = 640) -> np.ndarray:
    """Pad the samples with silence to a multiple of the chunk."""
    return np.pad(samples, (0, -len(samples) % (chunk_ms * RATE // 1000)))


def period_of(laps_words: list[str]) -> int | None:
    """After so many laps everything comes again: where the chunks cut a lap, and with it the words. None: it does not.

    1 if a lap is a multiple of the chunk hop; a few laps otherwise.
    """
    assert len(laps_words) > 2 * MAX_PERIOD
    for period in range(1, MAX_PERIOD + 1):
        if laps_words[period:] == laps_words[:-period]:
            return period
    return None


def transcribe_elsewhere(path: Path, model: Path) -> tuple[int, list[dict]]:
    """Run `lwasr transcribe` in another process; return its peak memory in bytes and its words."""
    output = path.with_suffix(".json")
    command = ["-m", "lwasr_edge", "transcribe", "--json", str(path), "-o", str(output), "--model", str(model)]
    process = os.posix_spawn(sys.executable, [sys.executable, *command], os.environ)
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss * 1024, json.loads(output.read_text(encoding="utf-8"))["words"]


def write_laps(path: Path, samples: np.ndarray, count: int) -> Path:
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(count):
            file.write(samples)
    return path


@needs_linux
def test_three_minutes_through_one_stream(recognizer: Recognizer) -> None:
    tones = speak("\u2581one", 0.2, "\u2581four", "teen", 0.3, "\u2581two", 1.4)
    results = list(
        laps(recognizer, padded_to_chunks(tones), count=180 * RATE // len(padded_to_chunks(tones)), block=441)
    )
    assert {lap.text for lap in results} == {"one fourteen two"}
    np.testing.assert_allclose(results[-1].starts_s, results[0].starts_s, atol=0.02)
    late = [lap.resident for lap in results[len(results) // 2 :]]
    assert max(late) - min(late) < MEGABYTE


@needs_linux
def test_a_long_file_takes_no_more_memory_than_a_short_one(model_path: Path, tmp_path: Path) -> None:
    tones = speak("\u2581one", 0.2, "\u2581two", 0.3)
    short, _ = transcribe_elsewhere(write_laps(tmp_path / "short.wav", tones, 20), model_path)
    count = 20 * 60 * RATE // len(tones)  # 20 minutes: 38 MB of samples, 77 MB as float32
    long, words = transcribe_elsewhere(write_laps(tmp_path / "long.wav", tones, count), model_path)
    assert [word["text"] for word in words] == ["one", "two"] * count
    assert long - short < 8 * MEGABYTE


@needs_linux
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_ten_hours_through_one_stream() -> None:
    """Ten hours, or $LWASR_SOAK_HOURS, of the recordings of tests/data with pauses between them.

    The first laps may differ, since a stream has state; then the same audio must give the same words for
    ever.
    """
    recognizer = default_recognizer()
    parts = [part for utterance in own_utterances() for part in (utterance.samples(), pause(1.5))]
    samples = padded_to_chunks(np.concatenate(parts))
    count = round(HOURS * 3600 * RATE / len(samples))
    began_at, resident, texts = time.monotonic(), [], []
    starts_s: deque[list[float]] = deque(maxlen=MAX_PERIOD + 1)
    for lap in laps(recognizer, samples, count, block=480):
        resident.append(lap.resident)
        texts.append(lap.text)
        starts_s.append(lap.starts_s)
    hours = count * len(samples) / RATE / 3600
    warm = resident[SETTLED_LAP:]
    growth = max(warm[len(warm) // 2 :]) - max(warm[: len(warm) // 2])
    period = period_of(texts[SETTLED_LAP:])
    first, last, most = (size / MEGABYTE for size in (warm[0], warm[-1], max(warm)))
    print(f"\n{hours:.2f} h, {count} laps in {time.monotonic() - began_at:.0f} s; they come again after {period}")
    print(f"resident once warm: {first:.1f} MB, at last {last:.1f} MB, at most {most:.1f} MB; a lap: {texts[-1]!r}")
    assert growth < 3 * MEGABYTE
    assert period is not None
    assert len(texts[-1].split()) > 20
    np.testing.assert_allclose(starts_s[-1], starts_s[-1 - period], atol=1e-3)


@needs_linux
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_an_hour_long_file(tmp_path: Path) -> None:
    default_recognizer()  # or skip
    model = find_model(None)
    parts = [part for utterance in own_utterances() for part in (utterance.samples(), pause(0.7))]
    samples = padded_to_chunks(np.concatenate(parts))
    lap_s = len(samples) / RATE
    count = round(3600 / lap_s)
    minute, _ = transcribe_elsewhere(write_laps(tmp_path / "minute.wav", samples, round(60 / lap_s)), model)
    hour, words = transcribe_elsewhere(write_laps(tmp_path / "hour.wav", samples, count), model)
    print(f"\npeak memory: a minute {minute / MEGABYTE:.1f} MB, an hour {hour / MEGABYTE:.1f} MB")
    assert hour - minute < 16 * MEGABYTE  # the words themselves take about 3 MB
    laps_words: list[list[str]] = [[] for _ in range(count)]
    for word in words:
        laps_words[int(word["start_s"] / lap_s)].append(word["text"])
    assert len(laps_words[-1]) > 20
    assert period_of([" ".join(words) for words in laps_words[SETTLED_LAP:]]) is not None
