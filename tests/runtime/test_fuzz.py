"""A few seconds of damaged files; `make fuzz` runs for longer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from locations import ROOT

KINDS = ["model", "gzip", "metadata", "ort", "card", "arpa", "arpa-gzip", "phrases", "manifest"]
TRAINING_KINDS = ["nemo", "checkpoint", "state"]


@pytest.mark.parametrize(
    ("kinds", "count"),
    [(KINDS, 100), pytest.param(TRAINING_KINDS, 40, marks=pytest.mark.slow)],
    ids=["base", "training"],
)
def test_damaged_files_give_errors_of_this_package(kinds: list[str], count: int) -> None:
    """In a process of its own: a crash in onnxruntime must fail this test alone."""
    command = [sys.executable, str(ROOT / "tests" / "fuzz_files.py"), "--count", str(count), "--seed", "1", "--kinds"]
    ended = subprocess.run([*command, *kinds], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert ended.stdout.count(f"{count} inputs, 0 failed") == len(kinds)
