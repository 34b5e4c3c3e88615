"""Numbers with what they count: money, percentages, units, ages, negative numbers, ranges; and ordinals."""

from __future__ import annotations

from collections.abc import Sequence

from lwasr_edge.written.cardinals import (
    NAMED_SCALES,
    NUMBER_WORDS,
    Number,
    below_hundred,
    decimal_digits,
    number,
    ordinal,
    with_suffix,
)
from lwasr_edge.written.clock import LABELS, is_address
from lwasr_edge.written.pieces import Piece, Pieces, piece

CURRENCIES = {"dollar": "$", "pound": "\u00a3", "euro": "\u20ac"}
_CURRENCY_WORDS = {f"{name}{ending}": sign for name, sign in CURRENCIES.items() for ending in ("", "s")}
_SMALL_COINS = frozenset(("cent", "cents", "pence", "penny"))
_WEIGHING = frozenset(("weigh", "weighs", "weighed", "weighing", "lost", "lose", "gained", "gain", "lifted", "lift"))
_AFTER_WEIGHT = frozenset(("of", "heavier", "lighter", "overweight"))
UNITS = frozenset(
    ("kilometers", "kilometres", "miles", "feet", "foot", "inches", "meters", "metres", "centimeters", "centimetres")
) | {
    *("millimeters", "millimetres", "acres", "hectares", "kilograms", "kilos", "grams", "milligrams", "ounces", "tons"),
    *("tonnes", "liters", "litres", "milliliters", "millilitres", "gallons", "degrees", "volts", "watts", "kilowatts"),
    *("megawatts", "gigawatts", "amps", "hertz", "kilohertz", "megahertz", "gigahertz", "bytes", "kilobytes", "bits"),
    *("megabytes", "gigabytes", "terabytes", "megabits", "gigabits", "pixels", "calories", "decibels", "knots"),
    *("horsepower", "mph", "yen", "rupees", "francs", "bucks", "cents", "pence", "percentage", "pounds", "knots"),
}
_SPANS = frozenset(("year", "month", "week", "day"))
_MEASURES = _SPANS | {"hour", "minute", "mile", "foot", "meter", "metre", "page", "bedroom", "star"}
_NEGATIVE = frozenset(("minus", "negative"))
_BEFORE_ADDRESS = frozenset(("", "at", "to", "is", "of", "from", "near", "address"))
_JOINS = frozenset(("to", "or", "and", "by"))


def quantity(words: Sequence[str], start: int) -> Pieces | None:
    """A number at an index, with the money or percent sign that belongs to it; None if it stays in words."""
    if words[start] in _NEGATIVE:
        return _negative(words, start)
    if words[start] == "point":
        return _fraction(words, start)
    found = number(words, start)
    if found is None:
        return None
    return (
        _money(words, start, found)
        or _percent(words, found)
        or _age(words, start, found)
        or _range(words, start, found)
        or _plain(words, start, found)
    )


def _plain(words: Sequence[str], start: int, found: Number) -> Pieces | None:
    before, following = words[start - 1] if start else "", words[found.end] if found.end < len(words) else ""
    if found.is_indefinite or (found.has_article and found.value < 1000 and found.n_words == 2):
        return None
    is_named = (before in LABELS and (before, found.value) != ("number", 1)) or is_address(words, found.end)
    if found.is_small and before not in LABELS:
        is_named = is_named and before in _BEFORE_ADDRESS
    after_feet = before == "foot" and start > 1 and number(words, start - 2) is not None
    if found.is_small and not (is_named or after_feet or (following in UNITS and found.value != 1)):
        return None
    return piece(found.n_words, found.digits(grouped=not is_named))


def _money(words: Sequence[str], start: int, found: Number) -> Pieces | None:
    end = found.end
    name = words[end] if end < len(words) else ""
    following = words[end + 1] if end + 1 < len(words) else ""
    before = words[start - 1] if start else ""
    if name not in _CURRENCY_WORDS or found.is_indefinite:
        return None
    if name.startswith("pound") and (following in _AFTER_WEIGHT or before in _WEIGHING):
        return None
    sign, end = _CURRENCY_WORDS[name], end + 1
    if found.decimals or found.scale:
        text = f"{found.value:,.2f}" if found.decimals == 1 and not found.scale else found.digits()
        return piece(end - start, f"{sign}{text}")
    at = end + (following == "and")
    coins = below_hundred(words, at, minimum=1)
    if coins is not None:
        after = words[coins[1]] if coins[1] < len(words) else ""
        if after in _SMALL_COINS:
            return piece(coins[1] + 1 - start, f"{sign}{found.digits()}.{coins[0]:02d}")
        if following != "and" and coins[0] >= 10 and not after:
            return piece(coins[1] - start, f"{sign}{found.digits()}.{coins[0]:02d}")
    return piece(end - start, f"{sign}{found.digits()}")


def _percent(words: Sequence[str], found: Number) -> Pieces | None:
    following = list(words[found.end : found.end + 2])
    n_words = 1 if following[:1] == ["percent"] else 2 if following == ["per", "cent"] else 0
    return piece(found.n_words + n_words, f"{found.digits()}%") if n_words else None


def _age(words: Sequence[str], start: int, found: Number) -> Pieces | None:
    """ "A 25-year-old", "25 years old"; and "a ten-year plan", with its number in words below ten."""
    span, old = (*words[found.end : found.end + 2], "", "")[:2]
    if found.scale or found.has_article:
        return None
    if span in _SPANS and old in ("old", "olds"):
        return piece(found.n_words + 2, f"{found.digits()}-{span}-{old}")
    if span in _MEASURES and start and words[start - 1] == "a" and old and old not in ("and", "or", "to", "of"):
        value = words[start] if found.is_small else found.digits()
        return piece(found.n_words + 1, f"{value}-{span}") if found.value != 1 else None
    if span.removesuffix("s") in _SPANS and span.endswith("s") and old == "old":
        return piece(found.n_words, found.digits())
    return None


def _range(words: Sequence[str], start: int, found: Number) -> Pieces | None:
    """A small number is written in digits where the other end of its range is: "5 to 10"."""
    join = words[found.end] if found.end < len(words) else ""
    before = words[start - 1] if start else ""
    if not found.is_small or join not in _JOINS or found.end + 1 >= len(words):
        return None
    if join == "and" and before != "between":
        return None
    other = number(words, found.end + 1)
    if other is None or other.has_article or (other.value < found.value and join != "by"):
        return None
    if other.n_words == 2 and words[other.end - 1] in ("hundred", "thousand") and join in ("or", "to"):
        return tuple(Piece(1, word) for word in words[start : other.end])  # "two or three hundred"
    following = words[other.end] if other.end < len(words) else ""
    rest = list(words[other.end : other.end + 2])
    is_measured = (
        following in UNITS or following in _CURRENCY_WORDS or rest[:1] == ["percent"] or rest == ["per", "cent"]
    )
    is_time = following in ("am", "pm", "o'clock") or rest in (["a", "m"], ["p", "m"])
    if other.is_small and not (is_measured or is_time):
        return None
    sign = _CURRENCY_WORDS.get(following, "")
    return Piece(1, f"{sign}{found.value}"), Piece(1, join)


def _negative(words: Sequence[str], start: int) -> Pieces | None:
    found = number(words, start + 1) if start + 1 < len(words) else None
    if found is None or found.has_article:
        return None
    if words[start] == "minus" and start and _ends_number(words, start):  # a subtraction
        return Piece(1, "minus"), Piece(found.n_words, found.digits())
    following = list(words[found.end : found.end + 2])
    n_words = 1 if following[:1] == ["percent"] else 2 if following == ["per", "cent"] else 0
    return piece(1 + found.n_words + n_words, f"-{found.digits()}{'%' if n_words else ''}")


def _ends_number(words: Sequence[str], end: int) -> bool:
    return words[end - 1] in NUMBER_WORDS


def _fraction(words: Sequence[str], start: int) -> Pieces | None:
    """ "Point five" before a unit, where no noun "point" can be."""
    digits, end = decimal_digits(words, start + 1)
    following = words[end] if end < len(words) else ""
    if not digits or following not in UNITS | NAMED_SCALES | {"percent", "per", "seconds"}:
        return None
    if following == "percent" or list(words[end : end + 2]) == ["per", "cent"]:
        return piece(end + (1 if following == "percent" else 2) - start, f"0.{digits}%")
    return piece(end - start, f"0.{digits}")


def numbered(words: Sequence[str], start: int) -> Pieces | None:
    """An ordinal from the tenth on; smaller ones stay words."""
    found = ordinal(words, start)
    if found is None or found.value < 10:
        return None
    before, last = words[start - 1] if start else "", words[found.end - 1]
    following = words[found.end] if found.end < len(words) else ""
    if last == "second" and before in ("a", "an", "every"):
        return piece(found.n_words, f"{found.value - 2}-second")
    if before in ("a", "one") and following in ("of", "") and found.n_words == 1:  # a fraction
        return None
    return piece(found.n_words, with_suffix(int(found.value)))
