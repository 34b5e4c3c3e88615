"""`lwasr bench` and `lwasr bench compare`: their options, and the table and JSON that they write."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from lwasr_edge.bench.settings import BUILT_IN_REPEAT, DEFAULT_HOP_MS, OWN_REPEAT, chosen_settings
from lwasr_edge.cli.options import Commands, count, default_model_name, not_negative
from lwasr_edge.cli.outputs import check_text_output
from lwasr_edge.cli.streams import is_terminal, say
from lwasr_edge.validate import printable


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add both commands to the parser."""
    parser = commands.add_parser(
        "bench",
        parents=[common],
        help="measure speed, latency and memory on this machine",
        description="Measure speed, latency, start-up, memory and (with a manifest) accuracy on this machine. "
        "`lwasr bench compare A.json B.json` compares two reports.",
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"names, files or directories (default: {default_model_name()})"
    )
    parser.add_argument("--audio", type=Path, metavar="DIR", help="recordings to transcribe (default: a packaged one)")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="JSONL with audio_filepath and text: adds WER")
    parser.add_argument("--limit", type=count, metavar="N", help="use only the first N recordings")
    parser.add_argument("--threads", type=_counts, metavar="N,N", help="CPU threads, 0 for all cores (default: 1)")
    hops = ",".join(f"{hop:g}" for hop in DEFAULT_HOP_MS)
    parser.add_argument(
        "--stream", type=_hops, metavar="MS,MS", help=f"hops of streams (default: {hops}), or none for files only"
    )
    parser.add_argument(
        "--right-context", type=not_negative, metavar="MS", help="right context of streams (default: 640)"
    )
    parser.add_argument(
        "--repeat",
        type=count,
        metavar="N",
        help=f"runs over the recordings (default: {BUILT_IN_REPEAT}; {OWN_REPEAT} over your own)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="files and the default stream only, few runs: under a minute"
    )
    parser.add_argument("--no-lm", action="store_true", help="greedy decoding, without the general language model")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write every figure to this file")
    parser.set_defaults(run=run)

    parser = commands.add_parser("bench compare", parents=[common], description="Compare two reports of `lwasr bench`.")
    parser.add_argument("before", type=Path, metavar="A.json", help="report to compare with")
    parser.add_argument("after", type=Path, metavar="B.json", help="report to compare")
    parser.set_defaults(run=run_compare)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and write the report.

    Raises:
        LwasrError: an option, model or recording that cannot be used.
    """
    from lwasr_edge.bench import recordings, results, runner, table
    from lwasr_edge.hub.catalog import find_model

    if args.json is not None:
        check_text_output(args.json, [args.manifest, args.audio, *args.models])
    chosen = recordings.choose(args.audio, args.manifest, args.limit)
    models = [find_model(name) for name in args.models or [None]]
    if args.json is not None:
        check_text_output(args.json, [*models, *(item.path for item in chosen.items)])
    command = shlex.join(["lwasr", *(word for word in args.arguments if word != "--debug")])
    report = runner.run_benchmark(models, chosen, chosen_settings(args), command, show)
    sys.stdout.write(printable(table.report_text(report), keep="\n"))
    if args.json is not None:
        results.write_report(report, args.json)
    return 0


def run_compare(args: argparse.Namespace) -> int:
    """Print two reports side by side.

    Raises:
        OptionError: a file that is not a report.
    """
    from lwasr_edge.bench import results, table

    text = table.comparison_text(results.read_report(args.before), results.read_report(args.after))
    sys.stdout.write(printable(text, keep="\n"))
    return 0


def show(message: str) -> None:
    """Show what is being measured, in a terminal."""
    if is_terminal(sys.stderr):
        say(f"lwasr bench: {message}")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(item, minimum=0) for item in text.split(","))


def _hops(text: str) -> tuple[float, ...]:
    hops = () if text == "none" else tuple(not_negative(item) for item in text.split(","))
    if 0 in hops:
        raise argparse.ArgumentTypeError(f"must be hops > 0, got {text!r}: use none for files only")
    return hops
