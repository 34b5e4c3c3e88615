"""`lwasr-train` from the archive to error rates, and its one-line errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from nemo_archive import nemo_config, nemo_state, write_archive
from small_models import DATA, letters_tokenizer, small_model, write_test_manifest

from lwasr_edge.errors import OptionError
from lwasr_edge.training.cli import main
from lwasr_edge.training.compress.students import Shape
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.run import parse_keep, parse_losses

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
    monkeypatch.delitem(sys.modules, "lwasr_edge.training.run")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    message = error_of(capsys, "evaluate", reference, tmp_path / "m.jsonl")
    assert message == "sentencepiece is not installed: pip install 'lwasr-edge[train]'"


def test_a_missing_module_of_our_own_is_no_missing_extra(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lwasr_edge.training.run")
    monkeypatch.setitem(sys.modules, "lwasr_edge.training.compress.students", None)
    with pytest.raises(ModuleNotFoundError):
        main(["evaluate", str(reference), "m.jsonl"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "9"], "layers of a student must be 1 to 4, as the reference has, got 9"),
        (["--keep", "two"], "--keep two: expected numbers of layers"),
        (["--keep", "2,2"], "2 is there twice"),
        (["--keep", "3+1"], "in rising order"),
        (["--dropout", "1"], "--dropout 1.0: expected a share"),
        (["--max-bad", "120"], "--max-bad 120: expected per cent"),
        (["--augment", "echo=1"], "--augment NAME must be one of speeds, pause_probability"),
        (["--augment", "snr_db=loud"], "--augment snr_db must be float, as in snr_db=3,30, got loud"),
        (["--augment", "snr_db=5,1"], "snr_db must be two finite numbers, the smaller first, got 5,1"),
        (["--noise", "none.jsonl"], "none.jsonl: no such manifest"),
        (["--loss", "kd=1"], "--loss kd=1: expected PART=WEIGHT"),
        (["--loss", "kl"], "--loss kl: expected PART=WEIGHT"),
        (["--loss", "kl=nan"], "the weight of kl is nan"),
        (["--steps", "0"], "steps is 0"),
        (["--device", "gpu"], "--device gpu: expected cpu"),
        (["--train", "none.jsonl"], "none.jsonl: no such manifest"),
        (["--reference", "none.safetensors"], "none.safetensors: no such checkpoint file"),
        (["--keep", "2x33"], "feed-forward units must be 1 to 32, got 33"),
        (["--keep", "2x"], "--keep 2x: expected numbers of layers"),
        (["--keep", "2x16x8x4x1"], "--keep 2x16x8x4x1: expected numbers of layers"),
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
    assert message == "--reference is given and no loss compares with it: add, say, --loss kl=0.5"
    assert "two students are named reference" in error_of(capsys, "adapt", reference, reference, *common)
    assert "names 0 of a reference of 4" in error_of(
        capsys, "represent", "--reference", reference, "--students", reference, "--layer-steps", 0, *common
    )


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        main(["--debug", "evaluate", "x", "m.jsonl", "--device", "gpu"])


def test_parse() -> None:
    eight, five = Shape((0, 1, 5, 7, 9, 12, 14, 15)), Shape((0, 5, 7, 14, 15), 352)
    assert parse_keep("8, 5x352", 16) == {"layers8": eight, "layers5x352": five}
    assert parse_keep("1+3,1+3x9x4", 4) == {"layers1-3": Shape((1, 3)), "layers1-3x9x4": Shape((1, 3), 9, 4)}
    assert parse_losses(["kl=0.5", "ctc=1"]) == {"kl": 0.5, "ctc": 1.0}
