"""Digits one by one: phone numbers, codes, "double o seven"; and letters with a number: "B12", "Q4"."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lwasr_edge.written.cardinals import NUMBER_WORDS, OH, ONES, TEENS, TENS, below_hundred, cardinal
from lwasr_edge.written.pieces import Pieces, piece

MAX_MIXED_CHUNKS = 12
MIN_INTERNATIONAL = 8  # digits
PHONE_LENGTHS = (7, 10, 11)
_REPEATS = {"double": 2, "triple": 3, "treble": 3}
_NAMED_CODES = frozenset(("number", "code", "pin", "extension", "password", "room", "is", "dial", "call"))
_LETTERS = frozenset("bcdefghjklmnpqrtvwxyz")
_AFTER_NUMBERS = {"d": "D", "g": "G", "k": "K"}


def digit_string(words: Sequence[str], start: int) -> Pieces | None:
    """Three digits or more in a row, or a phone number with a few numbers of two digits."""
    if words[start] == "plus":
        singles, end = _singles(words, start + 1)
        return piece(end - start, f"+{singles}") if len(singles) >= MIN_INTERNATIONAL else None
    singles, end = _singles(words, start)
    if end < len(words) and words[end] in ("hundred", "thousand", "million", "billion"):
        singles, end = singles[:-1], end - 1
    mixed = _mixed(words, start)
    if mixed is not None and mixed[1] > end:
        return piece(mixed[1] - start, formatted(mixed[0]))
    is_named = start > 0 and words[start - 1] in _NAMED_CODES - {"is", "number"}
    if len(singles) < (2 if is_named else 3) or _is_counting(words, start, singles):
        return None
    return piece(end - start, formatted(singles))


def _singles(words: Sequence[str], start: int) -> tuple[str, int]:
    digits, index = "", start
    while index < len(words):
        word, following = words[index], words[index + 1] if index + 1 < len(words) else ""
        if word in _REPEATS and (following in ONES or following in OH):
            digits += str(ONES.get(following, 0)) * _REPEATS[word]
            index += 2
        elif word in ONES or (word in OH and (digits or following in ONES or following in OH)):
            digits += str(ONES.get(word, 0))
            index += 1
        else:
            break
    return digits, index


def _mixed(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """Digits, hundreds and pairs of digits that make a phone number."""
    digits, index = "", start
    has_run = False
    for _ in range(MAX_MIXED_CHUNKS):
        singles, end = _singles(words, index)
        if end < len(words) and words[end] == "hundred" and digits in ("", "1") and singles:
            digits, index = digits + singles + "00", end + 1
            has_run = True
        elif singles:
            has_run = has_run or len(singles) >= 3
            digits, index = digits + singles, end
        elif (pair := below_hundred(words, index, minimum=10)) is not None:
            digits, index = digits + str(pair[0]), pair[1]
        else:
            break
    return (digits, index) if has_run and len(digits) in PHONE_LENGTHS and len(digits) > 3 else None


def _is_counting(words: Sequence[str], start: int, digits: str) -> bool:
    """ "One two three", "three two one": counting, unless a code is named."""
    if len(digits) > 5 or (start and words[start - 1] in _NAMED_CODES):
        return False
    steps = {int(after) - int(before) for before, after in itertools.pairwise(digits)}
    return steps in ({1}, {-1})


def formatted(digits: str) -> str:
    """A phone number with separators; other digits as they are."""
    if len(digits) == 7 and digits[0] not in "01":
        return f"{digits[:3]}-{digits[3:]}"
    if len(digits) == 10 and digits[0] not in "01":
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    if len(digits) == 11 and digits[0] == "1":
        return f"1-{digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    if len(digits) == 11 and digits[:2] == "02":
        return f"{digits[:3]} {digits[3:7]} {digits[7:]}"
    if len(digits) == 11 and digits[0] == "0":
        return f"{digits[:5]} {digits[5:]}"
    return digits


def letter_and_number(words: Sequence[str], start: int) -> Pieces | None:
    """ "b twelve" is B12, "m p three" MP3; "five g" 5G."""
    end = start
    if words[start] in _LETTERS and not (start and len(words[start - 1]) == 1):
        end = start + 1
    if words[start] == "mp" or list(words[start : start + 2]) == ["m", "p"]:
        end = start + len(words[start : start + 2]) - (words[start] == "mp")
    if end > start:
        following = cardinal(words, end) if end < len(words) else None
        if words[start] in ("q", "h") and end < len(words) and words[end] in ("one", "two", "three", "four"):
            return piece(2, f"{words[start].upper()}{ONES[words[end]]}")
        after = words[following.end] if following is not None and following.end < len(words) else ""
        if after.endswith("s") and after not in ("is", "was", "has", "as"):  # "plan b three days later"
            return None
        is_last = following is None or following.end == len(words) or words[following.end] not in NUMBER_WORDS
        if following is not None and following.value < 1000 and not following.has_article and is_last:
            letters = "".join(words[start:end]).upper()
            return piece(following.end - start, f"{letters}{following.value}")
        return None
    is_number = words[start] in ONES or words[start] in TEENS or words[start] in TENS
    found = below_hundred(words, start, minimum=1) if is_number else None
    if found is None or found[1] >= len(words) or words[found[1]] not in _AFTER_NUMBERS:
        return None
    if found[1] + 1 < len(words) and len(words[found[1] + 1]) == 1 and words[found[1] + 1] not in "ai":
        return None  # the first of several letters
    return piece(found[1] + 1 - start, f"{found[0]}{_AFTER_NUMBERS[words[found[1]]]}")
