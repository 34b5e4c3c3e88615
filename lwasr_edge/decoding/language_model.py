"""An n-gram model over words as a scorer of the beam search."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwasr_edge.decoding.ngram import END, NGram
from lwasr_edge.errors import LanguageModelError, OptionError
from lwasr_edge.validate import number
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from lwasr_edge.decoding.beam import State


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram language model and its weights.

    Raises:
        OptionError: an invalid value.
    """

    source: str | os.PathLike[str] | NGram  # path of an ARPA file, or an NGram
    weight: float = 0.2  # of its log probabilities, relative to the acoustic model's
    word_bonus: float = 1.0  # nats per word: a language model alone prefers few words
    unknown_letter_cost: float = 2.0  # nats per letter of an out-of-vocabulary word, before the weight

    def __post_init__(self) -> None:
        if not isinstance(self.source, (str, os.PathLike, NGram)):
            raise OptionError(f"a language model must be the path of an ARPA file or an NGram, got {self.source!r}")
        object.__setattr__(self, "word_bonus", number("word_bonus", self.word_bonus))
        for name in ("weight", "unknown_letter_cost"):
            object.__setattr__(self, name, number(f"a language model's {name}", getattr(self, name), 0))

    def load(self) -> NGram:
        """Read the n-gram.

        Raises:
            LanguageModelError: no such file, or not an ARPA file.
        """
        return self.source if isinstance(self.source, NGram) else NGram.read(self.source)


class WordScorer:
    """Scores a word when the next one begins. A state is the score so far, the n-gram's context and the open word.

    An n-gram has one probability for all unknown words. Divided among their spellings, it shrinks with every letter;
    without that cost, words are merged into one unknown word, which is cheaper than each of them. An open word that is
    not the beginning of a known word has that cost at once, so that the search drops it early.

    Raises:
        LanguageModelError: no such file, not an ARPA file, or the model's pieces can spell none of its words.
    """

    def __init__(self, options: LanguageModel, pieces: dict[int, str]) -> None:
        self._ngram = options.load()
        self._weight = options.weight
        self._word_bonus = options.word_bonus
        self._letter_cost = options.weight * options.unknown_letter_cost
        self._pieces = pieces
        letters = set("".join(pieces.values()))
        words = [word for word in self._ngram.words if not word.startswith("<")]
        if not any(letters.issuperset(word) for word in words):
            example = f", for example {words[0]!r}" if words else ""
            raise LanguageModelError(
                f"words of the language model must be in the model's letters, "
                f"{''.join(sorted(letters - {WORD_START}))[:60]}, got none{example}: if they are in capitals, "
                "convert them to lower case, except <s>, </s> and <unk>"
            )
        self._beginnings = {word[:length] for word in self._ngram.words for length in range(len(word) + 1)}

    def start(self) -> State:
        return (0.0, self._ngram.start(), "")

    def extend(self, state: State, token: int) -> State | None:
        score, context, word = state
        piece = self._pieces[token]
        if not piece.startswith(WORD_START):
            return (score, context, word + piece)
        return (*self._close(score, context, word), piece.removeprefix(WORD_START))

    def bonus(self, state: State) -> float:
        score, _, word = state
        return score if word in self._beginnings else score - self._letter_cost * len(word)

    def final_bonus(self, state: State) -> float | None:
        score, context = self._close(*state)
        return score + self._weight * self._ngram.score(context, END)[0]

    def _close(self, score: float, context: tuple[str, ...], word: str) -> tuple[float, tuple[str, ...]]:
        """Score the open word, if there is one."""
        if not word:
            return score, context
        if word not in self._ngram:
            score -= self._letter_cost * len(word)
        log_prob, context = self._ngram.score(context, word)
        return score + self._weight * log_prob + self._word_bonus, context
