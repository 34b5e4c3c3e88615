"""Raw samples from stdin, recognised as they arrive: live input without PortAudio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lwasr_edge.cli.streams import binary_stdin

if TYPE_CHECKING:
    from lwasr_edge.events import Event
    from lwasr_edge.stream import Stream

BLOCK_BYTES = 65_536  # at most; a pipe returns what it holds


class RawInput:
    """Iterable of the events of signed 16-bit little-endian samples, up to the last words.

    If recognition falls behind, audio stays in the pipe; only the recorder can tell what was lost.

    Args:
        file: to read samples from; half a sample at its end is ignored.
        stream: opened with their sample rate.
        channels: interleaved in the samples; the stream mixes them.
    """

    def __init__(self, file: BinaryIO, stream: Stream, channels: int = 1) -> None:
        self._channels = channels
        self._file = file
        self._stream = stream
        self._is_stopped = False
        self._is_waiting = False

    def stop(self) -> None:
        """End the iteration after the last words. For signal handlers: a signal alone does not interrupt a read.

        Raises:
            KeyboardInterrupt: caught by the iteration.
        """
        self._is_stopped = True
        if self._is_waiting:
            raise KeyboardInterrupt

    def __iter__(self) -> Iterator[Event]:
        rest = b""
        while data := self._read():
            if self._channels == 1:
                yield from self._stream.accept(data)
                continue
            data = rest + data
            complete = len(data) // (2 * self._channels) * 2 * self._channels
            rest = data[complete:]
            frames = np.frombuffer(data[:complete], "<i2").astype(np.int16).reshape(-1, self._channels)
            yield from self._stream.accept(frames)
        yield from self._stream.flush()

    def _read(self) -> bytes:
        """Wait for the next bytes; empty at the end."""
        try:
            self._is_waiting = True
            return b"" if self._is_stopped else self._file.read1(BLOCK_BYTES)  # type: ignore[attr-defined]
        except KeyboardInterrupt:
            return b""
        finally:
            self._is_waiting = False


def stdin_for_samples() -> BinaryIO:
    """Binary stdin.

    Raises:
        AudioError: it is a terminal or closed.
    """
    return binary_stdin(
        "samples",
        "pipe them in, as in arecord -t raw -f S16_LE -r 16000 -c 1 | lwasr listen --raw 16000",
    )
