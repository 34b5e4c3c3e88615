"""Calls into libraries in C++ (onnxruntime, soxr) in programs that end, fork or are copied.

When the interpreter ends, a daemon thread that returns from such a call is ended by Python in the middle of C++ code,
which aborts the process (SIGABRT, "terminate called without an active exception"). So the interpreter's end waits for
the calls in progress, and daemon threads begin no more of them: they sleep until the process is gone.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_WAIT_S = 30.0  # at the interpreter's end, for calls that cannot be cancelled; they take milliseconds


class NativeCall:
    """A context manager around one call.

    Args:
        cancel: makes the call return soon, with an error that nobody sees; None if it cannot be cancelled.
    """

    def __init__(self, cancel: Callable[[], Any] | None = None) -> None:
        self.cancel = cancel

    def __enter__(self) -> None:
        _calls.add(self)
        if _is_ending and _is_daemon():
            _calls.discard(self)
            _sleep_for_good()

    def __exit__(self, *exc_info: object) -> None:
        if _is_ending and _is_daemon():
            _calls.discard(self)
            _sleep_for_good()
        _calls.discard(self)


_calls: set[NativeCall] = set()  # in progress; adding and discarding are atomic
_is_ending = False


def _is_daemon() -> bool:
    """Whether the interpreter ends without waiting for this thread; true of threads that Python did not start."""
    return threading.current_thread().daemon


def _sleep_for_good() -> None:
    while True:
        time.sleep(3600)


def _finish_calls() -> None:
    """Wait for the calls of daemon threads; other threads have ended when exit handlers run."""
    global _is_ending
    _is_ending = True
    for call in list(_calls):
        if call.cancel is not None:
            call.cancel()
    deadline_s = time.monotonic() + MAX_WAIT_S
    while _calls and time.monotonic() < deadline_s:
        time.sleep(0.001)


atexit.register(_finish_calls)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.clear)  # the parent's other threads do not exist in the child
