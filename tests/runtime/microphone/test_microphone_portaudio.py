"""The microphone as it is: recordings are played into a virtual device and read back through real PortAudio."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import soundfile
from conftest import speak
from locations import ROOT
from speech import default_recognizer, own_utterances
from virtual_microphone import DEVICE, VirtualMicrophone, wait_until, why_missing

from lwasr_edge.wer import word_errors

pytestmark = pytest.mark.skipif(why_missing() is not None, reason=str(why_missing()))

PROGRAM = ROOT / "tests" / "microphone_program.py"
SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s")
TEXT = "one fourteen two threes"
RATES = (16_000, 44_100, 48_000)  # Hz that the device is opened at


class Listening:
    """A program that listens, in a process of its own."""

    def __init__(self, microphone: VirtualMicrophone, *arguments: str | Path, terminal: int | None = None) -> None:
        self._folder = Path(microphone.env["HOME"])
        self._errors = self._folder / f"errors-{time.monotonic_ns()}"
        # pytest's processes set the size of a terminal, which would count instead of that of `terminal`.
        env = {key: value for key, value in microphone.env.items() if key not in ("COLUMNS", "LINES")}
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env={**env, "TERM": "xterm", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if terminal is None else terminal,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Listening:
        wait_until(lambda: "listening to" in self.errors or self.process.poll() is not None, "it listens")
        assert self.process.poll() is None, self.errors
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def press_ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def events(self) -> list[dict]:
        """All events, when the program has ended."""
        out, _ = self.process.communicate(timeout=20)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def microphone() -> Iterator[VirtualMicrophone]:
    with VirtualMicrophone() as virtual:
        yield virtual


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tones") / "tones.wav"
    soundfile.write(path, speak(*SENTENCE, sample_rate=48_000), 48_000)
    return path


@pytest.fixture(scope="module")
def short_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tones") / "short.wav"
    soundfile.write(path, speak(0.2, "\u2581one", "s", sample_rate=48_000), 48_000)
    return path


def open_terminal(columns: int) -> tuple[int, int]:
    """A pseudo-terminal: what shows it, what a program writes to."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return screen, terminal


def read_terminal(screen: int) -> str:
    written = b""
    while True:
        try:
            written += os.read(screen, 4096)
        except OSError:  # every writer has gone
            os.close(screen)
            return written.decode()


def test_played_tones_are_recognised(microphone: VirtualMicrophone, model_path: Path, tones: Path) -> None:
    """Recognizer.listen at several rates, `lwasr listen --json` and `lwasr listen` in a terminal, all at once."""
    screen, terminal = open_terminal(columns=15)
    command = ["-m", "lwasr_edge", "listen", "--model", model_path, "--device", DEVICE, "--hop-ms", "160"]
    with ExitStack() as running:
        programs = [
            running.enter_context(Listening(microphone, PROGRAM, model_path, DEVICE, "--rate", str(rate)))
            for rate in RATES
        ]
        as_json = running.enter_context(Listening(microphone, *command, "--json"))
        live = running.enter_context(
            Listening(microphone, *command, "--no-endpoint", "--no-written", terminal=terminal)
        )
        os.close(terminal)
        microphone.play(tones)
        time.sleep(0.3)
        for listening in (*programs, as_json, live):
            listening.press_ctrl_c()
        for listening in programs:
            *events, end = listening.events()
            assert (events[-1]["kind"], events[-1]["text"]) == ("final", TEXT)
            assert end == {"kind": "end", "text": "Ctrl-C", "overflows": 0, "lost_s": 0}
            assert {event["text"] for event in events} <= {TEXT[:size] for size in range(len(TEXT) + 1)}
        finals = [event for event in as_json.events() if event["kind"] == "final"]
        assert [event["text"] for event in finals] == ["one fourteen two", "threes"]
        assert finals[0]["reason"] == "endpoint"
        assert finals[1]["words"][0]["start_s"] - finals[0]["words"][0]["start_s"] == pytest.approx(2.18, abs=0.06)
        shown = read_terminal(screen)
        assert [listening.process.wait(10) for listening in (*programs, as_json, live)] == [0] * 5
    assert shown.endswith(f"\r\x1b[K{TEXT}\r\n\r\x1b[K")  # the final text stays, the live line is gone
    lines = re.split(r"\r\x1b\[K", shown.removesuffix(f"{TEXT}\r\n\r\x1b[K"))
    assert "one four" in lines or "one fourteen" in lines
    assert "\u2026" + TEXT[-13:] in lines  # what does not fit is cut at its front
    assert max(map(len, lines)) == 15 - 1
    assert as_json.errors == live.errors == f"listening to {DEVICE!r}; Ctrl-C stops\n"


def test_played_speech_is_recognised(microphone: VirtualMicrophone) -> None:
    default_recognizer()  # or skip
    utterances = own_utterances()
    command = ["-m", "lwasr_edge", "listen", "--json", "--device", DEVICE, "--hop-ms", "1280"]
    with Listening(microphone, *command) as listening:
        for utterance in utterances:
            microphone.play(utterance.path)
            time.sleep(1.0)  # more than the 0.8 s after which an utterance is over
        listening.press_ctrl_c()
        events = listening.events()
    texts = [event["text"] for event in events if event["kind"] == "final"]
    # Where the chunks fall decides some of the words: with the model of today, up to 16 % of these few were wrong.
    assert word_errors([" ".join(utterance.text for utterance in utterances)], [" ".join(texts)]).wer < 0.25


def test_devices(microphone: VirtualMicrophone) -> None:
    command = [sys.executable, "-m", "lwasr_edge", "listen", "--list-devices"]
    listed = subprocess.run(command, env=microphone.env, capture_output=True, text=True, check=True, timeout=30)
    assert re.search(rf"^  +\d+  {DEVICE}  \(\d+ channels, \d+ Hz\)$", listed.stdout, re.MULTILINE)
    assert re.search(r"^\* +\d+  default  ", listed.stdout, re.MULTILINE)
    assert listed.stderr == ""


def test_a_slow_program_gets_the_lost_samples(microphone: VirtualMicrophone, model_path: Path, tones: Path) -> None:
    arguments = (PROGRAM, model_path, DEVICE, "--queue-s", "0.5", "--nap-s", "1.5")
    with Listening(microphone, *arguments) as listening:
        microphone.play(tones)
        time.sleep(0.3)
        listening.press_ctrl_c()
        *events, end = listening.events()
    assert events[0]["text"] == "one"
    assert events[-1]["text"].split()[-1] == "threes"  # what was played after the pause
    assert end["overflows"] == 1
    assert end["lost_s"] == pytest.approx(1.5 - 0.5, abs=0.25)


@pytest.mark.parametrize(
    ("happening", "message", "within_s"),
    [
        ("kill", "stopped recording: was it unplugged", 3.0),
        ("unplug", "stopped recording: was it unplugged", 3.0),
        ("suspend", "has delivered no audio for 2 s", 4.0),
        ("hang", "has delivered no audio for 2 s", 6.0),  # closing is abandoned after a second
    ],
)
def test_a_device_that_goes_away_is_an_error_and_no_hang(
    microphone: VirtualMicrophone, model_path: Path, short_tones: Path, happening: str, message: str, within_s: float
) -> None:
    with Listening(microphone, PROGRAM, model_path, DEVICE) as listening:
        microphone.play(short_tones)
        time.sleep(0.3)
        getattr(microphone, happening)()
        happened_at = time.monotonic()
        *events, end = listening.events()
        assert time.monotonic() - happened_at < within_s
    assert listening.process.returncode == 0
    assert message in end["text"]
    assert events[-1] == {"kind": "final", "text": "ones"}  # earlier audio is recognised


def test_no_sound_server(microphone: VirtualMicrophone, model_path: Path) -> None:
    microphone.kill()
    command = [sys.executable, "-m", "lwasr_edge", "listen", "--model", model_path]
    tried = subprocess.run(command, env=microphone.env, capture_output=True, text=True, timeout=30)
    assert tried.returncode == 2
    assert tried.stderr.endswith("lwasr: error: no recording device was found: is a microphone plugged in?\n")
