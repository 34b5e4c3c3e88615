"""One bar for the whole command, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from tqdm import tqdm


class Bar:
    """A bar of several stages, each with its expected seconds; in a log, a line for each stage.

    Args:
        stages: name and expected seconds of each stage, in order.
    """

    def __init__(self, stages: dict[str, float]) -> None:
        self._stages = dict(stages)
        self._done_s = 0.0
        self._stage = ""
        self._share = 0.0
        self._bar = tqdm(total=100.0, bar_format="{desc} {percentage:3.0f} %|{bar}| {postfix}", mininterval=1)
        self._began = time.monotonic()

    def enter(self, stage: str, expected_s: float | None = None) -> None:
        """Begin a stage; the one before is complete."""
        self._done_s += self._stages.pop(self._stage, 0.0)
        if expected_s is not None:
            self._stages[stage] = expected_s
        self._stage, self._share = stage, 0.0
        self._bar.set_description_str(stage, refresh=False)
        self._show()

    def share(self, done: float) -> None:
        """Show that a share, 0 to 1, of the stage is done."""
        self._share = min(1.0, done)
        self._show()

    def steps(self, total: int) -> Steps:
        """A view for a training, which counts steps."""
        return Steps(self.share, total)

    def _show(self) -> None:
        left = sum(self._stages.values()) - self._share * self._stages.get(self._stage, 0.0)
        done = self._done_s + self._share * self._stages.get(self._stage, 0.0)
        spent = time.monotonic() - self._began
        pace = spent / done if done > 5 else 1.0  # the computer may have become slower or faster
        self._bar.n = 100 * done / max(1e-9, done + left)
        self._bar.set_postfix_str(f"{max(1, round(left * pace / 60))} min left", refresh=False)
        self._bar.update(0)
        self._bar.refresh()

    def write(self, text: str) -> None:
        """A line above the bar."""
        self._bar.write(text, file=self._bar.fp)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.leave = False
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
        """Losses are in the run's log alone."""
