"""The layout of a binary file of word n-grams, read and written (docs/decoding.md).

N-grams are a trie of sorted arrays: the children of entry i of one order are the entries begin[i] to begin[i + 1] of
the next, sorted by word. A word is its position in the sorted list of words. Probabilities and back-off weights are one
byte each, an index into 256 values of their order.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lwasr_edge.errors import OutputError
from lwasr_edge.files import write_bytes

MAGIC = b"lwasr-lm"
VERSION = 1
MAX_ORDER = 6
MAX_WORD = 1_000  # bytes
N_VALUES = 256  # of a byte
HEADER = struct.Struct("<8sII")  # magic, version, CRC-32 of everything after it
SIZES = struct.Struct("<III")  # order, number of words, bytes of the words


class Level(NamedTuple):
    """The n-grams of one order: n of them, in the order of the trie."""

    word: np.ndarray | None  # (n,) uint16 or uint32, last word; None for single words, whose entry is the word
    prob: np.ndarray  # (n,) uint8
    prob_values: np.ndarray  # (256,) float32, natural log
    back_off: np.ndarray | None  # (n,) uint8; None in the highest order
    back_off_values: np.ndarray | None  # (256,) float32, natural log
    begin: np.ndarray | None  # (n + 1,) uint32, first child of each; None in the highest order


@dataclass(frozen=True)
class Tables:
    """A model as arrays."""

    words: list[bytes]  # UTF-8, sorted
    levels: list[Level]


class DamagedError(Exception):
    """What is wrong with a file."""


class Reader:
    """Arrays of a file one after the other; each begins at a multiple of 4 bytes."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = HEADER.size

    def sizes(self) -> tuple[int, int, int]:
        """Order, number of words, and bytes of the words."""
        order, n_words, n_bytes = SIZES.unpack_from(self._data, self.skip(SIZES.size))
        if not 1 <= order <= MAX_ORDER:
            raise DamagedError(f"n-grams of {order} words")
        return order, n_words, n_bytes

    def skip(self, n_bytes: int) -> int:
        """Where the next bytes begin; go to those after them."""
        at = self.at
        self.at = at + n_bytes + -n_bytes % 4
        if self.at > len(self._data):
            raise DamagedError("its end missing")
        return at

    def array(self, dtype: str, count: int) -> np.ndarray:
        """The next array, a view of the file."""
        return np.frombuffer(self._data, dtype, count, self.skip(count * np.dtype(dtype).itemsize))

    def level(self, n: int, count: int, counts: list[int]) -> Level:
        """The next order."""
        word = self.array(word_dtype(counts[0]), count) if n > 1 else None
        prob, prob_values = self.array("<u1", count), self.array("<f4", N_VALUES)
        if n == len(counts):
            return Level(word, prob, prob_values, None, None, None)
        return Level(
            word,
            prob,
            prob_values,
            self.array("<u1", count),
            self.array("<f4", N_VALUES),
            self.array("<u4", count + 1),
        )


def word_dtype(n_words: int) -> str:
    """The numbers of the words in a file."""
    return "<u2" if n_words <= 1 << 16 else "<u4"


def to_bytes(tables: Tables) -> bytes:
    """The content of a file."""
    lengths = [len(word) for word in tables.words]
    parts = [
        SIZES.pack(len(tables.levels), len(tables.words), sum(lengths)),
        np.array([len(level.prob) for level in tables.levels[1:]], "<u4").tobytes(),
        np.concatenate([[0], np.cumsum(lengths)]).astype("<u4").tobytes(),
        b"".join(tables.words),
    ]
    for level in tables.levels:
        arrays = [
            (level.word, word_dtype(len(tables.words))),
            (level.prob, "<u1"),
            (level.prob_values, "<f4"),
            (level.back_off, "<u1"),
            (level.back_off_values, "<f4"),
            (level.begin, "<u4"),
        ]
        parts += [array.astype(dtype).tobytes() for array, dtype in arrays if array is not None]
    content = b"".join(part + bytes(-len(part) % 4) for part in parts)
    return HEADER.pack(MAGIC, VERSION, zlib.crc32(content)) + content


def write_tables(path: Path, tables: Tables) -> None:
    """Write a file, which is replaced at once or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_bytes(path, to_bytes(tables))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
