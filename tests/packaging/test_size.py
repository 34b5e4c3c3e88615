"""The size of the runtime's core, and of folders: both have a limit."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from locations import ROOT

MAX_CORE_LINES = 3200  # of lwasr_edge/*.py and lwasr_edge/audio/*.py together
MAX_MODULES = 15  # in one folder, without __init__.py
TO_BE_DIVIDED = {"benchmarks"}  # folders that still have more

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the checkout, not an install")


def test_the_core_stays_small() -> None:
    core = [*(ROOT / "lwasr_edge").glob("*.py"), *(ROOT / "lwasr_edge" / "audio").glob("*.py")]
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in core}
    assert len(lines) > 15
    assert sum(lines.values()) <= MAX_CORE_LINES, lines


def test_folders_have_few_modules() -> None:
    counts: Counter[str] = Counter()
    for folder, folders, files in os.walk(ROOT):
        # What is built or installed in the checkout, such as .venv, is not part of it.
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in ("build", "dist", "runs", "shared", "__pycache__")
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        counts[Path(folder).relative_to(ROOT).as_posix()] = sum(
            name.endswith(".py") and name != "__init__.py" for name in files
        )
    assert counts["lwasr_edge"] > 10
    too_many = {folder: count for folder, count in counts.items() if count > MAX_MODULES}
    assert set(too_many) <= TO_BE_DIVIDED, too_many
