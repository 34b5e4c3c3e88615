"""Options that several commands share, and parsers of their values."""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwasr_edge.errors import LwasrError, OptionError

if TYPE_CHECKING:
    from lwasr_edge.decoding.phrases import PhraseMode
    from lwasr_edge.recognizer import Recognizer

Commands = Any  # argparse keeps the type of what add_subparsers returns private


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model and --threads."""
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"installed model, model file or its directory (default: {default_model_name()})",
    )
    parser.add_argument(
        "--threads", type=threads, default=1, metavar="N", help="CPU threads; 0 for all cores (default: 1)"
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for phrase lists, beam search and language models."""
    group = parser.add_argument_group(
        "decoding",
        "The default is a beam search with a small general language model, where the model has weights for it.",
    )
    group.add_argument(
        "--phrases",
        type=Path,
        metavar="FILE",
        help="phrase list: one phrase per line, optionally followed by a tab and a weight",
    )
    group.add_argument(
        "--phrase-mode",
        choices=("one", "sequence", "bias"),
        help="an utterance is one phrase (default), a sequence of phrases, or any text with a bias towards the phrases",
    )
    group.add_argument(
        "--min-confidence",
        type=float,
        metavar="X",
        help="reject utterances below this confidence, 0 to 1 (default: 0.5); not in mode bias",
    )
    group.add_argument(
        "--phrase-bonus",
        type=float,
        metavar="X",
        help="score added per matched word in mode bias, in nats (default: 2)",
    )
    group.add_argument("--beam", type=int, metavar="N", help="beam search with N hypotheses; not in phrase mode one")
    group.add_argument(
        "--nbest",
        type=int,
        metavar="N",
        help="print N alternatives (default: 5 in --json, else none); implies beam search",
    )
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument(
        "--lm",
        action="append",
        metavar="FILE",
        help="word n-gram language model, .lm or ARPA (plain or gzipped), instead of the general one; repeat it to "
        "interpolate several, `general` among them; implies beam search",
    )
    chosen.add_argument(
        "--no-lm", action="store_true", help="no language model: greedy decoding, unless another option needs a beam"
    )
    group.add_argument(
        "--lm-mix", type=_shares, metavar="X,X", help="share of each --lm, as `lwasr lm weights` finds them"
    )
    group.add_argument(
        "--lm-weight", type=float, metavar="X", help="weight of the language model (default: the model's, or 0.2)"
    )
    group.add_argument(
        "--word-bonus",
        type=float,
        metavar="X",
        help="score added per word with a language model, in nats (default: the model's, or 1)",
    )


def open_recognizer(args: argparse.Namespace) -> Recognizer:
    """Create the recogniser that --model, --threads and the decoding options describe.

    Raises:
        OptionError: an option without the option that it depends on; and whatever `Recognizer` raises.
    """
    from lwasr_edge.decoding.beam import BeamSearch
    from lwasr_edge.decoding.language_model import GENERAL, LanguageModel
    from lwasr_edge.decoding.phrases import PhraseList
    from lwasr_edge.recognizer import Recognizer

    phrase_options = _given(mode=args.phrase_mode, min_confidence=args.min_confidence, bonus=args.phrase_bonus)
    if args.phrases is None and phrase_options:
        raise OptionError("--phrase-mode, --min-confidence and --phrase-bonus need --phrases FILE, got none: add it")
    phrases = None if args.phrases is None else replace(PhraseList.read(args.phrases), **phrase_options)
    if phrases is not None:
        _check_mode(args, phrases.mode)
    lm_options = _given(weight=args.lm_weight, word_bonus=args.word_bonus, mix=args.lm_mix)
    if args.lm is None and lm_options:
        raise OptionError("--lm-weight, --word-bonus and --lm-mix need --lm FILE, got none: add it")
    if args.lm is not None:
        lm: Any = LanguageModel(args.lm, **lm_options)
    else:
        lm = None if args.no_lm else GENERAL
    beam_options = _given(width=args.beam, nbest=args.nbest)
    return Recognizer(
        args.model,
        threads=args.threads,
        phrases=phrases,
        beam=BeamSearch(**beam_options) if beam_options else None,
        lm=lm,
    )


def _check_mode(args: argparse.Namespace, mode: PhraseMode) -> None:
    """Refuse options that a phrase mode would ignore."""
    if mode == "one" and args.beam is not None:
        raise OptionError(
            "--beam needs another phrase mode, got one, which scores all phrases: leave it out, or add "
            "--phrase-mode sequence or bias"
        )
    if mode == "bias" and args.min_confidence is not None:
        raise OptionError("--min-confidence needs another phrase mode, got bias, which rejects nothing: leave it out")
    if mode != "bias" and args.phrase_bonus is not None:
        raise OptionError(f"--phrase-bonus needs --phrase-mode bias, got {mode}: give the phrases weights instead")


def _given(**options: Any) -> dict[str, Any]:
    """The options that the user has set; the others keep the defaults of their classes."""
    return {name: value for name, value in options.items() if value is not None}


def threads(text: str) -> int | None:
    """A number of threads; 0 becomes None, for all cores."""
    return count(text, minimum=0) or None


def not_negative(text: str) -> float:
    """A finite number >= 0; whole numbers as int, for shorter messages."""
    number = parsed_number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number >= 0, got {text!r}")
    return int(number) if number == int(number) else number


def positive(text: str) -> float:
    """A finite number > 0; whole numbers as int, for shorter messages."""
    number = parsed_number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return int(number) if number == int(number) else number


def count(text: str, minimum: int = 1) -> int:
    """A whole number >= `minimum`."""
    number = parsed_number(text)
    if number < minimum or not math.isfinite(number) or number != int(number):
        raise argparse.ArgumentTypeError(f"must be a whole number >= {minimum}, got {text!r}")
    return int(number)


def parsed_number(text: str) -> float:
    """A number in Python's notation; NaN, which no check accepts, for other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shares(text: str) -> tuple[float, ...]:
    """Positive numbers, separated by commas."""
    return tuple(positive(item) for item in text.split(","))


def default_model_name() -> str:
    """Name of the default model, for help texts: it must not fail or warn."""
    from lwasr_edge.hub.catalog import default_model

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return default_model().card.name.replace("%", "%%")  # argparse formats help texts
    except LwasrError:
        return "the packaged model"
