"""`lwasr lm`: make, describe and tune language models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lwasr_edge.cli.options import Commands, count, default_model_name, positive
from lwasr_edge.cli.outputs import check_text_output, is_same_file
from lwasr_edge.cli.progress import ProgressLine
from lwasr_edge.cli.streams import is_terminal, say
from lwasr_edge.errors import LanguageModelError, OptionError, OutputError
from lwasr_edge.files import check_output
from lwasr_edge.validate import printable

DEV_RECORDINGS = 160


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its actions to the parser."""
    parser = commands.add_parser("lm", help="make, describe and tune language models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    action = actions.add_parser("convert", parents=[common], help="make a .lm file of an ARPA file")
    action.add_argument("source", type=Path, metavar="ARPA", help="n-grams in ARPA format, plain or gzipped")
    _add_output(action)
    action.set_defaults(run=run_convert)

    action = actions.add_parser(
        "build",
        parents=[common],
        help="make a .lm file of text",
        description="Count words and n-grams of text, estimate a model (modified Kneser-Ney), and prune it to a size.",
    )
    action.add_argument("text", nargs="+", type=Path, metavar="TEXT", help="text in UTF-8, plain or gzipped")
    _add_output(action)
    action.add_argument(
        "--order", type=int, choices=(2, 3), default=3, help="words in the longest n-grams (default: 3)"
    )
    action.add_argument(
        "--words", type=count, default=60_000, metavar="N", help="most frequent words to keep (default: 60000)"
    )
    action.add_argument(
        "--min-count", type=count, default=1, metavar="N", help="a word must occur N times (default: 1)"
    )
    action.add_argument(
        "--size", type=positive, default=3.5, metavar="MB", help="of the file, approximately, at most (default: 3.5)"
    )
    action.set_defaults(run=run_build)

    action = actions.add_parser(
        "weights",
        parents=[common],
        help="find the shares of several language models on held-out text",
        description="Find the shares with which several language models together predict a text best; use them as "
        "`--lm A --lm B --lm-mix X,X`.",
    )
    action.add_argument("models", nargs="+", metavar="FILE", help="two or more: .lm or ARPA files, general")
    action.add_argument(
        "--text", type=Path, action="append", required=True, metavar="TEXT", help="text that no model was made of"
    )
    action.set_defaults(run=run_weights)

    action = actions.add_parser("info", parents=[common], help="print what a .lm file contains")
    action.add_argument("source", metavar="FILE", help="a .lm file, or general for the model of the package")
    action.set_defaults(run=run_info)

    action = actions.add_parser(
        "tune",
        parents=[common],
        help="find a model's settings of decoding, and write them into its file",
        description="Find weight, word bonus, unknown-letter cost and blank penalty with the fewest errors on "
        "development recordings, and the map of the confidence, and write them into the model file.",
    )
    action.add_argument("model", metavar="MODEL", help=f"name, file or directory, for example {default_model_name()}")
    action.add_argument(
        "--dev", type=Path, action="append", required=True, metavar="MANIFEST", help="speech that was not trained on"
    )
    action.add_argument("--lm", default="general", metavar="FILE", help="language model (default: general)")
    action.add_argument(
        "--limit",
        type=count,
        default=DEV_RECORDINGS,
        metavar="N",
        help=f"use N evenly spaced recordings of each --dev (default: {DEV_RECORDINGS}), half of them to choose",
    )
    action.add_argument("--json", type=Path, metavar="FILE", help="write the settings to this file alone")
    action.set_defaults(run=run_tune)

    action = actions.add_parser("apply", parents=[common], help="write settings of `tune --json` into a model file")
    action.add_argument("settings", type=Path, metavar="FILE.json")
    action.add_argument("model", metavar="MODEL", help="name, file or directory")
    action.set_defaults(run=run_apply)


def _add_output(action: argparse.ArgumentParser) -> None:
    action.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.lm to write")


def run_convert(args: argparse.Namespace) -> int:
    """Convert, and print the sizes."""
    from lwasr_edge.decoding.ngram_layout import write_tables
    from lwasr_edge.lm.tables import tables_of_arpa

    check_lm_output(args.output, [args.source])
    write_tables(args.output, tables_of_arpa(args.source))
    print_lm(args.output)
    return 0


def run_build(args: argparse.Namespace) -> int:
    """Build, and print the sizes."""
    from lwasr_edge.decoding.ngram_layout import write_tables
    from lwasr_edge.lm.build import build

    check_lm_output(args.output, args.text)
    with ProgressLine("counting", unit="bytes") as line:
        tables = build(
            args.text,
            line,
            order=args.order,
            n_words=args.words,
            min_count=args.min_count,
            max_bytes=1e6 * args.size,
        )
    write_tables(args.output, tables)
    print_lm(args.output)
    return 0


def run_weights(args: argparse.Namespace) -> int:
    """Print the shares and perplexities."""
    from lwasr_edge.decoding.language_model import load_words
    from lwasr_edge.lm.build import mixture_shares

    if len(args.models) < 2:
        raise OptionError(f"there must be two models or more, got {len(args.models)}: add another")
    shares, perplexities = mixture_shares([load_words(name) for name in args.models], args.text)
    for name, share, perplexity in zip(args.models, shares, perplexities, strict=False):
        print(f"{share:.3f}  {printable(name)}  (perplexity alone {perplexity:.1f})")
    print(f"--lm-mix {','.join(f'{max(share, 0.001):.3f}' for share in shares)}  (perplexity {perplexities[-1]:.1f})")
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Print order, counts and size."""
    print_lm(args.source)
    return 0


def print_lm(source: str | Path) -> None:
    """Print what a .lm file contains."""
    from lwasr_edge.decoding.language_model import load_words
    from lwasr_edge.decoding.ngram_file import MappedNGram

    model = load_words(source)
    if not isinstance(model, MappedNGram):
        raise LanguageModelError(
            f"language model must be a .lm file, got {source}, which is an ARPA file: `lwasr lm convert` makes one"
        )
    size = model.path.stat().st_size
    print(f"file     {printable(str(model.path))}")
    print(f"bytes    {size} ({size / sum(model.counts):.1f} an n-gram)")
    for order, n_grams in enumerate(model.counts, 1):
        print(f"{order}-grams  {n_grams}")


def check_lm_output(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that cannot be written, before the work.

    Raises:
        OutputError: another suffix than .lm, an input, or see `check_output`.
    """
    if path.suffix != ".lm":
        raise OutputError(f"output must end in .lm, got {path}: rename it")
    check_output(path)
    for one in inputs:
        if is_same_file(path, one):
            raise OutputError(f"output must not be an input, got {path}, which is {one}: name another file")


def run_tune(args: argparse.Namespace) -> int:
    """Tune, print the figures, and write the settings."""
    from lwasr_edge.files import write_file
    from lwasr_edge.hub.catalog import find_model
    from lwasr_edge.hub.model_metadata import write_decoding
    from lwasr_edge.lm.tuning import tune

    path = find_model(args.model)
    if args.json is not None:
        check_text_output(args.json, [*args.dev, path])
    names = [manifest.stem for manifest in args.dev]
    if len(set(names)) < len(names):
        raise OptionError(f"--dev manifests must have different names, got {', '.join(names)}: rename one")
    found = tune(path, args.dev, args.lm, args.limit, show)
    print("set, half on which nothing was chosen: WER greedy -> tuned; calibration error before -> after")
    for one in found.sets:
        print(
            f"{printable(one.name)}, {one.words} words: {100 * one.greedy_wer:.2f} -> {100 * one.wer:.2f} %; "
            f"{one.raw_error:.3f} -> {one.error:.3f}"
        )
    settings = dataclasses.asdict(found.settings)
    print(", ".join(f"{name} {value}" for name, value in settings.items() if name != "confidence"))
    if args.json is not None:
        write_file(args.json, json.dumps(settings, indent=1) + "\n")
    else:
        write_decoding(path, found.settings)
        print(f"{path}: written")
    return 0


def run_apply(args: argparse.Namespace) -> int:
    """Write the settings into the model file."""
    from lwasr_edge.hub.catalog import find_model
    from lwasr_edge.hub.model_metadata import write_decoding
    from lwasr_edge.model_info import DecodingSettings

    path = find_model(args.model)
    write_decoding(path, DecodingSettings.read(args.settings))
    print(f"{path}: written")
    return 0


def show(message: str) -> None:
    """Show what is being done, in a terminal."""
    if is_terminal(sys.stderr):
        say(f"\r\x1b[K{message}", end="")
