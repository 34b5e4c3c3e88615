"""The common `main` of the three programs: which error gives which line and exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from locations import ROOT

from lwasr_edge.cli.command import run_command
from lwasr_edge.errors import AudioWarning, MissingExtraError, OptionError


def run(error: BaseException | None, *arguments: str, **options: str) -> int:
    def fail() -> None:
        if error is not None:
            raise error

    return run_command("prog", fail, arguments, **options)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OptionError("x must be\n1, got 2"), 2, "x must be 1, got 2"),
        (MissingExtraError("a microphone needs sounddevice"), 2, "a microphone needs sounddevice"),
        (ModuleNotFoundError("", name="torch"), 2, "torch is not installed: pip install '.[train]'"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 2, "a/b: No such file or directory"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (OSError("cannot load library"), 2, "cannot load library"),
        (MemoryError(), 2, "not enough memory: use less"),
        (
            ModuleNotFoundError("no x", name="lwasr_edge.x"),
            1,
            "unexpected ModuleNotFoundError: no x: please report it, with the output of --debug",
        ),
        (KeyError("k"), 1, "unexpected KeyError: 'k': please report it, with the output of --debug"),
    ],
)
def test_errors(error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(error, extra="train", memory_hint="use less") == status
    assert capsys.readouterr().err == f"prog: error: {line}\n"


def test_messages_hold_no_commands_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(OptionError("got \x1b]0;owned\x07\x1b[2J \x9b2J \u202e \ud800 caf\u00e9")) == 2
    assert capsys.readouterr().err == (
        "prog: error: got \\x1b]0;owned\\x07\\x1b[2J \\x9b2J \\u202e \\ud800 caf\u00e9\n"
    )
    assert run(OptionError("a" * 5_000_000 + "end")) == 2
    err = capsys.readouterr().err
    assert len(err) < 2100 and err.endswith("aend\n")


def test_memory_of_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    error = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    assert run(error) == 2
    assert "not enough memory" in capsys.readouterr().err


def test_a_program_without_extras(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ModuleNotFoundError("", name="soxr")) == 2
    assert capsys.readouterr().err == "prog: error: soxr is not installed: pip install .\n"


def test_debug_prints_the_traceback_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(OptionError("wrong"), "--debug") == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("prog: error: wrong\n")


def test_interrupts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""
    assert run(KeyboardInterrupt(), interrupted_note="stopped") == 130
    assert capsys.readouterr().err == "prog: stopped\n"


def test_status_and_exit_pass_through() -> None:
    assert run(None) == 0
    assert run_command("prog", lambda: 2, []) == 2
    with pytest.raises(SystemExit):
        run(SystemExit(2))


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def warn() -> None:
        warnings.warn("cut\nshort", AudioWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)

    assert run_command("prog", warn, []) == 0
    assert capsys.readouterr().err == "prog: warning: cut short\nprog: UserWarning: other\n"


def program(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run code that calls `run_command` in a process of its own."""
    command = [sys.executable, "-c", f"import sys\nfrom lwasr_edge.cli.command import run_command\n{code}"]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, check=False, **options)


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb") as full:
        ended = program("sys.exit(run_command('prog', lambda: print('text'), []))", stdout=full)
    assert (ended.returncode, ended.stderr) == (2, b"prog: error: No space left on device\n")


def test_a_closed_stdout_and_text_that_it_cannot_encode() -> None:
    code = "sys.exit(run_command('prog', lambda: print('caf\\u00e9 \\ud800'), []))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = program(code, stdout=subprocess.PIPE, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"caf\\xe9 \\ud800\n", b"")
    ended = program(code, stdout=None, preexec_fn=lambda: os.close(1))
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_reader_that_is_gone() -> None:
    code = "sys.exit(run_command('prog', lambda: print('text\\n' * 100_000), []))"
    reading, writing = os.pipe()
    os.close(reading)
    ended = program(code, stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (130, b"")
