"""The staging folder of an export is removed, also after its program was killed; folders of others stay."""

from __future__ import annotations

import fcntl
import importlib.util
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from lwasr_edge.export import staging
from lwasr_edge.export.staging import MARK, staging_folder

HOLDER = """
import sys
from pathlib import Path
from lwasr_edge.export.staging import staging_folder
with staging_folder(Path(sys.argv[1])) as folder:
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


def test_the_folder_of_a_killed_export_is_removed_by_the_next(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    left = folder_of(holder)
    holder.send_signal(signal.SIGKILL)
    assert holder.wait() == -signal.SIGKILL
    assert (left / "float.onnx").read_bytes() == b"half of it"
    with staging_folder(tmp_path / "m.onnx") as folder:
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_still_runs_keeps_its_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    running = folder_of(holder)
    with staging_folder(tmp_path / "m.onnx"):
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
    with staging_folder(tmp_path / "m.onnx"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.onnx.backup", ".m.onnx.link", "elsewhere"]
    assert (other / "precious").exists()
    assert (elsewhere / "precious").exists()


def test_windows_has_no_fcntl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locking(descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (2, 1)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    fake = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("staging_on_windows", staging.__file__)
    assert spec is not None and spec.loader is not None
    windows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(windows)
    left = tmp_path / ".m.onnx.left"
    left.mkdir()
    (left / MARK).touch()
    with windows.staging_folder(tmp_path / "m.onnx") as running:
        assert [path.name for path in tmp_path.iterdir()] == [running.name]
        with windows.staging_folder(tmp_path / "m.onnx") as other:
            assert {path.name for path in tmp_path.iterdir()} == {running.name, other.name}
    assert list(tmp_path.iterdir()) == []
