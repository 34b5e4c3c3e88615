"""Results are written whole or not at all, and a place that takes none is refused before the work."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lwasr_edge.errors import OutputError
from lwasr_edge.files import check_output, write_file


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_file(path, "caf\u00e9\n")
    assert path.read_bytes() == "caf\u00e9\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OutputError, match=r"a\.txt cannot be written: No space left on device"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write_file(tmp_path / "no" / "a.txt", "text")
    with pytest.raises(OutputError, match="Is a directory"):
        write_file(tmp_path, "text")


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_file("/dev/null", "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_place_that_takes_no_file_is_refused_beforehand(tmp_path: Path) -> None:
    check_output(tmp_path / "a.txt")
    check_output(Path("a.txt"))
    check_output(Path("/dev/stdout"))
    (tmp_path / "old.txt").write_text("old")
    check_output(tmp_path / "old.txt")
    with pytest.raises(OutputError, match=r"the folder .*no does not exist; make it first"):
        check_output(tmp_path / "no" / "a.txt")
    with pytest.raises(OutputError, match="is a folder; name a file"):
        check_output(tmp_path)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="takes no files"):
            check_output(tmp_path / "a.txt")
