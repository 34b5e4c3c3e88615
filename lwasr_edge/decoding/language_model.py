"""An n-gram model over words as a scorer of the beam search."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lwasr_edge.decoding.mixture import Mixture
from lwasr_edge.decoding.ngram import END, UNKNOWN, NGram
from lwasr_edge.decoding.ngram_file import SUFFIX, MappedNGram
from lwasr_edge.decoding.ngram_layout import MAGIC
from lwasr_edge.errors import LanguageModelError, OptionError
from lwasr_edge.files import open_regular
from lwasr_edge.hub.packaged import packaged_path
from lwasr_edge.validate import number
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lwasr_edge.decoding.beam import State
    from lwasr_edge.model_info import DecodingSettings

GENERAL = "general"  # the language model of the package
_GENERAL_FILE = "decoding/general.lm"
COSTLY_LETTERS = 5  # of an unknown word; with all of them, long names that greedy decoding gets right are lost
_KEPT_SCORES = 20_000  # computed before; more are forgotten
_DEFAULTS = {"weight": 0.2, "word_bonus": 1.0, "unknown_letter_cost": 2.0, "blank_penalty": 0.0}


class WordModel(Protocol):
    """What the scorer needs of an n-gram model. Contexts are immutable."""

    @property
    def words(self) -> Iterable[str]:
        """Every known word, without markers."""

    def __contains__(self, word: str) -> bool: ...

    def is_beginning(self, text: str) -> bool:
        """Whether a known word begins with, or is, this text."""

    def start(self) -> Any:
        """Context before the first word of a sentence."""

    def score(self, context: Any, word: str) -> tuple[float, Any]:
        """Natural log probability of a word (or `END`) after a context, and the context after it."""


Source = str | os.PathLike[str] | WordModel


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram language model and its weights.

    None for a weight is the one in the model file, which was tuned for that model (`ModelInfo.decoding`), or else the
    value in parentheses.

    Raises:
        OptionError: an invalid value.
    """

    source: Source | Sequence[Source]  # "general", path of an ARPA or .lm file, an NGram, or several to interpolate
    weight: float | None = None  # (0.2) of its log probabilities, relative to the acoustic model's
    word_bonus: float | None = None  # (1) nats per word: a language model alone prefers few words
    unknown_letter_cost: float | None = None  # (2) nats per letter of an unknown word, of 5 at most, before the weight
    blank_penalty: float | None = None  # (0) nats taken off the blank's log posterior before the search
    mix: Sequence[float] | None = None  # share of each source, positive; None: equal shares

    def __post_init__(self) -> None:
        kinds = (str, os.PathLike, NGram, MappedNGram, Mixture)
        sources = [self.source] if isinstance(self.source, kinds) else self.source
        if not isinstance(sources, (list, tuple)) or not sources or not all(isinstance(one, kinds) for one in sources):
            raise OptionError(
                f"a language model must be the path of an ARPA file or an NGram, got {self.source!r}: give one, "
                f"the path of a .lm file, {GENERAL!r}, or a list of them"
            )
        for name, minimum in (("weight", 0), ("word_bonus", None), ("unknown_letter_cost", 0), ("blank_penalty", 0)):
            if (value := getattr(self, name)) is not None:
                limits = () if minimum is None else (minimum,)
                object.__setattr__(self, name, number(f"a language model's {name}", value, *limits))
        if self.mix is not None:
            if not isinstance(self.mix, (list, tuple)) or len(self.mix) != len(sources):
                raise OptionError(f"mix must have a number for each of {len(sources)} sources, got {self.mix!r}")
            mix = tuple(number("a share in mix", share, above=0) for share in self.mix)
            object.__setattr__(self, "mix", mix)

    def with_defaults(self, settings: DecodingSettings | None) -> LanguageModel:
        """The same with a value for every weight: its own, that of a model file, or the default."""
        found = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value is None:
                value = default if settings is None else getattr(settings, name)
            found[name] = value
        return replace(self, **found)

    def load(self) -> WordModel:
        """Read the n-grams.

        Raises:
            LanguageModelError: no such file, or not an ARPA or .lm file.
        """
        if isinstance(self.source, (list, tuple)):
            models = [load_words(source) for source in self.source]
            return models[0] if len(models) == 1 else Mixture(models, self.mix or [1.0] * len(models))
        return load_words(self.source)  # type: ignore[arg-type]


def load_words(source: Source) -> WordModel:
    """Read the n-grams of one source.

    Raises:
        LanguageModelError: no such file, or not an ARPA or .lm file.
    """
    if isinstance(source, (NGram, MappedNGram, Mixture)):
        return source
    if source == GENERAL:
        return MappedNGram(packaged_path(_GENERAL_FILE))
    path = Path(source)  # type: ignore[arg-type]
    try:
        with open_regular(path) as file:
            is_mapped = file.read(len(MAGIC)) == MAGIC
    except OSError:
        is_mapped = False  # `NGram.read` says what is wrong
    return MappedNGram(path) if is_mapped or path.suffix == SUFFIX else NGram.read(path)


class WordScorer:
    """Scores a word when the next one begins. A state is the score so far, the n-gram's context, the open
    word and whether a known word begins with it.

    An n-gram has one probability for all unknown words. Divided among their spellings, it shrinks with every letter;
    without that cost, words are merged into one unknown word, which is cheaper than each of them. An open word that is
    not the beginning of a known word has that cost at once, so that the search drops it early. Letters after the fifth
    cost nothing: long names sound like nothing else.

    Args:
        options: with all weights.
        pieces: text of each token.
        known: more words without a cost for letters: those of phrases.

    Raises:
        LanguageModelError: no such file, not a language model, or the model's pieces can spell none of its words.
    """

    def __init__(self, options: LanguageModel, pieces: dict[int, str], known: Collection[str] = ()) -> None:
        options = options.with_defaults(None)
        weights = {field.name: getattr(options, field.name) for field in fields(options)}
        self._ngram = options.load()
        self._weight: float = weights["weight"]
        self._word_bonus: float = weights["word_bonus"]
        self._letter_cost: float = self._weight * weights["unknown_letter_cost"]
        self.largest_gain = max(0.0, self._word_bonus)
        self._known = frozenset(known)
        self._beginnings = {word[:length] for word in self._known for length in range(len(word) + 1)}
        self._closed: dict[tuple[Any, str], tuple[float, Any]] = {}
        # (text without the word mark, whether it begins a word)
        self._pieces = {
            token: (piece.removeprefix(WORD_START), piece.startswith(WORD_START)) for token, piece in pieces.items()
        }
        self._check_letters(set("".join(pieces.values())))

    def _check_letters(self, letters: set[str]) -> None:
        example = ""
        for word in self._ngram.words:
            if not word.startswith("<"):
                if letters.issuperset(word):
                    return
                example = example or f", for example {word!r}"
        raise LanguageModelError(
            f"words of the language model must be in the model's letters, "
            f"{''.join(sorted(letters - {WORD_START}))[:60]}, got none{example}: if they are in capitals, "
            "convert them to lower case, except <s>, </s> and <unk>"
        )

    def start(self) -> State:
        return (0.0, self._ngram.start(), "", True)

    def extend(self, state: State, token: int) -> State | None:
        score, context, word, is_beginning = state
        text, begins = self._pieces[token]
        if not begins:
            word += text
        else:
            if word:
                added, context = self._close(context, word)
                score += added
            word, is_beginning = text, True
        if is_beginning and word:  # what is no beginning never becomes one
            is_beginning = self._ngram.is_beginning(word) or word in self._beginnings
        return (score, context, word, is_beginning)

    def bonus(self, state: State) -> float:
        score, _, word, is_beginning = state
        return score if is_beginning else score - self._unknown_cost(word)

    def final_bonus(self, state: State) -> float | None:
        score, context, word, _ = state
        if word:
            added, context = self._close(context, word)
            score += added
        return score + self._weight * self._ngram.score(context, END)[0]

    def restart(self, state: State) -> State:
        _, context, word, _ = state
        return (0.0, self._close(context, word)[1] if word else context, "", True)

    def _unknown_cost(self, word: str) -> float:
        return self._letter_cost * min(len(word), COSTLY_LETTERS)

    def _close(self, context: Any, word: str) -> tuple[float, Any]:
        """The score of a complete word, and the context after it."""
        key = (context, word)
        found = self._closed.get(key)
        if found is None:
            log_prob, following = self._ngram.score(context, word)
            if word in self._known:  # a rare word of the user's is not rarer than an unknown one
                log_prob = max(log_prob, self._ngram.score(context, UNKNOWN)[0])
            score = self._weight * log_prob + self._word_bonus
            if word not in self._ngram and word not in self._known:
                score -= self._unknown_cost(word)
            if len(self._closed) >= _KEPT_SCORES:
                self._closed.clear()
            found = self._closed[key] = (score, following)
        return found
