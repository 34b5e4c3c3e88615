"""Keep libmpg123's notes off stderr: it prints one for every damaged frame, and libsndfile has no switch for it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

_NOTES = re.compile(rb"\[[^\n]*libmpg123/[^\n]*\n?|(?:Note|Warning|Error): [^\n]*\n?|\s+")
_capture = None


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what libmpg123 writes to file descriptor 2 inside the context; other lines are written at its end.

    The descriptor belongs to the whole process, so nothing is done while other threads run: what they write, and the
    programs that they start, must reach the real stderr.
    """
    global _capture
    if threading.active_count() > 1:
        yield
        return
    try:
        if _capture is None:
            _capture = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process
        if sys.stderr is not None:
            sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError):  # stderr is closed, or no folder for temporary files
        yield
        return
    try:
        os.dup2(_capture.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        if size := os.lseek(_capture.fileno(), 0, os.SEEK_CUR):
            _capture.seek(0)
            written = _capture.read(size)
            _capture.seek(0)
            _capture.truncate()
            if rest := _NOTES.sub(b"", written):
                os.write(2, rest)
