"""The size of the runtime's core, of its audio room, and of folders: all have a limit."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from locations import ROOT

MAX_CORE_LINES = 2350  # of lwasr_edge/*.py
MAX_AUDIO_LINES = 2500  # of lwasr_edge/audio/*.py: damaged and unfinished files of ten formats
MAX_MODULES = 15  # in one folder, without __init__.py
TO_BE_DIVIDED = {"benchmarks"}  # folders that still have more

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the checkout, not an install")


@pytest.mark.parametrize(("folder", "limit"), [("lwasr_edge", MAX_CORE_LINES), ("lwasr_edge/audio", MAX_AUDIO_LINES)])
def test_the_core_stays_small(folder: str, limit: int) -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).glob("*.py")}
    assert len(lines) > 5
    assert sum(lines.values()) <= limit, lines


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
