"""Options of the training commands: how they are declared, and what they are parsed into."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.students import Shape, layers_to_keep
from lwasr_edge.training.data.augment_config import AugmentConfig, parse_augment
from lwasr_edge.training.data.augment_config import add_arguments as add_augment
from lwasr_edge.training.loop.device import Hardware
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.model.quantized import LEVELS_PER_DEVIATION
from lwasr_edge.validate import number

REPRESENT_WEIGHTS = LossWeights()
CTC_WEIGHTS = LossWeights(mse=0.0, clip=0.0, kl=0.0, hidden=0.0, ctc=1.0)

SCHEDULE_HELP = {
    "steps": "optimiser steps; 0 writes the students as they were made",
    "layer_steps": "of these, the first, in which each layer is trained alone (default: a quarter; 0 with --students)",
    "batch_s": "seconds of audio in a batch",
    "batches_per_step": "batches whose gradients are averaged in a step; with torchrun, a multiple of its processes",
    "learning_rate": "peak learning rate",
    "warmup_steps": "steps of linear warm-up",
    "final_ratio": "last learning rate over the peak",
    "weight_decay": "of AdamW",
    "max_gradient": "gradient norm to clip at",
    "full_context_probability": "share of steps with full context; the others draw a chunk size",
    "chunk_frames": "chunk sizes to draw from, in frames of 40 ms",
    "look_ahead_frames": "look-ahead sizes to draw from, in frames of 40 ms; at most half of the chunk is used",
    "seed": "of order, augmentation and chunk sizes",
    "save_every": "steps between checkpoints",
    "evaluate_every": "steps between evaluations on --dev",
}


@dataclass(frozen=True)
class TrainingOptions:
    """The options of a training command."""

    train: list[Path]
    dev: list[Path]
    noise: Path | None
    rooms: Path | None
    output: Path
    hardware: Hardware
    freeze_subsampling: bool  # keep the subsampling convolutions as they are
    dropout: float
    qat: float | None  # levels in a standard deviation, for quantisation-aware training of the layers' weights
    max_bad: float  # share of unusable utterances, 0 to 1, above which a run stops
    max_utterance_s: float  # s; the longest utterance decides how much memory a step takes
    tensorboard: bool
    loss: dict[str, float]  # weights that differ from the command's own
    augment: AugmentConfig
    schedule: Schedule

    def __post_init__(self) -> None:
        number("--dropout", self.dropout, 0, below=1)
        number("--max-bad", 100 * self.max_bad, 0, 100, hint="give per cent")
        number("--max-utterance-s", self.max_utterance_s, above=0)

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> TrainingOptions:
        """The options of a parser that `add_training_options` filled; options it left out have their defaults."""
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(Schedule):
            value = getattr(args, field.name, getattr(args.schedule, field.name))
            fields[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(
            train=args.train,
            dev=getattr(args, "dev", []),
            noise=args.noise,
            rooms=args.rooms,
            output=getattr(args, "output", Path()),
            hardware=Hardware.choose(args.device, args.precision),
            freeze_subsampling=getattr(args, "freeze_subsampling", False),
            dropout=getattr(args, "dropout", 0.0),
            qat=args.qat_levels if getattr(args, "qat", False) else None,
            max_bad=args.max_bad / 100,
            max_utterance_s=args.max_utterance_s,
            tensorboard=getattr(args, "tensorboard", False),
            loss=parse_losses(getattr(args, "loss", [])),
            augment=parse_augment(args.augment),
            schedule=Schedule(**fields),
        )

    def weights(self, default: LossWeights) -> LossWeights:
        """The losses' weights: a command's own, changed by --loss."""
        return dataclasses.replace(default, **self.loss)


def add_training_options(
    parser: argparse.ArgumentParser,
    schedule: Schedule,
    losses: LossWeights | None = None,
    *,
    without: Collection[str] = (),
    dropout: float = 0.0,
) -> None:
    """Declare the options that training commands share.

    Args:
        parser: of the command.
        schedule: defaults of the schedule.
        losses: defaults of --loss; None leaves the option out.
        without: names of options that the command does not use: fields of `Schedule`, "dev", "output",
            "freeze_subsampling", "dropout" or "qat".
        dropout: default.
    """
    add = parser.add_argument
    _add_data(parser, without)
    if "output" not in without:
        add(
            "-o",
            "--output",
            type=Path,
            required=True,
            metavar="DIR",
            help="folder of the run; an interrupted one is resumed",
        )
        add("--tensorboard", action="store_true", help="also write TensorBoard files, into DIR/tensorboard")
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the device is as fast in it, else float32",
    )
    if "freeze_subsampling" not in without:
        add(
            "--freeze-subsampling",
            action="store_true",
            help="do not train the subsampling convolutions: saves a third of a step's time",
        )
    if "dropout" not in without:
        add("--dropout", type=float, default=dropout, metavar="SHARE", help=f"dropout rate (default: {dropout:g})")
    if "qat" not in without:
        add(
            "--qat",
            action="store_true",
            help="quantisation-aware training: compressed int8 files are a third smaller; a student trained with it "
            "keeps it",
        )
        add(
            "--qat-levels",
            type=float,
            default=LEVELS_PER_DEVIATION,
            metavar="N",
            help="levels of a weight in a standard deviation, for --qat (default: %(default)g); with 4, weights take a "
            "seventh less in the file",
        )
    if losses is not None:
        shown = " ".join(f"{name}={weight:g}" for name, weight in vars(losses).items())
        add("--loss", nargs="*", default=[], metavar="NAME=WEIGHT", help=f"weights of the losses (default: {shown})")
    _add_schedule(parser, schedule, without)


def _add_data(parser: argparse.ArgumentParser, without: Collection[str]) -> None:
    add = parser.add_argument
    train = "JSONL manifests; one that is given twice counts twice in an epoch"
    add("--train", nargs="+", type=Path, required=True, metavar="MANIFEST", help=train)
    if "dev" not in without:
        add("--dev", nargs="*", type=Path, default=[], metavar="MANIFEST", help="to measure WER on")
    add(
        "--noise", type=Path, metavar="SOURCE", help="background noise to mix in: a manifest, or a folder of recordings"
    )
    add("--rooms", type=Path, metavar="SOURCE", help="measured impulse responses of rooms: a manifest, or a folder")
    add_augment(parser)
    add(
        "--max-bad",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="stop if more utterances than this cannot be used; fewer are listed and left out (default: 5)",
    )
    add(
        "--max-utterance-s",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="leave out longer utterances; the longest decides how much memory a step takes (default: 60)",
    )


def _add_schedule(parser: argparse.ArgumentParser, schedule: Schedule, without: Collection[str]) -> None:
    parser.set_defaults(schedule=schedule)
    group = parser.add_argument_group("schedule")
    for field in dataclasses.fields(Schedule):
        if field.name in without:
            continue
        value = getattr(schedule, field.name)
        is_list = isinstance(value, tuple)
        text = SCHEDULE_HELP[field.name]
        if "(default" not in text:
            text += f" (default: {' '.join(map(str, value)) if is_list else value})"
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=int if is_list else type(value),
            nargs="+" if is_list else None,
            default=value,
            metavar="N" if is_list or type(value) is int else "X",
            help=text,
        )


def parse_losses(items: list[str]) -> dict[str, float]:
    """["kl=0.5", "ctc=1"] as {"kl": 0.5, "ctc": 1.0}."""
    names = vars(REPRESENT_WEIGHTS)
    weights = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            name = ""
        if name not in names:
            raise OptionError(f"--loss must be NAME=WEIGHT with a name of {', '.join(names)}, got {item}")
    return weights


def parse_keep(text: str, n_reference: int) -> dict[str, Shape]:
    """The students that ``--keep`` names, and what each keeps of the reference.

    Args:
        text: students separated by commas; each a number of layers, or the layers themselves joined by "+"; after an
            "x" the hidden units of the feed-forward modules, then the attention width, then the subsampling channels;
            after an "@" the share of the layers' time: "8,5", "14x368x96x64,10x288x96x64", "0+5+9+15x352" or
            "16x704x176x48@0.5".
        n_reference: layers of the reference.

    Raises:
        OptionError: something else.
    """
    students: dict[str, Shape] = {}
    for part in text.split(","):
        widths_part, at, share = part.strip().partition("@")
        layers, *sizes = widths_part.split("x")
        try:
            time = float(share) if at else None
            numbers = [int(one) for one in layers.split("+")]
            widths = [int(size) for size in sizes]
        except ValueError:
            widths = [0, 0, 0, 0]
        if len(widths) > 3:
            raise OptionError(
                f"--keep must be numbers of layers, as in 8,5,3, or layers, as in 0+5+9, with widths as in "
                f"14x368x96x64 and a share of time as in 16@0.5, got {text}"
            )
        name = "x".join(["layers" + "-".join(map(str, numbers)), *map(str, widths)])
        if time is not None:
            name += f"at{time:g}".replace(".", "_")  # names of torch's modules have no dots
        if name in students:
            raise OptionError(f"--keep must name each student once, got {part.strip()} twice")
        if time is not None:
            number(f"the share of time in --keep {part.strip()}", time, above=0, below=1)
        kept = tuple(numbers) if len(numbers) > 1 else layers_to_keep(n_reference, numbers[0])
        units, attention, channels = [*widths, None, None, None][:3]
        students[name] = Shape(kept, units, attention, channels, time)
    return students
