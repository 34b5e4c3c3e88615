"""Checks of option values, with one form of message: "X must be Y, got Z"; how foreign values are shown."""

from __future__ import annotations

import math
import numbers
import reprlib
import sys
from typing import Any

from lwasr_edge.errors import LwasrError, OptionError


def whole_number(
    name: str,
    value: Any,
    minimum: int | None = None,
    maximum: int | None = None,
    *,
    error: type[LwasrError] = OptionError,
    hint: str = "",
) -> int:
    """Return the value as an int.

    Args:
        name: of the option, for the message.
        value: a Python or numpy integer; bool is refused.
        minimum, maximum: smallest and largest value allowed; None for any.
        error: kind of error to raise.
        hint: what to do about it; it ends the message.

    Raises:
        OptionError, or `error`: the value is something else.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or (minimum is not None and value < minimum):
        limit = "" if minimum is None else f" >= {minimum}"
        raise error(f"{name} must be a whole number{limit}, got {shown(value)}{hint and ': '}{hint}")
    if maximum is not None and value > maximum:
        raise error(f"{name} must be a whole number <= {maximum}, got {shown(value)}{hint and ': '}{hint}")
    return int(value)


def number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    error: type[LwasrError] = OptionError,
    hint: str = "",
) -> float:
    """Return the value as a finite float.

    Args:
        name: of the option, for the message.
        value: a Python or numpy number; bool and NaN are refused.
        minimum, maximum: smallest and largest value allowed.
        above, below: bounds that are themselves not allowed.
        error: kind of error to raise.
        hint: what to do about it; it ends the message.

    Raises:
        OptionError, or `error`: the value is something else.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    is_number = is_number and abs(value) <= sys.float_info.max  # NaN is not; `isfinite` fails on huge integers
    if not is_number or not (minimum <= value <= maximum and above < value < below):
        bounds = ((">=", minimum), ("<=", maximum), (">", above), ("<", below))
        limits = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))
        raise error(f"{name} must be a finite number{limits and ' '}{limits}, got {shown(value)}{hint and ': '}{hint}")
    return float(value)


def shown(value: Any, limit: int = 80) -> str:
    """`repr` of a value for a message, with its middle left out where it is longer than about `limit` characters.

    Unlike `repr`, it does not fail on integers of many digits, and does not take long for a value of a hostile file.
    """
    short = _Short()
    short.maxstring = short.maxother = limit
    return short.repr(value)


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write integers of more than 4300 digits."""
        return repr(x) if x.bit_length() < 4 * self.maxother else f"an integer of {x.bit_length()} bits"


def printable(text: str, keep: str = "") -> str:
    """The text with escapes for what is not printable: a file may hold commands for the terminal.

    Args:
        text: from a file or a server.
        keep: characters that stay, as the line feeds of a table.
    """
    if text.isprintable():
        return text
    escape = "unicode_escape", "surrogatepass"
    return "".join(c if c.isprintable() or c in keep else c.encode(*escape).decode() for c in text)
