"""One bar for the whole command, with the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from lwasr_edge.cli.streams import is_terminal, say

SHOWN_EVERY_S = 0.5
LINE_EVERY_S = 60.0  # where there is no terminal
SURE_AFTER_S = 10.0  # of expected work: from then on, the pace so far corrects the time that is left


class Bar:
    """A bar of several stages, each with its expected seconds; where there is no terminal, a line every minute.

    Args:
        stages: name and expected seconds of each stage, in order.
    """

    def __init__(self, stages: dict[str, float]) -> None:
        self._left = dict(stages)
        self._done_s = self._shown_at = self._share = 0.0
        self._stage = ""
        self._began_at = self._line_at = time.monotonic()
        self._is_terminal = is_terminal(sys.stderr)
        self._bar = tqdm(
            total=100.0,
            bar_format="{desc}: {percentage:3.0f} %|{bar:30}| {postfix}",
            leave=False,
            disable=not self._is_terminal,
        )

    def expect(self, stage: str, seconds: float) -> None:
        """Correct the expected seconds of a stage that has not begun."""
        self._left[stage] = seconds

    def enter(self, stage: str) -> None:
        """Begin a stage; the one before is complete."""
        self._done_s += self._left.pop(self._stage, 0.0)
        self._stage, self._share, self._shown_at, self._line_at = stage, 0.0, 0.0, 0.0
        self.share(0.0)

    def share(self, done: float) -> None:
        """Show that a share, 0 to 1, of the stage is done."""
        self._share = min(1.0, done)
        now = time.monotonic()
        if now - self._shown_at < SHOWN_EVERY_S:
            return
        self._shown_at = now
        done_s = self._done_s + self._share * self._left.get(self._stage, 0.0)
        left_s = sum(self._left.values()) - (done_s - self._done_s)
        pace = (now - self._began_at) / done_s if done_s > SURE_AFTER_S else 1.0
        percentage, left = 100 * done_s / max(1e-9, done_s + left_s), f"{max(1, round(left_s * pace / 60))} min left"
        if not self._is_terminal and now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            say(f"{self._stage}: {percentage:.0f} %, {left}")
        self._bar.n = percentage
        self._bar.set_description_str(self._stage, refresh=False)
        self._bar.set_postfix_str(left)

    def steps(self, total: int) -> Steps:
        """A view for a training, which counts steps."""
        return Steps(self.share, total)

    def write(self, text: str) -> None:
        """A line above the bar."""
        self._bar.clear()
        say(text)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


class Steps:
    """The part of tqdm that `Trainer` uses."""

    def __init__(self, show: Callable[[float], object], total: int) -> None:
        self._show, self._total, self.n = show, max(1, total), 0

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """Count steps."""
        self.n += count
        self._show(self.n / self._total)

    def set_postfix(self, values: dict[str, str]) -> None:
        """Losses are in the log of the run alone."""
