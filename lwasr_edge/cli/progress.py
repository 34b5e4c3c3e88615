"""A progress line on stderr, shown only in a terminal."""

from __future__ import annotations

import sys
import time

from lwasr_edge.cli.streams import is_terminal, say

MIN_INTERVAL_S = 0.1


class ProgressLine:
    """Rewrite one line of the terminal; silent when stderr is not one. Use as a context manager.

    Args:
        label: of the line.
        unit: of the totals; with "s", the speed is shown in multiples of real time.
        smallest: totals below this show nothing.
    """

    def __init__(self, label: str, *, unit: str, smallest: float = 0.0) -> None:
        self._label = label
        self._unit = unit
        self._smallest = smallest
        self._is_terminal = is_terminal(sys.stderr)
        self._began_at = time.monotonic()
        self._shown_at = 0.0

    def __call__(self, done: float, total: float) -> None:
        """Show that `done` of `total` is finished."""
        now = time.monotonic()
        if not self._is_terminal or total < max(self._smallest, 1e-9) or now - self._shown_at < MIN_INTERVAL_S:
            return
        self._shown_at = now
        speed = done / max(now - self._began_at, 1e-9)
        rate = f"{speed:.0f} x real time" if self._unit == "s" else f"{speed / 1e6:.1f} MB/s"
        say(f"\r\x1b[K{self._label}: {min(1.0, done / total):4.0%}  {rate}", end="")

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._shown_at:
            say("\r\x1b[K", end="")
