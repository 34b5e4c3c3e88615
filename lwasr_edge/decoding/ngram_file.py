"""Word n-grams in a binary file that is mapped into memory: about 7 bytes an n-gram, shared between processes.

The layout is in docs/decoding.md. N-grams are a trie of sorted arrays: the children of entry i of one order are the
entries begin[i] to begin[i + 1] of the next, sorted by word. A word is its position in the sorted list of words.
Probabilities and back-off weights are one byte each, an index into 256 values of their order.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lwasr_edge.decoding.ngram import END, START, UNKNOWN
from lwasr_edge.errors import LanguageModelError, OutputError
from lwasr_edge.files import open_regular, write_bytes

MAGIC = b"lwasr-lm"
VERSION = 1
SUFFIX = ".lm"
MAX_ORDER = 6
MAX_NGRAMS = 100_000_000  # of one order
MAX_BYTES = 1 << 31
MAX_WORD = 1_000  # bytes
N_VALUES = 256  # of a byte
_HEADER = struct.Struct("<8sII")  # magic, version, CRC-32 of everything after it
_SIZES = struct.Struct("<III")  # order, number of words, bytes of the words
_KEPT_WORDS = 20_000  # looked up before; more are forgotten


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


class MappedNGram:
    """A back-off model over words in a file, with the interface of `NGram`. A context is a tuple of words' numbers.

    Pickled, it is the path, and the file is opened again.

    Args:
        path: of a file that `write_tables` wrote.

    Attributes:
        order: words in the longest n-grams.
        path: of the file.

    Raises:
        LanguageModelError: no such file, or another kind of file, a damaged one, or one of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if not _HEADER.size + _SIZES.size <= size <= MAX_BYTES:
                    raise _DamagedError(f"{size} bytes")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._open()
        except FileNotFoundError:
            raise LanguageModelError(
                f"language model must be an ARPA or {SUFFIX} file, got {self.path}, which does not exist"
            ) from None
        except (OSError, ValueError) as error:
            raise LanguageModelError(
                f"{self.path} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from error
        except _DamagedError as damage:
            raise LanguageModelError(
                f"language model must be a complete {SUFFIX} file, got {self.path} with {damage}: make it again with "
                "`lwasr lm convert`, or copy it again"
            ) from None

    def _open(self) -> None:
        magic, version, crc = _HEADER.unpack_from(self._map)
        if magic != MAGIC:
            raise _DamagedError("another kind of content")
        if version > VERSION:
            raise LanguageModelError(
                f"{self.path} has version {version} of the format, which is newer than this program's ({VERSION}): "
                "pip install --upgrade lwasr-edge"
            )
        if version != VERSION or crc != zlib.crc32(memoryview(self._map)[_HEADER.size :]):
            raise _DamagedError("a wrong checksum")
        reader = _Reader(self._map)
        self.order, self._n_words, n_bytes = reader.sizes()
        counts = [self._n_words, *reader.array("<u4", self.order - 1).tolist()]
        if max(counts) > MAX_NGRAMS or self._n_words == 0:
            raise _DamagedError(f"{max(counts)} n-grams of one order")
        self._word_begin = reader.array("<u4", self._n_words + 1)
        self._blob_at = reader.skip(n_bytes)
        self._levels = [reader.level(n, count, counts) for n, count in enumerate(counts, 1)]
        if reader.at != len(self._map):
            raise _DamagedError("bytes after its end")
        self._check(n_bytes)
        if hasattr(mmap, "MADV_DONTNEED"):  # the checks have read all of it; lookups need a part
            self._map.madvise(mmap.MADV_DONTNEED)
        self._offsets = _native(self._word_begin)
        self._views = [_View.of(level) for level in self._levels]
        self._known: dict[str, int] = {}
        self._by_beginning: dict[bytes, tuple[int, int]] = {}
        self._beginnings: dict[str, bool] = {}
        self._unknown_id, self._end_id, start = (self._find(word.encode()) for word in (UNKNOWN, END, START))
        if self._unknown_id < 0:
            raise _DamagedError(f"no {UNKNOWN}")
        self._start = (start,) if start >= 0 and self.order > 1 else ()

    def _check(self, n_bytes: int) -> None:
        """Refuse indices that point outside: a checksum does not protect from a hostile file.

        The order of the words is not checked: a word in the wrong position is not found, which does no harm.
        """
        begin = self._word_begin
        lengths = begin[1:] - begin[:-1]  # modulo 2**32: huge if a word ends before it begins
        if begin[0] != 0 or begin[-1] != n_bytes or lengths.min() < 1 or lengths.max() > MAX_WORD:
            raise _DamagedError("invalid words")
        for level, after in zip(self._levels, [*self._levels[1:], None], strict=True):
            for values in (level.prob_values, level.back_off_values):
                if values is not None and not np.isfinite(values).all():
                    raise _DamagedError("probabilities that are no numbers")
            if after is None or level.begin is None:
                continue
            begin, word = level.begin, after.word
            assert word is not None
            if begin[0] != 0 or begin[-1] != len(word) or (begin[1:] < begin[:-1]).any():
                raise _DamagedError("invalid indices")
            if len(word) and word.max() >= self._n_words:
                raise _DamagedError("words that it does not have")

    def __reduce__(self) -> tuple[type[MappedNGram], tuple[Path]]:
        return MappedNGram, (self.path.absolute(),)

    def __contains__(self, word: str) -> bool:
        return self._id(word) >= 0

    @property
    def counts(self) -> list[int]:
        """Number of n-grams of each order."""
        return [len(level.prob) for level in self._levels]

    @property
    def words(self) -> Iterator[str]:
        """Every known word, without the markers `<s>`, `</s>` and `<unk>`."""
        for number in range(self._n_words):
            word = self._word(number).decode("utf-8", "replace")
            if word not in (START, END, UNKNOWN):
                yield word

    def is_beginning(self, text: str) -> bool:
        """Whether a known word begins with, or is, this text."""
        found = self._beginnings.get(text)
        if found is None:
            raw = text.encode("utf-8", "replace")
            position = self._position(raw)
            found = position < self._n_words and self._word(position).startswith(raw)
            if len(self._beginnings) >= _KEPT_WORDS:
                self._beginnings.clear()
            self._beginnings[text] = found
        return found

    def start(self) -> tuple[int, ...]:
        """Context before the first word of a sentence."""
        return self._start

    def score(self, context: tuple[int, ...], word: str) -> tuple[float, tuple[int, ...]]:
        """Natural log probability of a word (or `END`) after a context, and the context after it."""
        number = self._known.get(word)
        if number is None:
            number = self._id(word)
        if number < 0:
            number = self._unknown_id
        kept = self.order - 1
        following = (*context, number)[-kept:] if kept else ()
        score, levels = 0.0, self._views
        for first in range(len(context)):
            entry, depth = context[first], 0
            for after in (*context[first + 1 :], number):
                view, children = levels[depth], levels[depth + 1].word
                end = view.begin[entry + 1]
                found = bisect_left(children, after, view.begin[entry], end)
                if found == end or children[found] != after:
                    break
                entry, depth = found, depth + 1
            view = levels[depth]
            if depth == len(context) - first:
                return score + view.prob_values[view.prob[entry]], following
            if depth == len(context) - first - 1:  # the context is an entry, the word after it is not
                score += view.back_off_values[view.back_off[entry]]
        view = levels[0]
        return score + view.prob_values[view.prob[number]], following

    def _id(self, word: str) -> int:
        number = self._known.get(word)
        if number is None:
            number = self._find(word.encode("utf-8", "replace"))
            if len(self._known) >= _KEPT_WORDS:
                self._known.clear()
            self._known[word] = number
        return number

    def _find(self, raw: bytes) -> int:
        position = self._position(raw)
        return position if position < self._n_words and self._word(position) == raw else -1

    def _position(self, raw: bytes) -> int:
        """Where a word is, or would be, in the sorted list."""
        first, end = self._with_beginning(raw[:3])
        return first + bisect_left(range(first, end), raw, key=self._word)

    def _with_beginning(self, first_bytes: bytes) -> tuple[int, int]:
        """Between which positions words with these first bytes are: the search among them is short."""
        found = self._by_beginning.get(first_bytes)
        if found is None:
            numbers = range(self._n_words)
            first = bisect_left(numbers, first_bytes, key=self._word)
            end = bisect_left(numbers, first_bytes + b"\xff", first, key=self._word)  # no byte of UTF-8
            if len(self._by_beginning) >= _KEPT_WORDS:
                self._by_beginning.clear()
            found = self._by_beginning[first_bytes] = (first, end)
        return found

    def _word(self, number: int) -> bytes:
        return self._map[self._blob_at + self._offsets[number] : self._blob_at + self._offsets[number + 1]]


class _View(NamedTuple):
    """A level for lookups one at a time: memoryviews give Python numbers, in a tenth of numpy's time."""

    word: memoryview
    prob: memoryview
    prob_values: list[float]
    back_off: memoryview
    back_off_values: list[float]
    begin: memoryview

    @classmethod
    def of(cls, level: Level) -> _View:
        empty = np.zeros(0, np.uint8)
        word, back_off, begin = (
            _native(empty if array is None else array) for array in (level.word, level.back_off, level.begin)
        )
        weights = [] if level.back_off_values is None else level.back_off_values.tolist()
        return cls(word, _native(level.prob), level.prob_values.tolist(), back_off, weights, begin)


class _DamagedError(Exception):
    """What is wrong with a file."""


class _Reader:
    """Arrays of a file one after the other; each begins at a multiple of 4 bytes."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = _HEADER.size

    def sizes(self) -> tuple[int, int, int]:
        """Order, number of words, and bytes of the words."""
        order, n_words, n_bytes = _SIZES.unpack_from(self._data, self.skip(_SIZES.size))
        if not 1 <= order <= MAX_ORDER:
            raise _DamagedError(f"n-grams of {order} words")
        return order, n_words, n_bytes

    def skip(self, n_bytes: int) -> int:
        """Where the next bytes begin; go to those after them."""
        at = self.at
        self.at = at + n_bytes + -n_bytes % 4
        if self.at > len(self._data):
            raise _DamagedError("its end missing")
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
        _SIZES.pack(len(tables.levels), len(tables.words), sum(lengths)),
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
    return _HEADER.pack(MAGIC, VERSION, zlib.crc32(content)) + content


def write_tables(path: Path, tables: Tables) -> None:
    """Write a file, which is replaced at once or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_bytes(path, to_bytes(tables))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _native(array: np.ndarray) -> memoryview:
    """The array for single lookups, in the byte order of this machine: without a copy on most."""
    return memoryview(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))  # type: ignore[arg-type]
