"""Word n-grams with back-off, read from the ARPA text format.

As SRILM, KenLM and others write it: `\\data\\` with the number of n-grams of each order, a section `\\N-grams:` for
each, whose lines are a log10 probability, N words and, if longer n-grams begin with them, a log10 back-off weight;
`\\end\\` ends the file. Back-off is Katz's (1987): a missing n-gram has the probability of its last N - 1 words, times
the back-off weight of its first N - 1.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from lwasr_edge.errors import LanguageModelError
from lwasr_edge.files import open_regular
from lwasr_edge.validate import shown

START = "<s>"
END = "</s>"
UNKNOWN = "<unk>"
_LN_10 = math.log(10.0)
MAX_ORDER = 20  # words
MAX_LINE = 1 << 16  # characters
MAX_BLANK_LINES = 100_000  # in a row, and of comments before the data
MAX_NGRAMS = 5_000_000  # 1 GB of memory
_UNSEEN_LOG10 = -7.0  # for unknown words, if the file has no <unk>
Context = tuple[str, ...]
Use = Callable[[Context, float, float], None]


class NGram:
    """A back-off model over words.

    Attributes:
        order: words in the longest n-grams.
    """

    def __init__(self, order: int, entries: dict[Context, tuple[float, float]]) -> None:
        """`entries`: words -> (log10 probability, log10 back-off weight)."""
        self.order = order
        self._entries = entries
        self._beginnings: set[str] | None = None
        if (UNKNOWN,) not in entries and ("<UNK>",) in entries:
            entries[(UNKNOWN,)] = entries[("<UNK>",)]
        entries.setdefault((UNKNOWN,), (_UNSEEN_LOG10, 0.0))

    def __contains__(self, word: str) -> bool:
        return (word,) in self._entries

    @property
    def words(self) -> list[str]:
        """Every known word, without the markers `<s>`, `</s>` and `<unk>`."""
        return [gram[0] for gram in self._entries if len(gram) == 1 and gram[0] not in (START, END, UNKNOWN)]

    def start(self) -> Context:
        """Context before the first word of a sentence."""
        return (START,) if self.order > 1 else ()

    def score(self, context: Context, word: str) -> tuple[float, Context]:
        """Natural log probability of a word (or `END`) after a context, and the context after it."""
        if (word,) not in self._entries:
            word = UNKNOWN
        log10 = 0.0
        history = context
        while True:
            entry = self._entries.get((*history, word))
            if entry is not None:
                log10 += entry[0]
                break
            log10 += self._entries.get(history, (0.0, 0.0))[1]
            history = history[1:]
        kept = self.order - 1
        return log10 * _LN_10, (*context, word)[-kept:] if kept else ()

    def is_beginning(self, text: str) -> bool:
        """Whether a known word begins with, or is, this text."""
        if self._beginnings is None:
            self._beginnings = {word[:length] for word in self.words for length in range(len(word) + 1)}
        return text in self._beginnings

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> NGram:
        """Read an ARPA file, plain or compressed with gzip, with or without a byte order mark.

        Raises:
            LanguageModelError: no such file, or not a complete ARPA file; with the number of the invalid line.
        """
        entries: dict[Context, tuple[float, float]] = {}

        def keep(words: Context, log10: float, back_off: float) -> None:
            entries[words] = (log10, back_off)

        return cls(len(read_arpa(Path(path), keep)), entries)


def read_arpa(path: Path, use: Use) -> list[int]:
    """Read an ARPA file, plain or compressed with gzip, with or without a byte order mark.

    Args:
        path: of the file.
        use: called with the words of each n-gram, its log10 probability and its log10 back-off weight.

    Returns:
        The number of n-grams of each order.

    Raises:
        LanguageModelError: no such file, or not a complete ARPA file; with the number of the invalid line.
    """
    try:
        with open_regular(path) as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            binary = gzip.GzipFile(fileobj=file) if is_gzip else file
            with io.TextIOWrapper(binary, encoding="utf-8-sig") as lines:
                return _ArpaReader(path, lines, use).read()
    except LanguageModelError:
        raise
    except FileNotFoundError:
        raise LanguageModelError(f"language model must be an ARPA file, got {path}, which does not exist") from None
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"language model must be an ARPA file in UTF-8, got {path}, which is not text: convert a binary model"
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LanguageModelError(f"{path} cannot be read: {reason}") from error


class _ArpaReader:
    """Reads the lines of a file."""

    def __init__(self, path: Path, lines: TextIO, use: Use) -> None:
        self._path = path
        self._lines = lines
        self._use = use
        self._number = 0

    def read(self) -> list[int]:
        counts = self._read_counts()
        for order, count in enumerate(counts, 1):
            self._read_section(order, len(counts), count)
        if self._next_line() != "\\end\\":
            raise self._error("'\\end\\' must follow the last section")
        return counts

    def _read_counts(self) -> list[int]:
        while (line := self._next_line()) != "\\data\\":
            if line is None or self._number > MAX_BLANK_LINES:
                raise self._error("an ARPA file must have a '\\data\\' line, got none")
        counts: list[int] = []
        while (line := self._next_line()) is not None:
            match = re.fullmatch(r"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})", line)
            if match is None and not line.startswith("ngram"):
                break
            if match is None or int(match[1]) != len(counts) + 1:
                raise self._error(f"the count of {len(counts) + 1}-grams must follow, got {shown(line)}")
            counts.append(int(match[2]))
            if len(counts) > MAX_ORDER or sum(counts) > MAX_NGRAMS:
                limits = f"{MAX_NGRAMS} n-grams of {MAX_ORDER} words"
                raise self._error(f"a language model must have at most {limits}, got {shown(line)}: prune it")
        if not counts:
            raise self._error(f"'ngram 1=COUNT' must follow '\\data\\', got {shown(line)}")
        self._expect_section(line, 1)
        return counts

    def _read_section(self, order: int, highest: int, count: int) -> None:
        """Read the `count` lines of a section after its header, and the header of the next section."""
        for _ in range(count):
            line = self._next_line()
            fields = line.split() if line is not None and not line.startswith("\\") else []
            if len(fields) not in (order + 1, order + 2):
                raise self._error(
                    f"the section of {order}-grams must have {count} lines of a probability, {order} words and an "
                    f"optional back-off weight, got {shown(line)}"
                )
            weight = fields[order + 1] if len(fields) == order + 2 else "0"
            self._use(tuple(fields[1 : order + 1]), self._number_in(fields[0]), self._number_in(weight))
        if order < highest:
            self._expect_section(self._next_line(), order + 1)

    def _expect_section(self, line: str | None, order: int) -> None:
        if line != f"\\{order}-grams:":
            raise self._error(f"'\\{order}-grams:' must follow, got {shown(line)}")

    def _number_in(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number) or number == math.inf:
            raise self._error(f"probabilities and weights must be log10 numbers, got {shown(text)}")
        return number

    def _next_line(self) -> str | None:
        """The next line that is not blank, stripped; None at the end of the file."""
        blank = 0
        while line := self._lines.readline(MAX_LINE + 1):
            self._number += 1
            if len(line) > MAX_LINE:
                raise self._error(f"a line must have at most {MAX_LINE} characters, got more")
            if stripped := line.strip():
                return stripped
            blank += 1
            if blank > MAX_BLANK_LINES:
                raise self._error(f"sections must be separated by a blank line, got {blank} of them")
        return None

    def _error(self, what: str) -> LanguageModelError:
        return LanguageModelError(f"{self._path}, line {self._number}: {what}")
