"""`lwasr bench` and `lwasr bench compare`: options in, table and JSON out."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lwasr_edge.bench import recordings, results, runner, table
from lwasr_edge.files import check_output
from lwasr_edge.hub.catalog import find_model

BUILT_IN_REPEAT = 20  # of five seconds
OWN_REPEAT = 3  # of the user's recordings, which may be long
DEFAULT_CHUNK_MS = (160, 320, 640, 1280)
QUICK = runner.Settings(threads=(1,), chunk_ms=(640,), look_ahead_ms=None, repeat=3, startups=2)


def main(argv: Sequence[str]) -> int:
    """Run the command with the words behind `lwasr bench`; errors are the caller's to print.

    Raises:
        LwasrError: whatever could not be used.
    """
    arguments = list(argv)
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    args = build_parser().parse_args(arguments)
    if args.json is not None:
        check_output(args.json)
    chosen = recordings.choose(args.audio, args.manifest, args.limit)
    models = [find_model(name) for name in args.models or [None]]
    report = runner.run_benchmark(models, chosen, settings(args), shlex.join(["lwasr", "bench", *arguments]), show)
    sys.stdout.write(table.report_text(report))
    if args.json is not None:
        results.write_report(report, args.json)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="lwasr bench",
        description="Measure speed, latency, start-up, memory and (with a manifest) accuracy on this machine. "
        "`lwasr bench compare A.json B.json` compares two runs.",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names, files or directories (default: the default)")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="recordings to run over (default: a packaged one)")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="JSONL with audio_filepath and text: adds WER")
    parser.add_argument("--limit", type=_count, metavar="N", help="only the first N recordings")
    parser.add_argument("--threads", type=_counts, metavar="N,N", help="processor threads (default: 1)")
    parser.add_argument(
        "--stream", type=_chunks, metavar="MS,MS", help="chunk sizes (default: 160,320,640,1280), or none: files only"
    )
    parser.add_argument(
        "--look-ahead", type=_milliseconds, metavar="MS", help="of each chunk in a stream (default: what streams do)"
    )
    parser.add_argument(
        "--repeat",
        type=_count,
        metavar="N",
        help=f"passes over the recordings (default: {BUILT_IN_REPEAT}; {OWN_REPEAT} over your own)",
    )
    parser.add_argument("--quick", action="store_true", help="files and 640 ms only, few passes: under a minute")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write every figure here")
    parser.add_argument("--debug", action="store_true", help="show a traceback for errors")
    return parser


def settings(args: argparse.Namespace) -> runner.Settings:
    """What to measure: what was asked for, else the defaults, else those of --quick."""
    is_built_in = args.audio is None and args.manifest is None
    usual = runner.Settings((1,), DEFAULT_CHUNK_MS, None, BUILT_IN_REPEAT if is_built_in else OWN_REPEAT, startups=7)
    default = QUICK if args.quick else usual
    possible = tuple(chunk for chunk in default.chunk_ms if chunk > (args.look_ahead or 0)) or default.chunk_ms
    return runner.Settings(
        args.threads or default.threads,
        possible if args.stream is None else args.stream,
        args.look_ahead,
        args.repeat or default.repeat,
        default.startups,
    )


def show(what: str) -> None:
    """Tell a person at the terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"lwasr bench: {what}", file=sys.stderr)


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lwasr bench compare", description="Compare two runs of `lwasr bench`.")
    parser.add_argument("before", type=Path, metavar="A.json")
    parser.add_argument("after", type=Path, metavar="B.json")
    parser.add_argument("--debug", action="store_true", help="show a traceback for errors")
    args = parser.parse_args(arguments)
    sys.stdout.write(table.comparison_text(results.read_report(args.before), results.read_report(args.after)))
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1; came {text}")
    return number


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(item) for item in text.split(","))


def _milliseconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected milliseconds from 0; came {text}")
    return number


def _chunks(text: str) -> tuple[float, ...]:
    chunks = () if text == "none" else tuple(_milliseconds(item) for item in text.split(","))
    if 0 in chunks:
        raise argparse.ArgumentTypeError("a chunk of 0 ms holds nothing; for files only, say none")
    return chunks
