"""Phrase lists, and the scorers that apply them in the beam search."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lwasr_edge.decoding.spelling import ROOT, SpellingTrie, mark_words
from lwasr_edge.decoding.spoken import Respelling, Spelling, spoken_words
from lwasr_edge.errors import OptionError
from lwasr_edge.files import read_regular, split_lines
from lwasr_edge.validate import number, shown
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from lwasr_edge.decoding.beam import State

MAX_BYTES = 1 << 24  # of a file
MAX_PHRASE_WORDS = 100
MAX_PHRASE_LENGTH = 1_000  # characters

PhraseMode = Literal["one", "sequence", "bias"]


@dataclass(frozen=True)
class PhraseList:
    """Phrases to recognise or to prefer.

    Modes:
        one: an utterance is one of the phrases or none of these (commands).
        sequence: an utterance is one or more of the phrases, in any order, or none of these (digits, spelling).
        bias: an utterance may be anything; words of the phrases are preferred (names, terms).

    A weight is the probability of a phrase relative to the others (1 by default); in mode "bias" it multiplies the
    bonus.

    Phrases may be written as usual: "Café light 2" is recognised as "cafe light two" (`spoken` shows all of them). In
    modes "one" and "sequence" the texts, words and alternatives of a result have the phrase's own spelling, so they can
    be looked up in the list; `Final.heard` and mode "bias" have the words as they are spoken.

    Raises:
        OptionError: no phrase, an empty one, or an invalid value.
    """

    phrases: Mapping[str, float] | Iterable[str]  # with or without weights; iterated once
    mode: PhraseMode = "one"
    min_confidence: float = 0.5  # below it the utterance is rejected; not in mode "bias"
    bonus: float = 2.0  # nats per word of a phrase; mode "bias"

    def __post_init__(self) -> None:
        if isinstance(self.phrases, str) or not isinstance(self.phrases, Iterable):
            raise OptionError(f"phrases must be a list of at least one, got {self.phrases!r}")
        weights = self.phrases.items() if isinstance(self.phrases, Mapping) else ((p, 1.0) for p in self.phrases)
        object.__setattr__(self, "phrases", dict(_checked(phrase, weight) for phrase, weight in weights))
        if not self.phrases:
            raise OptionError("phrases must be a list of at least one, got none")
        if self.mode not in get_args(PhraseMode):
            raise OptionError(f"the mode of phrases must be one of {get_args(PhraseMode)}, got {self.mode!r}")
        object.__setattr__(self, "min_confidence", number("min_confidence", self.min_confidence, 0, 1))
        object.__setattr__(self, "bonus", number("bonus", self.bonus))

    @property
    def weights(self) -> dict[str, float]:
        """Phrase -> weight, in lower case with single spaces. Of a phrase given twice, the last weight is used."""
        return {phrase.lower(): weight for phrase, weight in self._own.items()}

    @property
    def _own(self) -> Mapping[str, float]:
        return self.phrases  # type: ignore[return-value]  # a mapping since __post_init__

    def spoken(self, letters: Collection[str], language: str = "en") -> dict[str, str]:
        """The words that are recognised for each phrase, in lower case; see `spoken_words`.

        Args:
            letters: the characters of the model's pieces.
            language: code of the model's language.
        """
        return {
            phrase: " ".join(word for _, words in spoken_words(phrase, letters, language) for word in words)
            for phrase in self._own
        }

    def for_model(self, pieces: dict[int, str], language: str) -> tuple[PhraseList, Respelling]:
        """The list in the words that are spoken, and the way back to its own spelling.

        Raises:
            OptionError: nothing of a phrase is spoken.
        """
        letters = set("".join(pieces.values())) - {WORD_START}
        weights: dict[str, float] = {}
        spellings: dict[str, Spelling] = {}
        for phrase, weight in self._own.items():
            words = spoken_words(phrase, letters, language)
            spoken = " ".join(word for _, group in words for word in group)
            if not spoken:
                raise OptionError(f"a phrase must have at least one word that is spoken, got {phrase!r}: leave it out")
            weights[spoken] = weight
            spellings[spoken] = tuple((own, len(group)) for own, group in words)
        return replace(self, phrases=weights), Respelling(spellings, in_sequence=self.mode == "sequence")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PhraseList:
        """Read a UTF-8 text file: one phrase per line, optionally a tab and a weight; `#` starts a comment.

        Raises:
            OptionError: no such file, no phrase in it, or an invalid weight, with its line.
        """
        try:
            lines = split_lines(read_regular(Path(path), MAX_BYTES).decode("utf-8-sig"))
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OptionError(f"the phrases in {path} cannot be read: {reason}") from error
        return cls.parse(lines, path)

    @classmethod
    def parse(cls, lines: Iterable[str], path: str | os.PathLike[str]) -> PhraseList:
        """Read the lines of a file; see `read`. `path` is for messages.

        Raises:
            OptionError: see `read`.
        """
        weights: dict[str, float] = {}
        for line_number, line in enumerate(lines, 1):
            phrase, _, weight = line.partition("#")[0].strip().partition("\t")
            if not phrase:
                continue
            try:
                weights[phrase.strip()] = number("weight", float(weight) if weight.strip() else 1.0, above=0)
            except ValueError:
                raise OptionError(
                    f"{path}, line {line_number}: the weight after the tab must be a positive number, "
                    f"got {shown(weight.strip())}"
                ) from None
        if not weights:
            raise OptionError(f"{path} must have one phrase per line, got none")
        return cls(weights)


def _checked(phrase: object, weight: object) -> tuple[str, float]:
    """A phrase with single spaces, and its weight."""
    if not isinstance(phrase, str) or not phrase.split():
        raise OptionError(f"a phrase must be a string of at least one word, got {shown(phrase)}")
    phrase = " ".join(phrase.split())
    if len(phrase) > MAX_PHRASE_LENGTH or len(phrase.split()) > MAX_PHRASE_WORDS:
        limits = f"{MAX_PHRASE_WORDS} words and {MAX_PHRASE_LENGTH} characters"
        raise OptionError(f"a phrase must have at most {limits}, got {shown(phrase)}")
    return phrase, number(f"the weight of {phrase!r}", weight, above=0)


def phrase_trie(phrases: PhraseList, pieces: dict[int, str]) -> SpellingTrie:
    """All spellings of the phrases; `ends` in the order of `phrases.weights`.

    Raises:
        OptionError: a phrase that the model's pieces cannot spell.
    """
    return SpellingTrie([mark_words(phrase) for phrase in phrases.weights], pieces)


class SequenceScorer:
    """Allows one or more phrases in sequence; the bonus of a phrase is the logarithm of its weight.

    A state is the possible nodes of the text, each with the bonus of the complete phrases before it: "six" may be a
    phrase and the beginning of another.
    """

    def __init__(self, phrases: PhraseList, trie: SpellingTrie) -> None:
        self._arcs_from = trie.arcs_from
        self._final_bonus_at = {
            end: math.log(weight) for end, weight in zip(trie.ends.tolist(), phrases.weights.values(), strict=True)
        }
        self.largest_gain = max(map(abs, self._final_bonus_at.values()))

    def start(self) -> State:
        return ((ROOT, 0.0),)

    def extend(self, state: State, token: int) -> State | None:
        following: dict[int, float] = {}
        for node, bonus in state:
            starts = [(node, bonus)]
            if node in self._final_bonus_at:
                starts.append((ROOT, bonus + self._final_bonus_at[node]))
            for source, so_far in starts:
                target = self._arcs_from[source].get(token)
                if target is not None:
                    following[target] = max(so_far, following.get(target, -math.inf))
        return tuple(sorted(following.items())) or None

    def bonus(self, state: State) -> float:
        return max(bonus for _, bonus in state)

    def final_bonus(self, state: State) -> float | None:
        return max(
            (bonus + self._final_bonus_at[node] for node, bonus in state if node in self._final_bonus_at), default=None
        )

    def restart(self, state: State) -> State:
        return self.start()


class BiasScorer:
    """Allows any text; words of phrases get a bonus, letter by letter, which is final when the phrase is complete.

    The bonus of an incomplete phrase is revoked. A state is the final bonus of complete phrases, and the nodes of
    incomplete ones, each with the part of its bonus that a shorter phrase already has.
    """

    def __init__(self, phrases: PhraseList, trie: SpellingTrie, pieces: dict[int, str]) -> None:
        self._arcs_from = trie.arcs_from
        self._ends = frozenset(trie.ends.tolist())
        self._starts_word = {token: piece.startswith(WORD_START) for token, piece in pieces.items()}
        self._node_bonus = [0.0] * trie.n_nodes
        for phrase, weight in phrases.weights.items():
            nodes = iter(trie.path(mark_words(phrase)))
            for n_words, word in enumerate(phrase.split()):
                for letter in range(len(word) + 1):  # the word mark is a letter too
                    node = next(nodes)
                    node_bonus = phrases.bonus * weight * (n_words + (letter + 1) / (len(word) + 1))
                    self._node_bonus[node] = max(self._node_bonus[node], node_bonus)
        self.largest_gain = max(map(abs, self._node_bonus))

    def start(self) -> State:
        return (0.0, ())

    def extend(self, state: State, token: int) -> State | None:
        bonus, incomplete = state
        if self._starts_word[token]:  # the word before is complete
            bonus, incomplete = self._complete(bonus, incomplete)
            incomplete = (*incomplete, (ROOT, 0.0))
        following: dict[int, float] = {}
        for node, taken in incomplete:
            target = self._arcs_from[node].get(token)
            if target is not None:
                following[target] = max(taken, following.get(target, 0.0))
        return (bonus, tuple(sorted(following.items())))

    def bonus(self, state: State) -> float:
        bonus, incomplete = state
        return bonus + max((self._node_bonus[node] - taken for node, taken in incomplete), default=0.0)

    def final_bonus(self, state: State) -> float | None:
        return self._complete(*state)[0]

    def restart(self, state: State) -> State:
        return self.start()

    def _complete(
        self, bonus: float, incomplete: tuple[tuple[int, float], ...]
    ) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Make the bonus of complete phrases final; longer ones that begin with them continue."""
        completed = []
        for node, taken in incomplete:
            if node in self._ends:
                bonus += self._node_bonus[node] - taken
                taken = self._node_bonus[node]
            completed.append((node, taken))
        return bonus, tuple(completed)
