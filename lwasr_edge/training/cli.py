"""`lwasr-train`: import or train a reference, teach students, adapt them, measure them."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from lwasr_edge.cli.command import run_command

COMMANDS = {  # name -> module under lwasr_edge.training, help
    "prepare": ("commands.prepare", "make manifests of a published corpus"),
    "synthesise": ("study.synthesise", "make synthetic speech for step 1"),
    "import-nemo": ("commands.import_nemo", "read a NeMo Conformer-CTC archive into a checkpoint"),
    "reference": ("commands.reference", "train a Conformer-CTC reference from scratch"),
    "represent": ("commands.represent", "step 1: students learn the reference's representation"),
    "adapt": ("commands.adapt", "step 2: students learn from transcripts by CTC"),
    "site": ("commands.site", "from a folder of a site's recordings to a model of its own"),
    "average": ("commands.average", "average a model's weights before and after further training"),
    "blank-penalty": ("commands.blank_penalty", "tune the blank penalty on held-out speech, to recover deleted words"),
    "written": ("commands.written", "train the tagger that writes capitals and punctuation"),
    "evaluate": ("commands.evaluate", "greedy WER and CER"),
    "compare": ("study.compare", "train by every method at the same cost: a table and plots"),
    "search": ("study.search", "find layers, widths and precision that fit a size and a speed"),
    "plan": ("study.plan", "estimate what reference, students and training from scratch cost here"),
}
RESUMABLE = {"represent", "written", "adapt", "reference", "compare", "search", "site"}
# Spellings of 0.1.0, accepted for one more version.
RENAMED_COMMANDS = {"calibrate": "blank-penalty"}
RENAMED_OPTIONS = {
    "--rounded": "--qat",
    "--freeze-front": "--freeze-subsampling",
    "--whole-probability": "--full-context-probability",
    "--front": "--subsampling",
}


def build_parser() -> argparse.ArgumentParser:
    """The command line; loads torch for the defaults."""
    parser = argparse.ArgumentParser(prog="lwasr-train", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, (module_name, help_text) in COMMANDS.items():
        module = importlib.import_module(f"lwasr_edge.training.{module_name}")
        command = commands.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.", allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def renamed(arguments: list[str]) -> list[str]:
    """The arguments with former spellings of commands and options replaced."""
    command = next((index for index, word in enumerate(arguments) if not word.startswith("-")), None)
    found = list(arguments)
    if command is not None:
        found[command] = RENAMED_COMMANDS.get(found[command], found[command])
    for index, word in enumerate(found):
        option, equals, value = word.partition("=")
        found[index] = RENAMED_OPTIONS.get(option, option) + equals + value
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = renamed(list(sys.argv[1:] if argv is None else argv))
    is_resumable = any(word in RESUMABLE for word in arguments[:2])

    def run() -> int | None:
        args = build_parser().parse_args(arguments)
        status: int | None = args.run(args)
        return status

    try:
        return run_command(
            "lwasr-train",
            run,
            arguments,
            extra="train",
            interrupted_note=f"stopped{'; run the same command to resume from the last checkpoint' * is_resumable}",
            memory_hint="lower --batch-s or --max-utterance-s",
        )
    finally:
        if "WORLD_SIZE" in os.environ:
            from lwasr_edge.training.loop.distributed import leave_world

            leave_world()


if __name__ == "__main__":
    sys.exit(main())
