"""`lwasr-train`: import a reference, teach students its representation, adapt them, measure them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lwasr_edge.errors import LwasrError

RESUMING = {"represent", "adapt", "reference", "compare", "search"}  # commands that keep a state in their folder


def build_parser() -> argparse.ArgumentParser:
    """The command line; loads torch for the defaults."""
    from lwasr_edge.training.commands import average, evaluate, prepare, reference
    from lwasr_edge.training.commands import blank_penalty as calibrate
    from lwasr_edge.training.commands.options import add_qat, add_training
    from lwasr_edge.training.loop.schedule import Schedule
    from lwasr_edge.training.run import ADAPT_WEIGHTS, REPRESENT_WEIGHTS
    from lwasr_edge.training.study import compare, plan, search, synthesise

    parser = argparse.ArgumentParser(prog="lwasr-train", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("import-nemo", help="read a NeMo Conformer-CTC archive into a checkpoint")
    command.add_argument("archive", type=Path)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors")

    command = commands.add_parser("represent", help="step 1: students learn the reference's representation")
    command.add_argument("--reference", type=Path, required=True, metavar="CHECKPOINT")
    command.add_argument(
        "--keep",
        default="8",
        metavar="SHAPES",
        help="layers of each student: 8,5,3, or layers of the reference: 0+5+9; with so many feed-forward "
        "units, attention so wide, and so many channels of the front: 14x352x96x64",
    )
    command.add_argument("--students", nargs="*", type=Path, default=[], metavar="CHECKPOINT", help="go on with these")
    add_training(command, Schedule(), REPRESENT_WEIGHTS)
    add_qat(command)
    command.set_defaults(layer_steps=None)

    command = commands.add_parser("adapt", help="step 2: students learn from transcripts")
    command.add_argument("students", nargs="+", type=Path, metavar="CHECKPOINT")
    command.add_argument("--reference", type=Path, metavar="CHECKPOINT", help="for losses that compare, as kl=0.5")
    command.add_argument(
        "--general",
        nargs="*",
        type=Path,
        default=[],
        metavar="MANIFEST",
        help="general speech: WER before and after, and an error where too much of it was forgotten",
    )
    command.add_argument(
        "--max-general-loss",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="WER that may be lost on --general; default 1",
    )
    command.add_argument("--epochs", type=float, help="passes over the data, instead of --steps")
    add_training(command, Schedule(learning_rate=2e-4), ADAPT_WEIGHTS)
    add_qat(command)

    command = commands.add_parser("reference", help="train a Conformer-CTC of any size from nothing")
    reference.add_arguments(command)
    command = commands.add_parser("compare", help="every method at the same cost, as a table and plots")
    compare.add_arguments(command)
    command = commands.add_parser("plan", help="what reference, family and training from scratch would cost here")
    plan.add_arguments(command)
    command = commands.add_parser("search", help="layers, width and precision that fit a size and a speed")
    search.add_arguments(command)

    command = commands.add_parser("evaluate", help="greedy WER and CER")
    evaluate.add_arguments(command)

    command = commands.add_parser("average", help="the mean of a model's weights before and after it learnt more")
    average.add_arguments(command)

    command = commands.add_parser("calibrate", help="how much better than a token a blank must be, for fewest errors")
    calibrate.add_arguments(command)

    command = commands.add_parser("prepare", help="a published corpus becomes manifests")
    prepare.add_arguments(command)

    command = commands.add_parser("synthesise", help="make synthetic speech for step 1")
    synthesise.add_arguments(command)
    return parser


def run(args: argparse.Namespace) -> None:
    """Carry out a command."""
    from lwasr_edge.training import run as steps
    from lwasr_edge.training.commands import average, blank_penalty, evaluate, prepare, reference
    from lwasr_edge.training.study import compare, plan, search, synthesise

    modules = (average, compare, evaluate, plan, prepare, reference, search, synthesise)
    own = {module.__name__.rpartition(".")[2]: module.run for module in modules} | {"calibrate": blank_penalty.run}
    if args.command == "import-nemo":
        steps.import_reference(args.archive, args.output)
    elif args.command == "represent":
        if args.layer_steps is None:
            args.layer_steps = 0 if args.students else args.steps // 4
        steps.represent(args.reference, args.keep, args.students, steps.TrainingOptions.from_args(args))
    elif args.command == "adapt":
        options = steps.TrainingOptions.from_args(args)
        steps.adapt(args.students, args.reference, args.general, args.max_general_loss, args.epochs, options)
    else:
        own[args.command](args)


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
        command = next((word for word in arguments if not word.startswith("-")), "")
        end = "; the same command goes on from the last checkpoint" if command in RESUMING else ""
        print(f"lwasr-train: stopped{end}", file=sys.stderr)
        return 130
    finally:
        if "WORLD_SIZE" in os.environ:
            from lwasr_edge.training.loop.distributed import leave_world

            leave_world()
    return 0


if __name__ == "__main__":
    sys.exit(main())
