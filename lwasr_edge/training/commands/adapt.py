"""`lwasr-train adapt`: step 2, students learn from transcripts by CTC, on general speech or on that of one site."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from lwasr_edge.errors import OptionError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.model.quantized import quantized_copy
from lwasr_edge.training.options import CTC_WEIGHTS, TrainingOptions, add_training_options
from lwasr_edge.training.run import load_students, prepare_run, train_students
from lwasr_edge.training.scoring.dev_sets import DevSets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train adapt`."""
    add = parser.add_argument
    add("students", nargs="+", type=Path, metavar="CHECKPOINT")
    add("--reference", type=Path, metavar="CHECKPOINT", help="teacher, for losses that compare, such as kl=0.5")
    add(
        "--general",
        nargs="*",
        type=Path,
        default=[],
        metavar="MANIFEST",
        help="general speech: its WER is measured before and after, and a large loss is an error",
    )
    add(
        "--max-general-loss",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="WER that may be lost on --general, absolute (default: 1)",
    )
    add("--epochs", type=float, help="epochs over the data, instead of --steps")
    add_training_options(parser, Schedule(learning_rate=2e-4), CTC_WEIGHTS, without={"layer_steps"})


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train adapt`.

    Raises:
        OptionError: a student lost more than --max-general-loss; it is in the output folder all the same.
    """
    options = TrainingOptions.from_args(args)
    weights = options.weights(CTC_WEIGHTS)
    if args.reference and not weights.needs_reference:
        raise OptionError("--reference needs a loss that compares with it: add, for instance, --loss kl=0.5")
    tokenizer = load_checkpoint(args.students[0])[1]
    students = load_students(args.students, tokenizer, options.dropout, options.output)
    reference = load_checkpoint(args.reference)[0] if args.reference else None
    first = next(iter(students.values()))
    training = prepare_run(options, first, tokenizer, with_transcripts=weights.ctc > 0)
    if args.epochs is not None:
        schedule = training.schedule.for_epochs(args.epochs, training.corpus.seconds)
        training = dataclasses.replace(training, schedule=schedule)
    guard = ForgettingGuard(args.general, dict(zip(students, args.students, strict=True)), options)
    train_students(training, students, tokenizer, weights, options, reference)
    if args.general and options.hardware.world.is_rank_zero:
        guard.check(students, args.max_general_loss)


class ForgettingGuard:
    """Measures students on general speech before and after they are adapted to a site."""

    def __init__(self, general: list[Path], before: dict[str, Path], options: TrainingOptions) -> None:
        self.before, self.device, self.folder = before, options.hardware.device, options.output
        self.dev_sets = DevSets(general, self.device)

    def check(self, students: dict[str, AcousticModel], max_loss: float) -> None:
        """Print WER before and after, and write it to general.json.

        Raises:
            OptionError: a student lost more than ``max_loss`` per cent on a set.
        """
        originals = {name: load_checkpoint(path)[0].to(self.device) for name, path in self.before.items()}
        before = self.dev_sets.measure(originals)
        after = self.dev_sets.measure({name: quantized_copy(student) for name, student in students.items()})
        for key, wer in after.items():
            print(f"general speech, {key}: WER {before[key]:.2f} % before, {wer:.2f} % after")
        write_bytes(self.folder / "general.json", json.dumps({"before": before, "after": after}, indent=1).encode())
        forgot = [key for key in after if after[key] - before[key] > max_loss]
        if forgot:
            raise OptionError(
                f"WER on general speech must rise by at most {max_loss:g} %, got more on {', '.join(forgot)}: train "
                f"fewer epochs, lower --learning-rate, or mix general speech into --train (students: {self.folder})"
            )
