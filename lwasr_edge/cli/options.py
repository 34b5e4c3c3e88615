"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwasr_edge.errors import OptionError

if TYPE_CHECKING:
    from lwasr_edge.decoding.phrases import PhraseMode
    from lwasr_edge.recognizer import Recognizer

Commands = Any  # argparse keeps the type of what add_subparsers returns private


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model and --threads."""
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="an installed model, a model file or its directory (default: the default)"
    )
    parser.add_argument(
        "--threads", type=threads, default=1, metavar="N", help="processor threads; 0 for all cores (default: 1)"
    )


def add_look_ahead_option(parser: argparse.ArgumentParser) -> None:
    """Add --look-ahead-ms."""
    parser.add_argument(
        "--look-ahead-ms",
        type=not_negative,
        metavar="N",
        help="hear the last N ms of each chunk again with the next: more makes fewer mistakes and more work "
        "(default: 320, at most half of the chunk; 640 for files)",
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for decoding otherwise than greedily."""
    group = parser.add_argument_group("decoding", "By default text is decoded greedily, which costs nothing.")
    group.add_argument(
        "--phrases",
        type=Path,
        metavar="FILE",
        help="what may be said: a phrase a line, then perhaps a tab and a weight",
    )
    group.add_argument(
        "--phrase-mode",
        choices=("one", "sequence", "bias"),
        help="an utterance is one of the phrases (default), or a sequence of them, or anything, preferably with them",
    )
    group.add_argument(
        "--min-confidence",
        type=float,
        metavar="X",
        help="below it, none of the phrases was said (default: 0.5); not in mode bias",
    )
    group.add_argument("--phrase-bonus", type=float, metavar="X", help="nats for a word, in mode bias (default: 2)")
    group.add_argument("--beam", type=int, metavar="N", help="search with N hypotheses; not in mode one")
    group.add_argument(
        "--nbest", type=int, metavar="N", help="print N alternatives (default: 5 in --json, else none); searches"
    )
    group.add_argument(
        "--lm", type=Path, metavar="FILE", help="n-gram of words in ARPA format, plain or gzipped; searches"
    )
    group.add_argument("--lm-weight", type=float, metavar="X", help="how much it counts (default: 0.2)")
    group.add_argument("--word-bonus", type=float, metavar="X", help="nats for each word beside it (default: 1)")


def open_recognizer(args: argparse.Namespace) -> Recognizer:
    """The recogniser that --model, --threads and the decoding options ask for.

    Raises:
        OptionError: an option without the one that gives it a meaning; and whatever `Recognizer` raises.
    """
    from lwasr_edge.decoding.beam import BeamSearch
    from lwasr_edge.decoding.language_model import LanguageModel
    from lwasr_edge.decoding.phrases import PhraseList
    from lwasr_edge.recognizer import Recognizer

    phrase_options = _given(mode=args.phrase_mode, min_confidence=args.min_confidence, bonus=args.phrase_bonus)
    if args.phrases is None and phrase_options:
        raise OptionError("--phrase-mode, --min-confidence and --phrase-bonus are for --phrases FILE; there is none")
    phrases = None if args.phrases is None else replace(PhraseList.read(args.phrases), **phrase_options)
    if phrases is not None:
        _check_mode(args, phrases.mode)
    lm_options = _given(weight=args.lm_weight, word_bonus=args.word_bonus)
    if args.lm is None and lm_options:
        raise OptionError("--lm-weight and --word-bonus weigh --lm FILE; there is none")
    beam_options = _given(width=args.beam, nbest=args.nbest)
    return Recognizer(
        args.model,
        threads=args.threads,
        phrases=phrases,
        beam=BeamSearch(**beam_options) if beam_options else None,
        lm=None if args.lm is None else LanguageModel(args.lm, **lm_options),
    )


def _check_mode(args: argparse.Namespace, mode: PhraseMode) -> None:
    """Refuse what a mode of phrases would ignore."""
    if mode == "one" and args.beam is not None:
        raise OptionError("--beam searches; phrases in mode one are all scored: leave it out, or choose another mode")
    if mode == "bias" and args.min_confidence is not None:
        raise OptionError("--min-confidence rejects what is no phrase; in mode bias anything may be said: leave it out")
    if mode != "bias" and args.phrase_bonus is not None:
        raise OptionError("--phrase-bonus is for --phrase-mode bias; in other modes, give the phrases weights instead")


def _given(**options: Any) -> dict[str, Any]:
    """The options that the user has given; the others keep the defaults of the classes they are for."""
    return {name: value for name, value in options.items() if value is not None}


def threads(text: str) -> int | None:
    """A number of threads; 0 becomes None, for all cores."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a number of threads from 0; came {text}")
    return number or None


def not_negative(text: str) -> float:
    """0 or a positive number; whole ones as int, for tidy messages."""
    return 0 if float(text) == 0 else positive(text)


def positive(text: str) -> float:
    """A positive number; whole ones as int, for tidy messages."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number; came {text}")
    return int(number) if number == int(number) else number
