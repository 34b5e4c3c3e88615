"""`lwasr-train prepare`: manifests of published corpora, intact and damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lwasr_edge.audio.reader import load_audio
from lwasr_edge.training.cli import main
from lwasr_edge.training.commands.prepare import text_fault
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import Utterance, read_manifest
from lwasr_edge.training.data.transcripts import spoken_beyond_letters

RATE = 16_000


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """(N,) int16 noise, the same for the same seed."""
    return np.random.default_rng(seed).integers(-3000, 3000, round(seconds * RATE)).astype(np.int16)


def write_flac(path: Path, seconds: float, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(seconds, seed), RATE)


def write_sphere(path: Path, samples: np.ndarray) -> None:
    """NIST SPHERE as TED-LIUM has it: a header of 1024 bytes, then 16-bit samples, the high byte first."""
    fields = ["NIST_1A", "   1024", "channel_count -i 1", f"sample_count -i {len(samples)}", f"sample_rate -i {RATE}"]
    fields += ["sample_n_bytes -i 2", "sample_byte_format -s2 10", "sample_sig_bits -i 16", "sample_coding -s3 pcm"]
    header = "\n".join([*fields, "end_head", ""]).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(1024) + samples.astype(">i2").tobytes())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command into tmp_path/out: exit status, what it printed, and its complaints."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["prepare", *map(str, arguments), "-o", str(tmp_path / "out")])
        captured = capsys.readouterr()
        complaints = [line for line in captured.err.splitlines() if line.startswith(("left out: ", "lwasr-train: "))]
        return status, captured.out, "\n".join(complaints)

    return run


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    """Two parts, SPEAKER/CHAPTER folders, texts in capitals, as openslr.org/12 has them."""
    corpus = tmp_path / "LibriSpeech"
    chapter = corpus / "dev-clean" / "84" / "121123"
    lines = ["84-121123-0000 GO DO YOU HEAR", "84-121123-0001 BUT IN LESS THAN FIVE MINUTES THE STAIRCASE GROANED"]
    for index, seconds in enumerate((2.1, 5.3)):
        write_flac(chapter / f"84-121123-000{index}.flac", seconds, index)
    (chapter / "84-121123.trans.txt").write_text("\n".join(lines) + "\n")
    other = corpus / "train-clean-5" / "19" / "198"
    write_flac(other / "19-198-0000.flac", 3.0, 2)
    (other / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY'S\n")
    for name in ("SPEAKERS.TXT", "README.TXT"):
        (corpus / name).write_text("...")
    return corpus


def test_librispeech(tmp_path: Path, librispeech: Path, prepare: Command) -> None:
    status, out, _ = prepare("librispeech", librispeech)
    assert status == 0
    assert "dev-clean: 2 utterances, 0.00 h, 1 speakers, 0 left out" in out
    chapter = librispeech / "dev-clean" / "84" / "121123"
    first, second = rows(tmp_path / "out" / "dev-clean.jsonl")
    assert first == {
        "id": "84-121123-0000",
        "audio_filepath": str(chapter / "84-121123-0000.flac"),
        "duration": 2.1,
        "text": "go do you hear",
        "speaker": "84",
    }
    assert (second["id"], second["duration"]) == ("84-121123-0001", 5.3)
    assert [row["text"] for row in rows(tmp_path / "out" / "train-clean-5.jsonl")] == ["northanger abbey's"]
    corpus = load_corpus(read_manifest(tmp_path / "out" / "dev-clean.jsonl"))
    assert np.array_equal(corpus.samples, np.concatenate([sound(2.1, 0), sound(5.3, 1)]))


@pytest.mark.parametrize("where", ["..", "dev-clean"])
def test_librispeech_is_found_around_and_below(tmp_path: Path, librispeech: Path, prepare: Command, where: str) -> None:
    assert prepare("librispeech", librispeech / where)[0] == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == ({"dev-clean.jsonl"} if where == "dev-clean" else {"dev-clean.jsonl", "train-clean-5.jsonl"})


def test_faults_in_librispeech_are_named(tmp_path: Path, librispeech: Path, prepare: Command) -> None:
    chapter = librispeech / "dev-clean" / "84" / "121123"
    with (chapter / "84-121123.trans.txt").open("a") as file:
        file.write("84-121123-0002 GONE\n84-121123-0003 NO AUDIO\n84-121123-0004\n84-121123-0005 ROOM 42\n")
        file.write(f"84-121123-0006 {'VERY ' * 40}LONG\n")
    (chapter / "84-121123-0003.flac").write_text("no audio")
    for index in (4, 5, 6):
        write_flac(chapter / f"84-121123-000{index}.flac", 1.0)
    status, _, complaints = prepare("librispeech", librispeech)
    assert status == 2
    assert "5 of 7 utterances cannot be used (the limit is 5 %)" in complaints
    assert not (tmp_path / "out").exists()
    status, out, complaints = prepare("librispeech", librispeech, "--max-bad", 80)
    assert status == 0 and "dev-clean: 2 utterances, 0.00 h, 1 speakers, 5 left out" in out
    lines = complaints.splitlines()
    assert lines[0] == f"left out: 84-121123-0002: no such audio file: {chapter / '84-121123-0002.flac'}"
    assert lines[1].startswith(f"left out: 84-121123-0003: {chapter / '84-121123-0003.flac'}: ")
    assert lines[2].startswith("left out: 84-121123-0004: ")
    assert lines[3] == "left out: 84-121123-0005: text must consist of the vocabulary's characters, got 2 4"
    assert lines[4] == "left out: 84-121123-0006: 41 words need 80 frames, got 25"
    assert len(rows(tmp_path / "out" / "dev-clean.jsonl")) == 2


STM = """\
AlGore_2009 1 AlGore_2009 0.50 2.75 <o,f0,male> last year i showed these two slides {NOISE} so that 's it
AlGore_2009 1 inter_segment_gap 2.75 4.00 <o,,unknown> ignore_time_segment_in_scoring
AlGore_2009 1 AlGore_2009 4.00 9.00 <o,f0,male> <unk> demonstrate that the arctic(2) ice cap {SMACK}
"""


@pytest.fixture(params=["TEDLIUM_release-3/legacy", "TEDLIUM_release2"])
def tedlium(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """train, dev and test with sph and stm; in release 3, under legacy, where sph are links into data/sph."""
    parts = tmp_path / request.param
    for seed, part in enumerate(("train", "dev", "test")):
        (parts / part / "stm").mkdir(parents=True)
        (parts / part / "sph").mkdir()
        (parts / part / "stm" / "AlGore_2009.stm").write_text(STM)
        if parts.name == "legacy":
            write_sphere(parts.parent / "data" / "sph" / f"{part}.sph", sound(10, seed))
            (parts / part / "sph" / "AlGore_2009.sph").symlink_to(parts.parent / "data" / "sph" / f"{part}.sph")
        else:
            write_sphere(parts / part / "sph" / "AlGore_2009.sph", sound(10, seed))
    return parts


def test_tedlium(tmp_path: Path, tedlium: Path, prepare: Command) -> None:
    root = tedlium.parent if tedlium.name == "legacy" else tedlium
    status, out, _ = prepare("tedlium", root)
    assert status == 0 and "dev: 2 utterances, 0.00 h, 1 speakers, 0 left out" in out
    first, second = rows(tmp_path / "out" / "dev.jsonl")
    assert first == {
        "id": "AlGore_2009-0",
        "audio_filepath": str(tedlium / "dev" / "sph" / "AlGore_2009.sph"),
        "offset": 0.5,
        "duration": 2.25,
        "text": "last year i showed these two slides so that's it",
        "speaker": "AlGore_2009",
    }
    assert (second["id"], second["offset"], second["duration"]) == ("AlGore_2009-2", 4.0, 5.0)
    assert second["text"] == "demonstrate that the arctic ice cap"
    corpus = load_corpus(read_manifest(tmp_path / "out" / "dev.jsonl"))
    talk = sound(10, 1)
    assert np.array_equal(corpus.samples, np.concatenate([talk[8_000:44_000], talk[64_000:144_000]]))


def test_faults_in_tedlium_are_named(tmp_path: Path, tedlium: Path, prepare: Command) -> None:
    root, dev = tedlium.parent if tedlium.name == "legacy" else tedlium, tedlium / "dev"
    with (dev / "stm" / "AlGore_2009.stm").open("a") as file:
        file.write("AlGore_2009 1 AlGore_2009 9.00 14.00 <o,f0,male> cut short\n")
        file.write("AlGore_2009 1 AlGore_2009 90.00 94.00 <o,f0,male> beyond the end\n")
    (dev / "stm" / "Gone_2010.stm").write_text("Gone_2010 1 Gone 1 2 <o,f0,male> gone\n")
    (dev / "stm" / "Bad_2010.stm").write_text("Bad_2010 1 Bad 1 2 <o,f0,male> bad\n")
    (dev / "sph" / "Bad_2010.sph").write_text("no audio")
    write_sphere(dev / "sph" / "Untold_2010.sph", sound(3))
    status, out, complaints = prepare("tedlium", root, "--max-bad", 75)
    assert status == 0 and "dev: 2 utterances, 0.00 h, 1 speakers, 5 left out" in out
    lines = complaints.splitlines()
    assert lines[0].startswith("left out: Bad_2010: ") and "must be WAV, FLAC, OGG, Opus, MP3 or AIFF" in lines[0]
    assert lines[1] == f"left out: Gone_2010: no such audio file: {dev / 'sph' / 'Gone_2010.sph'}"
    assert lines[2] == f"left out: Untold_2010: no such transcript: {dev / 'stm' / 'Untold_2010.stm'}"
    assert (
        lines[3]
        == "left out: AlGore_2009-3: duration must be 5.00 s, as in its manifest, got 1.00 s of audio from 9.00 s on"
    )
    beyond = "segment must be within AlGore_2009.sph, got 90.00 to 94.00 s of AlGore_2009"
    assert lines[4] == f"left out: AlGore_2009-4: {beyond}"


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    """A data directory after utils/validate_data_dir.sh: one utterance a recording."""
    folder = tmp_path / "data" / "train"
    write_flac(folder / "audio" / "a.flac", 2.0, 0)
    write_flac(tmp_path / "b.flac", 3.0, 1)
    (folder / "wav.scp").write_text(f"s1-a audio/a.flac\ns2-b flac -c -d -s {tmp_path / 'b.flac'} |\n")
    (folder / "text").write_text("s1-a HELLO THERE\ns2-b GOOD-BYE\n")
    (folder / "utt2spk").write_text("s1-a s1\ns2-b s2\n")
    return folder


def test_kaldi(tmp_path: Path, kaldi: Path, prepare: Command) -> None:
    assert prepare("kaldi", kaldi)[0] == 0
    first, second = rows(tmp_path / "out" / "train.jsonl")
    assert first == {
        "id": "s1-a",
        "audio_filepath": str(kaldi / "audio" / "a.flac"),
        "duration": 2.0,
        "text": "hello there",
        "speaker": "s1",
    }
    assert (second["audio_filepath"], second["text"], second["speaker"]) == (str(tmp_path / "b.flac"), "good bye", "s2")


def test_kaldi_segments(tmp_path: Path, kaldi: Path, prepare: Command) -> None:
    with (kaldi / "wav.scp").open("a") as file:
        file.write("s3-c missing.wav\n")
    (kaldi / "segments").write_text("u1 s1-a 0.25 1.5\nu2 s2-b 1 -1\nu3 s3-c 0 1\nu4 s1-a 1 5\n")
    (kaldi / "text").write_text("u1 one\nu2 two\nu3 three\nu4 four\n")
    (kaldi / "utt2spk").write_text("u1 s1\nu2 s2\nu3 s3\nu4 s1\n")
    status, _, complaints = prepare("kaldi", kaldi, "--max-bad", 50)
    assert status == 0
    assert complaints.splitlines() == [
        f"left out: u3: no such audio file: {kaldi / 'missing.wav'}",
        "left out: u4: duration must be 4.00 s, as in its manifest, got 1.00 s of audio from 1.00 s on",
    ]
    found = [(row["id"], row["offset"], row["duration"], row["text"]) for row in rows(tmp_path / "out" / "train.jsonl")]
    assert found == [("u1", 0.25, 1.25, "one"), ("u2", 1.0, 2.0, "two")]


def test_kaldi_commands_are_not_run(tmp_path: Path, kaldi: Path, prepare: Command) -> None:
    (kaldi / "wav.scp").write_text(f"s1-a touch {tmp_path / 'ran.wav'} |\n")
    status, _, complaints = prepare("kaldi", kaldi)
    assert status == 2 and "or a pipe of flac, sph2pipe or cat that unpacks one, got" in complaints
    assert not (tmp_path / "ran.wav").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wav.scp", b"s1-a \xff.flac\n", "wav.scp must be a text file in UTF-8"),
        ("wav.scp", b"s1-a flac -c 'a.flac |\n", "entry must be a file, or a pipe of"),
        ("wav.scp", b"", "must be Kaldi data, got an error of lhotse"),
        ("text", b"s1-a \xff\n", "must be Kaldi data, got an error of lhotse"),
        ("utt2spk", b"s1-a\n", "must be Kaldi data, got an error of lhotse"),
        ("segments", b"u1 s1-a 0\n", "must be Kaldi data, got an error of lhotse"),
        ("segments", b"u1 s1-a 0 inf\n", "must be Kaldi data, got an error of lhotse"),
    ],
)
def test_damaged_kaldi_files_are_named(kaldi: Path, prepare: Command, name: str, content: bytes, message: str) -> None:
    (kaldi / name).write_bytes(content)
    status, _, complaints = prepare("kaldi", kaldi)
    assert status == 2 and message in complaints


def test_damaged_librispeech_transcripts_are_named(librispeech: Path, prepare: Command) -> None:
    transcript = librispeech / "dev-clean" / "84" / "121123" / "84-121123.trans.txt"
    transcript.write_bytes(b"84-121123-0000 \xff\n")
    status, _, complaints = prepare("librispeech", librispeech)
    assert status == 2 and f"{transcript} must be a text file in UTF-8" in complaints


@pytest.mark.parametrize("line", [b"A 1\n", b"A 1 A 0 inf <o> hi\n", b"A 1 A x y <o> hi\n", b"\xff\n", b"\n"])
def test_damaged_tedlium_transcripts_are_named(tedlium: Path, prepare: Command, line: bytes) -> None:
    root = tedlium.parent if tedlium.name == "legacy" else tedlium
    (tedlium / "dev" / "stm" / "AlGore_2009.stm").write_bytes(line)
    status, _, complaints = prepare("tedlium", root)
    assert status == 2 and "must be TED-LIUM, got an error of lhotse" in complaints


def test_stm_lines_are_split_at_line_feeds_alone(tmp_path: Path, tedlium: Path, prepare: Command) -> None:
    root = tedlium.parent if tedlium.name == "legacy" else tedlium
    stm = "AlGore_2009 1 AlGore_2009 0.50 2.75 <o,f0,male> one two three\u2028four five six seven eight\n"
    stm += "AlGore_2009 1 AlGore_2009 4.00 9.00 <o,f0,male> nine ten\n"
    (tedlium / "dev" / "stm" / "AlGore_2009.stm").write_text(stm, encoding="utf-8")
    assert prepare("tedlium", root)[0] == 0
    found = [(row["offset"], row["text"]) for row in rows(tmp_path / "out" / "dev.jsonl")]
    assert found == [(0.5, "one two three four five six seven eight"), (4.0, "nine ten")]


def test_kaldi_without_a_text(kaldi: Path, prepare: Command) -> None:
    (kaldi / "text").write_text("s1-a HELLO THERE\n")
    status, _, complaints = prepare("kaldi", kaldi)
    assert status == 2 and "must be Kaldi data, got an error of lhotse: KeyError('s2-b')" in complaints


def test_manifests(tmp_path: Path, prepare: Command) -> None:
    write_flac(tmp_path / "a" / "1.flac", 2.0)
    write_flac(tmp_path / "b" / "1.flac", 3.0)
    entries: list[dict[str, Any]] = [
        {"audio_filepath": "a/1.flac", "duration": 2.0, "text": "It\u2019s 8 o'clock"},
        {"audio_filepath": "a/1.flac", "duration": 2.0, "text": "It\u2019s late, \u201cMr. Gray\u201d!"},
        {"audio_filepath": "b/1.flac", "duration": 1.0, "offset": 0.5, "text": "half-past"},
        {"audio_filepath": "b/1.flac", "duration": 7.0, "text": "too short"},
        {"audio_filepath": "c/1.flac", "duration": 7.0, "text": "missing"},
        {"audio_filepath": "b/1.flac", "duration": float("nan"), "text": "how long"},
        {"audio_filepath": "b/1.flac", "duration": 3.0},
    ]
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    status, _, complaints = prepare("manifest", source, "--max-bad", 60)
    assert status == 0
    assert {line.split(": ")[1] for line in complaints.splitlines()} == {"1", "1@4", "1@5", "1@6"}
    found = [(row["id"], row["text"], row.get("offset")) for row in rows(tmp_path / "out" / "corpus.jsonl")]
    assert found == [("1@2", "it's late mr gray", None), ("1@3", "half past", 0.5), ("1@7", "", None)]


def test_a_manifest_is_never_replaced_by_what_is_made_of_it(tmp_path: Path, prepare: Command) -> None:
    source = tmp_path / "out" / "corpus.jsonl"
    write_flac(tmp_path / "out" / "1.flac", 2.0)
    source.write_text(json.dumps({"audio_filepath": "1.flac", "duration": 2.0}) + "\n")
    before = source.read_bytes()
    status, _, complaints = prepare("manifest", source)
    assert status == 2 and "would replace its source" in complaints
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("librispeech", "must contain PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, got none"),
        ("tedlium", "must contain TED-LIUM's train, dev and test with sph and stm, or legacy with them"),
        ("kaldi", "must be a Kaldi data directory with wav.scp, got none"),
        ("manifest", "manifest cannot be read: Is a directory"),
    ],
)
def test_a_folder_that_is_not_that_corpus(tmp_path: Path, prepare: Command, corpus: str, message: str) -> None:
    (tmp_path / "photos" / "2024").mkdir(parents=True)
    assert message in prepare(corpus, tmp_path / "photos")[2]
    assert "nowhere does not exist" in prepare(corpus, tmp_path / "nowhere")[2]


def test_two_splits_of_one_name(kaldi: Path, prepare: Command) -> None:
    assert "splits must have different names, got train again in" in prepare("kaldi", kaldi, kaldi)[2]


def test_signs_that_are_spoken_and_those_that_are_not() -> None:
    assert spoken_beyond_letters("\u201cIt\u2019s Mr. Gray's -- half-past; (really)!\u201d") == set()
    assert spoken_beyond_letters("50 % of \u20ac3 & na\u00efve") == {"5", "0", "%", "\u20ac", "3", "&", "\u00ef"}


def test_words_that_are_too_many(tmp_path: Path) -> None:
    def fault(text: str) -> str | None:
        return text_fault(Utterance("u", tmp_path, 0.2, text, ""))  # five frames

    assert fault("a b c d e") is None and fault("") is None
    assert fault("a b c c") is None  # and a blank between
    assert fault("a b c c d") == "5 words need 6 frames, got 5"
    assert fault("a b c d e f") == "6 words need 6 frames, got 5"


def test_it_needs_no_torchaudio(tmp_path: Path, librispeech: Path) -> None:
    program = (
        "import sys; sys.modules['torchaudio'] = None\n"
        "from lwasr_edge.training.cli import main\n"
        f"sys.exit(main(['prepare', 'librispeech', {str(librispeech)!r}, '-o', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "out" / "dev-clean.jsonl")) == 2


def test_sphere_is_read_as_any_other_recording(tmp_path: Path) -> None:
    write_sphere(tmp_path / "a.sph", sound(1))
    assert np.array_equal(np.round(load_audio(tmp_path / "a.sph") * 32768).astype(np.int16), sound(1))
