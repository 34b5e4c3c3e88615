"""A language model of text, and the shares of several models in a mixture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lwasr_edge.decoding.language_model import WordModel
from lwasr_edge.decoding.ngram import END, UNKNOWN
from lwasr_edge.decoding.ngram_layout import Tables
from lwasr_edge.errors import LanguageModelError
from lwasr_edge.lm.counting import count, vocabulary
from lwasr_edge.lm.kneser_ney import estimate
from lwasr_edge.lm.tables import tables_of
from lwasr_edge.lm.text import Progress, sentences

ROUNDS = 50  # of expectation maximisation


def build(
    paths: Sequence[Path],
    progress: Progress,
    *,
    order: int = 3,
    n_words: int = 60_000,
    min_count: int = 1,
    max_bytes: float = 3.5e6,
) -> Tables:
    """Count text and estimate a model; the text is read twice.

    Args:
        paths: text in UTF-8, plain or compressed with gzip.
        progress: called with the bytes done and the bytes in total, of both readings.
        order: words in the longest n-grams, 2 or 3.
        n_words: of the vocabulary, the most frequent ones.
        min_count: a word must occur so often.
        max_bytes: of the file, approximately.

    Raises:
        LanguageModelError: a file that cannot be read, or text without words.
    """

    def reading(number: int) -> Iterable[list[str]]:
        return sentences(paths, lambda done, total: progress(number * total + done, 2 * total))

    words = vocabulary(reading(0), n_words, min_count)
    return tables_of(words, estimate(count(reading(1), words, order), max_bytes))


def mixture_shares(models: Sequence[WordModel], paths: Sequence[Path]) -> tuple[list[float], list[float]]:
    """The shares with which a mixture of models predicts held-out text best (expectation maximisation).

    Args:
        models: two or more.
        paths: text that no model was made of.

    Returns:
        The shares, and the perplexity by each model alone followed by that of the mixture, over words that a model
        knows.

    Raises:
        LanguageModelError: text without a word that a model knows.
    """
    rows = []
    for words in sentences(paths, lambda done, total: None):
        contexts = [model.start() for model in models]
        for word in [*words, END]:
            knows = [word in model for model in models]
            scored = [
                model.score(context, word if known else UNKNOWN)
                for model, context, known in zip(models, contexts, knows, strict=True)
            ]
            contexts = [context for _, context in scored]
            if any(knows):
                rows.append([math.exp(one) if known else 0.0 for (one, _), known in zip(scored, knows, strict=True)])
    if not rows:
        raise LanguageModelError("text must have words that a model knows, got none: give more text")
    probabilities = np.array(rows)
    shares = np.full(len(models), 1 / len(models))
    for _ in range(ROUNDS):
        parts = probabilities * shares
        shares = (parts / parts.sum(axis=1, keepdims=True)).mean(axis=0)
    columns = [*probabilities.T, probabilities @ shares]
    floor = 1e-9  # of a word that only another model knows
    return shares.tolist(), [float(np.exp(-np.log(np.maximum(column, floor)).mean())) for column in columns]
