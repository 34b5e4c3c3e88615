"""What people have in a folder: texts beside recordings, tables, encodings, and what must not be opened."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from site_folder import spoken, write_recording

from lwasr_edge import AudioError, OptionError, Recognizer
from lwasr_edge.site.check import check_folder
from lwasr_edge.site.folder import Files, Listing, read_folder
from lwasr_edge.site.part import Part, read_part
from lwasr_edge.site.reports.language import Strings
from lwasr_edge.site.reports.page import html_page
from lwasr_edge.site.tables.read import is_table
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


@pytest.mark.parametrize(
    ("table", "speakers", "remarks"),
    [
        (
            "Datei;Sprecher;Wortlaut;Bemerkung\nC:\\X\\a.wav;anna;{0};ok\nb.wav;ben;{1};laut\n",
            "anna ben",
            ["table_guessed"],
        ),
        ("Nr,Fichier,Phrase\n1,a.wav,{0}\n2,b.wav,{1}\n", "", ["table_guessed"]),
        ("Name,Datei,Text\nAnna,a,{0}\nBen,b,{1}\n", "", ["table_guessed"]),  # `Name` is no recording here
        ("{0};a.wav\n{1};b.wav\n", "", []),  # no header
        ("a.wav;anna;{0}\nb.wav;ben;{1}\n", "anna ben", []),
        ("a.wav;{0};anna\nb.wav;{1};ben\n", "anna ben", []),
    ],
)
def test_columns_of_unknown_names(tmp_path: Path, table: str, speakers: str, remarks: list[str]) -> None:
    write_recording(tmp_path / "a.wav", "one", "")
    write_recording(tmp_path / "sub" / "b.wav", "two", "")
    said = ["one two three", "two four one"]
    (tmp_path / "list.csv").write_text(table.format(*said))
    listing = read_folder(tmp_path)
    assert texts(listing) == dict(zip(["a.wav", "sub/b.wav"], said, strict=True)) and listing.refused == []
    assert " ".join(sample.speaker for sample in listing.samples).strip() == speakers
    assert [remark.key for remark in listing.remarks] == remarks
    assert is_table(tmp_path / "list.csv", Files(tmp_path, {}))  # `lwasr site erase` removes it


@pytest.mark.parametrize(
    ("table", "remarks"),
    [
        ("file,device,date\na.wav,usb,2026-11-28 12:00:00 +0100\nb.wav,usb,2026-11-28\n", ["table_columns"]),
        ("part,supplier,remark\nM8,a company,to be ordered again soon\n", []),
        ("one column\nof something else\n", []),
        ("\n \n", []),
        ("", []),
    ],
)
def test_tables_without_texts(tmp_path: Path, table: str, remarks: list[str]) -> None:
    write_recording(tmp_path / "a.wav", "one", "")
    write_recording(tmp_path / "b.wav", "two", "")
    (tmp_path / "list.csv").write_text(table)
    listing = read_folder(tmp_path)
    assert set(texts(listing).values()) == {None}
    assert [remark.key for remark in listing.remarks] == remarks
    assert is_table(tmp_path / "list.csv", Files(tmp_path, {})) == bool(remarks)  # a table of recordings


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
    assert texts(listing) == {"k/1.wav": "one two", "k/2.wav": "two", "n/3.wav": "three", "n/4.wav [1.50- s]": "four"}
    assert [sample.speaker for sample in listing.samples] == ["anna", "ben", "", ""]
    assert reasons(listing) == {
        "k/wav.scp, u3": "kaldi_command",
        "n/m.jsonl, row 3": "row_no_entry",
        "n/m.jsonl, row 4": "row_no_file",
        "n/m.jsonl, row 5": "row_no_entry",
    }


def write_long(path: Path, *sentences: str) -> list[tuple[float, float]]:
    """A recording of several sentences; start and end of each in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [np.concatenate([spoken(words), np.zeros(4000, np.float32)]) for words in sentences]
    ends = np.cumsum([len(part) for part in parts]) / 16_000
    soundfile.write(path, np.concatenate(parts), 16_000, **({"format": "OGG"} if path.suffix == ".ogg" else {}))
    return [(float(end - len(part) / 16_000), float(end)) for end, part in zip(ends, parts, strict=True)]


def test_parts_of_long_recordings(tmp_path: Path, recognizer: Recognizer) -> None:
    sentences = ("one two three four", "four four two one", "three one one two")
    times = write_long(tmp_path / "k" / "hall.wav", *sentences)
    write_long(tmp_path / "n" / "shop.ogg", *sentences)  # decoded from its start
    segments = [f"u{number} rec {start:.3f} {end:.3f}" for number, (start, end) in enumerate(times)]
    segments[2] = f"u2 rec {times[2][0]:.3f} -1"
    segments += ["u3 rec 3 2", "u4 rec x 2", "u5 rec", "u6 other 0 1", "u7 rec 500 501", "u8 rec 0 900", "u9 rec 1 2"]
    (tmp_path / "k" / "wav.scp").write_text("rec /data/hall.wav\npiped cat hall.wav |\n")
    (tmp_path / "k" / "segments").write_text("\n".join(segments))
    texts_of = [f"u{number} {words}" for number, words in enumerate(sentences)] + [f"u{n} one two" for n in range(3, 9)]
    (tmp_path / "k" / "text").write_text("\n".join(texts_of))
    (tmp_path / "k" / "utt2spk").write_text("u0 anna\nu1 ben\n")
    rows = [
        {"audio_filepath": "shop.ogg", "text": words, "offset": start, "duration": end - start}
        for words, (start, end) in zip(sentences[1:], times[1:], strict=True)
    ]
    rows.append({"audio_filepath": "shop.ogg", "text": "one", "offset": -1, "duration": 2})
    (tmp_path / "n" / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    check = check_folder(tmp_path, recognizer)
    assert [(item.sample.speaker, item.recognised) for item in check.used] == [
        ("anna", sentences[0]),
        ("ben", sentences[1]),
        ("", sentences[2]),
        ("", sentences[1]),
        ("", sentences[2]),
    ]
    assert check.rate is not None and check.rate.errors == 0
    assert check.used[0].sample.name == f"k/hall.wav [0.00-{times[0][1]:.2f} s]"
    assert {one.name: one.reason.key for one in check.refused} == {
        "k/wav.scp, piped": "kaldi_command",
        "k/wav.scp, u3": "part_impossible",
        "k/wav.scp, u4": "part_impossible",
        "k/wav.scp, u5": "part_impossible",
        "k/wav.scp, u6": "row_no_file",
        "k/hall.wav [500.00-501.00 s]": "unreadable",
        "k/hall.wav [0.00-900.00 s]": "unreadable",
        "n/m.jsonl, row 3": "part_impossible",
    }


def test_the_first_part_of_a_nemo_manifest_begins_at_0(tmp_path: Path) -> None:
    for name in ("hall.wav", "short.wav"):
        write_long(tmp_path / name, "one two", "three four")
    rows = [
        {"audio_filepath": "hall.wav", "text": "one two", "offset": 0.0, "duration": 1.5},
        {"audio_filepath": "hall.wav", "text": "three four", "offset": 1.5, "duration": 1.25},
        {"audio_filepath": "short.wav", "text": "one two three four", "offset": 0, "duration": 2.75},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    parts = {sample.name: (sample.part, sample.text) for sample in read_folder(tmp_path).samples}
    assert parts == {
        "hall.wav [0.00-1.50 s]": (Part(0.0, 1.5), "one two"),
        "hall.wav [1.50-2.75 s]": (Part(1.5, 2.75), "three four"),
        "short.wav": (None, "one two three four"),
    }


def test_parts_are_cut_to_the_sample(tmp_path: Path) -> None:
    samples = (np.arange(32_000) / 40_000).astype(np.float32)
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, samples, 16_000, "PCM_24")
        for part, first, last in ((Part(0.5, 1.0), 8000, 16_000), (Part(1.5, None), 24_000, 32_000)):
            cut, rate = read_part(tmp_path / name, part)
            assert rate == 16_000 and np.allclose(cut, samples[first:last], atol=1e-6)
        assert len(read_part(tmp_path / name, Part(1.75, 2.25))[0]) == 4000
        for part in (Part(2.0, 2.1), Part(1.0, 3.0), Part(90.0, None)):
            with pytest.raises(AudioError, match="must have the part"):
                read_part(tmp_path / name, part)
    for start, end in ((-1, 2), (1, 1), (float("nan"), None), (0, float("inf")), (2, 1)):
        assert not Part(start, end).is_possible


def test_the_page_plays_the_part(tmp_path: Path, recognizer: Recognizer) -> None:
    (start, end), _ = write_long(tmp_path / "a b.wav", "one two", "three four")
    row = {"audio_filepath": "a b.wav", "text": "four two", "offset": 0.1, "duration": end - 0.1}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    check = check_folder(tmp_path, recognizer)
    html = html_page(check, Strings("en"), page_path=tmp_path / "page.html")
    assert f'src="a%20b.wav#t=0.10,{end:.2f}"' in html and start == 0
    html = html_page(check, Strings("en"), page_path=tmp_path / "page.html", with_audio=True)
    data = base64.b64decode(html.partition("base64,")[2].partition('"')[0])
    assert soundfile.info(io.BytesIO(data)).duration == pytest.approx(end - 0.1, abs=0.01)


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
        "folder/": "link_folder",
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


@pytest.mark.parametrize(
    "table",
    [
        "rec01.wav;one, two, three, four\nrec02.wav;two, one\nrec03.wav;four\n",
        "file;text (as spoken, no digits, no signs)\nrec01.wav;one, two, three, four\nrec02.wav;two, one\n"
        "rec03.wav;four four four\n",
        "rec01;one, two, three, four\nrec02;two, one\nrec03;four four four\n",
        'rec01.wav\t"one, two, three, four\nrec02.wav\ttwo, one\nrec03.wav\tfour\n',
        'rec01.wav\tone, two, three, four\nrec02.wav\t"two, one\nrec03.wav\tfour\n',
    ],
)
def test_commas_and_quotation_marks_of_sentences(tmp_path: Path, table: str) -> None:
    for name in ("rec01", "rec02", "rec03"):
        write_recording(tmp_path / f"{name}.wav", "one", "")
    (tmp_path / "list.csv").write_text(table, encoding="utf-8")
    listing = read_folder(tmp_path)
    assert {name: text.split()[0] for name, text in texts(listing).items()} == {
        "rec01.wav": "one,",
        "rec02.wav": "two,",
        "rec03.wav": "four",
    }
    assert texts(listing)["rec01.wav"] == "one, two, three, four" and not listing.refused
    assert "rec0" not in " ".join(str(remark.values) for remark in listing.remarks)  # no cell is shown


def test_an_unclosed_quotation_mark_before_many_rows(tmp_path: Path) -> None:
    """More than the longest cell that Python's reader takes."""
    for name in ("a.wav", "b.wav"):
        write_recording(tmp_path / name, "one", "")
    others = "".join(f"gone{number}.wav,two three four\n" for number in range(6000))
    (tmp_path / "list.csv").write_text(f'file,text\na.wav,"one\nb.wav,two\n{others}', encoding="utf-8")
    listing = read_folder(tmp_path)
    assert texts(listing) == {"a.wav": "one", "b.wav": "two"} and len(listing.refused) == 6000


def test_names_of_a_mac(tmp_path: Path) -> None:
    """The same letters in another form: composed in the table and the text, decomposed in the recording."""
    for name in ("Tu\u0308r", "Scho\u0308n"):
        write_recording(tmp_path / f"{name}.wav", "one", "")
    (tmp_path / "list.csv").write_text("file,text\nT\u00fcr.wav,one two\n", encoding="utf-8")
    (tmp_path / "Sch\u00f6n.txt").write_text("three", encoding="utf-8")
    listing = read_folder(tmp_path)
    assert sorted(texts(listing).values()) == ["one two", "three"] and not listing.refused


def test_two_texts_of_a_recording_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_recording(tmp_path / f"{name}.wav", "one", "one two")
    (tmp_path / "b.lab").write_text("one three")
    (tmp_path / "c.lab").write_text(" one  two ")  # the same
    (tmp_path / "list.csv").write_text("file,text\na.wav,three\nc.wav,one two\n")
    listing = read_folder(tmp_path)
    assert set(texts(listing).values()) == {"one two"}
    assert reasons(listing) == {"list.csv, row 2": "two_texts", "b.lab": "two_texts"}


def test_a_take_in_two_formats_counts_once(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "noise.wav", "noise.flac"):
        write_recording(tmp_path / name, "one", "" if name.startswith("noise") else "one")
    listing = read_folder(tmp_path)
    assert set(texts(listing)) == {"a.flac", "noise.flac", "noise.wav"} and reasons(listing) == {"a.wav": "same_take"}


def test_names_that_differ_in_capitals(tmp_path: Path) -> None:
    write_recording(tmp_path / "A.wav", "one", "")
    write_recording(tmp_path / "a.wav", "two", "")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip(
            "this file system does not tell capitals apart"
        )  # as that of a Mac: there is one file, nothing to name
    assert reasons(read_folder(tmp_path)) == {"a.wav": "same_name"}


def test_a_damaged_line_of_a_manifest_is_named(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write_recording(tmp_path / name, "one", "")
    line = '{"audio_filepath": "%s", "duration": 1, "text": "one"}\n'
    (tmp_path / "data.json").write_text(line % "a.wav" + '{"audio_filepath": "b.w\n' + line % "b.wav")
    listing = read_folder(tmp_path)
    assert texts(listing) == {"a.wav": "one", "b.wav": "one"} and reasons(listing) == {
        "data.json, row 2": "row_no_entry"
    }


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recording(tmp_path / "a.wav", "one")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:  # root may read everything
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert reasons(read_folder(tmp_path)) == {"closed/": "folder_unreadable"}
