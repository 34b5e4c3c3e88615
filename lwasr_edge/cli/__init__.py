"""The `lwasr` command. Errors are one line on stderr and exit status 2; --debug shows the traceback."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from lwasr_edge import __version__
from lwasr_edge.errors import AudioWarning, CatalogWarning, LwasrError

EXIT_ERROR = 2
EXIT_BUG = 1
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be valid text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", AudioWarning)
            warnings.showwarning = _show_warning
            status = _run(arguments)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except LwasrError as error:
        if debug:
            traceback.print_exc()
        report_error(error)
        return EXIT_ERROR
    except MemoryError:
        if debug:
            traceback.print_exc()
        report_error("not enough memory: free some, hear smaller chunks (--chunk-ms) or take a smaller --model")
        return EXIT_ERROR
    except Exception as error:
        if debug:
            traceback.print_exc()
        report_error(f"unexpected {type(error).__name__}: {error} (--debug shows where; please report it)")
        return EXIT_BUG


def report_error(error: object) -> None:
    """Print one line."""
    print(f"lwasr: error: {' '.join(str(error).split())}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command but `bench`, which has its own."""
    from lwasr_edge.cli import info, listen, models, transcribe

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback for errors"
    )  # SUPPRESS: a command's default would undo the option given before the command
    parser = argparse.ArgumentParser(prog="lwasr", description="Speech recognition on the device.", parents=[common])
    parser.set_defaults(debug=False)
    parser.add_argument("--version", action="version", version=f"lwasr {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in (transcribe, listen, info, models):
        module.add_parser(commands, common)
    commands.add_parser("bench", help="measure speed, latency and memory on this machine", add_help=False)
    return parser


def _run(arguments: list[str]) -> int:
    before_options = [argument for argument in arguments if argument != "--debug"]
    if before_options[:1] == ["bench"]:
        from lwasr_edge.bench import cli as bench

        return bench.main(before_options[1:])
    args = build_parser().parse_args(arguments)
    return args.run(args)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    kind = "warning" if issubclass(category, (AudioWarning, CatalogWarning)) else category.__name__
    print(f"lwasr: {kind}: {message}", file=sys.stderr)
