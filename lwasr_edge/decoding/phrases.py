"""The user's phrases: what they are, and how a decoder follows them through a text."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lwasr_edge.decoding.spelling import ROOT, SpellingTrie, mark_words
from lwasr_edge.errors import OptionError
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from lwasr_edge.decoding.beam import State

PhraseMode = Literal["one", "sequence", "bias"]


@dataclass(frozen=True)
class PhraseList:
    """Phrases, and what is to be done with them.

    Modes:
        one: an utterance is one of the phrases or none of these (commands).
        sequence: an utterance is one or more of the phrases, in any order, or none of these (digits, spelling).
        bias: an utterance may be anything; words of the phrases are preferred (names, terms).

    A weight says how likely a phrase is beside the others (1 if it is not given); in mode "bias" it multiplies the
    bonus.

    Raises:
        OptionError: no phrase, an empty one, or an impossible value.
    """

    phrases: Mapping[str, float] | Iterable[str]  # with weights, or without; read once, as a generator must be
    mode: PhraseMode = "one"
    min_confidence: float = 0.5  # below it, none of these; mode "bias" rejects nothing
    bonus: float = 2.0  # nats for a word of a phrase; mode "bias"

    def __post_init__(self) -> None:
        if isinstance(self.phrases, str) or not isinstance(self.phrases, Iterable):
            raise OptionError(f"phrases are expected to be a list of at least one; came {self.phrases!r}")
        given = self.phrases if isinstance(self.phrases, Mapping) else dict.fromkeys(self.phrases, 1.0)
        object.__setattr__(self, "phrases", {" ".join(phrase.lower().split()): given[phrase] for phrase in given})
        if not self.phrases:
            raise OptionError("phrases are expected to be a list of at least one; came none")
        if self.mode not in get_args(PhraseMode):
            raise OptionError(
                f"the mode of phrases is expected to be one of {get_args(PhraseMode)}; came {self.mode!r}"
            )
        if not 0 <= self.min_confidence <= 1:
            raise OptionError(f"min_confidence is expected to be from 0 to 1; came {self.min_confidence!r}")
        if not math.isfinite(self.bonus):
            raise OptionError(f"the bonus is expected to be a number; came {self.bonus!r}")
        for phrase, weight in self.weights.items():
            if not phrase:
                raise OptionError("a phrase is empty; a phrase is expected to have a word at least")
            if not 0 < weight < math.inf:
                raise OptionError(f"the weight of {phrase!r} is expected to be a positive number; came {weight!r}")

    @property
    def weights(self) -> dict[str, float]:
        """Phrase -> weight, the phrases in lower case with single spaces. Of phrases given twice the last counts."""
        return dict(self.phrases)  # type: ignore[arg-type]  # a mapping since __post_init__

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PhraseList:
        """Read a text file in UTF-8: a phrase a line, then perhaps a tab and its weight; `#` starts a comment.

        Raises:
            OptionError: no such file, no phrase in it, or a weight that is not a number, with its line.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"the phrases in {path} cannot be read: {error}") from error
        weights: dict[str, float] = {}
        for number, line in enumerate(lines, 1):
            phrase, _, weight = line.partition("#")[0].strip().partition("\t")
            if not phrase:
                continue
            try:
                weights[phrase.strip()] = float(weight) if weight.strip() else 1.0
            except ValueError:
                raise OptionError(
                    f"{path}, line {number}: a weight is expected after the tab; came {weight.strip()!r}"
                ) from None
        if not weights:
            raise OptionError(f"{path} has no phrases; one a line is expected")
        return cls(weights)


def phrase_trie(phrases: PhraseList, pieces: dict[int, str]) -> SpellingTrie:
    """All phrases as pieces may spell them; `ends` in the order of `phrases.weights`.

    Raises:
        OptionError: a phrase that the model's pieces cannot spell.
    """
    return SpellingTrie([mark_words(phrase) for phrase in phrases.weights], pieces)


class SequenceScorer:
    """Allows one or more phrases, one after the other; a phrase earns the logarithm of its weight.

    A state is the nodes at which the text may stand, with what whole phrases have earned on the way there: "six" is a
    phrase, and may be the beginning of another.
    """

    def __init__(self, phrases: PhraseList, trie: SpellingTrie) -> None:
        self._arcs_from = trie.arcs_from
        self._earned_at = {
            end: math.log(weight) for end, weight in zip(trie.ends.tolist(), phrases.weights.values(), strict=True)
        }

    def start(self) -> State:
        return ((ROOT, 0.0),)

    def extend(self, state: State, token: int) -> State | None:
        following: dict[int, float] = {}
        for node, earned in state:
            ways = [(node, earned)]
            if node in self._earned_at:
                ways.append((ROOT, earned + self._earned_at[node]))
            for source, so_far in ways:
                target = self._arcs_from[source].get(token)
                if target is not None:
                    following[target] = max(so_far, following.get(target, -math.inf))
        return tuple(sorted(following.items())) or None

    def bonus(self, state: State) -> float:
        return max(earned for _, earned in state)

    def final_bonus(self, state: State) -> float | None:
        return max((earned + self._earned_at[node] for node, earned in state if node in self._earned_at), default=None)


class BiasScorer:
    """Allows any text; every word of a phrase earns a bonus, letter by letter as it comes, once the phrase is whole.

    What a phrase that breaks off has earned is taken back. A state is what whole phrases have earned for good, and the
    nodes of phrases under way, each with the part of its bonus that a shorter phrase has earned already.
    """

    def __init__(self, phrases: PhraseList, trie: SpellingTrie, pieces: dict[int, str]) -> None:
        self._arcs_from = trie.arcs_from
        self._ends = frozenset(trie.ends.tolist())
        self._starts_word = {token: piece.startswith(WORD_START) for token, piece in pieces.items()}
        self._worth = [0.0] * trie.n_nodes
        for phrase, weight in phrases.weights.items():
            nodes = iter(trie.path(mark_words(phrase)))
            for n_words, word in enumerate(phrase.split()):
                for letter in range(len(word) + 1):  # the word mark is a letter too
                    node = next(nodes)
                    worth = phrases.bonus * weight * (n_words + (letter + 1) / (len(word) + 1))
                    self._worth[node] = max(self._worth[node], worth)

    def start(self) -> State:
        return (0.0, ())

    def extend(self, state: State, token: int) -> State | None:
        earned, under_way = state
        if self._starts_word[token]:  # the word before is complete
            earned, under_way = self._collect(earned, under_way)
            under_way = (*under_way, (ROOT, 0.0))
        following: dict[int, float] = {}
        for node, taken in under_way:
            target = self._arcs_from[node].get(token)
            if target is not None:
                following[target] = max(taken, following.get(target, 0.0))
        return (earned, tuple(sorted(following.items())))

    def bonus(self, state: State) -> float:
        earned, under_way = state
        return earned + max((self._worth[node] - taken for node, taken in under_way), default=0.0)

    def final_bonus(self, state: State) -> float | None:
        return self._collect(*state)[0]

    def _collect(
        self, earned: float, under_way: tuple[tuple[int, float], ...]
    ) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Earn for good what the whole phrases under way are worth; longer ones that begin with them go on."""
        collected = []
        for node, taken in under_way:
            if node in self._ends:
                earned += self._worth[node] - taken
                taken = self._worth[node]
            collected.append((node, taken))
        return earned, tuple(collected)
