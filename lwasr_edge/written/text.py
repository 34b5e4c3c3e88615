"""Recognised words to written text: the tagger's marks and capitals, numbers in digits, titles and acronyms.

A written word knows the recognised words that it stands for, and has their times: "7:30" is "seven" and "thirty".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lwasr_edge.words import Word, join_words, mean_confidence
from lwasr_edge.written.cardinals import NUMBER_WORDS, OH, ONES
from lwasr_edge.written.numerals import write_numbers
from lwasr_edge.written.pieces import Piece
from lwasr_edge.written.tagger import COMMA, FULL_STOP, LOWER, Tagger, packaged_tagger
from lwasr_edge.written.tags import MARKS, spelled, tag

MAX_ACRONYM = 6  # letters; longer runs are names that somebody spells
_PLAIN = re.compile(r"[a-z']+")
_AS_IT_IS = "\0"  # for the rules: a word that has its spelling already, from a list of phrases
_TITLES = {"mister": "Mr.", "missus": "Mrs.", "doctor": "Dr."}


@dataclass(frozen=True)
class WrittenWord(Word):
    """A written word, with its punctuation; it may contain a space, as in "$5 million"."""

    words: tuple[Word, ...]  # the recognised ones that it stands for, at least one

    def to_dict(self) -> dict[str, Any]:
        """For JSON: text, times, confidence, and n_words, the number of recognised words."""
        described = {name: getattr(self, name) for name in ("text", "start_s", "end_s", "confidence")}
        return {**described, "n_words": len(self.words)}


def write(words: Sequence[Word], tagger: Tagger | None = None) -> tuple[WrittenWord, ...]:
    """Write recognised words as people do: English, in time proportional to their number.

    Args:
        words: of one utterance, or of a whole recording. Those that are not in lower case, as from a list of phrases,
            keep their spelling.
        tagger: None for that of the package.

    Returns:
        Every recognised word is in exactly one written word, in order.

    Raises:
        ModelError: the package's tagger cannot be read.
    """
    pauses_s = [after.start_s - before.end_s for before, after in itertools.pairwise(words)]
    return _write(words, tagger or packaged_tagger(), pauses_s) if words else ()


def write_text(text: str, tagger: Tagger | None = None) -> str:
    """Write recognised text as people do, without times.

    Args:
        text: words in lower case, separated by spaces.
        tagger: None for that of the package.
    """
    words = [Word(word, 0.0, 0.0, 1.0) for word in text.split()]
    return join_words(_write(words, tagger or packaged_tagger(), None)) if words else ""


def _write(words: Sequence[Word], tagger: Tagger, pauses_s: Sequence[float] | None) -> tuple[WrittenWord, ...]:
    lower = [word.text.lower() for word in words]
    marks, cases = tag(tagger, lower, pauses_s)
    rule_words = [word.text if _PLAIN.fullmatch(word.text) else _AS_IT_IS for word in words]
    written: list[WrittenWord] = []
    index = 0
    for piece in _joined_letters(write_numbers(rule_words, _breaks(lower, marks)), cases, marks):
        group = tuple(words[index : index + piece.n_words])
        index += piece.n_words
        text = piece.text
        if text == _AS_IT_IS:
            text = group[0].text
        elif piece.n_words == 1 and text == group[0].text:
            text = _plain_word(words, cases, marks, index - 1, tagger.spellings)
        mark = MARKS[marks[index - 1]]
        text = text if text.endswith((",", ".")) and mark in (",", ".", "") else text.removesuffix(",") + mark
        written.append(WrittenWord(text, group[0].start_s, group[-1].end_s, mean_confidence(group), group))
    return tuple(written)


def _plain_word(
    words: Sequence[Word], cases: Sequence[int], marks: Sequence[int], index: int, spellings: dict[str, str]
) -> str:
    word = words[index].text
    is_before_name = index + 1 < len(words) and cases[index + 1] != LOWER and not marks[index]
    before = words[index - 1].text if index else ""
    if word in _TITLES and is_before_name and before not in ("the", "a", "my"):
        return _TITLES[word]
    return spelled(word, cases[index], spellings)


def _breaks(words: Sequence[str], marks: Sequence[int]) -> list[int]:
    """Words after which no number goes on: sentences' ends, and commas between two numbers of more than one digit."""
    digits = {*ONES, *OH}
    found = []
    for index, mark in enumerate(marks[:-1]):
        before, after = words[index], words[index + 1]
        is_list = before in NUMBER_WORDS and after in NUMBER_WORDS and not (before in digits and after in digits)
        if mark >= FULL_STOP or (mark == COMMA and is_list):
            found.append(index)
    return found


def _joined_letters(pieces: Sequence[Piece], cases: Sequence[int], marks: Sequence[int]) -> list[Piece]:
    """Acronyms of letters that are spoken one by one: "b b c" is BBC."""
    joined: list[Piece] = []
    letters: list[Piece] = []
    index = 0

    def close() -> None:
        joined.extend(_acronym(letters, cases, index))
        letters.clear()

    for piece in pieces:
        is_letter = len(piece.text) == 1 and piece.n_words == 1 and piece.text.isalpha() and piece.text.islower()
        if not is_letter:
            close()
        index += piece.n_words
        if is_letter:
            letters.append(piece)
            if marks[index - 1] >= FULL_STOP:
                close()
        else:
            joined.append(piece)
    close()
    return joined


def _acronym(letters: Sequence[Piece], cases: Sequence[int], end: int) -> list[Piece]:
    """A run of letters that ends before word `end`, joined if it is an acronym."""
    first = end - len(letters)
    is_article = bool(letters) and letters[0].text == "a" and (cases[first] == LOWER or first == 0)
    head = list(letters[:1]) if is_article or (letters and letters[0].text == "i" and len(letters) == 2) else []
    run = "".join(one.text for one in letters[len(head) :])
    if len(run) < 2 or set(run) <= set("ai"):
        return list(letters)
    if len(run) > MAX_ACRONYM:
        return [*head, *(Piece(1, letter.upper()) for letter in run)]
    return [*head, Piece(len(run), run.upper())]
