"""The modules of benchmarks/: their arithmetic by hand, and a run over tones."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import tiny_model
from conftest import speak
from locations import BENCHMARKS, ROOT

from lwasr_edge import OptionError, Recognizer
from lwasr_edge.words import Word

if not BENCHMARKS.is_dir():
    pytest.skip("needs the checkout, not an install", allow_module_level=True)
for needed in ("onnx", "matplotlib"):
    pytest.importorskip(needed)
sys.path.append(str(ROOT))

from benchmarks import audiobook  # noqa: E402
from benchmarks import run as results_page  # noqa: E402
from benchmarks.accuracy import noise_before, phrases  # noqa: E402
from benchmarks.page import markdown, plots, provenance, reports  # noqa: E402
from benchmarks.peers import engines  # noqa: E402
from benchmarks.speed import arithmetic, latency  # noqa: E402


def test_end_of_speech_is_the_end_of_the_tone() -> None:
    quiet = 0.001 * np.sin(np.arange(16000)).astype(np.float32)  # 50 dB below the tone
    waveform = np.concatenate([quiet, speak("\u2581one"), quiet])
    assert latency.end_of_speech_s(waveform) == pytest.approx(1.12)


@pytest.fixture(scope="module")
def look_ahead_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with look-ahead."""
    path = tmp_path_factory.mktemp("model") / "tiny-look-ahead.onnx"
    onnx.save(tiny_model.build_model(look_ahead=True), path)
    return path


def test_latency_counts_from_the_end_of_the_sound(look_ahead_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With processing that takes no time, a word is shown a hop after its token at the latest."""
    recognizer = Recognizer(look_ahead_path)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: 0.0)
    waveform = speak(0.2, "\u2581one", 0.5, "\u2581two", 0.3)
    of_file = recognizer.transcribe((waveform, 16000)).words
    latencies = latency.Latencies()
    latency.measure(recognizer, waveform, of_file, latency.DEFAULT, latencies)
    assert latencies.texts == ["one two"]
    assert len(latencies.word) == latencies.final_words == 2
    assert all(-0.2 < late_s < 0.4 for late_s in latencies.word)
    assert latencies.words_changed == 0
    assert latencies.speech_s == pytest.approx(len(waveform) / 16000)
    assert latencies.final_by_flush == [pytest.approx(0.0, abs=0.001)]
    assert -0.2 < latencies.final_by_endpoint[0] < 0.1  # the tone's token comes at its beginning


def test_a_word_is_shown_when_its_final_form_appears() -> None:
    def seen(at_s: float, *texts: str) -> latency.Shown:
        return latency.Shown(at_s, tuple(Word(text, 0.0, 1.0, 1.0) for text in texts), False)

    events = [seen(1.0, "four"), seen(2.0, "fourteen"), seen(3.0, "fourteen", "two")]
    assert latency.first_shown_s(events, 0, "fourteen") == 2.0
    assert latency.first_shown_s(events, 1, "two") == 3.0


@pytest.mark.parametrize(
    ("before", "after", "edits"),
    [
        ("", "one two", 0),
        ("one two", "one two three", 0),
        ("one two", "one", 1),
        ("one too", "one two three", 1),
        ("two three", "one two three", 1),
        ("one two three", "", 3),
    ],
)
def test_added_words_are_no_changes(before: str, after: str, edits: int) -> None:
    assert latency.edits_to_prefix(before.split(), after.split()) == edits


def test_words_changed_count_every_event() -> None:
    def seen(*texts: str, is_final: bool = False) -> latency.Shown:
        return latency.Shown(1.0, tuple(Word(text, 0.0, 1.0, 1.0) for text in texts), is_final)

    events = [seen("four"), seen("fourteen"), seen("fourteen", "too"), seen("fourteen", "two", is_final=True)]
    assert latency.words_changed(events) == 2


def test_macs_by_hand() -> None:
    assert arithmetic.macs_of("MatMul", [[16, 176], [176, 704]], [[16, 704]]) == 16 * 176 * 704
    assert arithmetic.macs_of("Conv", [[1, 176, 31], [176, 1, 31]], [[1, 176, 16]]) == 176 * 16 * 31
    assert arithmetic.macs_of("Add", [[16, 176], [16, 176]], [[16, 176]]) == 0


def test_the_profile_of_the_tiny_model(model_path: Path) -> None:
    waveform = speak(0.5, "\u2581one", 0.66)
    work, audio_s, rtf = arithmetic.profile(model_path, 16, 16, waveform)
    assert audio_s == pytest.approx(2 * 0.64 * (arithmetic.RUNS - 1))
    matmuls = [done for (operator, _), done in work.items() if operator == "MatMul"]
    frames = round(audio_s / 0.04)
    assert sum(done.mac for done in matmuls) == 2 * frames * 640 * 8  # cosines and sines of eight tones
    assert rtf > 0


def test_sections_are_replaced_and_the_rest_stays() -> None:
    page = results_page.replaced("# Results\n\nBy hand.\n", "speed", "first")
    page = results_page.replaced(page, "peers", "others")
    page = results_page.replaced(page, "speed", r"second \1")
    assert page.startswith("# Results\n\nBy hand.\n")
    assert "first" not in page
    assert page.index(r"second \1") < page.index("others")


def test_a_table_can_be_read_as_text() -> None:
    assert markdown.table(("a", "bb"), [("x", "1"), ("long", "20")]).splitlines() == [
        "| a    | bb |",
        "| ---- | -: |",
        "| x    |  1 |",
        "| long | 20 |",
    ]


def test_every_peer_names_its_distributions() -> None:
    assert engines.ENGINES.keys() == engines.DISTRIBUTIONS.keys()


def test_models_of_peers_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").touch()
    for engine in engines.FOLDERS:
        assert engines.fault_of_model(engine, str(tmp_path / "none")) == "no such folder"
    assert engines.fault_of_model("sherpa-nemo-ctc", str(tmp_path)) == "the folder has no *.onnx"
    assert engines.fault_of_model("whisper-cpp", str(tmp_path / "none")) == "no such file"
    (tmp_path / "model.int8.onnx").touch()
    assert engines.fault_of_model("sherpa-nemo-ctc", str(tmp_path)) is None


def test_latency_from_a_manifest(
    look_ahead_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", speak(0.2, "\u2581one", 0.4, "\u2581two", 0.2), 16000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "a.wav", "text": "one two"}) + "\n")
    out = tmp_path / "out.json"
    argv = ["latency.py", "--manifest", str(manifest), "--model", str(look_ahead_path), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    latency.main()
    figures = json.loads(out.read_text())
    settings = [(line["hop_ms"], line["right_context_ms"]) for line in figures["settings"]]
    assert settings[:4] == [(80, 640), (160, 640), (320, 640), (640, 640)]
    assert settings[4:] == [(320, 320), (320, 960), (320, 1280)]
    assert all(line["wer"] == 0 and line["word"]["count"] == 2 for line in figures["settings"])
    assert figures["settings"][2]["cpu_relative"] == 1
    assert "| 320 / 640 ms (default) |" in capsys.readouterr().out
    assert plots.latency(figures, tmp_path / "latency.png")


def test_a_report_of_the_present_schema_has_a_section(model_path: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speak(0.2, "\u2581one", 0.4, "\u2581two", 0.4), 16000)
    manifest, out = tmp_path / "m.jsonl", tmp_path / "out.json"
    manifest.write_text(json.dumps({"audio_filepath": "a.wav", "text": "one two"}) + "\n")
    options = ["--manifest", str(manifest), "--quick", "--json", str(out)]
    command = [sys.executable, "-m", "lwasr_edge", "bench", str(model_path), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    report = {**json.loads(out.read_text()), "commit": "0"}
    assert reports.is_present(report)
    assert "CPU s/s in silence" in reports.section(report)
    assert "hop 320 ms" in reports.accuracy_section(report)
    assert plots.speed(report, tmp_path / "speed.png")
    assert plots.accuracy(report, tmp_path / "accuracy.png")


def test_a_section_of_older_figures_stays_with_a_note() -> None:
    page = results_page.replaced("# Results\n", "speed", "## Speed\n\nold figures")
    marked = results_page.marked_as_old(page, "speed")
    assert f"## Speed\n\n{results_page.OLD}\n\nold figures" in marked
    assert results_page.marked_as_old(marked, "speed") == marked
    assert results_page.marked_as_old(page, "peers") == page


def test_phrases_get_every_utterance_once(recognizer: Recognizer) -> None:
    waveform = speak(0.2, "\u2581one", 0.3, "\u2581two", 1.5, "\u2581three", 0.4)
    for as_stream in (False, True):
        recorder = phrases.Recorder(recognizer.info, {})
        recorder.begin()
        for log_probs in phrases.utterances_of(recognizer, waveform, as_stream=as_stream):
            recorder.add(log_probs)
        assert recorder.results[phrases.GREEDY].texts == ["one two three"]


def test_cards_have_any_modes() -> None:
    pytest.importorskip("torch")
    from benchmarks import cards

    card = json.loads((ROOT / "models" / "en-base" / "card.json").read_text(encoding="utf-8"))
    card["speed"] = {"machine": "a board", "files": {"rtf": 0.5, "peak_memory_mb": 80}}
    card["speed"]["other"] = {"rtf": 0.25, "peak_memory_mb": 90}
    assert "| other | 0.25 | 90 |" in cards.markdown(card)


@pytest.mark.slow
def test_cards_measure_every_mode(model_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from benchmarks import cards

    soundfile.write(tmp_path / "a.wav", speak(0.2, "\u2581one", 0.4), 16000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "a.wav", "text": "one", "duration": 0.72}) + "\n")
    assert set(cards.speed(model_path, manifest)) == {"files", "streams"}
    assert cards.onnx_wer(model_path, manifest) == {"files": 0, "streams": 0}


def test_words_right_and_extra() -> None:
    expected = ["she", "opened", "the", "window"]
    assert noise_before.right_and_extra(expected, ["oh", "she", "opened", "a", "window"]) == (3, 2)
    assert noise_before.right_and_extra(expected, []) == (0, 0)


@pytest.mark.parametrize("name", noise_before.SOUNDS)
def test_a_sound_before_the_sentence(name: str) -> None:
    waveform = noise_before.Before(name, -20.0, 1.0, 0.5).waveform()
    assert waveform.dtype == np.float32
    assert len(waveform) == 24_000
    assert np.sqrt(np.mean(waveform[:16_000] ** 2)) == pytest.approx(0.1, rel=0.02)
    assert not waveform[16_000:].any()


def test_noise_before_the_sentence(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny model knows no word of the sentence."""
    monkeypatch.setattr(noise_before, "LENGTHS_S", (1.0,))
    monkeypatch.setattr(noise_before, "GAPS_S", (0.5,))
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["noise_before.py", "--model", str(model_path), "--json", str(out)])
    noise_before.main()
    sounds = json.loads(out.read_text())["sounds"]
    assert len(sounds) == 5 + 2 * len(noise_before.SOUNDS)
    assert {sound[way]["right"] for sound in sounds for way in ("stream", "file")} == {0}
    assert "| music, -8 dB " in capsys.readouterr().out


def test_audiobook_is_read_from_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "renamed.tar.gz"
    files = {"transcription": b"<s> two words </s> (one)\n", "one.wav": b"RIFF"}
    for names, problem in ((["transcription"], "one.wav"), (["one.wav"], "transcription"), (list(files), "")):
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                member = tarfile.TarInfo(f"pocketsphinx-5.1.1/test/data/librivox/{name}")
                member.size = len(files[name])
                archive.addfile(member, io.BytesIO(files[name]))
        if problem:
            with pytest.raises(SystemExit, match=f"must be pocketsphinx-5.1.1.tar.gz.*{problem}"):
                audiobook.recordings_in(path)
    assert audiobook.recordings_in(path) == {"one": ("two words", b"RIFF")}
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SystemExit, match="must be pocketsphinx"):
        audiobook.recordings_in(path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"a"', "[" * 100_000])
def test_figures_that_are_not_an_object_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(text)
    with pytest.raises(OptionError, match="speed.json must be figures in JSON"):
        provenance.read_json(path)


def test_the_command_of_figures_can_be_run_again() -> None:
    assert provenance.program(BENCHMARKS / "speed" / "latency.py") == ["-m", "benchmarks.speed.latency"]
    for path in (BENCHMARKS / "results").glob("*.json"):
        words = json.loads(path.read_text(encoding="utf-8"))["command"].split()
        if words[:2] == ["python", "-m"]:
            assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), words
        else:
            assert words[0] in ("lwasr", "lwasr-train") or (ROOT / words[1]).is_file(), words


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.py", "cards.py", "audiobook.py"])
def test_scripts_run_by_their_path(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / name), "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr


def test_folders_are_small() -> None:
    for folder in {path.parent for path in BENCHMARKS.rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= 15
