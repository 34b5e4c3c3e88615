"""The mean of checkpoints: number by number, and refused where they are not one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model

from lwasr_edge.training.cli import main
from lwasr_edge.training.compress.qat import prepare_qat
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, save_checkpoint


@pytest.fixture
def before_and_after(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "before.safetensors", tmp_path / "after.safetensors"]
    for seed, path in enumerate(paths):
        save_checkpoint(path, small_model(seed), letters_tokenizer(), {"run": str(seed)})
    return [str(path) for path in paths]


SHARES = [([], 0.5), (["--weights", "1", "3"], 0.75), (["--weights", "1", "0"], 0)]


@pytest.mark.parametrize(("options", "share"), SHARES)
def test_average_lies_between(before_and_after: list[str], tmp_path: Path, options: list[str], share: float) -> None:
    output = tmp_path / "mean.safetensors"
    assert main(["average", *before_and_after, "-o", str(output), *options]) == 0
    mean, first, second = (load_checkpoint(path)[0].state_dict() for path in (output, *map(Path, before_and_after)))
    for name, value in mean.items():
        wanted = (1 - share) * first[name] + share * second[name]
        assert torch.allclose(value, wanted, rtol=1e-3, atol=1e-4), name
    notes = checkpoint_notes(output)
    assert notes["run"] == "1" and json.loads(notes["average"])[1] == [before_and_after[1], share]


def test_what_cannot_be_averaged(
    before_and_after: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = tmp_path / "deeper.safetensors"
    save_checkpoint(deeper, small_model(n_layers=3), letters_tokenizer())
    quantised = small_model()
    prepare_qat(quantised)
    save_checkpoint(tmp_path / "quantised.safetensors", quantised, letters_tokenizer())
    output = ["-o", str(tmp_path / "mean.safetensors")]
    for words, reason in (
        ([before_and_after[0], str(tmp_path / "quantised.safetensors")], "must both be quantised, or neither"),
        ([before_and_after[0], str(deeper)], "must be of one architecture and tokenizer, got two"),
        (before_and_after[:1], "average needs at least two checkpoints, got 1"),
        ([*before_and_after, "--weights", "1"], "--weights must be 2 numbers >= 0"),
        ([*before_and_after, "--weights", "0", "0"], "not all 0"),
        ([*before_and_after, "--weights", "nan", "1"], "--weights must be 2 numbers >= 0"),
        (
            [*before_and_after, "--weights", "1e308", "1e308"],
            "--weights must be 2 numbers >= 0",
        ),  # their sum is infinite
        ([*before_and_after, "--weights", "-1", "2"], "--weights must be 2 numbers >= 0"),
    ):
        assert main(["average", *words, *output]) == 2
        assert reason in capsys.readouterr().err
    assert not Path(output[1]).exists()
    assert main(["average", *before_and_after, "-o", str(tmp_path)]) == 2
    assert "-o must be a file, got the folder" in capsys.readouterr().err
