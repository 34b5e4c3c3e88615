"""Checks of option values: what is accepted, and the one form of message."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from lwasr_edge import OptionError
from lwasr_edge.validate import number, printable, shown, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_any_library(value: object) -> None:
    found = whole_number("threads", value, 1)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, np.float32(3), np.bool_(True), [3]])
def test_other_types_are_no_whole_numbers(value: object) -> None:
    with pytest.raises(OptionError, match=r"^threads must be a whole number >= 1, got .*: leave it out$"):
        whole_number("threads", value, 1, hint="leave it out")


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int16(1)])
def test_numbers_of_any_library(value: float) -> None:
    found = number("share", value, 0, 1)
    assert found == value and type(found) is float


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, np.nan, 10**400, -(10**400), True, "1", None, Decimal(1)]
)
def test_what_is_no_finite_number(value: object) -> None:
    with pytest.raises(OptionError, match="^share must be a finite number, got "):
        number("share", value)


def test_bounds_are_named() -> None:
    for value, limits in ((0.0, {"above": 0}), (1.0, {"below": 1}), (-0.1, {"minimum": 0}), (1.1, {"maximum": 1})):
        with pytest.raises(OptionError, match=rf"must be a finite number [<>]=? [01], got {value}"):
            number("x", value, **limits)
    assert number("x", 0.0, 0) == 0.0 and number("x", 1.0, maximum=1) == 1.0


def test_the_largest_whole_number() -> None:
    assert whole_number("threads", 5, 1, 5) == 5
    with pytest.raises(OptionError, match="^threads must be a whole number <= 5, got 6: use fewer$"):
        whole_number("threads", 6, 1, 5, hint="use fewer")
    with pytest.raises(OptionError, match="^threads must be a whole number <= 5, got an integer of 33220 bits$"):
        whole_number("threads", 10**10_000, 1, 5)  # Python refuses to write so many digits


def test_foreign_values_are_shown_in_short() -> None:
    for value in ("a" * 10**6, ["a" * 10**6] * 100, {"a" * 999: 1}, 10**5000, [[[[[[[[[[[1]]]]]]]]]]]):
        assert len(shown(value)) < 700
    assert shown("a\x1b") == repr("a\x1b") and shown(True) == "True" and shown([1, 2]) == "[1, 2]"
    assert len(shown([10**5000])) < 700


def test_what_a_terminal_may_interpret_is_escaped() -> None:
    text = "caf\u00e9 \u2581a\n"
    assert printable(text, keep="\n") == text
    assert printable(text) == "caf\u00e9 \u2581a\\n"
    assert printable("\x1b[2J\x9b\u202e\ud800\x7f\0") == "\\x1b[2J\\x9b\\u202e\\ud800\\x7f\\x00"
