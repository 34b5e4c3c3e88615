"""`lwasr-train` from the archive to error rates, and its one-line errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from nemo_archive import nemo_config, nemo_state, write_archive
from small_models import DATA, letters_tokenizer, small_model, write_test_manifest

from lwasr_edge.training.cli import build_parser, main, renamed
from lwasr_edge.training.compress.students import Shape
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.options import parse_keep, parse_losses

SHORT = ["--steps", "2", "--batch-s", "8", "--warmup-steps", "1", "--precision", "float32"]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.safetensors"
    save_checkpoint(path, small_model(n_layers=4), letters_tokenizer())
    return path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command that fails prints."""
    assert main([str(one) for one in arguments]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("lwasr-train: error: ")]
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0].removeprefix("lwasr-train: error: ")


def test_from_the_archive_to_error_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(n_layers=4)
    archive = write_archive(tmp_path / "m.nemo", nemo_config(model), nemo_state(model), letters_tokenizer())
    manifest, reference = write_test_manifest(tmp_path), tmp_path / "reference.safetensors"
    assert main(["import-nemo", str(archive), "-o", str(reference)]) == 0
    assert "reference.safetensors: 4 layers of width 16, 29 tokens" in capsys.readouterr().out

    step1 = ["represent", "--reference", str(reference), "--train", str(manifest), *SHORT, "--layer-steps", "1"]
    step1 += ["--keep", "2,0+1+3x20x8", "--noise", str(DATA), "--augment", "snr_db=5,20"]
    step1 += ["--dev", str(manifest), "-o", str(tmp_path / "step1")]
    assert main(step1) == 0
    assert "layers2/data/whole" in capsys.readouterr().out
    narrow = load_checkpoint(tmp_path / "step1" / "layers0-1-3x20x8.safetensors")[0].config
    assert narrow.reference_layers == (0, 1, 3)
    assert (narrow.encoder.d_feed_forward, narrow.encoder.d_attention) == (20, 8)
    assert main([*step1, "--steps", "3"]) == 0
    assert "resuming" in capsys.readouterr().out

    students = [str(tmp_path / "step1" / name) for name in ("layers2.safetensors", "layers0-1-3x20x8.safetensors")]
    more = ["represent", "--reference", str(reference), "--students", *students, "--train", str(manifest), *SHORT]
    assert main([*more, "--layer-steps", "0", "-o", str(tmp_path / "more")]) == 0
    step2 = ["adapt", *students, "--reference", str(reference), "--loss", "kl=0.5", "--dropout", "0.1"]
    assert main([*step2, "--train", str(manifest), *SHORT, "-o", str(tmp_path / "step2")]) == 0
    capsys.readouterr()

    scores = tmp_path / "scores.json"
    adapted = str(tmp_path / "step2" / "layers2.safetensors")
    assert main(["evaluate", adapted, str(manifest), "--chunk-ms", "640", "--per-speaker", "--json", str(scores)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("data: WER ") and "of 31 words" in out
    found = json.loads(scores.read_text())["data"]
    assert found["words"] == 31 and 0 < found["wer"] <= 2
    assert set(found["hypotheses"]) == {"slt_16k", "rms_16k", "gb_22k"}
    assert set(found["speakers"]) == {"slt", "rms", "gb"}


def test_bad_entries_stop_a_run_or_are_left_out(tmp_path: Path, reference: Path, capsys) -> None:
    manifest = write_test_manifest(tmp_path)
    with manifest.open("a") as file:
        file.write(json.dumps({"audio_filepath": "gone.wav", "duration": 2, "text": "gone"}) + "\n")
        file.write(json.dumps({"audio_filepath": str(DATA / "slt_16k.flac"), "duration": 3.39, "text": "42"}) + "\n")
    student = tmp_path / "student.safetensors"
    save_checkpoint(student, small_model(normalization="running"), letters_tokenizer())
    command = ["adapt", str(student), "--train", str(manifest), *SHORT, "-o", str(tmp_path / "out")]
    message = error_of(capsys, *command)
    assert message.startswith("2 of 5 utterances cannot be used (the limit is 5 %); the first is gone:")
    assert main([*command, "--max-bad", "40"]) == 0
    left_out = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert left_out[0].startswith("left out: gone: ")
    assert left_out[1] == "left out: slt_16k@5: text must consist of the vocabulary's characters, got 2 4"


def test_missing_extra(tmp_path: Path, reference: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lwasr_edge.training.commands.reference", raising=False)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    message = error_of(capsys, "evaluate", reference, tmp_path / "m.jsonl")
    assert message == "sentencepiece is not installed: pip install '.[train]'"


def test_a_missing_module_of_our_own_is_no_missing_extra(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "lwasr_edge.training.commands.represent", raising=False)
    monkeypatch.setitem(sys.modules, "lwasr_edge.training.compress.students", None)
    assert main(["evaluate", str(reference), "m.jsonl"]) == 1
    assert "unexpected ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "9"], "layers of a student must be 1 to 4, as the reference has, got 9"),
        (["--keep", "two"], "--keep must be numbers of layers"),
        (["--keep", "2,2"], "--keep must name each student once, got 2 twice"),
        (["--keep", "3+1"], "in rising order"),
        (["--dropout", "1"], "--dropout must be a finite number >= 0 and < 1, got 1.0"),
        (["--max-bad", "120"], "--max-bad must be a finite number >= 0 and <= 100, got 120.0"),
        (["--augment", "echo=1"], "--augment NAME must be one of speeds, pause_probability"),
        (["--augment", "snr_db=loud"], "--augment snr_db must be float, as in snr_db=3,30, got loud"),
        (["--augment", "snr_db=5,1"], "snr_db must be two finite numbers, the smaller first, got 5,1"),
        (["--noise", "none.jsonl"], "none.jsonl: no such manifest"),
        (["--loss", "kd=1"], "--loss must be NAME=WEIGHT with a name of mse, clip, kl, hidden, ctc, got kd=1"),
        (["--loss", "kl"], "got kl"),
        (["--loss", "kl=nan"], "the weight of --loss kl must be a finite number >= 0, got nan"),
        (["--steps", "-1"], "--steps must be a whole number >= 0, got -1"),
        (["--device", "gpu"], "--device must be cpu, or cuda where there is one, got 'gpu'"),
        (["--train", "none.jsonl"], "none.jsonl: no such manifest"),
        (["--reference", "none.safetensors"], "none.safetensors: no such checkpoint file"),
        (["--keep", "2x33"], "feed-forward units must be 1 to 32, got 33"),
        (["--keep", "2x"], "got 2x"),
        (["--keep", "2x16x8x4x1"], "got 2x16x8x4x1"),
        (["--keep", "2x16x8x9"], "subsampling channels must be 1 to 8, got 9"),
        (["--keep", "2x16x7"], "attention width must be a multiple of 2, the heads, up to 16, got 7"),
    ],
)
def test_one_line_errors(tmp_path: Path, reference: Path, capsys, arguments: list[str], message: str) -> None:
    common = ["represent", "--reference", reference, "--train", write_test_manifest(tmp_path)]
    common += ["--layer-steps", "0", "--keep", "2"]
    assert message in error_of(capsys, *common, "-o", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_what_cannot_train_together(tmp_path: Path, reference: Path, capsys) -> None:
    manifest, out = write_test_manifest(tmp_path), tmp_path / "out"
    common = ["--train", manifest, "-o", out]
    message = error_of(capsys, "adapt", reference, "--reference", reference, *common)
    assert message == "--reference needs a loss that compares with it: add, for instance, --loss kl=0.5"
    assert "students must have different file names, got two called reference" in error_of(
        capsys, "adapt", reference, reference, *common
    )
    assert "must be a student that `lwasr-train represent` made" in error_of(
        capsys, "represent", "--reference", reference, "--students", reference, "--layer-steps", 0, *common
    )


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("adapt", ["--layer-steps 5"]),
        ("reference", ["--loss ctc=1", "--chunk-frames 8", "--full-context-probability 1", "--layer-steps 1", "--qat"]),
        ("compare", ["--loss ctc=1", "--layer-steps 1", "--qat"]),
        ("search", ["--qat"]),
        ("plan", ["--dev x", "--output x", "--steps 5", "--save-every 5", "--learning-rate 1", "--dropout 0", "--qat"]),
    ],
)
def test_a_command_refuses_options_that_it_does_not_use(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    needed = [] if command == "reference" else ["--reference", "r.safetensors"]
    needed = ["student.safetensors"] if command == "adapt" else needed
    words = [command, *needed, "--train", "t.jsonl", *([] if command == "plan" else ["-o", "out"])]
    build_parser().parse_args(words)
    for option in options:
        with pytest.raises(SystemExit):
            build_parser().parse_args([*words, *option.split()])
        assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_former_spellings_work_and_are_not_in_the_help() -> None:
    old = ["calibrate", "a", "--rounded", "--freeze-front", "--whole-probability=0.5", "--front", "0.5", "calibrate"]
    new = ["blank-penalty", "a", "--qat", "--freeze-subsampling", "--full-context-probability=0.5", "--subsampling"]
    assert renamed(old) == [*new, "0.5", "calibrate"]
    assert renamed(["--debug", "calibrate"]) == ["--debug", "blank-penalty"]
    parser = build_parser()
    commands = next(action for action in parser._actions if action.dest == "command")
    texts = [parser.format_help(), *(command.format_help() for command in commands.choices.values())]  # type: ignore[union-attr]
    assert not any(word in text for text in texts for word in ("calibrate", "--rounded", "--freeze-front", "--front"))


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "evaluate", "x", "m.jsonl", "--device", "gpu"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_parse() -> None:
    eight, five = Shape((0, 1, 5, 7, 9, 12, 14, 15)), Shape((0, 5, 7, 14, 15), 352)
    assert parse_keep("8, 5x352", 16) == {"layers8": eight, "layers5x352": five}
    assert parse_keep("1+3,1+3x9x4", 4) == {"layers1-3": Shape((1, 3)), "layers1-3x9x4": Shape((1, 3), 9, 4)}
    assert parse_losses(["kl=0.5", "ctc=1"]) == {"kl": 0.5, "ctc": 1.0}
