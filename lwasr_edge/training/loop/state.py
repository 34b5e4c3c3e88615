"""The state of a run on disk, for an exact resume: a run killed at any moment finds its newest good state."""

from __future__ import annotations

import io
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from lwasr_edge.errors import CheckpointError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.model.checkpoint import loading_fault
from lwasr_edge.validate import printable, shown

NEXT_STATE_FILE = "state.next.pt"
STATE_FILE = "state.pt"
PREVIOUS_STATE_FILE = "state.previous.pt"
MAX_NUMBER = 1e15


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the newest state and keep the one before it.

    The new one is complete on disk before the others are renamed, so that a kill loses no saved state.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(folder / NEXT_STATE_FILE, buffer.getvalue())
    if (folder / STATE_FILE).is_file():
        (folder / STATE_FILE).replace(folder / PREVIOUS_STATE_FILE)
    (folder / NEXT_STATE_FILE).replace(folder / STATE_FILE)


def read_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest state in the folder that can be read; None where there is none.

    Raises:
        CheckpointError: there are states, and all are damaged.
    """
    names = (NEXT_STATE_FILE, STATE_FILE, PREVIOUS_STATE_FILE)  # newest first
    paths = [path for name in names if (path := folder / name).is_file()]
    for path in paths:
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            reason = _fault(state)
            if reason is None:
                return state
        except Exception as error:  # of torch, zipfile or pickle, depending on the damage
            reason = loading_fault(error)
        print(printable(f"{path} is damaged and was skipped: {reason}"), file=sys.stderr)
    if paths:
        raise CheckpointError(
            f"{folder} has no readable state: start again in another folder, from the students in this one"
        )
    return None


def _fault(state: object) -> str | None:
    """What is wrong with the fields of a state; None if nothing is."""
    if not isinstance(state, dict):
        return f"it must be a state, got a {type(state).__name__}"
    kinds = {"began_with": str, "models": dict, "optimizer": dict, "step": int, "audio_s": float, "elapsed_s": float}
    missing = [name for name in kinds if name not in state]
    if missing:
        return f"it lacks {', '.join(sorted(missing))}"
    for name, kind in kinds.items():
        value: Any = state[name]
        is_kind = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
        if not is_kind or isinstance(value, bool):
            return f"{name} must be a {kind.__name__}, got a {type(value).__name__}"
        if kind in (int, float) and not 0 <= value < MAX_NUMBER:
            return f"{name} must be a number from 0, got {shown(value)}"
    if not {"state", "param_groups"} <= set(state["optimizer"]):
        return "the optimizer must have its state and param_groups"
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writes that were killed."""
    for pattern in (".*.pt.*", ".*.safetensors.*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the present step; a second one stops at once.

    It works in the main thread, where signals arrive; elsewhere it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.wanted = False
        self.previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self.note) for number in self.SIGNALS}
        return self

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.wanted = True
        self.restore()

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def __exit__(self, *exc_info: object) -> None:
        self.restore()
