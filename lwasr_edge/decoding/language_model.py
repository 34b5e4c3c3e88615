"""An n-gram model over words as a scorer of the beam search."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwasr_edge.decoding.ngram import END, NGram
from lwasr_edge.errors import LanguageModelError, OptionError
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from lwasr_edge.decoding.beam import State


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram and how much it counts.

    Raises:
        OptionError: an impossible value.
    """

    source: str | os.PathLike[str] | NGram  # an ARPA file, or one that was read
    weight: float = 0.2  # of its log probabilities beside the acoustic model's
    word_bonus: float = 1.0  # nats for each word: a language model alone prefers few
    unknown_letter_cost: float = 2.0  # nats for each letter of a word that the n-gram does not know, before the weight

    def __post_init__(self) -> None:
        for name, least in (("weight", 0.0), ("word_bonus", -math.inf), ("unknown_letter_cost", 0.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                limit = "" if least else " from 0"
                raise OptionError(f"a language model's {name} is expected to be a number{limit}; came {value!r}")

    def load(self) -> NGram:
        """The n-gram.

        Raises:
            LanguageModelError: the file is not there, or is no ARPA file.
        """
        return self.source if isinstance(self.source, NGram) else NGram.read(self.source)


class WordScorer:
    """Scores a word when the next one begins. A state is the score so far, the n-gram's context and the open word.

    An n-gram gives all unknown words one probability. Shared out among spellings, it shrinks with every letter; without
    that, words run together into a single unknown one, which is cheaper than each of them. An open word that no known
    word begins with costs as much at once, so that the search does not keep it until it is closed.

    Raises:
        LanguageModelError: the file is not there or is no ARPA file; or the model can write none of its words.
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
            example = f", as {words[0]!r}" if words else ""
            raise LanguageModelError(
                f"the model can write no word of the language model{example}: is it in capitals? Expected words in the "
                f"letters {''.join(sorted(letters - {WORD_START}))[:60]}; <s>, </s> and <unk> stay as they are"
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
