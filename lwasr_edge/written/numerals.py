"""Digits where people write digits: the rules in the order in which they are tried.

Numbers below ten stay words, unless they have a unit, a currency, a percent sign or a time of day; larger ones are
written in digits. Each rule looks at a bounded number of words, so the time is proportional to the text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lwasr_edge.written.cardinals import NUMBER_WORDS, OH, SCALES
from lwasr_edge.written.clock import half_day, is_address, pair_of_numbers, relative_time, time_of_day
from lwasr_edge.written.digit_strings import digit_string, letter_and_number
from lwasr_edge.written.pieces import Piece, Pieces, count_words, piece
from lwasr_edge.written.quantities import numbered, quantity
from lwasr_edge.written.years import MONTHS, date, year, year_or_decade

_IDIOMS = {
    ("twenty", "four", "seven"): "24/7",
    ("nine", "eleven"): "9/11",
    ("fifty", "fifty"): "50-50",
    ("twenty", "twenty", "vision"): "20/20 vision",
    ("covid", "nineteen"): "COVID-19",
    ("four", "by", "four"): "4x4",
    ("seven", "eleven"): "7-Eleven",
    ("c", "o", "two"): "CO2",
    ("co", "two"): "CO2",
}
_STARTS = frozenset((*NUMBER_WORDS, *OH, *MONTHS, "double", "triple", "treble", "a", "minus", "negative", "plus"))
_ORDINAL_ENDS = ("th", "first", "second", "third")


def write_numbers(words: Sequence[str], breaks: Collection[int] = ()) -> list[Piece]:
    """The words with their numbers in digits.

    Args:
        words: as recognised, in lower case; any others stay as they are.
        breaks: indices of words after which a sentence ends: no number goes across.

    Returns:
        Pieces for all of the words, in order.
    """
    pieces: list[Piece] = []
    start = 0
    for end in (*sorted({one + 1 for one in breaks if 0 <= one + 1 < len(words)}), len(words)):
        part = words[start:end]
        index = 0
        while index < len(part):
            found = _match(part, index) if _may_start(part[index]) else None
            pieces += found or piece(1, part[index])
            index += count_words(found) if found else 1
        start = end
    return pieces


def _may_start(word: str) -> bool:
    return word in _STARTS or len(word) == 1 or word.endswith(_ORDINAL_ENDS) or word in ("point", "covid", "mp", "co")


def _match(words: Sequence[str], index: int) -> Pieces | None:
    """The first rule that matches."""
    for rule in (_idiom, date, _address, relative_time, time_of_day, digit_string, _counted_year, letter_and_number):
        found = rule(words, index)
        if found:
            return found
    return _pair(words, index) or numbered(words, index) or quantity(words, index)


def _idiom(words: Sequence[str], start: int) -> Pieces | None:
    for length in (3, 2):
        spoken = tuple(words[start : start + length])
        text = _IDIOMS.get(spoken)
        if text and len(spoken) == length:
            following = words[start + length] if start + length < len(words) else ""
            return None if following in NUMBER_WORDS else piece(length, text)
    return None


def _address(words: Sequence[str], start: int) -> Pieces | None:
    """A pair of numbers before a street: "one twenty three main street"."""
    found = pair_of_numbers(words, start)
    if found is None or half_day(words, start + count_words(found)):
        return None
    return found if is_address(words, start + count_words(found)) else None


def _counted_year(words: Sequence[str], start: int) -> Pieces | None:
    """A year or decade, unless the number is an amount of money."""
    found = year_or_decade(words, start)
    if found is None:
        return None
    following = words[start + count_words(found)] if start + count_words(found) < len(words) else ""
    return None if following in ("dollars", "pounds", "euros", "percent", "hundred", *SCALES) else found


def _pair(words: Sequence[str], start: int) -> Pieces | None:
    """A pair of numbers that is no time of day and no year."""
    return None if year(words, start) else pair_of_numbers(words, start)
