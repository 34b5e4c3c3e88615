"""Standard streams that are closed, full or not in UTF-8, and signals in a long recording."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import speak

from lwasr_edge import AudioError
from lwasr_edge.cli import main
from lwasr_edge.cli.streams import binary_stdin, is_terminal, json_text, say

WITH_SIGNALS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in background shells
)
LWASR = [sys.executable, "-c", WITH_SIGNALS + "import sys; from lwasr_edge.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wav") / "two.wav"
    soundfile.write(path, speak("\u2581two", 0.3), 16_000)
    return path


@pytest.fixture(scope="module")
def long_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour; with chunks of 40 ms it takes longer than the tests wait."""
    path = tmp_path_factory.mktemp("wav") / "long.wav"
    minute = np.tile(speak("\u2581two", 0.88), 60)
    with soundfile.SoundFile(path, "w", 16_000, 1, "ULAW") as file:
        for _ in range(60):
            file.write(minute)
    return path


def close(*descriptors: int) -> Any:
    return lambda: [os.close(descriptor) for descriptor in descriptors]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([*LWASR, *map(str, arguments)], timeout=60, check=False, **streams)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_work_is_done_with_closed_streams(model_path: Path, wav: Path, tmp_path: Path, closed: tuple[int, ...]) -> None:
    output = tmp_path / "two.txt"
    ended = run("transcribe", wav, "-o", output, "--model", model_path, preexec_fn=close(*closed))
    assert (ended.returncode, output.read_text(), ended.stdout, ended.stderr) == (0, "two\n", b"", b"")


@pytest.mark.parametrize("command", [("transcribe", "-"), ("listen", "--raw", "16000")])
def test_a_closed_stdin_is_one_line(model_path: Path, command: tuple[str, ...]) -> None:
    ended = run(*command, "--model", model_path, preexec_fn=close(0))
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.startswith(b"lwasr: error: stdin must be ") and b"got a closed stream: pipe" in ended.stderr
    assert ended.stderr.count(b"\n") == 1


def test_a_stderr_that_cannot_be_written(model_path: Path, wav: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb") as full:
        ended = run("transcribe", wav, "--model", model_path, stderr=full)
        assert (ended.returncode, ended.stdout) == (0, b"two\n")
        assert run("transcribe", "none.wav", "--model", model_path, stderr=full).returncode == 2
        assert run("transcribe", "none.wav", "--debug", "--model", model_path, stderr=full).returncode == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize("name", ["caf\u00e9 \u20ac \U0001f600.wav", os.fsdecode(b"caf\xe9.wav")])
def test_json_is_valid_in_any_encoding(model_path: Path, wav: Path, tmp_path: Path, encoding: str, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(wav.read_bytes())
    except OSError:
        pytest.skip("the file system refuses the name")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    ended = run("transcribe", "--json", tmp_path / name, "--model", model_path, env=environment)
    described = json.loads(ended.stdout.decode("utf-8"))
    assert (described["text"], described["file"]) == ("two", str(tmp_path / name))


@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "\udce9"])
def test_json_text_can_be_written(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "UTF8", "utf_8_sig", "cp1252", "ascii", "unknown"):
        stdout = io.StringIO()
        monkeypatch.setattr(sys, "stdout", type("Stdout", (), {"encoding": encoding, "write": stdout.write}))
        written = json_text({"text": text})
        assert json.loads(written.encode("ascii" if "8" not in encoding else "utf-8")) == {"text": text}
        assert json_text({"text": text}, for_stdout=False).encode()
    assert json_text({"text": "caf\u00e9"}, for_stdout=False) == '{"text": "caf\u00e9"}'


def test_streams_that_are_missing_or_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stream in (None, closed, object(), io.StringIO("text")):
        assert not is_terminal(stream)
        monkeypatch.setattr(sys, "stderr", stream)
        say("nobody reads this")
        monkeypatch.setattr(sys, "stdin", stream if stream is None or hasattr(stream, "closed") else None)
        with pytest.raises(AudioError, match="stdin must be a recording, got (a closed stream|StringIO, which has no)"):
            binary_stdin("a recording", "name a file")


def test_a_program_without_streams(
    model_path: Path, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pythonw and windowed programs have none."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["transcribe", str(wav), "--model", str(model_path), "-o", str(tmp_path / "a.txt")]) == 0
    assert (tmp_path / "a.txt").read_text() == "two\n"
    assert main(["transcribe", "-", "--model", str(model_path)]) == 2


def interrupted(
    number: signal.Signals, delay_s: float, *arguments: str | Path, **options: Any
) -> tuple[int, bytes, bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    program = subprocess.Popen([*LWASR, *map(str, arguments)], **streams)
    threading.Timer(delay_s, program.send_signal, [number]).start()
    out, err = program.communicate(timeout=60)
    return program.returncode, out, err


def seconds_in(message: bytes) -> float:
    return float(message.partition(b"stopped at ")[2].split()[0])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_text_so_far(
    model_path: Path, long_wav: Path, wav: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    command = ["transcribe", wav, long_wav, wav, "--chunk-ms", "40", "--model", model_path]
    returned, out, err = interrupted(number, 2.0, *command)
    first, second = out.decode().splitlines()
    assert (returned, first) == (status, f"{wav}: two")
    words = second.removeprefix(f"{long_wav}: ").split()
    assert set(words) == {"two"}
    assert abs(len(words) - seconds_in(err)) < 2
    assert err.endswith(b" s; the text so far is on stdout; 1 more not transcribed\n")

    output = tmp_path / "long.json"
    returned, out, err = interrupted(number, 1.5, *command[:1], long_wav, "--json", "-o", output, *command[4:])
    described = json.loads(output.read_text())
    assert (returned, out) == (status, b"")
    assert described["duration_s"] == pytest.approx(seconds_in(err), abs=0.1)
    assert f"the text so far is in {output}".encode() in err


def test_a_signal_ends_a_pipe(model_path: Path, wav: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, wav.read_bytes())
    command = ["transcribe", "-", "--model", model_path]
    returned, out, err = interrupted(signal.SIGINT, 1.5, *command, stdin=reading)
    os.close(writing)
    assert (returned, out) == (130, b"two\n")
    assert b"lwasr: -: stopped at 0.4 s; the text so far is on stdout\n" in err


def test_a_second_signal_ends_at_once(model_path: Path, long_wav: Path) -> None:
    program = subprocess.Popen(
        [*LWASR, "transcribe", str(long_wav), "--model", str(model_path), "--chunk-ms", "40"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(1.5)
    while program.poll() is None:
        program.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    program.communicate()
    assert program.returncode in (-signal.SIGTERM, 143)
