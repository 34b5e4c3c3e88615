"""Manifests: what an entry must have, how entries are named, and the evenly spaced choice of entries."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from lwasr_edge.bench.manifest import evenly_spaced, read_manifest_lines
from lwasr_edge.bench.recordings import from_manifest
from lwasr_edge.errors import ManifestError
from lwasr_edge.training.data.corpus import load_corpus

GOOD = {"audio_filepath": "a.wav", "duration": 1}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines), "utf-8")
    return path


def test_entries(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"audio_filepath": "a/b.wav", "duration": "1.5", "text": "hello", "speaker": "s1", "id": "x", "licence": "CC0"},
        "",
        {"audio_filepath": "/far/c.flac", "duration": 2, "offset": 0.5, "text": None},
    )
    first, second = read_manifest_lines(path)
    assert (first.id, first.path, first.duration_s) == ("x", tmp_path / "a/b.wav", 1.5)
    assert (first.text, first.speaker, first.offset_s) == ("hello", "s1", None)
    assert (second.id, second.path, second.duration_s) == ("c", Path("/far/c.flac"), 2.0)
    assert (second.text, second.speaker, second.offset_s) == ("", "", 0.5)


def test_equal_file_names_get_ids_of_their_own(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "audio_filepath": "b/a.wav"}, {**GOOD, "id": "a"}]
    assert [entry.id for entry in read_manifest_lines(write(tmp_path, *rows))] == ["a", "a@2", "a"]


def test_line_separators_inside_a_string_do_not_split_a_line(tmp_path: Path) -> None:
    line = json.dumps({**GOOD, "text": "one\u2028two\u0085three"}, ensure_ascii=False)
    path = write(tmp_path, line, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [entry.text for entry in read_manifest_lines(path)] == ["one\u2028two\u0085three", ""]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "no JSON"),
        ('{"audio_filepath": "a", "dur', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "a list"),
        ('"text"', "a string"),
        ("null", "null"),
        ("3", "a number"),
        ('{"duration": 1}', "no audio_filepath"),
        ('{"audio_filepath": "a"}', "no duration"),
        ('{"audio_filepath": ["a"], "duration": 1}', "audio_filepath \\['a'\\]"),
        ('{"audio_filepath": "a\\u0000", "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": "\\ud800", "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": "a", "duration": "long"}', "duration 'long'"),
        ('{"audio_filepath": "a", "duration": 1, "offset": {}}', "offset {}"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, found: str) -> None:
    path = write(tmp_path, GOOD, line, {**GOOD, "id": "b"})
    wanted = f"line must be a JSON object with audio_filepath and duration, got {found}"
    with pytest.raises(ManifestError, match=f"m.jsonl, line 2: {wanted}"):
        read_manifest_lines(path)
    reported: list[tuple[int, str]] = []
    entries = read_manifest_lines(path, lambda number, fault: reported.append((number, fault)))
    assert [entry.id for entry in entries] == ["a", "b"]
    assert [number for number, _ in reported] == [2]


def test_required_keys_are_the_callers(tmp_path: Path) -> None:
    path = write(tmp_path, {"audio_filepath": "a.wav", "text": "hello"})
    (entry,) = read_manifest_lines(path, required=("audio_filepath", "text"))
    assert entry.text == "hello" and math.isnan(entry.duration_s)
    with pytest.raises(ManifestError, match="with audio_filepath and text, got no text"):
        read_manifest_lines(write(tmp_path, {**GOOD, "text": None}), required=("audio_filepath", "text"))


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest_lines(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest_lines(tmp_path)
    with pytest.raises(ManifestError, match="is empty"):
        read_manifest_lines(write(tmp_path, ""))
    (tmp_path / "m.jsonl").write_bytes(b"fLaC\xff\xfe")
    with pytest.raises(ManifestError, match="in UTF-8"):
        read_manifest_lines(tmp_path / "m.jsonl")


def test_evenly_spaced() -> None:
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(11, 4).tolist() == [0, 3, 7, 10]
    assert evenly_spaced(11, 4, "down").tolist() == [0, 3, 6, 10]
    assert evenly_spaced(3, 9).tolist() == [0, 1, 2]
    assert evenly_spaced(0, 9).tolist() == [] and evenly_spaced(9, 1).tolist() == [0]
    assert evenly_spaced(9, 3).dtype == np.int64


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ({**GOOD, "offset": 1e308}, "offset 1e.308"),
        ({**GOOD, "duration": 10**300}, "duration "),
        ({**GOOD, "duration": "9" * 5000}, None),  # infinity, which `metadata_faults` reports
        ({**GOOD, "id": "a" * 1001}, "id of 1001 characters"),
        ({**GOOD, "speaker": ["a"] * 1000}, "speaker of 5000 characters"),
        ({**GOOD, "text": "a " * 600_000}, "more than 1048576 characters"),
        ({**GOOD, "audio_filepath": "a\0" * 5000}, "audio_filepath "),
    ],
)
def test_hostile_lines(tmp_path: Path, line: dict, found: str | None) -> None:
    path = write(tmp_path, line)
    if found is None:
        assert read_manifest_lines(path)[0].duration_s == math.inf
        return
    with pytest.raises(ManifestError, match=f"line 1: .*{found}") as raised:
        read_manifest_lines(path)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("name", ["/dev/zero", "pipe.wav"])
def test_recordings_that_never_end(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    path = write(tmp_path, {**GOOD, "audio_filepath": name, "text": "one"})
    with pytest.raises(ManifestError, match="entry 1: recording must be a file, got a pipe or a device"):
        from_manifest(path, None)
    with pytest.raises(ManifestError, match="must be a file, got a pipe or a device"):
        load_corpus(read_manifest_lines(path))
    capsys.readouterr()


def test_a_manifest_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.jsonl")
    with pytest.raises(ManifestError, match="must be a regular file, got a pipe"):
        read_manifest_lines(tmp_path / "m.jsonl")
