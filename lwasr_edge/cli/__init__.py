"""The `lwasr` command. Errors are one line on stderr and exit status 2; --debug shows the traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lwasr_edge import __version__
from lwasr_edge.cli.command import run_command

MEMORY_HINT = "free some, use smaller chunks (--chunk-ms) or a smaller --model"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command("lwasr", lambda: _run(arguments), arguments, memory_hint=MEMORY_HINT)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    from lwasr_edge.cli import site
    from lwasr_edge.cli.commands import bench, info, listen, lm, models, serve, transcribe

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback for errors"
    )  # SUPPRESS: a command's default would undo the option given before the command
    parser = argparse.ArgumentParser(prog="lwasr", description="Speech recognition on the device.", parents=[common])
    parser.set_defaults(debug=False)
    parser.add_argument("--version", action="version", version=f"lwasr {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in (transcribe, listen, serve, info, models, lm, site, bench):
        module.add_parser(commands, common)
    return parser


def _run(arguments: list[str]) -> int:
    args = build_parser().parse_args(joined_command(arguments))
    args.arguments = arguments  # `lwasr bench` keeps them in its report
    return args.run(args)


def joined_command(arguments: list[str]) -> list[str]:
    """The arguments with `bench compare` as one word, which has a parser of its own: `bench` alone takes models."""
    words = [index for index, word in enumerate(arguments) if word != "--debug"][:2]
    if [arguments[index] for index in words] != ["bench", "compare"]:
        return arguments
    first, second = words
    return [*arguments[:first], "bench compare", *arguments[first + 1 : second], *arguments[second + 1 :]]
