"""A run of step 1 that SIGKILL ends four times, wherever it stands, and the same run left alone: the same student."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model, write_test_manifest

from lwasr_edge.training.cli import COMMANDS
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint

KILLS = 4
STEPS = 72  # many more than pass between four kills, on a fast machine too


def command_line(folder: Path, output: Path) -> list[str]:
    """Arguments of `lwasr-train`: every distortion, chunks, and a state after every third step."""
    words = ["represent", "--reference", str(folder / "reference.safetensors"), "--keep", "2x20x8x6"]
    words += ["--train", str(folder / "data.jsonl"), "--noise", str(folder / "data.jsonl"), "--device", "cpu"]
    words += ["--steps", str(STEPS), "--layer-steps", "30", "--batch-s", "4", "--warmup-steps", "5"]
    return [*words, "--save-every", "3", "--precision", "float32", "-o", str(output)]


def train(words: list[str]) -> None:
    """Run `lwasr-train`, one thread, in a process of its own."""
    from lwasr_edge.training.cli import main

    torch.set_num_threads(1)
    raise SystemExit(main(words))


def steps_done(output: Path) -> int:
    """How far the log has come."""
    log = output / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Children that need not import torch again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"lwasr_edge.training.{module}" for module, _ in COMMANDS.values()])
    return context


def test_killed_four_times(tmp_path: Path, processes: ForkServerContext) -> None:
    write_test_manifest(tmp_path)
    save_checkpoint(tmp_path / "reference.safetensors", small_model(n_layers=4), letters_tokenizer())
    draw = random.Random(20261125)
    killed = tmp_path / "killed"
    for _ in range(KILLS):
        before = steps_done(killed)
        child = processes.Process(target=train, args=(command_line(tmp_path, killed),))
        child.start()
        deadline = time.monotonic() + 120
        while child.is_alive() and steps_done(killed) <= before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.1))  # within a step, a checkpoint, a state or a line of the log
        assert child.is_alive(), "it ended before it could be killed"
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert steps_done(killed) > before
    for output in (killed, tmp_path / "whole"):
        child = processes.Process(target=train, args=(command_line(tmp_path, output),))
        child.start()
        child.join()
        assert child.exitcode == 0
    student, same = (load_checkpoint(path / "layers2x20x8x6.safetensors")[0] for path in (killed, tmp_path / "whole"))
    for name, value in student.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    left, wanted = ({path.name for path in folder.iterdir()} for folder in (killed, tmp_path / "whole"))
    assert left == wanted
    steps = [json.loads(line)["step"] for line in (killed / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS
