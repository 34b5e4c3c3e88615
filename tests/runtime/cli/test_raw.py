"""`lwasr listen --raw`: samples from a pipe are recognised as those of a microphone."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import speak
from locations import ROOT
from speech import default_recognizer

from lwasr_edge import AudioError, Final, Recognizer, load_audio
from lwasr_edge.bench.recordings import CLIP
from lwasr_edge.cli.raw import RawInput, stdin_for_samples

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.06)


def raw(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def listen(*options: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "lwasr_edge", "listen", *map(str, options)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_recording_of_speech_through_the_command() -> None:
    recognizer = default_recognizer()
    data = raw(load_audio(CLIP))
    stream = recognizer.stream(16_000)
    events = [*stream.accept(np.frombuffer(data, np.int16)), *stream.flush()]
    out, err = listen("--raw", "16000").communicate(data + b"\x7f", timeout=60)  # half a sample at the end
    assert out.decode() == "".join(f"{event.text}\n" for event in events if isinstance(event, Final))
    assert out.startswith(b"she opened the window and listened")
    assert err == b"listening to stdin; Ctrl-C or its end stops\n"


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_options_are_those_of_a_microphone(model_path: Path, sample_rate: int) -> None:
    data = raw(speak(*SENTENCE, sample_rate=sample_rate))
    process = listen(
        "--raw", str(sample_rate), "--model", model_path, "--json", "--hop-ms", "160", "--silence-s", "0.5"
    )
    out, _ = process.communicate(data, timeout=60)
    assert process.returncode == 0
    finals = [event for event in map(json.loads, out.splitlines()) if event["kind"] == "final"]
    assert [(event["text"], event["reason"]) for event in finals] == [
        ("one fourteen two", "endpoint"),
        ("threes", "flush"),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_the_last_words_of_an_open_pipe(model_path: Path, number: signal.Signals) -> None:
    process = listen("--raw", "16000", "--model", model_path, "--no-endpoint", "--json", "--hop-ms", "160")
    process.stdin.write(raw(speak(*SENTENCE, 0.5)))
    process.stdin.flush()
    while b"threes" not in process.stdout.readline():
        pass
    time.sleep(0.2)  # it waits for more
    process.send_signal(number)
    last = json.loads(process.stdout.read().splitlines()[-1])
    process.stdin.close()
    assert process.wait(20) == 0
    assert (last["kind"], last["text"]) == ("final", "one fourteen two threes")
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("data", [b"", b"\0"])
def test_no_sample_at_all(model_path: Path, data: bytes) -> None:
    process = listen("--raw", "16000", "--model", model_path)
    assert process.communicate(data, timeout=60)[0] == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (
            ["--raw", "16"],
            2,
            "lwasr: error: sample_rate must be a whole number of Hz from 1000 to 192000, got 16: multiply by 1000",
        ),
        (["--raw", "16000", "--device", "usb"], 2, "not allowed with argument --raw"),
    ],
)
def test_impossible_options(model_path: Path, options: list[str], status: int, message: str) -> None:
    process = listen(*options, "--model", model_path)
    assert message in process.communicate(b"", timeout=60)[1].decode()
    assert process.returncode == status


def test_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(AudioError, match="arecord -t raw -f S16_LE"):
        stdin_for_samples()


@pytest.mark.parametrize("size", [1, 333, 70_001])
def test_samples_may_be_cut_anywhere(recognizer: Recognizer, size: int) -> None:
    file = io.BytesIO(raw(speak(*SENTENCE)))
    pipe = types.SimpleNamespace(read1=lambda _: file.read(size))
    events = list(RawInput(pipe, recognizer.stream(endpoint=None)))
    assert events[-1].text == "one fourteen two threes"
