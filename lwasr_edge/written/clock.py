"""Times of day ("seven thirty pm", "nine o'clock"), and pairs of numbers that are none ("flight four eighteen")."""

from __future__ import annotations

from collections.abc import Sequence

from lwasr_edge.written.cardinals import NUMBER_WORDS, OH, ONES, below_hundred, one_word
from lwasr_edge.written.pieces import Piece, Pieces, piece

LABELS = (
    frozenset(
        ("room", "flight", "route", "highway", "chapter", "page", "gate", "channel", "section", "extension", "number")
    )
    | {"version", "platform", "figure", "apartment", "suite", "unit", "episode", "interstate", "terminal", "verse"}
    | {*("slide", "phase", "stage", "press", "tier", "type", "level", "volume", "appendix", "exhibit")}
)
_BEFORE_TIME = frozenset(
    ("at", "by", "until", "till", "before", "after", "around", "about", "from", "since", "to", "for", "it's", "past")
)
_AFTER_TIME = frozenset(("tomorrow", "tonight", "today", "sharp", "in", "on", "this"))
_STREETS = frozenset(
    ("street", "avenue", "road", "drive", "lane", "boulevard", "court", "way", "place", "square", "terrace")
)
_NO_STREET = frozenset(
    ("at", "in", "on", "of", "to", "for", "and", "or", "the", "a", "am", "pm", "is", "was", "by", "from", "with")
) | {"wheel"}
_PRICES = (95, 99)


def half_day(words: Sequence[str], start: int) -> Pieces | None:
    """ "am" or "pm" at an index, in one word or two letters."""
    word = words[start] if start < len(words) else ""
    following = words[start + 1] if start + 1 < len(words) else ""
    if word in ("am", "pm") and following != "i" and (word, following) != ("am", "not"):
        return piece(1, word)
    return piece(2, f"{word}m") if word in ("a", "p") and following == "m" else None


def relative_time(words: Sequence[str], start: int) -> Pieces | None:
    """ "Twenty past seven", "ten to nine" stay words."""
    minutes = below_hundred(words, start, minimum=1)
    if minutes is None or minutes[0] not in (5, 10, 20, 25) or minutes[1] + 1 >= len(words):
        return None
    hour = below_hundred(words, minutes[1] + 1, minimum=1)
    if words[minutes[1]] not in ("to", "past") or hour is None or hour[0] > 12:
        return None
    before = words[start - 1] if start else ""
    is_time = words[minutes[1]] == "past" or minutes[0] > hour[0]
    is_followed = hour[1] < len(words) and (words[hour[1]] in NUMBER_WORDS or words[hour[1]].endswith("s"))
    if not is_time or is_followed or before in ("from", "between"):
        return None
    return tuple(Piece(1, word) for word in words[start : hour[1]])


def time_of_day(words: Sequence[str], start: int) -> Pieces | None:
    """A time of day with minutes, "o'clock", "am" or "pm"."""
    hour = below_hundred(words, start, minimum=1)
    if hour is None or hour[0] > 23:
        return None
    value, end = hour
    following = words[end] if end < len(words) else ""
    if following in ("o'clock", "oclock"):
        return Piece(end - start, str(value)), Piece(1, "o'clock")
    if list(words[end : end + 2]) == ["o", "clock"]:
        return Piece(end - start, str(value)), Piece(2, "o'clock")
    suffix = half_day(words, end)
    if suffix is not None and value <= 12:
        return Piece(end - start, str(value)), *suffix
    minutes = _minutes(words, start)
    if minutes is None:
        return None
    text, end = minutes
    suffix = half_day(words, end)
    if suffix is None and not _is_time(words, start, end, text):
        return None
    return Piece(end - start, text), *(suffix or ())


def _minutes(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """ "7:30" for an hour of one word and minutes, and the index after them."""
    hour = one_word(words, start)
    if hour is None or hour > 20:
        return None
    if start + 2 < len(words) and words[start + 1] in OH and ONES.get(words[start + 2], 0):
        return f"{hour}:0{ONES[words[start + 2]]}", start + 3
    rest = below_hundred(words, start + 1, minimum=10)
    if rest is None or rest[0] > 59:
        return None
    return f"{hour}:{rest[0]}", rest[1]


def _is_time(words: Sequence[str], start: int, end: int, text: str) -> bool:
    before, following = words[start - 1] if start else "", words[end] if end < len(words) else ""
    if before in LABELS or following in NUMBER_WORDS or is_address(words, end):
        return False
    hour, minutes = map(int, text.split(":"))
    if before == "at" or following in _AFTER_TIME:
        return hour <= 12 or before == "at"
    if before in _BEFORE_TIME:
        return hour <= 12 and (minutes % 5 == 0 or hour < 10)
    return hour <= 12 and minutes % 5 == 0 and ":0" not in text


def is_address(words: Sequence[str], end: int) -> bool:
    """Whether a street follows within three words."""
    for index in range(end, min(len(words), end + 4)):
        if words[index] in _STREETS and index > end:
            return True
        if words[index] in NUMBER_WORDS or words[index] in _NO_STREET:
            return False
    return False


def pair_of_numbers(words: Sequence[str], start: int) -> Pieces | None:
    """ "Four eighteen" is 418, "nine ninety nine" 9.99: of a room, a flight, an address or a price."""
    first = one_word(words, start)
    if first is None:
        return None
    if start + 2 < len(words) and words[start + 1] in OH and ONES.get(words[start + 2], 0):
        return piece(3, f"{first}0{ONES[words[start + 2]]}")
    if first in (20, 30, 40, 50, 60, 70, 80, 90) and start + 1 < len(words) and words[start + 1] in ONES:
        return None
    rest = below_hundred(words, start + 1, minimum=10)
    if rest is None or (rest[1] < len(words) and words[rest[1]] in NUMBER_WORDS):
        return None
    is_named = start > 0 and words[start - 1] in LABELS
    if first < 10 and rest[0] in _PRICES and not is_named and not is_address(words, rest[1]):
        return piece(rest[1] - start, f"{first}.{rest[0]}")
    return piece(rest[1] - start, f"{first}{rest[0]}")
