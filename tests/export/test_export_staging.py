"""The hidden folder of an export goes away, also when its program was killed; nobody else's does."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lwasr_edge.export.staging import MARK, workplace

HOLDER = """
import sys
from pathlib import Path
from lwasr_edge.export.staging import workplace
with workplace(Path(sys.argv[1])) as folder:
    (folder / "float.onnx").write_bytes(b"half of it")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is exporting to m.onnx."""
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path / "m.onnx")]
    program = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield program
    program.kill()
    program.communicate()


def folder_of(program: subprocess.Popen[str]) -> Path:
    assert program.stdout is not None
    return Path(program.stdout.readline().strip())


def test_what_a_killed_export_left_is_cleared_by_the_next(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    left = folder_of(holder)
    holder.send_signal(signal.SIGKILL)
    assert holder.wait() == -signal.SIGKILL
    assert (left / "float.onnx").read_bytes() == b"half of it"
    with workplace(tmp_path / "m.onnx") as folder:
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_still_runs_keeps_its_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    running = folder_of(holder)
    with workplace(tmp_path / "m.onnx"):
        assert (running / "float.onnx").read_bytes() == b"half of it"
    assert list(tmp_path.iterdir()) == [running]
    holder.communicate()
    assert holder.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_stay(tmp_path: Path) -> None:
    other, elsewhere = tmp_path / ".m.onnx.backup", tmp_path / "elsewhere"
    for folder in (other, elsewhere):
        folder.mkdir()
        (folder / "precious").write_bytes(b"x")
    (elsewhere / MARK).touch()
    (tmp_path / ".m.onnx.link").symlink_to(elsewhere)
    with workplace(tmp_path / "m.onnx"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.onnx.backup", ".m.onnx.link", "elsewhere"]
    assert (other / "precious").exists()
    assert (elsewhere / "precious").exists()
