"""`lwasr-train site`: what is held out, when the model before is kept, what a place has in it, and resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from site_base import write_base, write_general, write_long, write_site

from lwasr_edge import Recognizer
from lwasr_edge.cli import main as lwasr
from lwasr_edge.errors import OptionError
from lwasr_edge.hub.card import read_card
from lwasr_edge.hub.catalog import installed_model
from lwasr_edge.site.consent import Consent, write_consents
from lwasr_edge.site.folder import AUDIO_SUFFIXES, Sample
from lwasr_edge.site.intervals import error_rate
from lwasr_edge.site.part import Part, read_part
from lwasr_edge.site.recognise import Measured
from lwasr_edge.site.reports.adapted import Compared
from lwasr_edge.site.sound import Sound
from lwasr_edge.site.texts import SpokenText
from lwasr_edge.training.cli import main
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.loop import trainer
from lwasr_edge.training.loop.state import write_state
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.site import material as materials
from lwasr_edge.training.site.choice import Choice, Criteria, DevSet, mixed
from lwasr_edge.training.site.command import EXIT_KEPT
from lwasr_edge.training.site.compare import BETTER, FORGOT, KEPT, decide, held_out_sets
from lwasr_edge.training.site.fit import RATES, Settings, prepare, training_corpus
from lwasr_edge.training.site.general import in_noise, read_general
from lwasr_edge.training.site.material import Material, pieces, read_material
from lwasr_edge.training.site.place import find_base, only_run
from lwasr_edge.training.site.progress import Bar, Steps


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def home(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and `base` as the only model of the package."""
    monkeypatch.setenv("LWASR_HOME", str(tmp_path / "home"))
    for module in ("catalog", "fetch.catalog"):
        monkeypatch.setattr(f"lwasr_edge.hub.{module}.packaged_models_dir", lambda: base.parent)
    monkeypatch.setattr("lwasr_edge.training.site.card.packaged_models_dir", lambda: base.parent)
    return tmp_path / "home"


def recording(number: int, speaker: str = "", duration_s: float = 5.0, text: str | None = "two words") -> Measured:
    name = f"{number:03d}.wav"
    sound = Sound(duration_s, 16_000, 1, -26.0, -60.0, -20.0, 0.0, f"digest {number}", ())
    spoken = None if text is None else SpokenText(text, text, "")
    return Measured(Sample(name, Path(name), text, speaker), sound, spoken)


def divided(recordings: list[Measured], tests: list[Measured] | None = None) -> Material:
    found = Material()
    materials._divide(found, recordings, tests or [])
    return found


def test_no_speaker_and_no_recording_is_in_two_parts() -> None:
    recordings = [recording(number, f"s{number % 9}") for number in range(90)]
    found = divided(recordings)
    assert found.by_speaker
    held_out, others = ({item.sample.speaker for item in part} for part in (found.held_out, found.train + found.dev))
    assert held_out == {"s2", "s5", "s8"} and not held_out & others
    names = [item.sample.name for item in (*found.train, *found.dev, *found.held_out)]
    assert sorted(names) == [item.sample.name for item in recordings]
    assert len(found.dev) == 10


def test_speakers_who_are_not_known_are_divided_by_recording() -> None:
    found = divided([recording(number) for number in range(12)])
    assert not found.by_speaker and len(found.held_out) == 4
    assert {len(part) for part in (found.train, found.dev)} == {6, 2}


def test_of_a_large_folder_most_is_trained_on() -> None:
    found = divided([recording(number, f"s{number % 30:02d}") for number in range(900)])
    held_s = sum(item.sound.duration_s for item in found.held_out)
    assert materials.HELD_OUT_S <= held_s < 1.3 * materials.HELD_OUT_S
    assert not {i.sample.speaker for i in found.held_out} & {i.sample.speaker for i in found.train}


def test_a_folder_of_its_own_may_be_held_out() -> None:
    tests = [recording(100 + number, "other") for number in range(4)]
    found = divided([recording(number, "s") for number in range(8)], tests)
    assert found.held_out == tests and found.by_speaker and len(found.train) + len(found.dev) == 8
    assert divided([recording(number) for number in range(3)]).train == []  # too few to hold any out


def test_general_speech_that_loses_too_much_takes_a_smaller_share(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_checkpoint(base / "checkpoint.safetensors")[0]
    choice = Choice(tmp_path, {}, before)
    choice.before = {"site": 20.0, "general": 4.0}
    (tmp_path / "log.jsonl").write_text('{"step": 7, "wer": {"site": 5.0, "general": 6.0}}\n', encoding="utf-8")
    after = mixed(before, before, 1.0)
    with torch.no_grad():
        after.head.weight.add_(1.0)
    torch.save(after.state_dict(), choice.weights(7))

    def measure(model: Any) -> dict[float, dict[str, float]]:
        share = (model.head.weight - before.head.weight).mean().item()
        return {0.0: {"site": 20 - 10 * share, "general": 4 + share}}

    monkeypatch.setattr("lwasr_edge.training.site.choice.quantized_copy", lambda model: model)
    monkeypatch.setattr(choice, "measure", measure)
    for most, share in ((2.0, 1.0), (1.2, 0.6), (0.5, 0.25), (0.0, 0.25)):
        choice.criteria = Criteria(max_general_loss=most)
        model, how = choice.best()
        assert how["share"] == share and (how["step"], how["blank_penalty"]) == (7, 0.0)
        assert (model is None) == (most == 0.0)  # all lose too much


def test_models_are_judged_with_the_decoder_of_the_site(base: Path, tmp_path: Path) -> None:
    """It gets posteriors with the penalty on the blank, and its tokens are the text."""
    model = load_checkpoint(base / "checkpoint.safetensors")[0].eval()
    corpus = load_corpus(read_manifest(write_general(tmp_path / "general", 1)))
    blank_id, given = model.config.blank_id, []

    def decode(log_probs: np.ndarray) -> SimpleNamespace:
        given.append(np.exp(log_probs))
        spelled = [model.config.vocabulary.index(one) for one in corpus.utterances[0].text.replace(" ", "▁")]
        return SimpleNamespace(tokens=[SimpleNamespace(token=token) for token in spelled])

    found = DevSet(corpus, WaveformStore(corpus, torch.device("cpu")))
    assert found.wers(model, (0.0, 2.0)).keys() == {0.0, 2.0}
    assert found.wers(model, (0.0, 2.0), SimpleNamespace(decode=decode)) == {0.0: 0.0, 2.0: 0.0}
    plain, penalised = given
    odds = [one[:, blank_id] / (1 - one[:, blank_id]) for one in (plain, penalised)]
    np.testing.assert_allclose(penalised.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(odds[1], odds[0] * np.exp(-2), rtol=1e-3)


def test_long_recordings_without_text_are_cut() -> None:
    found = pieces(recording(1, duration_s=25.5, text=None))
    assert [(one.offset_s, one.duration_s) for one in found] == [(0, 10), (10, 10), (20, 5.5)]
    assert [one.duration_s for one in pieces(recording(1, duration_s=20.4, text=None))] == [10, 10]
    assert pieces(recording(1, duration_s=0.4, text=None)) == []


def test_noise_and_speech_without_texts(tmp_path: Path, base: Path) -> None:
    """With no text at all there are speech to learn from, noise to learn in, and general speech in it to compare on."""
    folder = write_site(tmp_path / "site", count=3)
    (folder / "texts.csv").unlink()
    found = read_material(folder, Recognizer(base / "model.onnx"))
    assert {one.id for one in found.speech} == {"r00.wav", "r01.wav", "r02.wav"} and found.is_noise_only
    assert len(found.noise) == 3 and len(found.held_out_noise) == 1
    assert [one.duration_s for one in (*found.noise, *found.held_out_noise)] == pytest.approx([10, 2, 10, 2])
    general = read_general([write_general(tmp_path / "general")], train_s=20.0)
    parts = [{one.speaker for one in part} for part in (general.train, general.dev, general.held_out)]
    assert all(parts) and not parts[0] & (parts[1] | parts[2])
    assert sum(one.duration_s for one in general.train) < 25
    assert set(held_out_sets(found, general)) == {"general", "noise"}
    corpus, is_site = training_corpus(found, general, tmp_path)
    assert len(corpus.utterances) == 3 + len(general.train) and not any(is_site)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_parts_of_a_long_recording(tmp_path: Path, base: Path, suffix: str) -> None:
    """Kaldi's segments: each part is learnt with its own sound, and the held-out ones are recognised from theirs."""
    recognizer = Recognizer(base / "model.onnx")
    path, segments = write_long(tmp_path / "site", f"hall.{suffix}", count=12)
    found = read_material(tmp_path / "site", recognizer)
    assert len(found.train) == 6 and len(found.dev) == 2 and len(found.held_out) == 4 and not found.refused
    corpus, is_site = training_corpus(found, None, tmp_path)
    assert len(corpus.utterances) == 6 and all(is_site)
    for index, one in enumerate(corpus.utterances):
        start_s, end_s, words = next(segment for segment in segments if segment[0] == one.offset_s)
        expected = read_part(path, Part(start_s, end_s))[0]
        assert one.text == words
        np.testing.assert_allclose(corpus.waveform(index), expected, atol=2e-4)
    for item in held_out_sets(found, None)["site"]:
        assert item.read(recognizer).split() == item.words


def test_a_part_that_overlaps_a_held_out_one_is_not_trained_on() -> None:
    def part(start_s: float, path: str = "hall.wav") -> Measured:
        one = recording(int(start_s))
        return replace(one, sample=replace(one.sample, path=Path(path), part=Part(start_s, start_s + 5)))

    windows = [part(2.0 * number) for number in range(30)]  # s, each of 5 s
    found = divided([*windows, *(part(100.0 + number, f"{number}.wav") for number in range(6))])
    held = [item.sample.part.start_s for item in found.held_out if item.sample.path.name == "hall.wav"]
    trained = [item.sample.part.start_s for item in (*found.train, *found.dev) if item.sample.path.name == "hall.wav"]
    assert held and min(abs(one - other) for one in held for other in [*trained, 1e9]) >= 5
    assert len(found.train) + len(found.dev) >= 4


def test_long_noise_by_its_parts_and_without_its_texts(tmp_path: Path, base: Path) -> None:
    random = np.random.default_rng(1)
    folder = tmp_path / "noise"
    folder.mkdir()
    soundfile.write(folder / "hall.wav", 0.05 * random.standard_normal(16_000 * 40), 16_000)
    rows = [{"audio_filepath": "hall.wav", "offset": start, "duration": 15, "text": ""} for start in (1, 20)]
    (folder / "noise.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = read_material(write_site(tmp_path / "site"), Recognizer(base / "model.onnx"), noise=folder)
    assert not found.refused
    parts = [one for one in (*found.noise, *found.held_out_noise) if one.path.name == "hall.wav"]
    assert sorted((one.offset_s, one.duration_s) for one in parts) == [(1, 10), (11, 5), (20, 10), (30, 5)]


def test_noise_is_added_at_the_same_ratios_each_time(tmp_path: Path) -> None:
    speech = load_corpus(read_manifest(write_general(tmp_path / "general", 4)))
    noise = speech.select([3])
    mixed, again = in_noise(speech, noise), in_noise(speech, noise)
    assert (mixed.samples == again.samples).all()
    for index in range(3):
        added = mixed.waveform(index) - speech.waveform(index)
        ratio_db = 10 * np.log10((speech.waveform(index) ** 2).mean() / (added**2).mean())
        assert -0.1 <= ratio_db <= 10.1


def compared(name: str, before: int, after: int, spread: int = 0) -> Compared:
    """Errors of 30 recordings of ten words each; with `spread`, the difference may be chance."""
    words = [10] * 30
    rates = [error_rate([errors] * 30, words) for errors in (before, after)]
    difference = 10.0 * (after - before)
    return Compared(name, *rates, difference - 1 - spread, difference + 1 + spread)


def test_a_gain_that_may_be_chance_or_that_forgets_keeps_the_model_before() -> None:
    assert decide([compared("site", 3, 2)], 0.5) == BETTER
    assert decide([compared("site", 3, 2, spread=20)], 0.5) == KEPT
    assert decide([compared("site", 2, 3)], 0.5) == KEPT
    assert decide([], 0.5) == KEPT
    assert decide([compared("site", 3, 2), compared("general", 1, 2)], 0.5) == FORGOT
    assert decide([compared("site", 3, 2), compared("general", 1, 2)], 10) == BETTER
    assert decide([compared("site", 3, 2), compared("site_list", 2, 2)], 0.5) == KEPT  # the list does as much
    assert decide([compared("noise", 3, 2), compared("general", 1, 1)], 0.5) == BETTER
    assert decide([compared("general", 3, 2)], 0.5) == KEPT  # nothing of the site


def test_averages_of_weights(base: Path) -> None:
    model = load_checkpoint(base / "checkpoint.safetensors")[0]
    other = load_checkpoint(base / "checkpoint.safetensors")[0]
    with torch.no_grad():
        for value in other.parameters():
            value.add_(1)
    for share in (0.0, 0.4, 1.0):
        found = mixed(model, other, share)
        for value, start in zip(found.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(value, start + share)


def test_without_noise_the_first_half_of_the_layers_stays(tmp_path: Path, base: Path) -> None:
    folder = write_site(tmp_path / "site")
    found = read_material(folder, Recognizer(base / "model.onnx"))
    for noise, moves in ((found.noise, True), ([], False)):
        found.noise = noise
        trainer = prepare(found, None, base / "checkpoint.safetensors", Settings(steps=2), tmp_path / f"run{moves}")
        assert trainer.schedule.learning_rate == RATES[moves]
        before = {name: value.clone() for name, value in trainer.models["site"].named_parameters()}
        trainer.bar = Steps(lambda share: None, 2)
        trainer.train()
        n_layers = len(trainer.models["site"].encoder.layers)
        first = tuple(f"encoder.layers.{index}." for index in range(n_layers // 2))
        changed = {name for name, value in trainer.models["site"].named_parameters() if not value.equal(before[name])}
        assert n_layers >= 2 and "head.weight" in changed and f"encoder.layers.{n_layers - 1}.norm.weight" in changed
        assert any(name.startswith(("encoder.subsampling.", *first)) for name in changed) is moves


def test_training_ends_after_two_evaluations_that_are_worse(tmp_path: Path) -> None:
    choice = Choice.__new__(Choice)
    choice.folder, choice.before = tmp_path, {"site": 20.0, "general": 5.0}

    def log(*wers: tuple[float, float]) -> bool:
        lines = [{"step": step, "wer": {"site": one, "general": other}} for step, (one, other) in enumerate(wers, 1)]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return choice.is_over

    assert not log((25, 5))
    assert log((25, 5), (24, 5))  # worse than before the training
    assert not log((21, 5), (21, 5))  # not by much: the learning rate is still high
    assert not log((15, 5), (18, 5), (16, 5))
    assert log((15, 5), (18, 5), (17, 5))
    assert not log((15, 5), (14, 9), (14, 9))  # an average of the weights may lose less general speech
    assert [step for _, step in choice.costs()] == [1, 2, 3]


def run_site(*arguments: object) -> int:
    return main(["site", *map(str, arguments)])


def test_a_place_from_a_folder(tmp_path: Path, home: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command with a training too short to help: only the two decisions are made for it."""
    monkeypatch.setattr(Choice, "cost", lambda choice, wers: 0.5)
    monkeypatch.setattr("lwasr_edge.training.site.command.decide", lambda comparisons, most: BETTER)
    folder, place = write_site(tmp_path / "site a"), tmp_path / "hall 3"
    write_consents(folder, [Consent("Jane Doe", "commands", "2030-01-31", "2026-11-28T10:00:00+00:00", "jane")])
    words = tmp_path / "words.txt"
    words.write_text("three\n", encoding="utf-8")
    before = sorted(path.name for path in folder.rglob("*"))
    assert run_site(folder, "-o", place, "--steps", 4, "--words", words) == 0
    assert sorted(path.name for path in folder.rglob("*")) == sorted([*before, ".lwasr-site.json"])
    names = {path.name for path in place.iterdir()}
    assert names == {
        "card.json",
        "card.md",
        "checkpoint.safetensors",
        "model.int8.json",
        "model.int8.onnx.gz",
        "page.html",
    }
    assert not {path.suffix for path in place.rglob("*")} & AUDIO_SUFFIXES
    assert not list(tmp_path.glob(".hall*"))
    card = read_card(place / "card.json")
    assert card.name == "hall-3" and card.fields["licence"] == "CC BY 4.0" and card.fields["base"]["name"] == "base"
    assert "made by a test" in card.fields["about"]["attribution"]
    data = card.fields["about"]["data"]
    assert data["recordings_with_texts"] == 12 and data["speakers"] == 4
    assert data["minutes_of_noise"] == pytest.approx(0.4)
    assert data["consent"] == "of 1 speakers, from 2026-11-28 to 2026-11-28"
    assert data["purposes"] == ["commands"] and data["kept_until"] == ["2030-01-31"]
    assert "cannot be played back" in data["voices"] and "held_out" in data
    written = "".join((place / name).read_text(encoding="utf-8") for name in ("card.json", "card.md", "page.html"))
    for private in ("Jane Doe", "r00.wav", "s1", "site a", str(tmp_path)):
        assert private not in written
    out = capsys.readouterr()
    assert "install it: lwasr models install" in out.out and "this will take about" in out.err
    assert "chosen: the weights of step" in out.err and "exporting: " in out.err  # a line for each stage
    assert lwasr(["models", "install", str(place)]) == 0
    assert Recognizer(installed_model("hall-3").path).info.name == "hall-3"
    monkeypatch.setenv("LWASR_MODEL", "hall-3")
    assert Recognizer().info.name == "hall-3"
    assert run_site(folder, "-o", tmp_path, "--steps", 4) == 2  # a folder with other things
    assert "must be a new folder" in capsys.readouterr().err


def test_without_a_gain_there_is_a_page_and_no_place(tmp_path: Path, home: Path, capsys) -> None:
    folder, place = write_site(tmp_path / "site"), tmp_path / "place"
    assert run_site(folder, "-o", place, "--steps", 4, "--learning-rate", 1e-9) == EXIT_KEPT
    assert not place.exists() and not list(tmp_path.glob(".place*"))
    page = (tmp_path / "place-kept.html").read_text(encoding="utf-8")
    assert "Which weights" in page and "Share of the way" in page
    assert "Keep base: adaptation brought no gain" in capsys.readouterr().out


def test_without_a_terminal_a_line_a_minute(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lwasr_edge.training.site.progress.time.monotonic", lambda: now[0])
    bar = Bar({"training": 600.0})
    bar.enter("training")
    for second in range(1, 301):
        now[0] = 100.0 + second
        bar.share(second / 600)
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and lines[0] == "training: 0 %, 10 min left" and lines[-1] == "training: 50 %, 5 min left"


class KilledError(BaseException):
    """Nothing of the package catches it."""


def test_a_killed_run_is_resumed(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its first state: the next run goes on from there and ends with the weights of an unbroken one."""
    monkeypatch.setattr("lwasr_edge.training.site.fit.SAVE_EVERY", 2)
    monkeypatch.setattr("lwasr_edge.training.site.command.places.remove_work", lambda work: None)
    folder = write_site(tmp_path / "site")
    line = [folder, "--steps", 8, "--learning-rate", 1e-3]

    def write_and_die(*arguments: Any) -> None:
        write_state(*arguments)
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(trainer, "write_state", write_and_die)
        run_site(*line, "-o", tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    assert run_site(*line, "-o", tmp_path / "killed") == EXIT_KEPT
    assert "resumed at step" in (tmp_path / ".killed.work" / "log.txt").read_text(encoding="utf-8")
    assert run_site(*line, "-o", tmp_path / "whole") == EXIT_KEPT
    resumed, whole = (
        load_checkpoint(tmp_path / f".{name}.work" / "site.safetensors")[0] for name in ("killed", "whole")
    )
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_one_run_at_a_time_for_a_place(tmp_path: Path, home: Path, capsys) -> None:
    """The second is refused in one line and changes nothing; a killed one does not keep the next away."""
    folder, place = write_site(tmp_path / "site", count=9), tmp_path / "place"
    with only_run(place):
        before = sorted(tmp_path.iterdir())
        assert run_site(folder, "-o", place, "--steps", 2) == 2
        assert sorted(tmp_path.iterdir()) == before
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and "-o must be without another run" in errors[0] and str(place) in errors[0]
    program = "import sys, time; from pathlib import Path; from lwasr_edge.training.site.place import only_run\n"
    program += "with only_run(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, place], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"\n"
        with pytest.raises(OptionError, match="another run"), only_run(place):
            pass
        other.send_signal(signal.SIGKILL)
    with only_run(place):
        pass
    assert not list(tmp_path.glob(".place*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes must be a finite number > 0"),
        (["--name", "base"], "--name must not be that of a model of the package"),
        (["--name", "a b"], "--name must be of letters"),
        (["--checkpoint", "none.safetensors"], "must have its checkpoint.safetensors"),
        (["--general", "none.jsonl"], "none.jsonl"),
    ],
)
def test_one_line_errors(tmp_path: Path, home: Path, capsys, arguments: list[str], message: str) -> None:
    folder = write_site(tmp_path / "site", count=9)
    assert run_site(folder, "-o", tmp_path / "place", *arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lwasr-train: error:")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "place").exists()


def test_the_checkpoint_must_be_that_of_the_model(tmp_path: Path, home: Path) -> None:
    assert find_base(None, None).name == "base"
    card = json.loads((find_base("base", None).checkpoint.parent / "card.json").read_text(encoding="utf-8"))
    folder = write_base(tmp_path / "home" / "models" / "other", "other")
    card |= {"name": "other", "about": {"checkpoint_sha256": "0" * 64}}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(OptionError, match="must be that of the model"):
        find_base("other", None)


def test_noise_alone_needs_speech_to_be_compared_on(tmp_path: Path, home: Path, capsys) -> None:
    folder = write_site(tmp_path / "site", count=0)
    assert run_site(folder, "-o", tmp_path / "place") == 2
    assert "add --general MANIFEST" in capsys.readouterr().err
    os.unlink(folder / "noise0.wav")
    os.unlink(folder / "noise1.wav")
    assert run_site(folder, "-o", tmp_path / "place") == 2
