"""Ctrl-C and SIGTERM: what was recognised is kept."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM call `stop`; a second one has its usual effect, to end at once."""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(*_: object) -> None:
        restore()
        stop()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()


class Interruption:
    """A context in which a signal ends recordings early instead of the program.

    A signal while a pipe is read ends the pipe; while a recording is recognised, `is_stopped` becomes true and the
    caller finishes with what there is; at other times, and a second time, it has its usual effect.

    Attributes:
        status: the program's exit status after a signal, 130 or 143; 0 without one.
        is_stopped: whether recognition has to end.
        is_recognising: set by the caller.
    """

    def __init__(self) -> None:
        self.status = 0
        self.is_stopped = False
        self.is_recognising = False
        self._is_reading = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        with contextlib.suppress(ValueError):  # not the main thread: signals are the caller's
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._is_reading:
            self.status = 128 + number
            raise KeyboardInterrupt
        self.__exit__()
        if self.is_recognising:
            self.status = 128 + number
            self.is_stopped = True
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            os.kill(os.getpid(), number)

    def read(self, pipe: BinaryIO, size: int) -> bytes:
        """Read up to `size` bytes as they come; none after a signal."""
        try:
            self._is_reading = True
            return b"" if self.status else pipe.read1(size)  # type: ignore[attr-defined]
        except KeyboardInterrupt:
            return b""
        finally:
            self._is_reading = False


class InterruptiblePipe:
    """A pipe that ends with a signal too; a binary file object for `Recognizer.transcribe`."""

    def __init__(self, pipe: BinaryIO, interruption: Interruption) -> None:
        self.name = str(getattr(pipe, "name", "the pipe"))
        self._pipe = pipe
        self._interruption = interruption

    def read(self, size: int = 65_536) -> bytes:
        """Up to `size` bytes; empty at the end."""
        return self._interruption.read(self._pipe, size if size > 0 else 65_536)
