"""Manifests and corpora: valid and faulty lines, audio and transcripts."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_models import DATA, letters, write_test_manifest

from lwasr_edge.errors import AudioError, ManifestError, OutputError
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import decode_corpus, load_corpus, read_audio_folder
from lwasr_edge.training.data.manifest import (
    Fault,
    Utterance,
    parse_manifest,
    read_manifest,
    refuse_faults,
    write_manifest,
)
from lwasr_edge.training.data.transcripts import encode_transcripts, frames_needed


def write(folder: Path, *entries: object) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in entries), "utf-8")
    return path


def test_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"audio_filepath": "a/b.wav", "duration": 1.5, "text": "hello", "speaker": "s1", "id": "x", "license": "CC0"},
        "",
        {"audio_filepath": "/far/c.flac", "duration": 2, "text": None},
    )
    first, second = read_manifest(path)
    assert first.path == tmp_path / "a/b.wav" and first.id == "x" and first.text == "hello" and first.speaker == "s1"
    assert second.path == Path("/far/c.flac") and second.id == "c" and second.text == "" and second.duration_s == 2.0


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '"text"',
        '{"duration": 1}',
        '{"audio_filepath": "a"}',
        '{"audio_filepath": "a", "duration": "long"}',
        '{"audio_filepath": "a", "duration": true}',
        '{"audio_filepath": "a", "duration": null}',
        '{"audio_filepath": ["a"], "duration": 1}',
        '{"audio_filepath": "a\\u0000b", "duration": 1}',
        '{"audio_filepath": "a\\ud800", "duration": 1}',
        '{"audio_filepath": 3, "duration": 1}',
        '{"audio_filepath": "a", "duration": 1, "offset": "late"}',
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_bad_lines_are_reported_by_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, {"audio_filepath": "a", "duration": 1}, line)
    with pytest.raises(
        ManifestError, match="m.jsonl, line 2: line must be a JSON object with audio_filepath and duration, got "
    ):
        read_manifest(path)


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    row = {"audio_filepath": "a.wav", "duration": 1, "text": "one\u2028two\x85three\x0cfour"}
    path.write_text(json.dumps(row, ensure_ascii=False).replace("\\f", " ") + "\r\n", "utf-8", newline="")
    (found,) = read_manifest(path)
    assert found.text == "one\u2028two\x85three four"


def test_extreme_numbers(tmp_path: Path) -> None:
    rows = ['{"audio_filepath": "a", "duration": 1%s}' % ("0" * 400), '{"audio_filepath": "b", "duration": NaN}']
    found = read_manifest(write(tmp_path, *rows, {"audio_filepath": "c", "duration": 1, "speaker": 84, "id": 7}))
    assert found[0].duration_s == math.inf and math.isnan(found[1].duration_s)
    assert (found[2].speaker, found[2].id) == ("84", "7")


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match="manifest is empty"):
        read_manifest(write(tmp_path, ""))
    with pytest.raises(ManifestError, match="manifest must be JSON lines in UTF-8"):
        read_manifest(DATA / "slt_16k.flac")


def test_any_rate_becomes_16_khz(tmp_path: Path) -> None:
    corpus = load_corpus(read_manifest(write_test_manifest(tmp_path)))
    assert [utterance.id for utterance in corpus.utterances] == ["slt_16k", "rms_16k", "gb_22k"]
    assert corpus.lengths.tolist() == pytest.approx([54_240, 51_360, 50_061], abs=20)
    assert corpus.samples.dtype == np.int16 and len(corpus.samples) == corpus.lengths.sum()
    assert corpus.starts.tolist() == [0, corpus.lengths[0], corpus.lengths[0] + corpus.lengths[1]]
    wanted, _ = soundfile.read(DATA / "slt_16k.flac", dtype="int16")
    assert np.array_equal(corpus.samples[: corpus.lengths[0]], wanted)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    (tmp_path / "text.wav").write_text("not audio")
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.1], np.float32), 16000, subtype="FLOAT")
    good = {"audio_filepath": str(DATA / "slt_16k.flac"), "duration": 3.39, "text": "my sister left"}
    return write(
        tmp_path,
        good,
        {"audio_filepath": "missing.wav", "duration": 1},
        {"audio_filepath": "text.wav", "duration": 1},
        {"audio_filepath": "nan.wav", "duration": 0.1},
        {**good, "id": "long", "duration": 9.0},
    )


def test_bad_audio_is_left_out(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, faults = decode_corpus(read_manifest(faulty))
    assert [utterance.id for utterance in corpus.utterances] == ["slt_16k"]
    reasons = {fault.utterance.id: fault.reason for fault in faults}
    assert list(reasons) == ["missing", "text", "nan", "long"]
    assert "missing.wav" in reasons["missing"]
    assert reasons["long"] == "duration must be 9.00 s, as in its manifest, got 3.39 s of audio"
    refuse_faults(faults, 5, max_bad=0.8)
    assert "left out: long: duration must be 9.00 s, as in its manifest, got 3.39 s of audio" in capsys.readouterr().err
    with pytest.raises(ManifestError, match=r"4 of 5 utterances cannot be used \(the limit is 79 %\); the first is"):
        refuse_faults(faults, 5, max_bad=0.79)
    with pytest.raises(ManifestError, match="the manifests contain no usable utterance"):
        refuse_faults(faults, 4, max_bad=1.0)


def test_bad_lines_are_faults(tmp_path: Path) -> None:
    a, c = {"audio_filepath": "a.wav", "duration": 1}, {"audio_filepath": "c.wav", "duration": 2}
    path = write(tmp_path, a, '{"audio_filepath": "b.wav", "dur', "[1]", c)
    utterances, faults = parse_manifest(path)
    assert [one.id for one in utterances] == ["a", "c"]
    assert [fault.utterance.id for fault in faults] == [f"{path}, line 2", f"{path}, line 3"]
    with pytest.raises(
        ManifestError,
        match="line 2: line must be a JSON object with audio_filepath and duration, got no JSON: ",
    ):
        read_manifest(path)


def test_samples_in_a_file_are_those_in_memory(faulty: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    in_memory, faults = decode_corpus(read_manifest(faulty))
    in_file, same_faults = decode_corpus(read_manifest(faulty), spool=folder)
    assert isinstance(in_file.samples, np.memmap) and list(folder.iterdir()) == []
    assert np.array_equal(in_file.samples, in_memory.samples) and same_faults == faults
    assert WaveformStore(in_file, torch.device("cpu")).batch(np.array([0])).waveform.shape == (1, 54_240)


def test_a_full_disk(faulty: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # of 108 kB
    try:
        with pytest.raises(OutputError, match=r"run must be a writable folder with 115 MB of space .*choose another"):
            decode_corpus(read_manifest(faulty), spool=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "run").iterdir()) == []


def test_load_corpus_refuses_any_fault(faulty: Path) -> None:
    with pytest.raises(ManifestError, match="4 of 5 utterances cannot be used; the first is missing"):
        load_corpus(read_manifest(faulty))


def test_transcripts_that_ctc_cannot_learn(tmp_path: Path) -> None:
    texts = ["", "my sister", "MY SISTER", "room 42", "aab", "a\ud800"]
    corpus, _ = decode_corpus(Utterance(f"u{i}", DATA / "slt_16k.flac", 3.39, text, "") for i, text in enumerate(texts))
    found = encode_transcripts(corpus, letters(), [85, 85, 85, 85, 4, 85])
    assert [one.reason for one in found if isinstance(one, Fault)] == [
        "text must be a transcript, got none",
        "text must consist of the vocabulary's characters, got 2 4",
        "audio must have 5 frames for 4 tokens, got 4",  # word mark, a, blank, a, b
        "text must consist of the vocabulary's characters, got \ud800",
    ]
    assert found[1] == found[2] == letters().encode("my sister")  # lower case: the vocabulary has no capitals


def test_frames_needed() -> None:
    assert [frames_needed(tokens) for tokens in ([], [1], [1, 2], [1, 1], [1, 1, 1, 2])] == [0, 1, 2, 3, 6]


def test_segments_of_a_recording(tmp_path: Path) -> None:
    row = {"audio_filepath": str(DATA / "slt_16k.flac"), "text": "left"}
    path = write(
        tmp_path,
        {**row, "duration": 0.5, "offset": 1.25},
        {**row, "duration": 1.0, "offset": 0},
        {**row, "duration": 3.39},
        {**row, "duration": 1.0, "offset": 3.0},
        {**row, "duration": 1.0, "offset": 9.0},
    )
    corpus, faults = decode_corpus(read_manifest(path))
    full, _ = soundfile.read(DATA / "slt_16k.flac", dtype="int16")
    wanted = [full[20_000:28_000], full[:16_000], full]
    for start, n, expected in zip(corpus.starts, corpus.lengths, wanted, strict=True):
        assert np.array_equal(corpus.samples[start : start + n], expected)
    assert [fault.reason for fault in faults] == [
        "duration must be 1.00 s, as in its manifest, got 0.39 s of audio from 3.00 s on",
        "duration must be 1.00 s, as in its manifest, got 0.00 s of audio from 9.00 s on",
    ]


def test_a_long_recording_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counted(path: Path, **options: int) -> np.ndarray:
        decoded.append(path)
        return np.zeros(160_000, np.float32)

    monkeypatch.setattr("lwasr_edge.training.data.corpus.load_audio", counted)
    row = {"audio_filepath": "talk.sph", "duration": 1.0}
    path = write(tmp_path, *({**row, "offset": second} for second in range(10)))
    assert len(load_corpus(read_manifest(path)).utterances) == 10
    assert decoded == [tmp_path / "talk.sph"]


def test_utterances_without_ids_get_different_ones(tmp_path: Path) -> None:
    rows = [{"audio_filepath": name, "duration": 1} for name in ("a/1.wav", "b/1.wav")]
    path = write(tmp_path, *rows, {"audio_filepath": "b/1.wav", "duration": 1, "offset": 2.5})
    assert [one.id for one in read_manifest(path)] == ["1", "1@2", "1@3"]


def test_round_trip(tmp_path: Path) -> None:
    inside = Utterance("x", tmp_path / "audio" / "x.flac", 1.5, "it's", "s1")
    outside = Utterance("y", Path("/far/y.sph"), 2.25, "", "", 7.125)
    path = tmp_path / "m.jsonl"
    write_manifest(path, [inside, outside])
    assert read_manifest(path) == [inside, outside]
    assert json.loads(path.read_text().splitlines()[0])["audio_filepath"] == "audio/x.flac"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m.jsonl"]


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    soundfile.write(tmp_path / "street" / "b.wav", np.zeros(8000, np.float32), 16000)
    soundfile.write(tmp_path / "a.FLAC", np.zeros(16000, np.float32), 16000, format="FLAC")
    (tmp_path / "README.md").write_text("noise")
    found = read_audio_folder(tmp_path)
    assert [(one.id, one.duration_s) for one in found] == [("a.FLAC", 1.0), ("street/b.wav", 0.5)]
    assert load_corpus(found).lengths.tolist() == [16_000, 8_000]
    (tmp_path / "bad.ogg").write_text("no audio")
    with pytest.raises(AudioError, match="bad.ogg must be WAV"):
        read_audio_folder(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ManifestError, match=r"none must contain recordings \(.*\), got none"):
        read_audio_folder(tmp_path / "none")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """One good utterance among one of each fault."""
    good = {"audio_filepath": str(DATA / "slt_16k.flac"), "duration": 3.39, "text": "my sister left"}
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    (tmp_path / "nothing.flac").write_bytes(b"")
    (tmp_path / "cut.flac").write_bytes((DATA / "slt_16k.flac").read_bytes()[:20_000])
    return write(
        tmp_path,
        {**good, "id": "good"},
        {**good, "id": "missing", "audio_filepath": "missing.wav"},
        {**good, "id": "wrong-duration", "duration": 9.0},
        {**good, "id": "foreign", "text": "room 42 caf\u00e9"},
        {**good, "id": "too-long", "text": "my sister left " * 20},
        {**good, "id": "empty", "audio_filepath": "empty.wav", "duration": 0.1},
        {**good, "id": "nothing", "audio_filepath": "nothing.flac"},
        {**good, "id": "cut", "audio_filepath": "cut.flac"},
        {**good, "id": "zero-duration", "duration": 0},
        {**good, "id": "nan-duration", "duration": float("nan")},
        {**good, "id": "infinite-duration", "duration": float("inf")},
        {**good, "id": "negative-offset", "offset": -1},
        {**good, "id": "good"},
    )


def test_all_kinds_of_faults(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, faults = decode_corpus(read_manifest(damaged))
    assert [one.id for one in corpus.utterances] == ["good", "foreign", "too-long"]
    found = encode_transcripts(corpus, letters(), [85, 85, 85])
    faults += [one for one in found if isinstance(one, Fault)]
    reasons = {fault.utterance.id: fault.reason for fault in faults}
    assert len(faults) == 12
    assert reasons["missing"] == f"no such audio file: {damaged.parent / 'missing.wav'}"
    assert reasons["wrong-duration"] == "duration must be 9.00 s, as in its manifest, got 3.39 s of audio"
    assert reasons["foreign"] == "text must consist of the vocabulary's characters, got 2 4 \u00e9"
    assert reasons["too-long"].endswith("tokens, got 85")
    assert "0 samples" in reasons["empty"] and "0 bytes" in reasons["nothing"]
    assert reasons["cut"].startswith("duration must be 3.39 s") or "cannot be decoded" in reasons["cut"]
    assert reasons["zero-duration"] == "duration must be a positive number of seconds, got 0"
    assert reasons["nan-duration"] == "duration must be a positive number of seconds, got nan"
    assert reasons["infinite-duration"] == "duration must be a positive number of seconds, got inf"
    assert reasons["negative-offset"] == "offset must be a number of seconds >= 0, got -1"
    assert reasons["good"] == f"id must be unique, got the id of {DATA / 'slt_16k.flac'} again"
    with pytest.raises(ManifestError, match=r"12 of 13 utterances cannot be used \(the limit is 5 %\)"):
        refuse_faults(faults, 13, max_bad=0.05)
    assert capsys.readouterr().err.count("left out: ") == 12
