"""`lwasr-train compare`: every method of `baselines` at the same cost, in one table and plots."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from lwasr_edge.errors import OptionError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.compress.modules import Module, modules_without_weights
from lwasr_edge.training.loop.logs import read_log
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Trainer
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.options import TrainingOptions, add_training_options
from lwasr_edge.training.run import prepare_run, removed_before
from lwasr_edge.training.scoring.dev_sets import FULL_CONTEXT, DevSets
from lwasr_edge.training.study.baselines import BASELINES, METHODS, Method, Phase, count_parameters, init_sizes
from lwasr_edge.training.study.latency import measure_here, read_profile
from lwasr_edge.training.study.report import REPORT_FILE, write_report

RESULTS_FILE = "results.json"


class Comparison:
    """Methods that train the same sizes on the same batches, with the same number of steps.

    Args:
        reference: checkpoint of the teacher.
        sizes: layers of each student.
        n_dev_utterances: utterances of each dev set to measure on; None for all.
        profile: of the board whose speed counts, by `lwasr bench --json`; None for this machine.
        options: of the command; ``schedule.steps`` is the budget of each method.
    """

    def __init__(
        self,
        reference: Path,
        sizes: tuple[int, ...],
        n_dev_utterances: int | None,
        profile: Path | None,
        options: TrainingOptions,
    ) -> None:
        self.sizes, self.options = sizes, options
        self.reference, self.tokenizer = load_checkpoint(reference)
        self.training = prepare_run(options, self.reference, self.tokenizer, with_transcripts=True)
        self.dev_sets = DevSets(options.dev, options.hardware.device, n_dev_utterances)
        self.latency = read_profile(profile, 1, "int8") if profile else measure_here(1, "int8")
        self.removed: dict[int, tuple[Module, ...]] = {}  # by size: the same for all methods

    def run(self, names: list[str]) -> dict[str, Any]:
        """Train by each method, or resume, and write the report after each."""
        schedule, hardware = self.options.schedule, self.options.hardware
        results: dict[str, Any] = {
            "steps": schedule.steps,
            "batch_s": schedule.batch_s * schedule.batches_per_step,
            "train": [path.stem for path in self.options.train],
            "reference": self.dev_sets.measure({"reference": self.reference.to(hardware.device)}, (FULL_CONTEXT,)),
            "methods": {},
        }
        for name in names:
            print(f"{name}: {METHODS[name].title}", flush=True)
            results["methods"][name] = self.train_by(METHODS[name], self.options.output / name.replace(" ", "-"))
            if hardware.world.is_rank_zero:
                text = json.dumps(results, indent=1) + "\n"
                write_bytes(self.options.output / RESULTS_FILE, text.encode())
                write_report(results, self.options.output)
        return results

    def train_by(self, method: Method, folder: Path) -> dict[str, Any]:
        """Train all sizes by one method; returns costs, and the error rates during training."""
        family, kept = self.init_family(method, folder / "phase1")
        rtf = {name: round(self.latency.rtf(one.config), 5) for name, one in family.students.items()}
        curve: list[dict[str, Any]] = []
        audio_s = elapsed_s = 0.0
        for number, phase in enumerate(method.phases, 1):
            trainer = self.train_phase(family, phase, folder / f"phase{number}")
            for entry in read_log(trainer.folder):
                if is_evaluation(entry):
                    costs = {"audio_s": audio_s + entry["audio_s"], "elapsed_s": elapsed_s + entry["elapsed_s"]}
                    curve.append(costs | {"wer": entry["wer"]})
            audio_s, elapsed_s = audio_s + trainer.audio_s, elapsed_s + trainer.elapsed_s
        return {
            "title": method.title,
            "audio_s": round(audio_s),
            "elapsed_s": round(elapsed_s, 1),
            "parameters": kept,
            "rtf": rtf,
            "curve": curve,
        }

    def init_family(self, method: Method, folder: Path) -> tuple[Family, dict[str, int]]:
        """The family that ``folder`` is to train, and the number of parameters of each student that are not masked."""
        students: dict[str, AcousticModel] = {}
        masks, kept = {}, {}
        if method.start == "modules":
            self.removed |= {int(name.removeprefix("layers")): one for name, one in removed_before(folder).items()}
        schedule, store = self.options.schedule, self.training.store
        initial = init_sizes(
            method, self.reference, self.sizes, store, schedule.seed, self.options.dropout, self.removed
        )
        for n_layers, (student, own_masks) in initial.items():
            name = f"layers{n_layers}"
            masks[name] = own_masks
            if method.start == "modules":
                self.removed[n_layers] = modules_without_weights(student.state_dict())
            removed = sum(int((mask == 0).sum()) for mask in masks[name].values())
            kept[name] = count_parameters(student) - removed
            is_trained = not self.options.freeze_subsampling or method.start == "random"  # random ones must be trained
            student.encoder.subsampling.requires_grad_(is_trained)
            students[name] = student
        family = Family(students, self.tokenizer, {"method": method.title}, masks)
        family.apply_masks()
        return family, kept

    def train_phase(self, family: Family, phase: Phase, folder: Path) -> Trainer:
        """Train a family for one phase of a method, which has a schedule of its own."""
        schedule = self.options.schedule
        steps = max(1, round(phase.share * schedule.steps))
        schedule = dataclasses.replace(
            schedule,
            steps=steps,
            layer_steps=steps if phase.by_layer else 0,
            warmup_steps=min(schedule.warmup_steps, steps // 5),
        )
        training = dataclasses.replace(self.training, schedule=schedule, folder=folder)
        compares = phase.by_layer or phase.weights.needs_reference
        trainer = Trainer(training, family, phase.weights, self.reference if compares else None)
        trainer.resume()
        trainer.train(lambda: self.dev_sets.measure(family.students, (FULL_CONTEXT,)))
        return trainer


def is_evaluation(entry: dict[str, Any]) -> bool:
    """Whether a line of a log holds error rates and what they cost; foreign lines are left out."""
    costs = (entry.get("audio_s"), entry.get("elapsed_s"))
    return isinstance(entry.get("wer"), dict) and all(isinstance(cost, (int, float)) for cost in costs)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train compare`."""
    add = parser.add_argument
    add("--reference", type=Path, required=True, metavar="CHECKPOINT")
    add("--keep", default="8,5,3", help="layers of the students (default: 8,5,3)")
    add(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(BASELINES),
        metavar="METHOD",
        help=f"some of {', '.join(METHODS)} (default: the first {len(BASELINES)})",
    )
    add("--profile", type=Path, metavar="JSON", help="of the board, by `lwasr bench --json` (default: this machine)")
    add("--dev-utterances", type=int, metavar="N", help="evaluate on N utterances of each --dev (default: all)")
    defaults = Schedule(steps=300, batch_s=20, learning_rate=4e-4, warmup_steps=30, evaluate_every=100)
    add_training_options(parser, defaults, without={"layer_steps", "qat"})


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train compare`."""
    if not args.dev:
        raise OptionError("--dev must name at least one manifest, got none: methods are compared by WER")
    try:
        sizes = tuple(int(size) for size in args.keep.split(","))
    except ValueError:
        raise OptionError(f"--keep must be numbers of layers, as in 8,5,3, got {args.keep}") from None
    comparison = Comparison(args.reference, sizes, args.dev_utterances, args.profile, TrainingOptions.from_args(args))
    comparison.run(args.methods)
    print(f"{args.output / REPORT_FILE}, {args.output / RESULTS_FILE} and plots are written")
