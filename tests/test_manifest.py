"""Manifests: what a line must have, and what is done about audio and transcripts that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_models import DATA, letters, write_test_manifest

from lwasr_edge.errors import ManifestError
from lwasr_edge.training.manifest import Fault, decode_corpus, load_corpus, read_manifest, refuse_faults
from lwasr_edge.training.transcripts import encode_transcripts, frames_needed


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
    ["{", "[1]", '"text"', '{"duration": 1}', '{"audio_filepath": "a"}', '{"audio_filepath": "a", "duration": "long"}',
     '{"audio_filepath": "a", "duration": -1}', '{"audio_filepath": "a", "duration": NaN}'],
)
def test_bad_lines_are_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, {"audio_filepath": "a", "duration": 1}, line)
    with pytest.raises(ManifestError, match="m.jsonl, line 2: expected a JSON object with audio_filepath and duration"):
        read_manifest(path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match="is empty"):
        read_manifest(write(tmp_path, ""))
    with pytest.raises(ManifestError, match="in UTF-8"):
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


def test_bad_audio_is_left_out_by_name(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, faults = decode_corpus(read_manifest(faulty))
    assert [utterance.id for utterance in corpus.utterances] == ["slt_16k"]
    reasons = {fault.utterance.id: fault.reason for fault in faults}
    assert list(reasons) == ["missing", "text", "nan", "long"]
    assert "missing.wav" in reasons["missing"]
    assert reasons["long"] == "lasts 3.39 s; its manifest says 9.00 s"
    refuse_faults(faults, 5, max_bad=0.8)
    assert "left out: long: lasts 3.39 s; its manifest says 9.00 s" in capsys.readouterr().err
    with pytest.raises(ManifestError, match=r"4 of 5 utterances cannot be used \(the limit is 79 %\); the first is"):
        refuse_faults(faults, 5, max_bad=0.79)
    with pytest.raises(ManifestError, match="no utterance that can be used"):
        refuse_faults(faults, 4, max_bad=1.0)


def test_where_all_must_be_good_one_fault_stops(faulty: Path) -> None:
    with pytest.raises(ManifestError, match="4 of 5 utterances cannot be used; the first is missing"):
        load_corpus(read_manifest(faulty))


def test_transcripts_that_ctc_cannot_learn(tmp_path: Path) -> None:
    texts = ["", "my sister", "MY SISTER", "room 42", "aab"]
    corpus, _ = decode_corpus(read_manifest(write_test_manifest(tmp_path, ("slt_16k.flac",))) * len(texts))
    utterances = [type(one)(f"u{i}", one.path, 3.39, texts[i], "") for i, one in enumerate(corpus.utterances)]
    corpus = type(corpus)(utterances, corpus.samples, corpus.starts, corpus.lengths)
    found = encode_transcripts(corpus, letters(), [85, 85, 85, 85, 4])
    assert [one.reason for one in found if isinstance(one, Fault)] == [
        "it has no transcript",
        "characters outside the vocabulary: 2 4",
        "4 tokens need 5 frames; the recording has 4",  # word mark, a, blank, a, b
    ]
    assert found[1] == found[2] == letters().encode("my sister")  # lower case: the vocabulary has no capitals


def test_frames_needed() -> None:
    assert [frames_needed(tokens) for tokens in ([], [1], [1, 2], [1, 1], [1, 1, 1, 2])] == [0, 1, 2, 3, 6]
