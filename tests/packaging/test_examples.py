"""Every example runs as its first lines say, and prints what was said."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import speak
from locations import ROOT
from speech import default_recognizer, own_utterances
from virtual_microphone import DEVICE, VirtualMicrophone, wait_until, why_missing

EXAMPLES = ROOT / "examples"
SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.1)
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="needs the checkout, not an install")


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    path = tmp_path / "tones.wav"
    soundfile.write(path, speak(*SENTENCE, sample_rate=22_050), 22_050)
    return path


def run(name: str, *files: Path, home: Path | None = None) -> str:
    """Run an example; return what it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, files)],
        env=environment(os.environ, home),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(base: dict[str, str] | os._Environ[str], home: Path | None) -> dict[str, str]:
    """Examples find the package, installed or not; `home` holds the model that they take for the default."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**base, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"} | ({"LWASR_HOME": str(home)} if home else {})


@pytest.fixture
def home(default_model: Path) -> Path:
    """Where the tiny model is the default."""
    return default_model.parents[1]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert f"python examples/{path.name}" in source.split('"""')[1]
    assert len(source.splitlines()) <= 60
    assert path.name in Path(__file__).read_text(encoding="utf-8") or next(
        (ROOT / "tests").rglob(f"test_{path.stem}.py"), None
    )


def test_transcribe_file(home: Path, tones: Path) -> None:
    text, *words = run("transcribe_file.py", tones, home=home).splitlines()
    assert text == "one fourteen two threes"
    assert [line.split()[-1] for line in words] == text.split()
    assert float(words[0].split()[0]) == pytest.approx(0.3, abs=0.02)


def test_stream_file(home: Path, tones: Path) -> None:
    lines = run("stream_file.py", tones, home=home).splitlines()
    finals = [line.split()[3:] for line in lines if line.startswith("final")]
    assert finals == [["one", "fourteen", "two"], ["threes"]]
    partials = [line.split(maxsplit=2)[2] for line in lines if line.startswith("partial")]
    assert "one fourteen [two]" in partials or "one [fourteen two]" in partials


def test_threads(home: Path, tones: Path) -> None:
    lines = run("threads.py", tones, tones, tones, home=home).splitlines()
    assert lines == [f"{tones}: one fourteen two / threes"] * 3


def test_asyncio_streams(home: Path) -> None:
    sentences = {
        "one": ("\u2581one",),
        "fourteen": ("\u2581four", "teen"),
        "two threes": ("\u2581two", "\u2581three", "s"),
    }
    command = [sys.executable, str(EXAMPLES / "asyncio_streams.py")]
    with subprocess.Popen(command, env=environment(os.environ, home), stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline().removeprefix("port "))
            sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in sentences]
            recordings = [pcm(0.3, *pieces, 0.5) for pieces in sentences.values()]
            for start in range(0, max(map(len, recordings)), 1001):  # all three at once; samples are split in two
                for client, recording in zip(sockets, recordings, strict=True):
                    client.sendall(recording[start : start + 1001])
            for client, text in zip(sockets, sentences, strict=True):
                client.shutdown(socket.SHUT_WR)
                with client, client.makefile(encoding="utf-8") as lines:
                    *partials, final = map(json.loads, lines)
                assert final == {"kind": "final", "text": text}
                assert partials[-1] == {"kind": "partial", "text": text}
        finally:
            server.kill()


def pcm(*spoken: str | float) -> bytes:
    return (speak(*spoken) * 32767).astype("<i2").tobytes()


def test_gpio(home: Path) -> None:
    pytest.importorskip("gpiozero")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "gpio.py"), "17", "One two", "three"],
        env=environment({**os.environ, "GPIOZERO_PIN_FACTORY": "mock"}, home),
        input=pcm(0.3, "\u2581one", 0.1, "\u2581two", 1.2, "\u2581four", 1.2, "\u2581three"),  # up to the last sample
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "one two: pin 17 is on\nthree: pin 17 is off\n"


def test_endpoints(home: Path, tones: Path) -> None:
    found = [re.split(r"  +", line) for line in run("endpoints.py", tones, home=home).splitlines()]
    assert [(name, reason, text) for name, _, _, reason, text in found] == [
        ("command", "endpoint", "one fourteen two"),
        ("command", "flush", "threes"),
        ("dictation", "flush", "one fourteen two threes"),
        ("none", "flush", "one fourteen two threes"),
    ]


def test_subtitles(home: Path, tones: Path) -> None:
    assert run("subtitles.py", tones, home=home) == "2.8 s of audio, 4 words\n"
    srt = tones.with_suffix(".srt").read_text(encoding="utf-8")
    assert re.match(r"1\n00:00:00,\d{3} --> 00:00:0\d,\d{3}\none fourteen two", srt)
    assert tones.with_suffix(".vtt").read_text(encoding="utf-8").startswith("WEBVTT\n")


@pytest.mark.skipif(why_missing() is not None, reason=str(why_missing()))
def test_microphone(home: Path, tones: Path) -> None:
    with VirtualMicrophone() as microphone:
        command = [sys.executable, str(EXAMPLES / "microphone.py"), "--device", DEVICE, "--until", "threes"]
        env = environment({**microphone.env, "PYTHONUNBUFFERED": "1"}, home)
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as listening:
            try:
                assert listening.stdout.readline() == f"listening to {DEVICE} until 'threes'\n"
                microphone.play(tones)
                wait_until(lambda: listening.poll() is not None, "it heard the word")
            finally:
                listening.send_signal(signal.SIGKILL)
            assert listening.stdout.read() == "one fourteen two\nthrees\n"
            assert listening.returncode == 0


def test_a_real_recording() -> None:
    recognizer = default_recognizer()
    utterance = own_utterances()[-1]  # at 22 050 Hz
    text = run("transcribe_file.py", utterance.path).splitlines()[0]
    assert text == recognizer.transcribe(utterance.path).text
    final = run("stream_file.py", utterance.path).splitlines()[-1]
    assert final.split(maxsplit=3)[3] == recognizer.transcribe(utterance.path).text
