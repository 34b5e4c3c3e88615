"""Alternative texts: their confidences among each other and against "none of these", and those of a whole recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lwasr_edge.decoding.beam import Hypothesis
    from lwasr_edge.decoding.spoken import Respelling

# Fitted on training sets: see `probability_of_any`.
_NONE_MARGIN = 3.0
_NONE_SLOPE = 1.5


@dataclass(frozen=True)
class Alternative:
    """One possible text of an utterance or a recording."""

    text: str  # empty: none of the phrases
    score: float  # natural log: the model's probability of the text, plus phrase and language model scores
    confidence: float  # 0..1, among the alternatives; in modes "one" and "sequence", also against none of the phrases


def probability_of_any(log_probs: np.ndarray, blank_id: int, log_likelihood: float, n_tokens: int) -> float:
    """Probability that the utterance is one of the phrases, against "none of these".

    The background is the model's best path without restriction. The phrases' deficit to it, in nats, is divided by the
    square root of the number of pieces: random deviations grow with that root, differences by wrong words in proportion
    to the number. A logistic function maps it to a probability; its two constants put 0.5 where phrases and other
    speech separate in training sets (measured by benchmarks/accuracy/phrases.py).

    Args:
        log_probs: (T, V) float32.
        blank_id: token of the blank.
        log_likelihood: of all phrases together.
        n_tokens: pieces of the most likely phrase.

    Returns:
        0..1.
    """
    best = log_probs.argmax(axis=1)
    is_token = (best != blank_id) & (np.diff(best, prepend=blank_id) != 0)
    n = max(1, n_tokens, int(np.count_nonzero(is_token)))
    deficit = (float(log_probs.max(axis=1).sum(dtype=np.float64)) - log_likelihood) / math.sqrt(n)
    return 1.0 / (1.0 + math.exp(min(700.0, _NONE_SLOPE * (deficit - _NONE_MARGIN))))


def join_alternatives(utterances: Sequence[tuple[Alternative, ...]]) -> tuple[Alternative, ...]:
    """Alternatives of a recording from those of its utterances: scores are added, confidences multiplied."""
    nbest = max((len(alternatives) for alternatives in utterances), default=0)
    joined: list[Alternative] = []
    for alternatives in utterances:
        if not joined:
            joined = list(alternatives)
            continue
        pairs = sorted(
            ((before, after) for before in joined for after in alternatives),
            key=lambda pair: -pair[0].confidence * pair[1].confidence,
        )
        joined = [
            Alternative(
                " ".join(text for text in (before.text, after.text) if text),
                before.score + after.score,
                before.confidence * after.confidence,
            )
            for before, after in pairs[:nbest]
        ]
    return tuple(joined)


def against_none(
    log_probs: np.ndarray, blank_id: int, scores: np.ndarray, log_likelihoods: np.ndarray, n_tokens: int
) -> tuple[np.ndarray, float]:
    """Give hypotheses confidences against "none of these".

    Args:
        log_probs: (T, V) float32.
        blank_id: token of the blank.
        scores, log_likelihoods: (n,) of the hypotheses, the best first.
        n_tokens: pieces of the best one.

    Returns:
        The (n,) confidences, and the probability of none of them.
    """
    any_phrase = 0.0
    if len(scores):
        together = float(np.logaddexp.reduce(log_likelihoods))
        any_phrase = probability_of_any(log_probs, blank_id, together, n_tokens)
    return any_phrase * softmax(scores), 1.0 - any_phrase


def alternatives_of(
    found: list[Hypothesis], confidences: np.ndarray, respelling: Respelling | None = None
) -> list[Alternative]:
    """The texts of hypotheses, in the user's spelling where there is one."""
    return [
        Alternative(respelling.text(h.text) if respelling else h.text, h.score, float(confidence))
        for h, confidence in zip(found, confidences, strict=True)
    ]


def with_none(alternatives: list[Alternative], log_probs: np.ndarray, none: float) -> list[Alternative]:
    """Rank "none of these" among the alternatives."""
    background = Alternative("", float(log_probs.max(axis=1).sum(dtype=np.float64)), none)
    return sorted([*alternatives, background], key=lambda alternative: -alternative.confidence)


def softmax(scores: np.ndarray) -> np.ndarray:
    """(n,) log scores as shares of one; n may be 0."""
    if len(scores) == 0:
        return scores
    weights = np.exp(scores - scores.max())
    return weights / math.fsum(weights.tolist())
