"""`lwasr-train`: import a reference, teach students its representation, adapt them, measure them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lwasr_edge.errors import LwasrError

SCHEDULE_HELP = {
    "steps": "optimiser steps",
    "layer_steps": "of these, first steps in which each layer learns alone",
    "batch_s": "seconds of audio in a step",
    "learning_rate": "at its peak",
    "warmup_steps": "steps to the peak",
    "final_ratio": "last learning rate over the peak",
    "weight_decay": "of AdamW",
    "max_gradient": "norm that gradients are clipped at",
    "whole_probability": "share of steps on whole recordings; the others draw a chunk size",
    "chunk_frames": "chunk sizes to draw from, in frames of 40 ms",
    "seed": "of order, distortions and chunk sizes",
    "save_every": "steps between checkpoints",
    "evaluate_every": "steps between measurements on --dev",
}


def add_schedule(parser: argparse.ArgumentParser, defaults: Any) -> None:
    """One option for each field of `Schedule`, which explains them."""
    group = parser.add_argument_group("schedule")
    for field in dataclasses.fields(defaults):
        value = getattr(defaults, field.name)
        kind = int if isinstance(value, tuple) else type(value)
        many = "+" if isinstance(value, tuple) else None
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        group.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, nargs=many, default=value,
            help=f"{SCHEDULE_HELP[field.name]}; default {shown}",
        )


def add_training(parser: argparse.ArgumentParser, defaults: Any, weights: Any) -> None:
    """Options that both steps have."""
    from lwasr_edge.training import distortions

    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="MANIFEST", help="JSONL manifests")
    parser.add_argument("--dev", nargs="*", type=Path, default=[], metavar="MANIFEST", help="to measure WER on")
    noise = "background recordings to mix in: a manifest, or a folder of audio"
    parser.add_argument("--noise", type=Path, metavar="SOURCE", help=noise)
    distortions.add_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="resumes what it finds there")
    parser.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="auto: bfloat16 where the processor multiplies it, else float32",
    )
    parser.add_argument("--dropout", type=float, default=0.0, help="share of values dropped in training; default 0")
    parser.add_argument(
        "--max-bad", type=float, default=5.0, metavar="PERCENT",
        help="stop if more utterances than this cannot be used; fewer are left out by name; default 5",
    )
    parser.add_argument(
        "--loss", nargs="*", default=[], metavar="PART=WEIGHT",
        help="parts: mse clip kl hidden ctc; default " + " ".join(f"{k}={v:g}" for k, v in vars(weights).items()),
    )
    add_schedule(parser, defaults)


def build_parser() -> argparse.ArgumentParser:
    """The command line; loads torch for the defaults."""
    from lwasr_edge.training import evaluate, prepare, synthesise
    from lwasr_edge.training.schedule import Schedule
    from lwasr_edge.training.steps import ADAPT_WEIGHTS, REPRESENT_WEIGHTS

    parser = argparse.ArgumentParser(prog="lwasr-train", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("import-nemo", help="read a NeMo Conformer-CTC archive into a checkpoint")
    command.add_argument("archive", type=Path)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors")

    command = commands.add_parser("represent", help="step 1: students learn the reference's representation")
    command.add_argument("--reference", type=Path, required=True, metavar="CHECKPOINT")
    command.add_argument("--keep", default="8", help="layers of each student: 8,5,3, or layers of the reference: 0+5+9")
    command.add_argument("--students", nargs="*", type=Path, default=[], metavar="CHECKPOINT", help="go on with these")
    add_training(command, Schedule(layer_steps=1000), REPRESENT_WEIGHTS)

    command = commands.add_parser("adapt", help="step 2: students learn from transcripts")
    command.add_argument("students", nargs="+", type=Path, metavar="CHECKPOINT")
    command.add_argument("--reference", type=Path, metavar="CHECKPOINT", help="for losses that compare, as kl=0.5")
    add_training(command, Schedule(learning_rate=2e-4), ADAPT_WEIGHTS)

    command = commands.add_parser("evaluate", help="greedy WER and CER")
    evaluate.add_arguments(command)

    command = commands.add_parser("prepare", help="a published corpus becomes manifests")
    prepare.add_arguments(command)

    command = commands.add_parser("synthesise", help="make synthetic speech for step 1")
    synthesise.add_arguments(command)
    return parser


def run(args: argparse.Namespace) -> None:
    """Carry out a command."""
    from lwasr_edge.training import evaluate, prepare, steps, synthesise

    if args.command == "import-nemo":
        steps.import_reference(args.archive, args.output)
    elif args.command == "represent":
        steps.represent(args.reference, args.keep, args.students, steps.TrainingOptions.from_args(args))
    elif args.command == "adapt":
        steps.adapt(args.students, args.reference, steps.TrainingOptions.from_args(args))
    elif args.command == "evaluate":
        evaluate.run(args)
    elif args.command == "prepare":
        prepare.run(args)
    elif args.command == "synthesise":
        synthesise.run(args)


def is_ours_missing(error: Exception) -> bool:
    """Whether a module of this project itself is missing: a fault of the project, not of the installation."""
    return isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == "lwasr_edge"


def described(error: Exception, extra: str = "train") -> str:
    """What happened, and what to do, in one line; a module that is missing comes with ``extra``."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: pip install 'lwasr-edge[{extra}]'"
    return str(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 2 and one line on an error that was foreseen."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        run(build_parser().parse_args(arguments))
    except (LwasrError, OSError, ModuleNotFoundError) as error:
        if "--debug" in arguments or is_ours_missing(error):
            raise
        print(f"lwasr-train: error: {described(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lwasr-train: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
