"""Made-up sentences, and speech synthesised from them."""

import json
import random
import shutil
from itertools import islice
from pathlib import Path

import pytest

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("tqdm", reason="needs the extra train")

from lwasr_edge.errors import AudioError, ManifestError, MissingExtraError, OptionError  # noqa: E402
from lwasr_edge.training.study.sentences import SentenceRules, make_sentences, normalise_sentence, read_word_list  # noqa: E402
from lwasr_edge.training.study.synthesise import Prompt, main, make_recording, read_rows, synthesise  # noqa: E402

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite (apt-get install flite)")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Don't go, she said -- not yet!", "don't go she said not yet"),
        ("The well-known \u201ccaf\u2019s\u201d", "the well known caf's"),
        ("'tis  odd ", "tis odd"),
        ("in 1940", None),
        ("caf\u00e9", None),
        ("", None),
        ("...", None),
    ],
)
def test_normalise_sentence(line: str, words: str | None) -> None:
    assert normalise_sentence(line) == words


def test_made_sentences_are_repeatable_and_follow_the_rules() -> None:
    transcripts = ["the cat sat on the mat and the dog sat on the rug", "a dog ran after the cat on the road"]
    rules = SentenceRules(min_words=4, max_words=9, replaced=1.0, common_words=2)

    def draw(seed: int) -> list[str]:
        return list(islice(make_sentences(transcripts, random.Random(seed), (["zebra"], [1.0]), rules), 50))

    sentences = draw(1)
    assert sentences == draw(1) != draw(2)
    assert {len(sentence.split()) for sentence in sentences} == {4, 5, 6, 7, 8, 9}
    # "the" is by far the most frequent word; everything but the two most frequent is replaced.
    words = {word for sentence in sentences for word in sentence.split()}
    assert {"the", "zebra"} <= words and len(words) == 3


def test_word_list_weighs_by_the_root_of_the_frequency(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("often 9\nrare 1\n3com 5\nplain\n", encoding="utf-8")
    assert read_word_list(path) == (["often", "rare", "plain"], [3.0, 1.0, 1.0])


@pytest.mark.parametrize("rules", [{"min_words": 0}, {"min_words": 9, "max_words": 8}, {"replaced": 1.5}])
def test_impossible_rules_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        SentenceRules(**rules)


def test_a_prompt_is_named_by_its_content() -> None:
    prompt = Prompt("hello", "flite:slt", speed=1.25, pitch=1.0, peak=0.5)
    assert prompt.id == Prompt("hello", "flite:slt", speed=1.25, pitch=1.0, peak=0.5).id
    assert prompt.id != Prompt("hello", "flite:rms", speed=1.25, pitch=1.0, peak=0.5).id
    command = " ".join(prompt.command(Path("x.wav")))
    assert command == "flite -voice slt -t hello -o x.wav --setf duration_stretch=0.800 --setf int_f0_target_mean=170.0"


def test_a_missing_synthesiser_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="flite is not installed: apt-get install"):
        synthesise(["a sentence"], tmp_path, hours=1, voices={"flite:slt": 1.0})


def test_a_voice_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="got 'festival:kal'"):
        synthesise(["a sentence"], tmp_path, hours=1, voices={"festival:kal": 1.0})


@needs_flite
def test_an_unknown_flite_voice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="flite voices must be some of .*slt, got nobody"):
        synthesise(["a sentence"], tmp_path, hours=1, voices={"flite:nobody": 1.0})


@needs_flite
def test_speech_is_written_once_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    long_enough = "the first of all the sentences that are spoken here is not a short one"
    text.write_text(f"{long_enough}\nno\nthere are 3 of them\n", encoding="utf-8")
    command = [str(text), "-o", str(tmp_path / "tts"), "--hours", "1", "--voices", "flite:kal16"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "2 of 3 lines have only words" in captured.err
    manifest = Path(captured.out.strip())
    (row,) = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert row["text"] == long_enough and row["speaker"] == "flite-kal16"
    waveform, rate = soundfile.read(manifest.parent / row["audio_filepath"])
    assert rate == 16000 and waveform.ndim == 1
    assert waveform.size / rate == pytest.approx(row["duration"], abs=0.001) and 2 <= row["duration"] <= 14
    assert 0.25 < abs(waveform).max() < 1.0  # drawn from 0.3 to 0.9

    made_at = (manifest.parent / row["audio_filepath"]).stat().st_mtime_ns
    manifest.unlink()  # as if the first run had been stopped before its manifest was written
    assert main(command) == 0
    assert json.loads(manifest.read_text(encoding="utf-8")) == row
    assert (manifest.parent / row["audio_filepath"]).stat().st_mtime_ns == made_at


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": 1}',
        '{"id": "a", "duration": "x"}',
        '{"id": "a", "duration": null}',
        '{"id": "a", "duration": 1' + 400 * "0" + "}",
        '{"id": [], "duration": 1}',
        "[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "tts.jsonl").write_text(line + "\n")
    with pytest.raises(ManifestError, match=r"tts.jsonl must be a manifest of this command"):
        read_rows(tmp_path / "tts.jsonl")


def test_rows_are_split_at_line_feeds_alone(tmp_path: Path) -> None:
    rows = [{"id": "a", "duration": 1.5, "text": "one\u2028two"}, {"id": "b", "duration": 2}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "tts.jsonl").write_text(text, encoding="utf-8")
    assert list(read_rows(tmp_path / "tts.jsonl").values()) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "must be a text file in UTF-8"),
        (b"\nword many\n", r"words.txt, line 2: frequency must be a finite number >= 0, got 'many'"),
        (b"word -1\n", "line 1: frequency must be"),
        (b"word 0\n", "a word with a frequency above 0"),
        (b"42\n", "one word per line"),
    ],
)
def test_damaged_word_lists_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(OptionError, match=message):
        read_word_list(tmp_path / "words.txt")


def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    prompt = Prompt("hello", "flite:slt", speed=1.0, pitch=1.0, peak=0.5)
    path = tmp_path / prompt.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"fLaC" + bytes(20))
    with pytest.raises(AudioError, match=path.name):
        make_recording(prompt, tmp_path, (2.0, 14.0))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"\xff", [], "must be a text file in UTF-8"),
        (b"4 2\n", [], "must hold a line of words"),
        (b"", [], "must hold a line of words"),
        (b"one two\n", ["--workers", "0"], "--workers must be a whole number >= 1, got 0"),
        (b"one two\n", ["--hours", "nan"], "--hours must be a finite number >= 0, got nan"),
    ],
)
def test_impossible_input_is_refused(tmp_path: Path, content: bytes, options: list[str], message: str) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(OptionError, match=message):
        main([str(tmp_path / "text.txt"), "-o", str(tmp_path / "tts"), *options])
