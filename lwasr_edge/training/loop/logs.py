"""Logs of a training run: log.jsonl for programs, log.txt for people, TensorBoard files if asked for."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lwasr_edge.errors import MissingExtraError, OptionError
from lwasr_edge.files import read_json_lines, write_bytes

LOG_FILE = "log.jsonl"
TEXT_FILE = "log.txt"
BOARD_FOLDER = "tensorboard"
LOG_EVERY = 50  # steps


class LossMeans:
    """Means of the losses between two lines of the log, summed on the training device without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one step."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=self._device)) + value
        self._count += 1

    def take(self, step: int) -> dict[str, float]:
        """The means since the last call; waits for the device.

        Raises:
            OptionError: one of them is not finite.
        """
        means = {name: round(float(value) / self._count, 5) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        if not all(math.isfinite(value) for value in means.values()):
            raise OptionError(f"the loss must be finite, got {means} at step {step}: lower --learning-rate")
        return means


class Log:
    """The logs of one run, in its folder; a resumed run appends to them."""

    def __init__(self, folder: Path, steps: int, with_tensorboard: bool = False) -> None:
        """Prepare; nothing is written yet.

        Args:
            folder: of the run.
            steps: steps of the whole run.
            with_tensorboard: also write what `tensorboard --logdir` shows.

        Raises:
            MissingExtraError: TensorBoard is asked for and not installed.
        """
        self.folder, self.steps = folder, steps
        self.board: Any = None
        if with_tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError as error:
                raise MissingExtraError("--tensorboard needs TensorBoard: pip install tensorboard") from error
            self.board = SummaryWriter(str(folder / BOARD_FOLDER))

    def write(self, step: int, audio_s: float, elapsed_s: float, values: dict[str, Any]) -> None:
        """Add a line: the progress of the run, and `values`: numbers by name, or dicts of them."""
        progress = {"step": step, "audio_s": round(audio_s), "elapsed_s": round(elapsed_s, 1)}
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(progress | values) + "\n")
        numbers = flat(values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        counted = f"step {step} of {self.steps}, {elapsed_s / 60:.1f} min, {audio_s / 3600:.2f} h of audio"
        self._append_text(f"{counted}: {shown}")
        if self.board is not None:
            for name, value in numbers.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()

    def holds(self, step: int, name: str) -> bool:
        """Whether a value of this name was logged at that step."""
        return any(entry["step"] == step and name in entry for entry in read_log(self.folder))

    def cut(self, step: int) -> None:
        """Remove the lines of log.jsonl after a step: an interrupted run wrote them after the state that is resumed.

        Without a state, `step` is 0 and every line goes.
        """
        path = self.folder / LOG_FILE
        if not path.is_file():
            return
        kept = [json.dumps(entry) + "\n" for entry in read_log(self.folder) if entry["step"] <= step]
        write_bytes(path, "".join(kept).encode())
        self._append_text(f"resumed at step {step} of {self.steps}" if step else "restarted: no state had been saved")

    def _append_text(self, line: str) -> None:
        with (self.folder / TEXT_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl; lines that a kill cut short, or that are no log lines, are left out."""
    path = folder / LOG_FILE
    if not path.is_file():
        return []
    entries = (entry for _, entry in read_json_lines(path, lambda number, error: None))
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("step"), int)]


def flat(values: dict[str, Any]) -> dict[str, float]:
    """{"wer": {"a": 1}, "b": 2} as {"wer/a": 1, "b": 2}."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            numbers |= {f"{name}/{inner}": number for inner, number in flat(value).items()}
        else:
            numbers[name] = value
    return numbers
