"""`lwasr-train written`: train the tagger that writes capitals, full stops, commas and question marks.

It learns from sentences as people write them, one a line. Of each file, a part is held out by line to tune the biases
of the marks, another to measure; `--held-out` files are measured alone. The report has F1 of both.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.files import check_output, write_bytes, write_file
from lwasr_edge.training.written.batches import FILLERS, Encoded
from lwasr_edge.training.written.corpus import Corpus, read_texts
from lwasr_edge.training.written.fit import FitOptions, fit
from lwasr_edge.training.written.network import TaggerNetwork, WordTable
from lwasr_edge.training.written.scores import Count, best_bias, score, texts
from lwasr_edge.written.tagger import Tagger, TaggerConfig

MAX_TUNING_TEXTS = 200  # of each file, of one to three sentences
MAX_MEASURED = 2000  # sentences of each file


def shares(corpora: list[Corpus], weights: dict[str, float]) -> list[tuple[list[Encoded], float]]:
    """The training part of each file with the share of it that an epoch uses."""
    unknown = set(weights) - {corpus.name for corpus in corpora}
    if unknown:
        raise OptionError(f"--share must name a TEXT, got {', '.join(sorted(unknown))}: name it without its suffixes")
    return [(corpus.train, weights.get(corpus.name, 1.0)) for corpus in corpora if corpus.train]


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train, tune, write the tagger and its report."""
    torch.manual_seed(args.seed)
    read = read_texts(args.texts, args.held_out, args.output.with_name(args.output.name + ".text.pt"))
    corpora, numbers = read.corpora, {word: number for number, word in enumerate(read.vocabulary)}
    used = shares(corpora, dict(args.share))
    if not used:
        raise OptionError("TEXT must hold sentences that end in a full stop or question mark, got none: name others")
    config = TaggerConfig()
    network = TaggerNetwork(config, WordTable.of(read.vocabulary, config))
    fillers = np.array([numbers[word] for word in FILLERS if word in numbers] or [-2])
    options = FitOptions(args.epochs, args.minutes, args.learning_rate, args.seed)
    state_file = args.output.with_name(args.output.name + ".state.pt")
    progress = fit(network, used, fillers, options, state_file)
    tuning = [texts(corpus.tuning, n_words=30)[:MAX_TUNING_TEXTS] for corpus in corpora if corpus.tuning]
    bias = best_bias(Tagger(network.arrays(read.spellings, [0.0] * 4)), tuning)
    arrays = network.arrays(read.spellings, bias)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub has no names
    write_bytes(args.output, buffer.getvalue())
    tagger = Tagger(arrays)
    measured = [(one, one.measuring[:MAX_MEASURED]) for one in (*corpora, *read.held_out)]
    alone = {one.name: described(score(tagger, texts(lines, n_words=1))) for one, lines in measured}
    joined = {one.name: described(score(tagger, texts(lines))) for one, lines in measured}
    report = {
        "training": {"steps": progress.steps, "words": progress.n_words, "minutes": round(progress.elapsed_s / 60, 1)},
        "bytes": len(buffer.getvalue()),
        "mark_bias": bias,
        "held_out_files": [one.name for one in read.held_out],
        "sentences": alone,
        "running_text": joined,
    }
    write_file(args.output.with_name(args.output.name + ".json"), json.dumps(report, indent=1) + "\n")
    return report


def described(counts: dict[str, Count]) -> dict[str, Any]:
    """Scores for JSON."""
    return {name: count.to_dict() for name, count in counts.items()}


def share_option(text: str) -> tuple[str, float]:
    """NAME=SHARE."""
    name, _, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be NAME=SHARE with a share from 0 to 1, got {text!r}")
    return name, value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train written`."""
    add, defaults = parser.add_argument, FitOptions()
    add("texts", nargs="+", type=Path, metavar="TEXT", help="sentences as written, one a line; plain, .gz or .xz")
    add("--held-out", nargs="*", type=Path, default=[], metavar="TEXT", help="files to measure on alone")
    add("--share", nargs="*", type=share_option, default=[], metavar="NAME=SHARE", help="use a part of a TEXT an epoch")
    add("--epochs", type=float, default=defaults.epochs, help=f"at most (default: {defaults.epochs:g})")
    add("--minutes", type=float, default=defaults.minutes, help=f"at most (default: {defaults.minutes:g})")
    add("--learning-rate", type=float, default=defaults.learning_rate, help=f"(default: {defaults.learning_rate:g})")
    add("--seed", type=int, default=defaults.seed)
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.npz; the report is FILE.npz.json")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train written`."""
    check_output(args.output)
    report = train(args)
    for kind in ("sentences", "running_text"):
        for name, scores in report[kind].items():
            figures = "  ".join(f"{what} {score['f1']:.3f}" for what, score in scores.items())
            print(f"{kind.replace('_', ' ')}  {name:12}  {figures}")
    print(f"{args.output}: {report['bytes'] / 1e6:.2f} MB")
