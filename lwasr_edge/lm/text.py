"""Text as people write it, as sentences of words that a model can spell."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lwasr_edge.decoding.spoken import spoken_words
from lwasr_edge.errors import LanguageModelError
from lwasr_edge.files import open_regular

Progress = Callable[[float, float], object]  # bytes done, bytes in total
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
MAX_LINE = 1 << 20  # characters; longer lines are divided
_PLAIN = re.compile(r"[a-z' ]*")
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"')\]\u2019\u201d]*\s+")
_WORD = re.compile(r"[a-z][a-z']*|'[a-z]+(?:'[a-z]+)*")


def sentences(paths: Sequence[Path], progress: Progress) -> Iterator[list[str]]:
    """The words of every sentence; a line is one sentence or several. Numbers and symbols become words.

    Args:
        paths: text in UTF-8, plain or compressed with gzip.
        progress: called now and then.

    Raises:
        LanguageModelError: a file that cannot be read.
    """
    total = sum(path.stat().st_size if path.is_file() else 0 for path in paths)
    before = 0
    for path in paths:
        try:
            with open_regular(path) as file:
                is_gzip = file.read(2) == b"\x1f\x8b"
                file.seek(0)
                binary = gzip.GzipFile(fileobj=file) if is_gzip else file
                lines = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace")  # type: ignore[arg-type]
                for number, line in enumerate(iter(lambda lines=lines: lines.readline(MAX_LINE), "")):  # type: ignore[misc]
                    if number % 1000 == 0:
                        progress(before + file.tell(), total)
                    yield from _sentences_of(line)
                before += os.fstat(file.fileno()).st_size
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise LanguageModelError(f"{path} must be text in UTF-8, got {reason}: name another file") from error


def _sentences_of(line: str) -> Iterator[list[str]]:
    line = line.strip()
    if _PLAIN.fullmatch(line):
        found = [line.split()]
    else:
        found = [
            [word for _, spoken in spoken_words(sentence, LETTERS) for word in spoken]
            for sentence in _SENTENCE_END.split(line)
            if sentence.strip()
        ]
    for words in found:
        kept = [word for word in words if _WORD.fullmatch(word)]
        if kept:
            yield kept
