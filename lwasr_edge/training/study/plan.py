"""`lwasr-train plan`: what a reference, a family of students and training from scratch would cost on this machine.

In hours, and with the user's own rates in money, against transcription in the cloud.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.training.compress.students import Shape, student_config
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Trainer
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.options import (
    CTC_WEIGHTS,
    REPRESENT_WEIGHTS,
    TrainingOptions,
    add_training_options,
    parse_keep,
)
from lwasr_edge.training.run import prepare_run
from lwasr_edge.training.study.money import add_money_arguments, items, money_table, rates_from_args
from lwasr_edge.validate import number

UNUSED = {"dev", "output", "dropout", "qat", "steps", "layer_steps", "learning_rate", "warmup_steps", "final_ratio"}
UNUSED |= {"weight_decay", "max_gradient", "save_every", "evaluate_every"}


@dataclass(frozen=True)
class Cost:
    """The cost of one way to train."""

    what: str
    epochs: float
    audio_s_per_s: float  # measured: seconds of audio through forward, backward and update in a second
    hours: float


def measured_rate(trainer: Trainer, seconds: float) -> float:
    """Audio-seconds per second of complete steps, after one warm-up step."""
    audio_s = elapsed_s = 0.0
    for index, batches in enumerate(trainer.remaining_batches()):
        audio_before_s, began = trainer.audio_s, time.monotonic()
        trainer.train_step(batches)
        trainer.step += 1
        if index:
            audio_s += trainer.audio_s - audio_before_s
            elapsed_s += time.monotonic() - began
        if elapsed_s >= seconds:
            break
    return audio_s / elapsed_s


def costs(
    reference: Path,
    keep: str,
    epochs: tuple[float, float, float],
    hours: float | None,
    seconds: float,
    options: TrainingOptions,
) -> list[Cost]:
    """Measure and extrapolate.

    Args:
        reference: checkpoint; its architecture is what training a reference would cost.
        keep: the family, as for `represent`.
        epochs: of the reference, of both steps of the family together, and of one student from scratch.
        hours: of the data to plan for; None for that of --train.
        seconds: how long each measurement lasts.
        options: data and schedule.
    """
    teacher, tokenizer = load_checkpoint(reference)
    training = prepare_run(options, teacher, tokenizer, with_transcripts=True)
    data_s = training.corpus.seconds if hours is None else hours * 3600
    kept = parse_keep(keep, teacher.config.encoder.n_layers)
    full_context = dataclasses.replace(options.schedule, full_context_probability=1.0)

    def cost(what: str, family: dict[str, AcousticModel], weights: LossWeights, schedule: Schedule, n: float) -> Cost:
        with tempfile.TemporaryDirectory(prefix="lwasr-plan-") as folder:
            own = dataclasses.replace(training, schedule=schedule, folder=Path(folder))
            needed = teacher if weights.needs_reference else None
            trainer = Trainer(own, Family(family, tokenizer, {}), weights, needed)
            rate = measured_rate(trainer, seconds)
        return Cost(what, n, rate, n * data_s / rate / 3600)

    found = [cost("reference, CTC", {"reference": AcousticModel(teacher.config)}, CTC_WEIGHTS, full_context, epochs[0])]
    configs = {name: student_config(teacher.config, in_whole_layers(shape)) for name, shape in kept.items()}
    students = {name: AcousticModel(config) for name, config in configs.items()}  # speed does not depend on weights
    together = f"family of {len(kept)} ({', '.join(kept)}), both steps"
    for student in students.values():
        student.encoder.subsampling.requires_grad_(not options.freeze_subsampling)
    weights = options.weights(REPRESENT_WEIGHTS)
    found.append(cost(together, students, weights, options.schedule, epochs[1]))
    for name, config in configs.items():
        alone = {name: AcousticModel(config)}
        found.append(cost(f"{name} from scratch, CTC", alone, CTC_WEIGHTS, options.schedule, epochs[2]))
    return found


def in_whole_layers(shape: Shape) -> Shape:
    """A shape that takes as much time: which modules a student loses is known only after the search for them."""
    if shape.time is None:
        return shape
    count = max(1, round(shape.time * len(shape.layers)))
    return shape._replace(layers=shape.layers[:count], time=None)


def table(found: list[Cost]) -> str:
    """The costs, and the family's against training each from scratch."""
    lines = [f"{'what':48} {'epochs':>7} {'audio-s/s':>10} {'hours':>9}"]
    lines += [f"{one.what:48} {one.epochs:7g} {one.audio_s_per_s:10.2f} {one.hours:9.2f}" for one in found]
    family, scratch = found[1].hours, sum(one.hours for one in found[2:])
    times = f"{scratch / family:.1f} times"
    lines.append(f"the family costs {family:.2f} h, each of it from scratch {scratch:.2f} h together: {times}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train plan`."""
    add = parser.add_argument
    add("--reference", type=Path, required=True, metavar="CHECKPOINT")
    add("--keep", default="8,5,3", metavar="SHAPES", help="the students, as for represent (default: 8,5,3)")
    add(
        "--epochs",
        nargs=3,
        type=float,
        default=(150.0, 30.0, 150.0),
        metavar=("REFERENCE", "FAMILY", "SCRATCH"),
        help="epochs of each (default: 150, as in arXiv 2505.16991, 30 and 150)",
    )
    add("--hours", type=float, help="hours of data to plan for (default: those of --train)")
    add("--seconds", type=float, default=12.0, help="of each measurement (default: 12; about a minute in total)")
    add_training_options(parser, Schedule(), REPRESENT_WEIGHTS, without=UNUSED)
    add_money_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train plan`."""
    number("--seconds", args.seconds, above=0)
    for epochs in args.epochs:
        number("--epochs", epochs, 0)
    number("--epochs of the family", args.epochs[1], above=0)
    if args.hours is not None:
        number("--hours", args.hours, above=0)
    rates = rates_from_args(args)
    options = TrainingOptions.from_args(args)
    found = costs(args.reference, args.keep, tuple(args.epochs), args.hours, args.seconds, options)
    print(table(found))
    if rates is not None:  # the student that is adapted is the first
        print(f"\n{money_table(items(found[0].hours, found[1].hours, found[2].audio_s_per_s, rates), rates)}")
