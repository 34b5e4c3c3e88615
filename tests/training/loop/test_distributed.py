"""Two processes that train together give the losses and the student of one."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model, write_test_manifest

from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint

COMMAND = ["--keep", "2,1", "--steps", "6", "--layer-steps", "2", "--batch-s", "4", "--batches-per-step", "2"]
COMMAND += ["--warmup-steps", "1", "--precision", "float32", "--save-every", "3", "--device", "cpu"]


def represent(folder: Path, name: str, *launcher: str) -> subprocess.CompletedProcess[str]:
    manifest = write_test_manifest(folder)
    arguments = ["represent", "--reference", folder / "reference.safetensors", "--train", manifest, "-o", folder / name]
    command = [sys.executable, *launcher, "-m", "lwasr_edge.training.cli", *map(str, arguments), *COMMAND]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=150, check=False)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "reference.safetensors", small_model(n_layers=3), letters_tokenizer())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone, together = represent(tmp_path, "alone"), represent(tmp_path, "together", *torchrun)
    assert alone.returncode == 0, alone.stderr
    assert together.returncode == 0, together.stderr
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("alone", "together")
    ]
    assert [line["step"] for line in logs[0]] == [3, 6] == [line["step"] for line in logs[1]]
    for one, both in zip(*logs, strict=True):
        assert set(one) == set(both) and one["audio_s"] == both["audio_s"]
        for part in set(one) - {"elapsed_s", "step", "audio_s"}:
            assert both[part] == pytest.approx(one[part], rel=2e-4), part
    for student in ("layers2", "layers1"):
        one, both = (load_checkpoint(tmp_path / name / f"{student}.safetensors")[0] for name in ("alone", "together"))
        for name, value in one.state_dict().items():
            torch.testing.assert_close(both.state_dict()[name], value, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
def test_a_reference_begins_alike_in_all_processes(tmp_path: Path) -> None:
    manifest = write_test_manifest(tmp_path)
    sizes = ["--layers", "2", "--width", "16", "--heads", "2", "--feed-forward", "32", "--kernel", "5"]
    sizes += ["--vocabulary", "32", "--dropout", "0"]
    schedule = ["--steps", "3", "--batch-s", "4", "--batches-per-step", "2", "--warmup-steps", "1"]
    schedule += ["--precision", "float32", "--device", "cpu"]
    losses = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        output = tmp_path / f"run{len(losses)}"
        command = [sys.executable, *launcher, "-m", "lwasr_edge.training.cli", "reference", *sizes, *schedule]
        command += ["--train", str(manifest), "-o", str(output)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=150)
        losses.append(json.loads((output / "log.jsonl").read_text().splitlines()[-1])["reference/ctc"])
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)


def test_batches_that_processes_cannot_share(tmp_path: Path) -> None:
    from test_training import make_trainer

    from lwasr_edge.errors import OptionError
    from lwasr_edge.training.loop.distributed import World
    from lwasr_edge.training.loop.trainer import Trainer
    from lwasr_edge.training.options import CTC_WEIGHTS

    trainer = make_trainer(tmp_path)
    hardware = dataclasses.replace(trainer.run.hardware, world=World(0, 2))
    run = dataclasses.replace(trainer.run, hardware=hardware)
    with pytest.raises(OptionError, match="--batches-per-step must be a multiple of the 2 processes, got 1"):
        Trainer(run, trainer.family, CTC_WEIGHTS, trainer.reference)
