"""What a training run says of itself: log.jsonl for programs, log.txt for people, TensorBoard's files if asked for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lwasr_edge.errors import MissingExtraError
from lwasr_edge.files import write_bytes

LOG_FILE = "log.jsonl"
TEXT_FILE = "log.txt"
BOARD_FOLDER = "tensorboard"


class Log:
    """The logs of one run, in its folder; a run that goes on adds to them."""

    def __init__(self, folder: Path, steps: int, with_tensorboard: bool = False) -> None:
        """Prepare; nothing is written yet.

        Args:
            folder: of the run.
            steps: that the run will have.
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
                message = "--tensorboard: TensorBoard is not installed: pip install tensorboard"
                raise MissingExtraError(message) from error
            self.board = SummaryWriter(str(folder / BOARD_FOLDER))

    def write(self, step: int, audio_s: float, elapsed_s: float, values: dict[str, Any]) -> None:
        """Add a line: where the run stands, and ``values``, numbers by name or such by name of the kind."""
        where = {"step": step, "audio_s": round(audio_s), "elapsed_s": round(elapsed_s, 1)}
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(where | values) + "\n")
        numbers = flat(values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        progress = f"step {step} of {self.steps}, {elapsed_s / 60:.1f} min, {audio_s / 3600:.2f} h of audio"
        with (self.folder / TEXT_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{clock}  {progress}: {shown}\n")
        if self.board is not None:
            for name, value in numbers.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()

    def holds(self, step: int, name: str) -> bool:
        """Whether a value of this name was logged at that step."""
        path = self.folder / LOG_FILE
        if not path.is_file():
            return False
        entries = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return any(entry["step"] == step and name in entry for entry in entries)

    def cut(self, step: int) -> None:
        """Take lines out of log.jsonl that a run wrote after the state it now goes on from, and a half-written one."""
        path = self.folder / LOG_FILE
        if not path.is_file():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_bytes(path, "".join(kept).encode())
        with (self.folder / TEXT_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  goes on from step {step} of {self.steps}\n")


def flat(values: dict[str, Any]) -> dict[str, float]:
    """{"wer": {"a": 1}, "b": 2} as {"wer/a": 1, "b": 2}."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            numbers |= {f"{name}/{inner}": number for inner, number in flat(value).items()}
        else:
            numbers[name] = value
    return numbers
