"""Both steps learn, resume exactly, survive a kill at any moment, and give the same losses for the same seed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_models import QUIET, letters, letters_tokenizer, small_model, two_utterances, write_test_manifest

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import CheckpointError, MissingExtraError, OptionError
from lwasr_edge.training.cli import build_parser
from lwasr_edge.training.compress.feature_norm import fit_running_norm
from lwasr_edge.training.compress.students import init_from_reference
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.loop.device import Hardware, choose_device, choose_precision
from lwasr_edge.training.loop.distributed import World
from lwasr_edge.training.loop.logs import Log
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.state import STATE_FILE
from lwasr_edge.training.loop.trainer import Family, Run, Trainer, digest
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.options import CTC_WEIGHTS, REPRESENT_WEIGHTS, TrainingOptions
from lwasr_edge.training.run import training_data
from lwasr_edge.training.scoring.decode import evaluate

CPU = torch.device("cpu")
SHORT = Schedule(steps=8, layer_steps=2, batch_s=4, learning_rate=1e-3, warmup_steps=2, save_every=4)


def make_trainer(
    folder: Path,
    weights: LossWeights = REPRESENT_WEIGHTS,
    schedule: Schedule = SHORT,
    augment: AugmentConfig | None = None,
    precision: torch.dtype = torch.float32,
    keeps: tuple[tuple[int, ...], ...] = ((0, 2), (1,)),
    longest_s: float = 10.0,
) -> Trainer:
    """A family of two students of a random reference, on two recordings; with every distortion unless told."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = two_utterances(folder, longest_s)
    store = WaveformStore(corpus, CPU)
    reference = small_model(n_layers=3)
    students: dict[str, AcousticModel] = {}
    for keep in keeps:
        students[f"layers{len(keep)}"] = init_from_reference(reference, keep)
        fit_running_norm(students[f"layers{len(keep)}"], store)
    noise = torch.randint(-2000, 2000, (30_000,), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    run = Run(
        corpus=corpus,
        store=store,
        targets=[letters().encode(utterance.text) for utterance in corpus.utterances],
        augmenter=Augmenter(augment or AugmentConfig(pause_s=0.2), noise if augment is None else None),
        schedule=schedule,
        hardware=Hardware(CPU, precision),
        folder=folder / "run",
    )
    needed = reference if weights.needs_reference or schedule.layer_steps else None
    return Trainer(run, Family(students, letters_tokenizer(), {"train": "test"}), weights, needed)


def losses(trainer: Trainer, n_steps: int | None = None) -> list[dict[str, float]]:
    """Loss parts of the trainer's next steps."""
    result = []
    for indices in trainer.remaining_batches():
        result.append({name: float(value) for name, value in trainer.train_step(indices).items()})
        trainer.step += 1
        if len(result) == n_steps:
            break
    return result


def test_represent_overfits_two_utterances(tmp_path: Path) -> None:
    schedule = dataclasses.replace(
        SHORT, steps=90, layer_steps=30, batch_s=8, learning_rate=1e-2, full_context_probability=1
    )
    found = losses(make_trainer(tmp_path, schedule=schedule, augment=QUIET, keeps=((0, 2),), longest_s=1.2))
    assert set(found[0]) == {"layers2/layers"}
    assert set(found[-1]) == {"layers2/mse", "layers2/clip", "layers2/kl", "layers2/hidden"}
    assert found[29]["layers2/layers"] < 0.5 * found[0]["layers2/layers"]
    assert found[-1]["layers2/mse"] < 0.1
    assert found[-1]["layers2/kl"] < 0.25 * found[30]["layers2/kl"]


def test_adapt_overfits_two_utterances(tmp_path: Path) -> None:
    schedule = Schedule(steps=150, batch_s=8, learning_rate=3e-2, warmup_steps=10, full_context_probability=0.5)
    trainer = make_trainer(tmp_path, CTC_WEIGHTS, schedule, QUIET, keeps=((0, 2),))
    corpus = two_utterances(tmp_path)
    student = trainer.family.students["layers2"]
    before = evaluate(student, corpus, trainer.run.store)
    found = losses(trainer)
    after = evaluate(student, corpus, trainer.run.store)
    assert before.wer > 0.9
    assert found[-1]["layers2/ctc"] < 0.05 < 0.5 < found[0]["layers2/ctc"]
    assert after.wer == 0.0
    assert evaluate(student, corpus, trainer.run.store, Chunking(16)).wer <= 0.15


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_resumed_run_gives_the_losses_of_the_unbroken_one(tmp_path: Path, precision: torch.dtype) -> None:
    weights = dataclasses.replace(REPRESENT_WEIGHTS, ctc=0.3)
    unbroken = losses(make_trainer(tmp_path / "a", weights, precision=precision))
    assert len(unbroken) == 8 and all(math.isfinite(value) for step in unbroken for value in step.values())
    broken = make_trainer(tmp_path / "b", weights, precision=precision)
    first = losses(broken, 3)
    broken.save()
    resumed = make_trainer(tmp_path / "b", weights, precision=precision)
    assert resumed.resume() and resumed.step == 3
    assert first + losses(resumed) == unbroken


def test_same_seed_same_losses_and_another_seed_others(tmp_path: Path) -> None:
    first, second = (losses(make_trainer(tmp_path / name), 3) for name in ("a", "b"))
    assert first == second
    other = make_trainer(tmp_path / "c", schedule=dataclasses.replace(SHORT, seed=2))
    assert losses(other, 3) != first


def test_a_family_learns_what_each_would_alone(tmp_path: Path) -> None:
    together = losses(make_trainer(tmp_path / "a"), 4)
    alone = losses(make_trainer(tmp_path / "b", keeps=((0, 2),)), 4)
    for family, single in zip(together, alone, strict=True):
        assert {name: value for name, value in family.items() if name.startswith("layers2/")} == pytest.approx(single)


def test_run_writes_students_state_and_log(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train(lambda: {"layers2": 50.0})
    folder = tmp_path / "run"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 8]
    assert lines[-1]["wer"] == {"layers2": 50.0}
    assert {"layers2/mse", "layers1/mse", "audio_s", "elapsed_s"} <= set(lines[1])
    for name, student in trainer.family.students.items():
        saved, tokenizer = load_checkpoint(folder / f"{name}.safetensors")
        assert torch.equal(saved.head.weight, student.head.weight) and tokenizer == letters_tokenizer()
    assert sorted(path.name for path in folder.iterdir()) == [
        "layers1.safetensors",
        "layers2.safetensors",
        "log.jsonl",
        "log.txt",
        "state.previous.pt",
        "state.pt",
    ]


def test_an_evaluation_that_a_kill_cut_short_is_made_up(tmp_path: Path) -> None:
    def killed() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path).train(killed)
    resumed = make_trainer(tmp_path)
    assert resumed.resume() and resumed.step == 8
    for wer in (50.0, 60.0):  # once made, it is not made again
        resumed.train(lambda wer=wer: {"layers2": wer})
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["wer"] for line in lines if "wer" in line] == [{"layers2": 50.0}]


def test_a_run_that_restarts_before_its_first_state_believes_nothing_of_the_old_log(tmp_path: Path) -> None:
    """A run that was killed before it saved logged a WER at step 8; the restarted run must measure its own."""
    folder = tmp_path / "run"
    folder.mkdir(parents=True)
    lines = [{"step": 4, "layers2/mse": 9.0}, {"step": 8, "wer": {"layers2": 99.0}}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 8, "we'  # and a line that the kill cut short
    (folder / "log.jsonl").write_text(text)
    trainer = make_trainer(tmp_path)
    assert trainer.resume() is False
    trainer.train(lambda: {"layers2": 50.0})
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [4, 8, 8] and entries[0]["layers2/mse"] < 9
    assert [entry["wer"] for entry in entries if "wer" in entry] == [{"layers2": 50.0}]
    assert "restarted: no state had been saved" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("damage", ['{"step": 8, "wer', "[1, 2]\n", '{"wer": 1}\n', '"\u2028"\n', "\x00\x00\n"])
def test_a_damaged_log_line_stops_nothing(tmp_path: Path, damage: str) -> None:
    make_trainer(tmp_path).train(lambda: {"layers2": 50.0})
    with (tmp_path / "run" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(damage)
    resumed = make_trainer(tmp_path)
    assert resumed.resume()
    resumed.train(lambda: {"layers2": 60.0})
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["wer"] for entry in entries if "wer" in entry] == [{"layers2": 50.0}]


def test_another_weight_decay_holds_after_resuming(tmp_path: Path) -> None:
    make_trainer(tmp_path).train()
    resumed = make_trainer(tmp_path, schedule=dataclasses.replace(SHORT, steps=9, weight_decay=0.5))
    assert resumed.resume()
    assert {group["weight_decay"] for group in resumed.optimizer.param_groups} == {0.5}


def test_no_steps_write_the_students_as_they_were_made(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, schedule=dataclasses.replace(SHORT, steps=0, layer_steps=0))
    before = {name: value.clone() for name, value in trainer.models.state_dict().items()}
    measured = []
    trainer.train(lambda: measured.append(1) or {"dev": 1.0})
    assert measured == [1]
    assert all(torch.equal(before[name], value) for name, value in trainer.models.state_dict().items())
    for name in trainer.family.students:
        assert (trainer.folder / f"{name}.safetensors").is_file()


def test_killed_while_saving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unbroken = losses(make_trainer(tmp_path / "a"))
    make_trainer(tmp_path / "b").train()  # states of steps 4 and 8
    folder = tmp_path / "b" / "run"
    newest = (folder / STATE_FILE).read_bytes()

    (folder / STATE_FILE).replace(folder / "state.next.pt")  # killed between the two renames
    resumed = make_trainer(tmp_path / "b")
    assert resumed.resume() and resumed.step == 8
    (folder / "state.next.pt").unlink()

    (folder / ".state.next.pt.x1y2").write_bytes(newest[:5000])  # killed while writing
    resumed = make_trainer(tmp_path / "b")
    assert resumed.resume() and resumed.step == 4
    assert not list(folder.glob(".state*"))
    assert losses(resumed) == unbroken[4:]

    (folder / STATE_FILE).write_bytes(newest[: len(newest) // 2])  # by a disk that lost power
    resumed = make_trainer(tmp_path / "b")
    assert resumed.resume() and resumed.step == 4
    assert "state.pt is damaged and was skipped" in capsys.readouterr().err

    (folder / "state.previous.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="has no readable state"):
        make_trainer(tmp_path / "b").resume()


def test_a_resumed_log_has_each_step_once(tmp_path: Path) -> None:
    log = Log(tmp_path, steps=12)
    for step in (4, 8, 12):
        log.write(step, 10.0 * step, step, {"layers2/mse": 0.5})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 1')  # killed while writing it
    log.cut(8)
    log.write(12, 120.0, 12.0, {"layers2/mse": 0.25, "wer": {"layers2/dev/whole": 50.0}})
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [4, 8, 12]
    told = (tmp_path / "log.txt").read_text().splitlines()
    assert told[-2].endswith("resumed at step 8 of 12")
    assert told[-1].endswith("step 12 of 12, 0.2 min, 0.03 h of audio: layers2/mse 0.25  wer/layers2/dev/whole 50")


def test_tensorboard_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    writer = SimpleNamespace(add_scalar=lambda *args: written.append(args), flush=lambda: None)
    module = SimpleNamespace(SummaryWriter=lambda folder: written.append(folder) or writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    Log(tmp_path, 8, with_tensorboard=True).write(4, 10.0, 2.0, {"wer": {"layers2/dev/whole": 50.0}})
    assert written == [str(tmp_path / "tensorboard"), ("wer/layers2/dev/whole", 50.0, 4)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="pip install tensorboard"):
        Log(tmp_path, 8, with_tensorboard=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_state_first(tmp_path: Path, number: signal.Signals) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    trainer = make_trainer(tmp_path, keeps=((1,),))
    train_step = trainer.train_step

    def interrupted(indices):
        if trainer.step == 4:
            os.kill(os.getpid(), number)
        return train_step(indices)

    trainer.train_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = make_trainer(tmp_path, keeps=((1,),))
    assert resumed.resume() and resumed.step == 5
    assert torch.equal(resumed.models["layers1"].head.weight, trainer.models["layers1"].head.weight)


def test_a_loss_that_is_not_a_number_stops_before_anything_is_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.copies.models["layers2"].head.bias[0] = math.nan
        trainer.models["layers2"].head.bias[0] = math.nan
    with pytest.raises(OptionError, match="the loss must be finite, got .* at step 4"):
        trainer.train()
    assert not (tmp_path / "run" / STATE_FILE).exists()


def test_states_of_other_students_are_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path).train()
    with pytest.raises(CheckpointError, match="began with other students"):
        make_trainer(tmp_path, keeps=((0, 1, 2),)).resume()
    with pytest.raises(CheckpointError, match="or with other weights of them"):
        make_trainer(tmp_path, keeps=((0, 1), (1,))).resume()  # the same shapes
    assert make_trainer(tmp_path / "elsewhere").resume() is False


@torch.no_grad()
def test_what_was_fitted_in_closed_form_may_differ_where_a_run_is_taken_up() -> None:
    """Another machine rounds otherwise; other weights, or another shape, are another beginning all the same."""
    model, same = small_model(n_layers=2), small_model(n_layers=2)
    same.encoder.layers[0].feed_forward1.linear2.weight.mul_(1 + 1e-6)
    same.encoder.layers[1].attention.query.weight.mul_(1 + 1e-6)
    same.encoder.layers[0].norm.bias.add_(1e-6)  # where a module was removed
    assert digest(same) == digest(model) != digest(small_model(n_layers=2, d_feed_forward=31))
    same.encoder.layers[1].norm.weight.mul_(1 + 1e-6)
    assert digest(same) != digest(model)


def test_the_reference_is_frozen(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert trainer.reference is not None and not trainer.reference.training
    before = {name: value.clone() for name, value in trainer.reference.state_dict().items()}
    losses(trainer, 4)
    assert all(torch.equal(value, before[name]) for name, value in trainer.reference.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.reference.parameters())


def test_losses_without_a_reference_are_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, CTC_WEIGHTS, dataclasses.replace(SHORT, layer_steps=0))
    assert trainer.reference is None
    with pytest.raises(OptionError, match="pass --reference"):
        Trainer(trainer.run, trainer.family, REPRESENT_WEIGHTS)


def test_learning_rate() -> None:
    schedule = Schedule(steps=1100, learning_rate=1e-3, warmup_steps=100, final_ratio=0.1)
    assert schedule.rate(0) == pytest.approx(1e-5)
    assert schedule.rate(99) == pytest.approx(1e-3)
    assert schedule.rate(600) == pytest.approx(1e-3 * (0.1 + 0.9 / 2))
    assert schedule.rate(1100) == pytest.approx(1e-4)
    rates = [schedule.rate(step) for step in range(100, 1100)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": -1},
        {"batch_s": math.nan},
        {"learning_rate": -1},
        {"full_context_probability": 1.1},
        {"chunk_frames": ()},
        {"chunk_frames": (4, 0)},
        {"layer_steps": 5000},
        {"warmup_steps": -1},
    ],
)
def test_impossible_schedules_are_refused(values: dict) -> None:
    with pytest.raises(OptionError, match=next(iter(values)).replace("_", "-")):
        Schedule(**values)


def test_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr("lwasr_edge.training.loop.device.CPUINFO", cpuinfo)
    monkeypatch.setattr("lwasr_edge.training.loop.device.is_slow_in_bfloat16", lambda device: False)
    for text, wanted in (
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", torch.bfloat16),
        ("flags\t\t: fpu avx2 fma", torch.float32),
        ("Features\t: fp asimd bf16 i8mm", torch.bfloat16),
        ("", torch.float32),
    ):
        cpuinfo.write_text(f"processor\t: 0\n{text}\n")
        assert choose_precision("auto", CPU) is wanted
    cpuinfo.write_text("flags\t\t: avx512f avx512_bf16\n")
    monkeypatch.setattr("lwasr_edge.training.loop.device.is_slow_in_bfloat16", lambda device: True)
    assert choose_precision("auto", CPU) is torch.float32
    cpuinfo.unlink()
    assert choose_precision("auto", CPU) is torch.float32
    assert choose_precision("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(OptionError, match="--precision must be auto, float32 or bfloat16, got 'float16'"):
        choose_precision("float16", CPU)


def test_processes_that_measured_differently_train_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(World):
        def any(self, flag: bool, device: torch.device) -> bool:
            return True

    monkeypatch.setattr("lwasr_edge.training.loop.device.join_world", lambda device: Other(0, 2))
    monkeypatch.setattr("lwasr_edge.training.loop.device.choose_precision", lambda name, device: torch.bfloat16)
    args = build_parser().parse_args(["adapt", "student", "--train", "train.jsonl", "-o", "out", "--device", "cpu"])
    assert TrainingOptions.from_args(args).hardware.precision is torch.float32


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(OptionError, match="must be cpu, or cuda where there is one"):
        choose_device(name)


def test_a_manifest_named_twice_is_decoded_once_and_heard_twice(tmp_path: Path) -> None:
    manifest = write_test_manifest(tmp_path)
    other = tmp_path / "other.jsonl"
    row = json.loads(manifest.read_text(encoding="utf-8").splitlines()[0])
    other.write_text(json.dumps({"id": "other", **row}), encoding="utf-8")

    def read(*train: Path) -> tuple[list[str], int, list[list[int]]]:
        options = SimpleNamespace(train=list(train), output=tmp_path, max_bad=0.0, max_utterance_s=60.0)
        corpus, targets = training_data(options, small_model(), letters_tokenizer(), True)  # type: ignore[arg-type]
        assert len(targets) == len(corpus.utterances) == len(corpus.starts) == len(corpus.lengths)
        return [utterance.id for utterance in corpus.utterances], len(corpus.samples), targets

    ids, n_samples, targets = read(manifest)
    twice = read(manifest, other, manifest)
    assert sorted(twice[0]) == sorted([*ids, *ids, "other"])
    assert twice[1] < 2 * n_samples  # samples are shared
    assert sorted(map(tuple, twice[2])) == sorted([*map(tuple, targets)] * 2 + [tuple(targets[0])])
