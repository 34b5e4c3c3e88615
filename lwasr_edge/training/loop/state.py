"""The state of a run on disk, for an exact resume: a run killed at any moment finds its newest good state."""

from __future__ import annotations

import io
import pickle
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from lwasr_edge.errors import CheckpointError
from lwasr_edge.files import write_bytes

NEXT_STATE_FILE = "state.next.pt"
STATE_FILE = "state.pt"
PREVIOUS_STATE_FILE = "state.previous.pt"


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
            missing = {"began_with", "models", "optimizer", "step", "audio_s", "elapsed_s"} - set(state)
            if not missing:
                return state
            reason = f"it lacks {', '.join(sorted(missing))}"
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"{path} is damaged and was skipped: {reason}", file=sys.stderr)
    if paths:
        raise CheckpointError(
            f"{folder} has no readable state: start again in another folder, from the students in this one"
        )
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
