"""`transcribe --channel` and `listen --raw --channels`: one speaker per channel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import speak
from locations import ROOT

from lwasr_edge import Recognizer, Transcript, Word
from lwasr_edge.cli.channels import write_channels

FIRST = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 1.5)
SECOND = (1.2, "\u2581two", 0.9)
TWO = [
    Transcript((Word("hello", 0.5, 0.9, 0.9), Word("again", 5.0, 5.4, 0.8)), 6.0, "tiny"),
    Transcript((Word("good", 2.0, 2.3, 0.7), Word("day", 2.4, 2.7, 0.6)), 6.0, "tiny"),
]


def run(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lwasr_edge", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, input=data, capture_output=True, timeout=60)


def two_speakers() -> np.ndarray:
    """(N, 2) float32 at 16 kHz."""
    first, second = (speak(*said, sample_rate=16_000) for said in (FIRST, SECOND))
    size = max(len(first), len(second))
    return np.stack([np.pad(one, (0, size - len(one))) for one in (first, second)], 1).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "call.wav", two_speakers(), 16_000)
    return tmp_path / "call.wav"


def test_text_is_in_the_order_of_time() -> None:
    assert write_channels("text", TWO) == (
        "0.50-0.90 channel 1: hello\n2.00-2.70 channel 2: good day\n5.00-5.40 channel 1: again\n"
    )


def test_subtitles_name_the_channel() -> None:
    assert write_channels("srt", TWO).startswith(
        "1\n00:00:00,500 --> 00:00:01,500\nChannel 1: hello\n\n"
        "2\n00:00:02,000 --> 00:00:03,000\nChannel 2: good day\n\n"
    )
    assert "00:00:02.000 --> 00:00:03.000\n<v Channel 2>good day\n\n" in write_channels("vtt", TWO)


def test_words_have_their_channel_in_the_last_column() -> None:
    rows = [line.split("\t")[3:] for line in write_channels("words", TWO).splitlines()]
    assert rows == [["hello", "1"], ["good", "2"], ["day", "2"], ["again", "1"]]


def test_one_channel_and_each(model_path: Path, recording: Path) -> None:
    alone = [Recognizer(model_path).transcribe(recording, channel=number).text for number in (1, 2)]
    assert alone == ["one fourteen", "two"]
    ended = run("transcribe", "--model", model_path, "--channel", "2", recording)
    assert ended.stdout == b"two\n"
    for file, data in ((recording, b""), ("-", recording.read_bytes())):
        ended = run("transcribe", "--model", model_path, "--channel", "each", "--json", file, data=data)
        channels = json.loads(ended.stdout)["channels"]
        assert [(one["channel"], one["text"]) for one in channels] == [(1, "one fourteen"), (2, "two")]


@pytest.mark.parametrize("channel", ["3", "0", "both"])
def test_channels_that_do_not_exist(model_path: Path, recording: Path, channel: str) -> None:
    ended = run("transcribe", "--model", model_path, "--channel", channel, recording)
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert b"channel" in ended.stderr


def test_raw_samples_of_two_channels(model_path: Path) -> None:
    samples = speak(*FIRST, sample_rate=16_000)
    inverted = (np.stack([samples, -samples], 1) * 32767).astype("<i2").tobytes()
    ended = run("listen", "--raw", "16000", "--channels", "2", "--model", model_path, data=inverted + b"\1")
    assert ended.stdout == b"one fourteen\n"


def test_channels_need_raw_samples(model_path: Path) -> None:
    ended = run("listen", "--channels", "2", "--model", model_path)
    assert (ended.returncode, b"beside --raw" in ended.stderr) == (2, True)
