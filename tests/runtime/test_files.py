"""Files: atomic writes, checks of output paths, JSON lines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lwasr_edge.errors import OutputError
from lwasr_edge.files import (
    atomic_file,
    check_output,
    read_json_lines,
    read_regular,
    split_lines,
    write_bytes,
    write_file,
)


def test_write_file_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_file(path, "caf\u00e9\n")
    assert path.read_bytes() == "caf\u00e9\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
def test_file_modes_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "a.txt", "text")
        write_bytes(tmp_path / "b.bin", b"data")
    finally:
        left = os.umask(before)
    assert left == umask  # not changed by the writes
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_no_temporary_file_is_left_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


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


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write_file(tmp_path / "no" / "a.txt", "text")
    with pytest.raises(OutputError, match="Is a directory"):
        write_file(tmp_path, "text")


def test_a_device_is_written_in_place() -> None:
    write_file("/dev/null", "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_an_output_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    check_output(tmp_path / "a.txt")
    check_output(Path("a.txt"))
    check_output(Path("/dev/stdout"))
    (tmp_path / "old.txt").write_text("old")
    check_output(tmp_path / "old.txt")
    with pytest.raises(OutputError, match=r"the folder .*no does not exist: create it first"):
        check_output(tmp_path / "no" / "a.txt")
    with pytest.raises(OutputError, match="output must be a file, got the folder .*: name a file"):
        check_output(tmp_path)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="no permission in .*: choose another folder"):
            check_output(tmp_path / "a.txt")


SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"  # lines end there for str.splitlines, not in JSON


def test_split_lines() -> None:
    assert split_lines("") == []
    assert split_lines("a\n\nb") == split_lines("a\r\n\r\nb\r\n") == ["a", "", "b"]
    assert split_lines(f"a{SEPARATORS}b\n") == [f"a{SEPARATORS}b"]


def test_json_lines_with_separators_inside_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    inside = "a\u2028b\u2029c\x85d\x7fe"  # a form feed must be escaped in JSON; these need not be
    text = f'{{"text": "{inside}"}}\r\n\n  \r\n{{"text": "form\\ffeed"}}\n[1]'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(read_json_lines(path)) == [(1, {"text": inside}), (4, {"text": "form\ffeed"}), (5, [1])]


@pytest.mark.parametrize("bad", ["{", "NONE", "[" * 100_000, '{"a": 1}\x0c{"b": 2}', '"form\x0cfeed"', "{}\u2028{}"])
def test_lines_that_are_not_json(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"[1]\n{bad}\n[3]\n", encoding="utf-8")
    lines = read_json_lines(path)
    assert next(lines) == (1, [1])
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: line must be JSON, got "):
        next(lines)
    reported = []
    assert list(read_json_lines(path, lambda number, error: reported.append(number))) == [(1, [1]), (3, [3])]
    assert reported == [2]


def test_old_temporary_files_of_killed_writes_are_removed(tmp_path: Path) -> None:
    old, new, other, stranger = (
        tmp_path / name
        for name in (".a.txt.0123abcd.tmp", ".a.txt.89abcdef.tmp", ".b.txt.0123abcd.tmp", ".a.txt.mine.tmp")
    )
    for path in (old, new, other, stranger):
        path.write_text("part")
    for path in (old, other, stranger):
        os.utime(path, (1, 1))
    write_file(tmp_path / "a.txt", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, other.name, stranger.name, "a.txt"])


def test_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="at most 4 bytes, got more"):
        read_regular(tmp_path / "a", 4)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="must be a regular file, got a pipe, socket or device"):
            read_regular(path, 4)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nothing", 4)
    for name in ("a\0b", "a\ud800"):
        with pytest.raises(OSError, match="no path|No such file"):
            read_regular(tmp_path / name, 4)
