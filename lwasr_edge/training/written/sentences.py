"""Sentences as people write them, as the words that a recogniser gives and the tags that bring the writing back."""

from __future__ import annotations

import gzip
import lzma
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lwasr_edge.decoding.spoken import spoken_words
from lwasr_edge.errors import OptionError
from lwasr_edge.files import split_lines
from lwasr_edge.written.tagger import COMMA, FULL_STOP, LOWER, NO_MARK, QUESTION, TITLE, UPPER

IGNORED = -1  # a word whose capitals teach nothing: "iPhone", an emphasised "MUST"
MAX_WORDS = 120  # of a sentence
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz'")

_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2026": "...", "_": " "})
_DASH = re.compile(r"\s*(?:--+|[\u2013\u2014\u2015]|\s-\s)\s*")
_MONEY = re.compile(r"([$\u00a3\u20ac])(\d[\d,.]*)\s(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_CLOCK = re.compile(r"\b0?(\d{1,2}):(\d\d)")
_CURRENCY = {"$": "dollars", "\u00a3": "pounds", "\u20ac": "euros"}
_PLAIN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_EDGES = re.compile(r"^(?P<before>[^\w$\u00a3\u20ac#+]*)(?P<core>.*?)(?P<after>[^\w%\u00b0$\u00a3\u20ac]*)$", re.DOTALL)
_ACRONYM = re.compile(r"[A-Z]{2,5}")
_SPOKEN = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_ABBREVIATIONS = frozenset(
    (
        "mr",
        "mrs",
        "ms",
        "dr",
        "st",
        "prof",
        "rev",
        "hon",
        "capt",
        "col",
        "gen",
        "lt",
        "sgt",
        "jr",
        "sr",
        "vs",
        "no",
        "vol",
    )
) | {
    *("vol", "fig", "inc", "ltd", "co", "corp", "messrs", "mdlle", "mme", "esq", "etc", "jan", "feb", "mar", "apr"),
    *("jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
}
_END = re.compile(r"[.!?][\"')\]]*$")


@dataclass
class Tagged:
    """The words of one sentence with their tags, as small integers."""

    words: list[str] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # after each word
    cases: list[int] = field(default_factory=list)
    spelling: list[str] = field(default_factory=list)  # as written

    def add(self, word: str, case: int, spelling: str) -> None:
        """Append a word without a mark."""
        self.words.append(word)
        self.marks.append(NO_MARK)
        self.cases.append(case)
        self.spelling.append(spelling)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, plain or compressed by gzip or xz.

    Raises:
        OptionError: it cannot be read.
    """
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    try:
        return split_lines(unpack(path.read_bytes()).decode("utf-8-sig"))
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} must be text in UTF-8, plain, .gz or .xz, got {error}: name another") from error


def share_of(line: str) -> float:
    """A number in 0..1 that depends on the letters of a line alone: equal sentences fall on one side of a split."""
    return zlib.crc32("".join(filter(str.isalnum, line.lower())).encode()) / 2**32


def emphasised(lines: list[str]) -> frozenset[str]:
    """Words in capitals that are ordinary words, in lower case: as in "What would HE say?"."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(_PLAIN.findall(line))
    return frozenset(word.lower() for word in counts if word.isupper() and counts[word.lower()] > 3 * counts[word])


def tag_line(line: str, ordinary: frozenset[str] = frozenset()) -> Tagged | None:
    """The words and tags of a line; None if it does not end a sentence or has no usable length.

    Semicolons and colons count as commas, exclamation marks as full stops (as commas before a word in lower case: "I
    will!" said he). Quotation marks, brackets and dashes are dropped.

    Args:
        line: one or more sentences.
        ordinary: words that are not acronyms where they are in capitals, see `emphasised`.
    """
    text = line.translate(_QUOTES).strip()
    if not _END.search(text):
        return None
    text = _MONEY.sub(lambda match: f"{match[2]} {match[3]} {_CURRENCY[match[1]]}", text)
    text = _CLOCK.sub(lambda match: match[1] if match[2] == "00" else f"{match[1]}:{match[2]}", text)
    tokens = _DASH.sub(" ", text).split()
    if len(tokens) > MAX_WORDS or _last_is_abbreviation(tokens[-1]):
        return None
    tagged = Tagged()
    for index, token in enumerate(tokens):
        match = _EDGES.match(token)
        if match is None:
            continue
        for part in re.split(r"[-/]", match["core"]):
            _add_part(tagged, part, ordinary)
        following = next((c for following in tokens[index + 1 : index + 3] for c in following if c.isalnum()), "")
        mark = _mark(match["core"], match["after"] if match["core"] else token, following)
        if tagged.words and mark > tagged.marks[-1]:
            tagged.marks[-1] = mark
    if not tagged.words or len(tagged.words) > MAX_WORDS:
        return None
    if tagged.marks[-1] != QUESTION:
        tagged.marks[-1] = FULL_STOP
    return tagged


def _last_is_abbreviation(token: str) -> bool:
    """A sentence that was cut after "Mr." or an initial."""
    core = token.strip("\"'()[].").lower()
    return token.endswith(".") and (core in _ABBREVIATIONS or (len(core) == 1 and core.isalpha() and core != "i"))


def _add_part(tagged: Tagged, part: str, ordinary: frozenset[str]) -> None:
    plain = "".join(c for c in unicodedata.normalize("NFD", part) if not unicodedata.combining(c))
    if _PLAIN.fullmatch(plain):
        if _ACRONYM.fullmatch(plain) and plain.lower() not in ordinary and _is_spelt(plain):
            for letter in plain:
                tagged.add(letter.lower(), TITLE, letter)
            return
        lower = plain.lower()
        tagged.add(_SPOKEN.get(lower, lower), _case(plain, ordinary), plain)
        return
    for written, spoken in spoken_words(plain, LETTERS) if plain.strip() else ():
        letters = re.sub(r"[^A-Za-z]", "", written)
        for word in spoken:
            is_part = word in letters.lower() and not any(c.isdigit() for c in written)
            is_capital = is_part and letters[letters.lower().index(word)].isupper()
            tagged.add(word, TITLE if is_capital else LOWER, word)


def _is_spelt(acronym: str) -> bool:
    """Whether people say the letters: "EPS", "IBM"; not "COVID"."""
    return len(acronym) <= 3 or not re.search("[AEIOU]", acronym)


def _case(word: str, ordinary: frozenset[str]) -> int:
    if word.islower():
        return LOWER
    if len(word) > 1 and word.isupper() and "'" not in word:
        return IGNORED if word.lower() in ordinary else UPPER
    return TITLE if word[0].isupper() else IGNORED


def _mark(core: str, after: str, following: str) -> int:
    """The mark after a word.

    Args:
        core: the word.
        after: the punctuation after it.
        following: the first character of the next word; empty at the end.
    """
    if "?" in after:
        return QUESTION
    ends = "!" in after or ("." in after and core.lower() not in _ABBREVIATIONS and len(core) != 1)
    if ends and not following.islower():
        return FULL_STOP
    return COMMA if set(after) & set(",;:!") or "..." in after else NO_MARK


def spellings(sentences: Iterator[Tagged], at_least: int = 3) -> dict[str, str]:
    """Words with capitals inside, as most people write them: "mcdonald" -> "McDonald"."""
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for sentence in sentences:
        for word, spelling in zip(sentence.words, sentence.spelling, strict=True):
            if len(word) > 2:
                total[word] += 1
                if not (spelling.islower() or spelling.istitle() or spelling.isupper() or spelling[1:].islower()):
                    found[spelling] += 1
    chosen = {one.lower(): one for one, count in sorted(found.items(), key=lambda pair: pair[1]) if count >= at_least}
    return {word: one for word, one in sorted(chosen.items()) if found[one] > 0.6 * total[word]}
