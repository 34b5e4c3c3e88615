"""English number words to numbers: cardinals, ordinals, decimals. The inverse of decoding/numbers.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

_ONES_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS_NAMES = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
_TENS_NAMES = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ONES = {name: value for value, name in enumerate(_ONES_NAMES)}
TEENS = {name: value for value, name in enumerate((*_TEENS_NAMES, "nineteen"), 10)}
TENS = {name: 10 * value for value, name in enumerate(_TENS_NAMES, 2)} | {"fourty": 40}
SCALES = {"trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 1000}
NAMED_SCALES = frozenset(("million", "billion", "trillion"))  # written as words after a number: "5 million"
OH = frozenset(("oh", "o"))  # zero in times, years and digit by digit
NUMBER_WORDS = frozenset((*ONES, *TEENS, *TENS, *SCALES, "hundred"))
_ORDINALS = {
    **{"first": "one", "second": "two", "third": "three", "fourth": "four", "fifth": "five", "sixth": "six"},
    **{"seventh": "seven", "eighth": "eight", "ninth": "nine", "twelfth": "twelve"},
    **{f"{name}th": name for name in (*TEENS, "hundred", *SCALES) if name != "twelve"},
    **{f"{name[:-1]}ieth": name for name in TENS},
}


@dataclass(frozen=True)
class Number:
    """A number that was spoken."""

    value: Decimal
    end: int  # index of the word after it
    n_words: int
    scale: str = ""  # "million" and so on, if it is the last word and follows a number below 1000
    has_article: bool = False  # "a hundred"
    decimals: int = 0  # digits after the point

    @property
    def is_small(self) -> bool:
        """Below 10 and whole: written as a word in running text."""
        return self.value < 10 and self.decimals == 0 and self.n_words == 1

    @property
    def is_indefinite(self) -> bool:
        """ "a hundred", "a million": written as words."""
        return self.has_article and self.n_words == 2

    def digits(self, *, grouped: bool = True) -> str:
        """In digits: "2,500", "3.14", "5 million".

        Args:
            grouped: with commas between thousands.
        """
        if self.scale:
            coefficient = (self.value / SCALES[self.scale]).normalize()
            return f"{coefficient:f} {self.scale}"
        return f"{self.value:{',' if grouped else ''}.{self.decimals}f}"


def below_hundred(words: Sequence[str], start: int, *, minimum: int = 0) -> tuple[int, int] | None:
    """A number of one or two words, 0 to 99, and the index after it; None if there is none from `minimum` on."""
    word = words[start] if start < len(words) else ""
    following = ONES.get(words[start + 1], 0) if start + 1 < len(words) else 0
    if word in TENS:
        found = (TENS[word] + following, start + 2) if following else (TENS[word], start + 1)
    elif word in TEENS or word in ONES:
        found = (TEENS.get(word, ONES.get(word, 0)), start + 1)
    else:
        return None
    return found if found[0] >= minimum else None


def one_word(words: Sequence[str], start: int) -> int | None:
    """A number from 1 to 99 of one word."""
    word = words[start] if start < len(words) else ""
    return TENS.get(word) or TEENS.get(word) or ONES.get(word) or None


def cardinal(words: Sequence[str], start: int) -> Number | None:
    """The longest whole number at an index, with "and" inside it and "a" for one: "a hundred and five"."""
    has_article = words[start] == "a" and start + 1 < len(words) and words[start + 1] in ("hundred", *SCALES)
    if words[start] == "hundred" and start and words[start - 1] == "the":  # "the hundred and twenty"
        rest = below_hundred(words, _after_and(words, start + 1), minimum=1)
        return Number(Decimal(100 + rest[0]), rest[1], rest[1] - start) if rest else None
    total, limit, position = 0, 10**15, start
    scale = ""
    while True:
        at = _after_and(words, position) if total else position
        group = _below_thousand(words, at, has_article=has_article and at == start)
        if group is None:
            break
        value, end = group
        size_name = words[end] if end < len(words) and words[end] in SCALES else ""
        size = SCALES.get(size_name, 1)
        if size >= limit or (size == 1 and value >= limit) or (value == 0 and (total or size_name)):
            break
        scale = size_name if not total and size_name in NAMED_SCALES else ""
        total, limit, position = total + value * size, size, end + bool(size_name)
        if size == 1:
            break
    if position == start:
        return None
    return Number(Decimal(total), position, position - start, scale, has_article)


def _below_thousand(words: Sequence[str], start: int, *, has_article: bool) -> tuple[int, int] | None:
    """A number up to 9900 ("ninety nine hundred"), and the index after it."""
    found = (1, start + 1) if has_article else below_hundred(words, start)
    if found is None:
        return None
    value, end = found
    if end >= len(words) or words[end] != "hundred" or value == 0 or (value >= 10 and value % 10 == 0):
        return found
    value, end = 100 * value, end + 1
    rest = below_hundred(words, _after_and(words, end), minimum=1)
    return (value + rest[0], rest[1]) if rest else (value, end)


def _after_and(words: Sequence[str], index: int) -> int:
    return index + (index < len(words) and words[index] == "and")


def number(words: Sequence[str], start: int) -> Number | None:
    """A cardinal, perhaps with decimals, a half and a scale: "two point five million", "three and a half"."""
    whole = cardinal(words, start)
    if whole is None:
        return None
    value, end, decimals = whole.value, whole.end, 0
    if not whole.scale and end + 1 < len(words) and words[end] == "point":
        fraction, after = decimal_digits(words, end + 1)
        if fraction:
            value, end, decimals = value + Decimal(f"0.{fraction}"), after, len(fraction)
    elif not whole.has_article and list(words[end : end + 3]) == ["and", "a", "half"]:
        following = words[end + 3] if end + 3 < len(words) else ""
        if following in NAMED_SCALES or following in ("percent", "per", "dollars", "euros", "degrees"):
            value, end, decimals = value + Decimal("0.5"), end + 3, 1
    if decimals and end < len(words) and words[end] in NAMED_SCALES:
        scale = words[end]
        return Number(value * SCALES[scale], end + 1, end + 1 - start, scale)
    return whole if not decimals else Number(value, end, end - start, decimals=decimals)


def decimal_digits(words: Sequence[str], start: int) -> tuple[str, int]:
    """The digits after a point, and the index after them: "one four", or "fourteen"; empty if there are none."""
    digits, end = "", start
    while end < len(words) and (words[end] in ONES or words[end] in OH):
        if digits and list(words[end + 1 : end + 2]) == ["point"]:
            break  # "one point two, one point three"
        digits += str(ONES.get(words[end], 0))
        end += 1
    if not digits and (found := below_hundred(words, start, minimum=10)):
        return str(found[0]), found[1]
    return digits, end


def ordinal(words: Sequence[str], start: int) -> Number | None:
    """An ordinal: "third", "twenty first", "one hundred and first"."""
    for end in range(start, min(len(words), start + 8)):
        word = words[end]
        if word in _ORDINALS:
            whole = cardinal([*words[start:end], _ORDINALS[word]], 0)
            is_complete = whole is not None and whole.end == end - start + 1
            return Number(whole.value, end + 1, end + 1 - start) if whole is not None and is_complete else None
        if word not in NUMBER_WORDS and word != "and":
            return None
    return None


def with_suffix(value: int) -> str:
    """ "21st", "112th"."""
    suffix = "th" if 10 <= value % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value:,}{suffix}"
