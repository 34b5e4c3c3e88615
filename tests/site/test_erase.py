"""`lwasr site erase`: what is removed, what remains, and that links are not followed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_folder import write_folder, write_recording

from lwasr_edge import OptionError
from lwasr_edge.cli import main
from lwasr_edge.site import erase as erasing
from lwasr_edge.site.consent import CONSENT_FILE
from lwasr_edge.site.derived import remember_report
from lwasr_edge.site.takes import add_consent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_folder(tmp_path / "folder", 2)
    write_recording(root / "sub" / "A.WAV", "one", "one")
    (root / "list.csv").write_text("file,text\nr00.wav,one\ngone.wav,two\n")
    (root / "prices.csv").write_text("part,price\nbolt,2\n")
    (root / "notes.txt").write_text("not of a recording")
    (root / "plan.html").write_text("<p>the plan of the hall</p>")
    (root / "state.pt").write_bytes(b"state")
    (root / ".0001.wav.0123abcd.tmp").write_bytes(b"an unfinished recording")
    (tmp_path / "elsewhere").mkdir()
    write_recording(tmp_path / "elsewhere" / "keep.wav", "one", "one")
    (root / "link.wav").symlink_to(tmp_path / "elsewhere" / "keep.wav")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    add_consent(root, "anna", "tests", "2999-01-01")
    return root


REMAINS = ["folder", "notes.txt", "plan.html", "prices.csv"]


def test_what_is_removed(root: Path, tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for page in (root / "inside.html", tmp_path / "outside.html"):
        assert main(["site", "check", str(root), "--model", str(model_path), "--report", str(page)]) == 0
    before = sorted(root.rglob("*"))
    capsys.readouterr()
    assert main(["site", "erase", str(root), "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert sorted(root.rglob("*")) == before
    for line in ("text: sub/A.txt", "recording: sub/A.WAV", "table of texts: list.csv", "report: inside.html"):
        assert line in listed
    assert f"report: {tmp_path / 'outside.html'}" in listed
    assert main(["site", "erase", str(root)]) == 2  # not confirmed
    assert sorted(root.rglob("*")) == before
    assert main(["site", "erase", str(root), "--yes"]) == 0
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.parent == root) == REMAINS
    assert not (tmp_path / "outside.html").exists()
    assert (tmp_path / "elsewhere" / "keep.wav").is_file() and (tmp_path / "elsewhere" / "keep.txt").is_file()
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith("remains")] == [
        f"remains: {name}" for name in REMAINS
    ]


def test_a_stranger_cannot_name_files_to_remove(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim.html"
    victim.write_text("<p>not a report</p>")
    report = tmp_path / "report.html"
    report.write_text('<meta name="generator" content="lwasr site check">')
    link = tmp_path / "link.html"
    link.symlink_to(report)
    (root / ".lwasr-site.json").write_text(f'{{"reports": ["{victim}", "{link}", "relative.html", 3]}}')
    assert main(["site", "erase", str(root), "--yes"]) == 0
    assert victim.is_file() and report.is_file() and link.is_symlink()


def test_a_folder_exchanged_for_a_link_is_not_entered(root: Path, tmp_path: Path) -> None:
    plan = erasing.plan_erasure(root)
    other = tmp_path / "other"
    write_recording(other / "A.WAV", "one", "one")
    shutil.rmtree(root / "sub")
    (root / "sub").symlink_to(other)
    erasing.erase(plan)
    assert sorted(path.name for path in other.iterdir()) == ["A.WAV", "A.txt"]


def test_what_cannot_be_removed_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlink = os.unlink

    def refuse(name: str, **options: int) -> None:
        if name == "r00.wav":
            raise PermissionError(13, "Permission denied")
        unlink(name, **options)

    monkeypatch.setattr("os.unlink", refuse)
    assert main(["site", "erase", str(root), "--yes"]) == 2
    printed = capsys.readouterr()
    assert "remains: r00.wav" in printed.out and "r00.wav: Permission denied" in printed.err


def test_consents_go_last(root: Path) -> None:
    kinds = list(erasing.plan_erasure(root).by_kind())
    assert kinds.index(erasing.TEXT) < kinds.index(erasing.RECORDING) < kinds.index(erasing.CONSENT)
    assert erasing.plan_erasure(root).names[CONSENT_FILE] == erasing.CONSENT


def test_folders_that_are_not_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    (tmp_path / "home" / "me").mkdir(parents=True)
    for folder in (tmp_path / "home", tmp_path / "home" / "me", Path("/")):
        with pytest.raises(OptionError, match="which has all that you own"):
            erasing.plan_erasure(folder)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with pytest.raises(OptionError, match="got a link"):
        erasing.plan_erasure(tmp_path / "link")


def test_what_check_reads_is_removed(tmp_path: Path) -> None:
    """Texts and tables under any name that `lwasr site check` takes, and consents and reports of sub-folders."""
    root = tmp_path / "folder"
    for name in ("rec01.wav", "rec02.wav", "sub/rec03.wav", "Tu\u0308r.wav"):
        write_recording(root / name, "one", "")
    texts = {
        "rec01.wav.txt": "one",
        "T\u00fcr.txt": "one",
        "list.csv": "Nummer;Gesagtes\nrec01;one two three\nrec02;two one four\n",
        "who.csv": "file,speaker\nrec01.wav,Anna\n",
        "WAV.SCP": "one rec01.wav\n",
        "TEXT": "one one\n",
        ".page.htm.0123abcd.tmp": "x",
    }
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    (root / "other.csv").write_text("name,price\nbolt,2\n")
    add_consent(root / "sub", "anna", "tests", "2999-01-01")
    page = tmp_path / "page.html"
    page.write_text('<meta name="generator" content="lwasr site check">')
    remember_report(root / "sub", root / "sub" / ".." / ".." / "page.html")  # by a way through the folder
    assert main(["site", "erase", str(root), "--yes"]) == 0
    assert [path.name for path in root.rglob("*")] == ["other.csv"] and not page.exists()


def test_a_folder_that_cannot_be_read_remains(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = os.open

    def refuse(path: object, *arguments: object, **options: object) -> int:  # root may read everything
        if path == "sub":
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(erasing.os, "fwalk", lambda top, **options: _without(os_fwalk(top, **options), "sub"))
    assert main(["site", "erase", str(root), "--yes"]) == 2
    out = capsys.readouterr()
    assert "remains: sub (cannot be looked at: Permission denied)" in out.out and "sub (cannot" in out.err
    assert (root / "sub" / "A.WAV").is_file()


os_fwalk = os.fwalk


def _without(found: Iterator[Any], name: str) -> Iterator[Any]:
    for folder, folders, names, descriptor in found:
        yield folder, folders, names, descriptor
        folders[:] = [one for one in folders if one != name]
