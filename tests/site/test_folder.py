"""What people have in a folder: texts beside recordings, tables, encodings, and what must not be opened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from site_folder import write_recording

from lwasr_edge import OptionError
from lwasr_edge.site.folder import Listing, read_folder
from lwasr_edge.site.texts import decode_text, spoken_text

LETTERS = set("abcdefghijklmnopqrstuvwxyz'")


def texts(listing: Listing) -> dict[str, str | None]:
    return {sample.name: sample.text for sample in listing.samples}


def reasons(listing: Listing) -> dict[str, str]:
    return {one.name: one.reason.key for one in listing.refused}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello there", "hello there"),
        ("\ufeffhello caf\u00e9".encode(), "hello caf\u00e9"),
        ("hello caf\u00e9".encode("latin-1"), "hello caf\u00e9"),
        ("hello \u2019s".encode("cp1252"), "hello \u2019s"),
        ("hello there".encode("utf-16"), "hello there"),
        ("hello there".encode("utf-16-le"), "hello there"),
        ("hello there".encode("utf-16-be"), "hello there"),
        ("\u30d5\u30a1\u30a4\u30eb,text".encode("cp932"), "\u30d5\u30a1\u30a4\u30eb,text"),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree"),
        (b"", ""),
        (b"\x81\xff", "\x81\xff"),
    ],
)
def test_encodings_of_text_files(data: bytes, text: str) -> None:
    assert decode_text(data)[0] == text


@pytest.mark.parametrize(
    ("written", "spoken", "changed"),
    [
        ("Turn it OFF, please.", "turn it off please", False),
        ("Room 21", "room twenty one", True),
        ("3rd floor & cellar", "third floor and cellar", True),
        ("[noise] hello <unk> there", "hello there", True),
        ("caf\u00e9", "cafe", True),
        ("it\u2019s", "it's", True),
    ],
)
def test_texts_are_written_as_they_are_spoken(written: str, spoken: str, changed: bool) -> None:
    text = spoken_text(written, LETTERS, "en")
    assert (text.spoken, text.is_changed, text.unspeakable) == (spoken, changed, "")
    assert text.written == written


def test_characters_that_cannot_be_spoken() -> None:
    assert spoken_text("hello \u3053\u3093", LETTERS, "en").unspeakable == "\u3053\u3093"


def test_texts_beside_recordings(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.wav", "one", "Words\r\n of a\n")
    write_recording(tmp_path / "Sub Folder" / "B.WAV", "one", "words of b")
    write_recording(tmp_path / "c.flac", "one", "")
    (tmp_path / "c.flac.txt").write_text("words of c")
    write_recording(tmp_path / "d.ogg", "one", "")
    write_recording(tmp_path / "._a.wav", "one", "")  # of macOS
    (tmp_path / "notes.txt").write_text("not of a recording")
    assert texts(read_folder(tmp_path)) == {
        "a.wav": "Words of a",
        "Sub Folder/B.WAV": "words of b",
        "c.flac": "words of c",
        "d.ogg": None,
    }


@pytest.mark.parametrize(
    "table",
    [
        "file,text\na.wav,one two\nsub/b.wav,two\n",
        "File Name;Speaker;Transcript\r\nC:\\Users\\me\\rec\\a.wav;x;one two\r\nb;y;two\r\n",
        "id\taudio_path\tsentence\n1\t/home/me/a.wav\tone two\n2\t.\\sub\\b.wav\ttwo\n",
        'text,path\n"one  two",A.WAV\ntwo,"sub/b.wav"\n',
        "sep=;\nfile;text\na.wav;one two\nb.wav;two\n",
        "a.wav,one two\nb.wav,two\n",
        "\ufeff\u30d5\u30a1\u30a4\u30eb\u540d,\u30c6\u30ad\u30b9\u30c8\na.wav,one two\nb.wav,two\n",
        "file|text\n\n  \na.mp3|one two\nfile:///x/b.wav|two\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_spreadsheets(tmp_path: Path, table: str, encoding: str) -> None:
    write_recording(tmp_path / "a.wav", "one", "")
    write_recording(tmp_path / "sub" / "b.wav", "two", "")
    (tmp_path / "list.csv").write_bytes(table.encode(encoding))
    listing = read_folder(tmp_path)
    assert texts(listing) == {"a.wav": "one two", "sub/b.wav": "two"}
    assert listing.refused == []


def test_kaldi_and_nemo(tmp_path: Path) -> None:
    for name in ("k/1.wav", "k/2.wav", "n/3.wav", "n/4.wav"):
        write_recording(tmp_path / name, "one", "")
    (tmp_path / "k" / "wav.scp").write_text("u1 1.wav\nu2 /data/2.wav\nu3 sox 1.wav -t wav - |\n")
    (tmp_path / "k" / "text").write_text("u1 one two\nu2 two\nu3 three\n")
    (tmp_path / "k" / "utt2spk").write_text("u1 anna\nu2 ben\n")
    rows = [
        {"audio_filepath": "3.wav", "duration": 1, "text": "three"},
        {"audio_filepath": "4.wav", "text": "four", "offset": 1.5},
        {"text": "no file"},
        {"audio_filepath": "/etc/passwd", "text": "secret"},
    ]
    (tmp_path / "n" / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")
    listing = read_folder(tmp_path)
    assert texts(listing) == {"k/1.wav": "one two", "k/2.wav": "two", "n/3.wav": "three", "n/4.wav": None}
    assert [sample.speaker for sample in listing.samples] == ["anna", "ben", "", ""]
    assert reasons(listing) == {
        "k/wav.scp, u3": "kaldi_command",
        "n/m.jsonl, row 2": "row_segment",
        "n/m.jsonl, row 3": "row_no_entry",
        "n/m.jsonl, row 4": "row_no_file",
        "n/m.jsonl, row 5": "row_no_entry",
    }


def test_hostile_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = write_recording(tmp_path / "outside" / "secret.wav", "one")
    root = tmp_path / "root"
    write_recording(root / "in.wav", "one", "")
    write_recording(root / "two" / "same.wav", "one", "")
    write_recording(root / "three" / "same.wav", "two", "")
    (root / "link.wav").symlink_to(outside)
    (root / "dead.wav").symlink_to("nothing")
    (root / "loop.wav").symlink_to("loop.wav")
    (root / "folder").symlink_to(outside.parent)
    (root / "inside.wav").symlink_to("in.wav")
    os.mkfifo(root / "pipe.wav")
    rows = [
        "../outside/secret.wav,a",
        "/etc/passwd,b",
        "same.wav,c",
        ",d",
        "in.wav,one",
        "in.wav,two",
        "x" * 300 + ",e",
    ]
    (root / "t.csv").write_text("file,text\n" + "\n".join(rows))
    (root / "huge.csv").write_text("file,text\n" + "a" * 200_000 + ",b\n")
    (root / "sheet.xlsx").write_bytes(b"PK")
    listing = read_folder(root)
    assert {name for name, text in texts(listing).items() if text} == {"in.wav"}
    assert reasons(listing) == {
        "link.wav": "link_outside",
        "dead.wav": "broken_link",
        "loop.wav": "broken_link",
        "pipe.wav": "no_file",
        "t.csv, row 2": "row_no_file",
        "t.csv, row 3": "row_no_file",
        "t.csv, row 4": "row_ambiguous",
        "t.csv, row 5": "row_without_file",
        "t.csv, row 7": "two_texts",
        "t.csv, row 8": "row_no_file",
    }
    assert sorted(remark.key for remark in listing.remarks) == ["spreadsheet", "table_unreadable"]
    monkeypatch.setattr("lwasr_edge.site.folder.MAX_FILES", 3)
    with pytest.raises(OptionError, match="at most 3 files"):
        read_folder(root)


def test_folders_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="FOLDER must be a folder of recordings"):
        read_folder(tmp_path / "missing")
    with pytest.raises(OptionError, match="must have recordings"):
        read_folder(tmp_path)
