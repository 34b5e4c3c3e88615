"""Years, decades and dates: "nineteen eighty four", "the nineteen sixties", "the third of may", "june fifth"."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from lwasr_edge.written.cardinals import (
    OH,
    ONES,
    TEENS,
    TENS,
    Number,
    below_hundred,
    cardinal,
    one_word,
    ordinal,
    with_suffix,
)
from lwasr_edge.written.pieces import Piece, Pieces, piece

MONTHS = {
    month: month.capitalize()
    for month in ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october")
} | {"november": "November", "december": "December"}
_VERBS = ("may", "march")  # also words of other kinds
_AFTER_DAY = frozenset(("", "and", "at", "to", "through", "in", "is", "was", "for", "or", "we", "i", "the", "from"))
_BEFORE_DATE = frozenset(
    ("", "on", "by", "until", "till", "since", "before", "after", "from", "of", "next", "last", "this", "through")
) | {"is", "was", "said", "and", "for", "between", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
_SUBJECTS = frozenset(
    ("i", "you", "he", "she", "it", "we", "they", "who", "that", "which", "there", "what", "one", "will", "would")
) | {"to", "must", "can", "could", "should", "not", "people"}
_AFTER_LONE_DAY = frozenset(("", "at", "and", "to", "through"))
_DECADES = {f"{name[:-1]}ies": value for name, value in TENS.items()} | {"tens": 10, "hundreds": 0}
_BEFORE_YEAR = frozenset(
    ("in", "since", "by", "until", "till", "of", "year", "from", "during", "before", "after", "around", "early", "late")
) | {"to", "through", "summer", "winter", "spring", "autumn", "fall", "mid", "back", *MONTHS}
_QUANTIFIED = frozenset(("people", "men", "women", "children", "percent", "per", "feet", "dollars", "and"))
_NO_PLURALS = frozenset(("is", "was", "has", "this", "as", "us", "its", "does", "yes", "his", "olympics", "elections"))


def year(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """A year from 1000 to 2999 in digits, and the index after it; "two thousand" ones are ambiguous.

    Pairs up to twelve are also times of day: see `clock.py`, which is tried before.
    """
    word = words[start] if start < len(words) else ""
    following = words[start + 1] if start + 1 < len(words) else ""
    if word in TEENS or word == "twenty":
        century = TEENS.get(word, 20)
        rest = below_hundred(words, start + 1, minimum=10)
        if rest is not None and not (word == "twenty" and following in ONES):
            return f"{century}{rest[0]}", rest[1]
        if following in OH and start + 2 < len(words) and ONES.get(words[start + 2], 0):
            return f"{century}0{ONES[words[start + 2]]}", start + 3
    if word == "two" and following == "thousand":
        found = cardinal(words, start)
        if found is not None and 2000 <= found.value < 2100:
            return str(found.value), found.end
    return None


def year_or_decade(words: Sequence[str], start: int) -> Pieces | None:
    """A year by itself, or a decade."""
    word, following = words[start], words[start + 1] if start + 1 < len(words) else ""
    before = words[start - 1] if start else ""
    if (word in TEENS or word == "twenty") and following in _DECADES:
        return piece(2, f"{TEENS.get(word, 20)}{_DECADES[following]:02d}s")
    if word == "two" and following == "thousands":
        return piece(2, "2000s")
    if word in TEENS and following == "hundred" and TEENS[word] > 10:
        found = cardinal(words, start)
        has_rest = found is not None and found.value % 100 != 0 and TEENS[word] > 12
        is_named = found is not None and (has_rest or before in _BEFORE_YEAR) and _is_year(words, found.end)
        return piece(found.n_words, str(found.value)) if found is not None and is_named else None
    found_year = year(words, start)
    if found_year is None:
        return None
    digits, end = found_year
    next_year = below_hundred(words, end, minimum=10)
    if next_year is not None and next_year[0] == int(digits[2:]) + 1 and word != "two":
        return piece(next_year[1] - start, f"{digits}-{next_year[0]}")
    if word == "two":
        is_year = before in _BEFORE_YEAR or (digits != "2000" and end - start > 2)
        return piece(end - start, digits) if is_year and _is_year(words, end) else None
    return piece(end - start, digits)


def _is_year(words: Sequence[str], end: int) -> bool:
    """Whether the next word is not what a number counts."""
    following = words[end] if end < len(words) else ""
    is_plural = following.endswith("s") and not following.endswith(("ss", "us", "is")) and following not in _NO_PLURALS
    return following not in _QUANTIFIED and not is_plural


def date(words: Sequence[str], start: int) -> Pieces | None:
    """ "May 3rd, 2020", "May the 4th", "May 2020", and from its ordinal "3rd of May 2020"."""
    if words[start] in MONTHS:
        return _month_first(words, start)
    day = ordinal(words, start)
    if day is None:
        return _day_first(words, start)
    if not 1 <= day.value <= 31:
        return None
    if list(words[day.end : day.end + 1]) != ["of"]:
        is_day = start > 1 and list(words[start - 2 : start]) == ["on", "the"]
        following = words[day.end] if day.end < len(words) else ""
        return piece(day.n_words, with_suffix(int(day.value))) if is_day and following in _AFTER_LONE_DAY else None
    month = words[day.end + 1] if day.end + 1 < len(words) else ""
    if month in ("this", "the", "next", "last") and list(words[day.end + 2 : day.end + 3]) == ["month"]:
        return piece(day.n_words, with_suffix(int(day.value)))
    if month not in MONTHS:
        return None
    pieces = (
        Piece(day.n_words, with_suffix(int(day.value))),
        Piece(1, "of"),
        Piece(1, MONTHS[month]),
    )
    found = year(words, day.end + 2)
    return (*pieces, Piece(found[1] - day.end - 2, found[0])) if found else pieces


def _day_first(words: Sequence[str], start: int) -> Pieces | None:
    """ "9 December 2018"."""
    day = below_hundred(words, start, minimum=1)
    month = words[day[1]] if day is not None and day[1] < len(words) else ""
    if day is None or day[0] > 31 or month not in MONTHS:
        return None
    found = year(words, day[1] + 1)
    before = words[start - 1] if start else ""
    if found is None and (month in _VERBS or before not in _BEFORE_DATE):
        return None
    pieces = (Piece(day[1] - start, str(day[0])), Piece(1, MONTHS[month]))
    return (*pieces, Piece(found[1] - day[1] - 1, found[0])) if found else pieces


def _is_day_and_year(words: Sequence[str], start: int) -> bool:
    """ "Twelve twenty eighteen" after a month: the 12th, 2018, not 1220."""
    day = one_word(words, start)
    return day is not None and day <= 31 and year(words, start + 1) is not None


def _month_first(words: Sequence[str], start: int) -> Pieces | None:
    before, month = words[start - 1] if start else "", Piece(1, MONTHS[words[start]])
    is_verb = words[start] in _VERBS and before in _SUBJECTS
    found = year(words, start + 1)
    if found and not is_verb and not _is_day_and_year(words, start + 1):
        return month, Piece(found[1] - start - 1, found[0])
    has_article = start + 1 < len(words) and words[start + 1] == "the"
    at = start + 1 + has_article
    day = ordinal(words, at) if at < len(words) else None
    if day is not None and 1 <= day.value <= 31 and not is_verb:
        if words[start] in _VERBS and words[at] in ("first", "second") and before not in _BEFORE_DATE:
            return None
        text = with_suffix(int(day.value))
    else:
        day = cardinal(words, at) if at < len(words) and not has_article and not is_verb else None
        if day is not None and _is_day_and_year(words, at):
            day = Number(Decimal(one_word(words, at) or 0), at + 1, 1)
        if day is None or not 1 <= day.value <= 31 or day.has_article:
            return None
        following = words[day.end] if day.end < len(words) else ""
        if year(words, day.end) is None and (following not in _AFTER_DAY or words[start] in _VERBS):
            return None
        text = str(day.value)
    article = (Piece(1, "the"),) if has_article else ()
    found = year(words, day.end)
    if found is None:
        return (month, *article, Piece(day.n_words, text))
    return (month, *article, Piece(day.n_words, f"{text},"), Piece(found[1] - day.end, found[0]))
