"""`lwasr-train site FOLDER -o PLACE/`: a model of a site's own, from a folder of its recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from lwasr_edge.training.site.fit import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train site`."""
    defaults = Settings()
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="recordings and what is said in them, as for `lwasr site check`")
    add("-o", "--output", type=Path, required=True, metavar="PLACE", help="new folder for the model and its page")
    add("--model", metavar="NAME|PATH", help="the model to adapt (default: the default model)")
    add("--checkpoint", type=Path, metavar="FILE", help="of the model (default: checkpoint.safetensors in its folder)")
    add("--words", type=Path, metavar="FILE", help="the site's word list: before and after are compared with it too")
    add("--noise", type=Path, metavar="FOLDER", help="recordings of the site without speech, besides those in FOLDER")
    add(
        "--general",
        nargs="*",
        type=Path,
        default=[],
        metavar="MANIFEST",
        help="general speech with texts, mixed in so that nothing is forgotten; a part of it is held out to measure "
        "that. Without it, the model before adaptation is the teacher on the site's own recordings",
    )
    add(
        "--test",
        type=Path,
        metavar="FOLDER",
        help="recordings with texts to compare on (default: every third speaker or recording of FOLDER)",
    )
    add("--name", help="of the model (default: that of PLACE)")
    add("--minutes", type=float, metavar="N", help="train for N minutes at most (default: what the material is worth)")
    add("--steps", type=int, metavar="N", help="optimiser steps (default: by the amount of material)")
    add("--learning-rate", type=float, default=defaults.learning_rate, metavar="X", help=argparse.SUPPRESS)
    add(
        "--max-general-loss",
        type=float,
        default=0.5,
        metavar="N",
        help="errors in a hundred words that may be added on the held-out part of --general (default: 0.5)",
    )
    add("--language", choices=("en", "ja"), default="en", help="of the page (default: en)")
    add("--seed", type=int, default=defaults.seed, metavar="N", help="of order and augmentation (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Carry out `lwasr-train site`; status 3 if the model before is kept.

    Raises:
        LwasrError: options, recordings or a place that cannot be used.
    """
    from lwasr_edge.training.site.command import adapt_site

    return adapt_site(args)
