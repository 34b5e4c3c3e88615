"""Sentences for synthetic speech: a word trigram model of transcripts, widened by a word list.

Transcripts use a few thousand words, and a student cannot spell words it was not trained on. The sentence maker keeps
the transcripts' grammar (trigrams) and replaces a share of the content words by words of a large list.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lwasr_edge.errors import ManifestError, OptionError
from lwasr_edge.files import read_text_lines
from lwasr_edge.validate import number

START, END = "<s>", "</s>"
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_SPOKEN_LINE = re.compile(r"[A-Za-z' \t.,;:!?\"()\u2018\u2019\u201c\u201d\u2013\u2014-]*")


def normalise_sentence(line: str) -> str | None:
    """Lower-case a line to words of a-z and apostrophe, or give None where its spelling does not tell how it is spoken.

    Args:
        line: one sentence; punctuation is dropped, a hyphen separates words.

    Returns:
        The words with single spaces, or None for an empty line or one with digits, symbols or letters outside a-z.
    """
    if not _SPOKEN_LINE.fullmatch(line.strip()):
        return None
    return " ".join(_WORD.findall(line.lower().replace("\u2019", "'"))) or None


@dataclass(frozen=True)
class SentenceRules:
    """What a made-up sentence looks like."""

    min_words: int = 5
    max_words: int = 25
    replaced: float = 0.25  # share of content words replaced by words of the list, 0..1
    common_words: int = 150  # the most frequent words of the transcripts: grammar, never replaced

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise OptionError(f"min_words must be from 1 to max_words, got {self.min_words} and {self.max_words}")
        if not 0.0 <= self.replaced <= 1.0:
            raise OptionError(f"replaced must be a share from 0 to 1, got {self.replaced}")


@dataclass
class TrigramModel:
    """Which word followed each pair of words, and how often."""

    followers: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, sentences: Iterable[str]) -> "TrigramModel":
        """Count the trigrams of normalised sentences."""
        model = cls()
        for sentence in sentences:
            words = sentence.split()
            model.counts.update(words)
            padded = [START, START, *words, END]
            for first, second, third in zip(padded, padded[1:], padded[2:], strict=False):
                model.followers[first, second][third] += 1
        if not model.counts:
            raise ManifestError("transcripts must hold at least one sentence, got none: a trigram model needs them")
        return model

    def sample(self, rng: random.Random, length: int) -> list[str]:
        """Draw `length` words of running text; where a sentence ends, the next one starts."""
        words: list[str] = []
        pair = (START, START)
        while len(words) < length:
            followers = self.followers[pair]
            word = rng.choices(list(followers), list(followers.values()))[0]
            if word == END:
                pair = (START, START)
            else:
                words.append(word)
                pair = (pair[1], word)
        return words


def read_word_list(path: Path) -> tuple[list[str], list[float]]:
    """Read `word [frequency]` lines; words with other letters than a-z and apostrophe are left out.

    Returns:
        The words, and the square root of each one's frequency (1 where the file gives none): rare words, which the
        transcripts lack, are drawn more often than they occur in running text.

    Raises:
        OptionError: the file cannot be read, holds no words, or has an impossible frequency.
    """
    if not path.is_file():
        raise OptionError(f"word list {path} does not exist")
    words, weights = [], []
    for position, line in enumerate(read_text_lines(path, OptionError), 1):
        parts = line.split()
        if parts and _WORD.fullmatch(parts[0]):
            words.append(parts[0])
            weights.append(frequency(parts[1], f"{path}, line {position}") ** 0.5 if len(parts) > 1 else 1.0)
    if not words:
        raise OptionError(f"{path} must hold one word per line (a-z and apostrophe), got none")
    if not any(weights):
        raise OptionError(f"{path} must hold a word with a frequency above 0, got none")
    return words, weights


def frequency(text: str, where: str) -> float:
    """A frequency of a word list.

    Raises:
        OptionError: it is not a finite number >= 0; the message begins with ``where``.
    """
    try:
        return number("frequency", float(text), 0)
    except ValueError as error:
        raise OptionError(f"{where}: frequency must be a finite number >= 0, got {text!r}") from error


def make_sentences(
    transcripts: Iterable[str],
    rng: random.Random,
    word_list: tuple[Sequence[str], Sequence[float]] | None = None,
    rules: SentenceRules | None = None,
) -> Iterator[str]:
    """Yield sentences without end; none is one of the transcripts.

    Args:
        transcripts: normalised sentences whose trigrams are learned.
        rng: drawn from, so the same seed gives the same sentences.
        word_list: words and weights that replace content words; None replaces nothing.
    """
    rules = rules or SentenceRules()
    known = set(transcripts)
    model = TrigramModel.of(sorted(known))
    grammar = {word for word, _ in model.counts.most_common(rules.common_words)}
    while True:
        words = model.sample(rng, rng.randint(rules.min_words, rules.max_words))
        if word_list is not None:
            replace = [word not in grammar and rng.random() < rules.replaced for word in words]
            drawn = iter(rng.choices(word_list[0], word_list[1], k=sum(replace)))
            words = [next(drawn) if new else word for word, new in zip(words, replace, strict=True)]
        sentence = " ".join(words)
        if sentence not in known:
            yield sentence
