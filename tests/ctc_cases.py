"""CTC by enumeration, for tests: every path through a few frames of a small vocabulary."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np

# "ab" has four spellings: ▁ab, ▁a b, ▁ ab, ▁ a b.
VOCABULARY = ["a", "b", "ab", "\u2581a", "\u2581", "\u2581ab", "<unk>", "<blank>"]
BLANK_ID = 7
PIECES = {token: piece for token, piece in enumerate(VOCABULARY) if token < 6}


def random_log_probs(
    n_frames: int, seed: int, vocabulary_size: int = len(VOCABULARY), sharpness: float = 2.0
) -> np.ndarray:
    """(n_frames, V) float32 log posteriors."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (n_frames, vocabulary_size))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def spelled_probabilities(log_probs: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """For every text that the pieces spell: its probability, and the probability of its best path."""
    total: dict[str, float] = defaultdict(float)
    best: dict[str, float] = defaultdict(float)
    by_frame = log_probs.tolist()
    for path in itertools.product([*PIECES, BLANK_ID], repeat=len(log_probs)):
        tokens = [token for token, _ in itertools.groupby(path) if token != BLANK_ID]
        probability = math.exp(sum(frame[token] for frame, token in zip(by_frame, path, strict=True)))
        spelled = "".join(PIECES[token] for token in tokens)
        total[spelled] += probability
        best[spelled] = max(best[spelled], probability)
    return total, best


def log_probs_of_path(path: list[int], vocabulary_size: int, sure: float = 0.9) -> np.ndarray:
    """(len(path), V) float32: every frame gives `sure` to its token and shares the rest out."""
    probs = np.full((len(path), vocabulary_size), (1 - sure) / (vocabulary_size - 1))
    probs[np.arange(len(path)), path] = sure
    return np.log(probs).astype(np.float32)
