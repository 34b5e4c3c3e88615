"""Word n-grams in a binary file that is mapped into memory: about 7 bytes an n-gram, shared between processes.

The layout is that of `ngram_layout`.
"""

from __future__ import annotations

import mmap
import os
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lwasr_edge.decoding.ngram import END, START, UNKNOWN
from lwasr_edge.decoding.ngram_layout import HEADER, MAGIC, MAX_WORD, SIZES, VERSION, DamagedError, Level, Reader
from lwasr_edge.errors import LanguageModelError
from lwasr_edge.files import open_regular

SUFFIX = ".lm"
MAX_NGRAMS = 100_000_000  # of one order
MAX_BYTES = 1 << 31
_KEPT_WORDS = 20_000  # looked up before; more are forgotten


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
                if not HEADER.size + SIZES.size <= size <= MAX_BYTES:
                    raise DamagedError(f"{size} bytes")
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
        except DamagedError as damage:
            raise LanguageModelError(
                f"language model must be a complete {SUFFIX} file, got {self.path} with {damage}: make it again with "
                "`lwasr lm convert`, or copy it again"
            ) from None

    def _open(self) -> None:
        magic, version, crc = HEADER.unpack_from(self._map)
        if magic != MAGIC:
            raise DamagedError("another kind of content")
        if version > VERSION:
            raise LanguageModelError(
                f"{self.path} has version {version} of the format, which is newer than this program's ({VERSION}): "
                "pip install --upgrade lwasr-edge"
            )
        if version != VERSION or crc != zlib.crc32(memoryview(self._map)[HEADER.size :]):
            raise DamagedError("a wrong checksum")
        reader = Reader(self._map)
        self.order, self._n_words, n_bytes = reader.sizes()
        counts = [self._n_words, *reader.array("<u4", self.order - 1).tolist()]
        if max(counts) > MAX_NGRAMS or self._n_words == 0:
            raise DamagedError(f"{max(counts)} n-grams of one order")
        self._word_begin = reader.array("<u4", self._n_words + 1)
        self._blob_at = reader.skip(n_bytes)
        self._levels = [reader.level(n, count, counts) for n, count in enumerate(counts, 1)]
        if reader.at != len(self._map):
            raise DamagedError("bytes after its end")
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
            raise DamagedError(f"no {UNKNOWN}")
        self._start = (start,) if start >= 0 and self.order > 1 else ()

    def _check(self, n_bytes: int) -> None:
        """Refuse indices that point outside: a checksum does not protect from a hostile file.

        The order of the words is not checked: a word in the wrong position is not found, which does no harm.
        """
        begin = self._word_begin
        lengths = begin[1:] - begin[:-1]  # modulo 2**32: huge if a word ends before it begins
        if begin[0] != 0 or begin[-1] != n_bytes or lengths.min() < 1 or lengths.max() > MAX_WORD:
            raise DamagedError("invalid words")
        for level, after in zip(self._levels, [*self._levels[1:], None], strict=True):
            for values in (level.prob_values, level.back_off_values):
                if values is not None and not np.isfinite(values).all():
                    raise DamagedError("probabilities that are no numbers")
            if after is None or level.begin is None:
                continue
            begin, word = level.begin, after.word
            assert word is not None
            if begin[0] != 0 or begin[-1] != len(word) or (begin[1:] < begin[:-1]).any():
                raise DamagedError("invalid indices")
            if len(word) and word.max() >= self._n_words:
                raise DamagedError("words that it does not have")

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


def _native(array: np.ndarray) -> memoryview:
    """The array for single lookups, in the byte order of this machine: without a copy on most."""
    return memoryview(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))  # type: ignore[arg-type]
