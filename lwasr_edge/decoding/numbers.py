"""English numbers as they are spoken: "21" is "twenty one", "1990" "nineteen ninety", "3rd" "third"."""

from __future__ import annotations

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ONES += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_GROUPS = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
MAX_DIGITS = 12  # longer numbers are spoken digit by digit


def cardinal(number: int) -> list[str]:
    """The words of a number from 0 to 10**12 - 1."""
    for size, name in _GROUPS:
        if number >= size:
            rest = number % size
            return [*cardinal(number // size), name, *(cardinal(rest) if rest else ())]
    if number < 20:
        return [_ONES[number]]
    return [_TENS[number // 10], *([_ONES[number % 10]] if number % 10 else ())]


def ordinal(number: int) -> list[str]:
    """The words of "21st": "twenty", "first"."""
    *before, last = cardinal(number)
    if last in _ORDINALS:
        return [*before, _ORDINALS[last]]
    return [*before, f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"]


def spoken_number(digits: str) -> list[str]:
    """The words of a number in digits.

    Years and others from 1100 to 1999 and from 2010 to 2099 are spoken in pairs; leading zeros, and numbers of more
    than `MAX_DIGITS` digits, digit by digit.

    Args:
        digits: "0" to "9", at least one; then perhaps a point and decimals, as in "2.5".
    """
    whole, point, decimals = digits.partition(".")
    if point:
        return [*spoken_number(whole), "point", *(_ONES[int(digit)] for digit in decimals)]
    if len(whole) > MAX_DIGITS or (len(whole) > 1 and whole[0] == "0"):
        return [_ONES[int(digit)] for digit in whole]
    number = int(whole)
    if 1100 <= number < 2000 or 2010 <= number < 2100:
        hundreds, rest = divmod(number, 100)
        if rest == 0:
            return [*cardinal(hundreds), "hundred"]
        return [*cardinal(hundreds), *(["oh"] if rest < 10 else ()), *cardinal(rest)]
    return cardinal(number)
