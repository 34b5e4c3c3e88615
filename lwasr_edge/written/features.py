"""What the tagger knows of a word: rows of two hashed embedding tables.

A word has two rows of the word table, whose sum tells it from most words that share one of them (Bloom embeddings,
Serrà and Karatzoglou 2017), and the mean of the rows of its character n-grams, as in fastText (Bojanowski et al. 2017),
which is all that a word has that was not in the training text.
"""

from __future__ import annotations

import functools
import zlib
from typing import NamedTuple

MAX_NGRAMS = 16  # of a word; of longer words, those at the start and at the end
NGRAM_LENGTHS = (3, 4)


class WordRows(NamedTuple):
    """Rows of the tables."""

    words: tuple[int, int]
    ngrams: tuple[int, ...]  # at least one


@functools.lru_cache(maxsize=20_000)
def word_rows(word: str, n_words: int, n_ngrams: int) -> WordRows:
    """The rows of a word in lower case.

    Args:
        word: any text; CRC-32 gives the same rows on every machine.
        n_words, n_ngrams: rows of the tables.
    """
    digest = zlib.crc32(word.encode("utf-8", "surrogatepass"))
    marked = f"<{word[:64]}>"
    ngrams = [marked[i : i + n] for n in NGRAM_LENGTHS for i in range(len(marked) - n + 1)] or [marked]
    if len(ngrams) > MAX_NGRAMS:
        half = MAX_NGRAMS // 2
        marked = marked[: half // 2 + 3] + marked[-half // 2 - 3 :]
        ngrams = [marked[i : i + n] for n in NGRAM_LENGTHS for i in range(len(marked) - n + 1)][:MAX_NGRAMS]
    rows = tuple(zlib.crc32(ngram.encode("utf-8", "surrogatepass")) % n_ngrams for ngram in ngrams)
    return WordRows((digest % n_words, (digest >> 15) % n_words), rows)
