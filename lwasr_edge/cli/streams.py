"""Standard streams that may be closed, missing (pythonw, windowed programs, daemons), full, or not in UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from lwasr_edge.errors import AudioError


def prepare_streams() -> None:
    """Let stdout and stderr take any text: file names need not be valid in their encoding, or they may be closed."""
    for descriptor in range(3):  # or the next file to be opened would be stdout for libraries in C
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):  # the new one lasts until the process ends
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Send what stdout still buffers nowhere, or the interpreter would fail on it when it exits."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test has no file descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def say(text: str, end: str = "\n") -> None:
    """Write to stderr; if that is impossible (a full disk, a closed pipe), the work goes on without it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + end)
        sys.stderr.flush()


def is_terminal(stream: Any) -> bool:
    """Whether a standard stream is a terminal; false for None, closed streams and stand-ins."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


def binary_stdin(wanted: str, hint: str) -> BinaryIO:
    """Stdin for bytes.

    Args:
        wanted: what it must be, for the message.
        hint: what to do otherwise.

    Raises:
        AudioError: it is a terminal, closed, or no file.
    """
    buffer = getattr(sys.stdin, "buffer", None)
    if is_terminal(sys.stdin):
        got = "a terminal"
    elif sys.stdin is None or sys.stdin.closed:
        got = "a closed stream"
    elif buffer is None:
        got = f"{type(sys.stdin).__name__}, which has no bytes"
    else:
        return buffer
    raise AudioError(f"stdin must be {wanted}, got {got}: {hint}")


def json_text(value: object, *, for_stdout: bool = True, indent: int | None = None) -> str:
    """JSON that is valid in UTF-8 and in the encoding of stdout: other characters than ASCII's are escaped if need be.

    Args:
        value: what `json.dumps` accepts.
        for_stdout: whether it is written to stdout, not to a file in UTF-8.
        indent: as for `json.dumps`.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8") if for_stdout else "utf-8"
    try:
        text.encode()  # fails for names of files that are not UTF-8
        is_safe = text.isascii() or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except (UnicodeEncodeError, LookupError):
        is_safe = False
    return text if is_safe else json.dumps(value, indent=indent)
