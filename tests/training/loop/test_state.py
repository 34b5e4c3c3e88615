"""Saved states of training: what a damaged or hostile one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lwasr_edge.errors import CheckpointError
from lwasr_edge.training.loop.state import PREVIOUS_STATE_FILE, STATE_FILE, read_state

GOOD = {"began_with": "a", "models": {"w": torch.ones(2)}, "optimizer": {"state": {}, "param_groups": []}}
GOOD |= {"step": 3, "audio_s": 2.0, "elapsed_s": 1}


class Code:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ([1, 2], "it must be a state, got a list"),
        (5, "it must be a state, got a int"),
        ({"step": 3}, "it lacks audio_s, began_with, elapsed_s, models, optimizer"),
        ({**GOOD, "step": "3"}, "step must be a int, got a str"),
        ({**GOOD, "step": True}, "step must be a int, got a bool"),
        ({**GOOD, "step": -1}, "step must be a number from 0, got -1"),
        ({**GOOD, "step": 10**400}, "step must be a number from 0, got an integer of"),
        ({**GOOD, "audio_s": float("nan")}, "audio_s must be a number from 0, got nan"),
        ({**GOOD, "models": torch.ones(2)}, "models must be a dict, got a Tensor"),
        ({**GOOD, "optimizer": {}}, "the optimizer must have its state and param_groups"),
    ],
)
def test_states_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], state: object, reason: str) -> None:
    """The state before is used; without one, there is one error."""
    torch.save(state, tmp_path / STATE_FILE)
    with pytest.raises(CheckpointError, match="has no readable state"):
        read_state(tmp_path, torch.device("cpu"))
    assert f"state.pt is damaged and was skipped: {reason}" in capsys.readouterr().err
    torch.save(GOOD, tmp_path / PREVIOUS_STATE_FILE)
    found = read_state(tmp_path, torch.device("cpu"))
    assert found is not None and found["step"] == 3


def test_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({**GOOD, "step": Code(tmp_path / "marker")}, tmp_path / STATE_FILE)
    with pytest.raises(CheckpointError):
        read_state(tmp_path, torch.device("cpu"))
    err = capsys.readouterr().err
    assert "holds code or objects that are no tensors, which were not loaded" in err and "weights_only" not in err
    assert not (tmp_path / "marker").exists()
