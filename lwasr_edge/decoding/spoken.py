"""Phrases as people write them ("Café light 2") as words that a model can spell ("cafe light two")."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lwasr_edge.decoding.numbers import MAX_DIGITS, ordinal, spoken_number
from lwasr_edge.words import mean_confidence

if TYPE_CHECKING:
    from lwasr_edge.words import Word

# For each of the user's words, in order, the number of spoken words: "Light 21" is (("Light", 1), ("21", 2)).
Spelling = tuple[tuple[str, int], ...]

_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc\u02b9\u00b4`\u2032\uff07"), "'")
_HYPHENS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\ufe58\ufe63\uff0d\u00ad"), "-")
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h", "ŋ": "ng"}
)
_SYMBOLS = {
    "&": "and",
    "+": "plus",
    "%": "percent",
    "@": "at",
    "=": "equals",
    "\u00b0": "degrees",
    "\u00d7": "by",
    "\u2212": "minus",
    "$": "dollars",
    "\u00a3": "pounds",
    "\u20ac": "euros",
}
_TOKEN = re.compile(
    r"(?P<currency>[$\u00a3\u20ac])?(?P<number>\d{1,3}(?:,\d{3})+|\d+)(?P<decimals>\.\d+)?(?P<ordinal>(?:st|nd|rd|th)\b)?"
    r"|(?P<clock>(?<=\d):0(?=\d\b))|(?P<hash>#(?=\d))|(?P<minus>(?<!\S)-(?=\d))|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*'?)"
    r"|(?P<symbol>\S)"
)


def spoken_words(phrase: str, letters: Collection[str], language: str = "en") -> list[tuple[str, list[str]]]:
    """Each word of a phrase with the words that are spoken for it.

    Capitals, typographic apostrophes and accents become the model's letters; hyphens, slashes and underscores separate
    words; `&`, `%` and other symbols that are spoken become words, numbers too in English; other punctuation is
    dropped. What the model can spell is not changed, apart from hyphens; letters that it lacks are kept, for the error.

    Args:
        phrase: at least one word.
        letters: the characters of the model's pieces.
        language: code of the model's language, as in "en" or "en-GB".
    """
    is_english = language.lower().partition("-")[0] in ("en", "")
    words = [(word, _spoken(word, set(letters), is_english)) for word in phrase.split()]
    kept: list[tuple[str, list[str]]] = []
    before = ""  # words that are not spoken, such as "-", belong to the word before, or else to the next
    for word, spoken in words:
        if not spoken and kept:
            kept[-1] = (f"{kept[-1][0]} {word}", kept[-1][1])
        elif not spoken:
            before += f"{word} "
        else:
            kept.append((before + word, spoken))
            before = ""
    return kept


def _spoken(word: str, letters: set[str], is_english: bool) -> list[str]:
    lower = word.lower()
    if "-" not in lower and letters.issuperset(lower):
        return [lower]
    text = unicodedata.normalize("NFKC", lower.translate(_APOSTROPHES)).lower().translate(_HYPHENS)
    text = "".join(character if character in letters else _plain(character) for character in text)
    spoken: list[str] = []
    for match in _TOKEN.finditer(text):
        spoken += _spoken_token(match, letters, is_english)
    return spoken


def _plain(character: str) -> str:
    """A letter without accents; other characters as they are."""
    if not character.isalpha():
        return "" if unicodedata.combining(character) else character
    decomposed = unicodedata.normalize("NFD", character)
    return "".join(part for part in decomposed if not unicodedata.combining(part)).translate(_LETTERS)


def _spoken_token(match: re.Match[str], letters: set[str], is_english: bool) -> list[str]:
    kind, text = match.lastgroup, match[0]
    if kind == "word":
        word = text if "'" in letters else text.replace("'", "")
        return [word if word.endswith("s'") else word.rstrip("'")]
    if match["number"]:
        return [text] if letters.issuperset(text) or not is_english else _spoken_match(match)
    if text in letters and text not in "-'":
        return [text]
    if not is_english:
        return [text] if text.isalnum() else []
    named = {"clock": ["oh"], "hash": ["number"], "minus": ["minus"]}.get(kind or "")
    if named is not None:
        return named
    if text in _SYMBOLS:
        return [_SYMBOLS[text]]
    return [text] if text.isalnum() else []


def _spoken_match(match: re.Match[str]) -> list[str]:
    # Other scripts have digits too; int() knows them.
    digits = "".join(str(int(digit)) for digit in match["number"].replace(",", ""))
    if match["ordinal"] and not match["decimals"] and len(digits) <= MAX_DIGITS:
        return ordinal(int(digits))
    decimals = "".join(str(int(digit)) for digit in (match["decimals"] or "")[1:])
    words = spoken_number(f"{digits}.{decimals}" if decimals else digits)
    if match["currency"]:
        name = _SYMBOLS[match["currency"]]
        words.append(name.removesuffix("s") if words == ["one"] else name)
    return words


class Respelling:
    """Gives texts in the words that are spoken the user's own spelling.

    Args:
        spellings: of each phrase, by its spoken form.
        in_sequence: whether a text is several phrases.
    """

    def __init__(self, spellings: Mapping[str, Spelling], *, in_sequence: bool) -> None:
        self._spellings = spellings
        self._in_sequence = in_sequence
        self._longest = max((spoken.count(" ") + 1 for spoken in spellings), default=1)
        self._changes = any(" ".join(word for word, _ in one) != spoken for spoken, one in spellings.items())

    def spelling(self, spoken: str) -> Spelling | None:
        """The user's words; None if they are those that are spoken, or if the text is none of the phrases."""
        if not self._changes or not spoken:
            return None
        found = self._spellings.get(spoken) if not self._in_sequence else self._sequence(spoken.split())
        return None if found is None or " ".join(word for word, _ in found) == spoken else found

    def text(self, spoken: str) -> str:
        """A text in the user's spelling."""
        spelling = self.spelling(spoken)
        return spoken if spelling is None else " ".join(word for word, _ in spelling)

    def _sequence(self, words: Sequence[str]) -> Spelling | None:
        """Divide a text into phrases, the last one as long as possible."""
        found: list[Spelling | None] = [(), *([None] * len(words))]  # of the first n words
        for end in range(1, len(words) + 1):
            for begin in range(max(0, end - self._longest), end):
                before, phrase = found[begin], self._spellings.get(" ".join(words[begin:end]))
                if before is not None and phrase is not None:
                    found[end] = before + phrase
                    break
        return found[-1]


def respelled_words(words: Sequence[Word], spelling: Spelling) -> list[Word]:
    """The recognised words in the user's spelling; a number of several words becomes one, with their mean confidence.

    Args:
        words: as spoken.
        spelling: see `Spelling`; for as many words, else they are returned unchanged.
    """
    if sum(count for _, count in spelling) != len(words):
        return list(words)
    rest = iter(words)
    respelled = []
    for text, count in spelling:
        group = [next(rest) for _ in range(count)]
        confidence = mean_confidence(group)
        respelled.append(replace(group[0], text=text, end_s=group[-1].end_s, confidence=confidence))
    return respelled
