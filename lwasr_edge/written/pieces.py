"""What a rule finds: written pieces, each for one or more of the recognised words."""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """A written piece, such as "7:30" for the two words "seven thirty"."""

    n_words: int  # at least one
    text: str


Pieces = tuple[Piece, ...]


def piece(n_words: int, text: str) -> Pieces:
    """One piece."""
    return (Piece(n_words, text),)


def count_words(pieces: Pieces) -> int:
    """Recognised words that the pieces stand for."""
    return sum(one.n_words for one in pieces)
