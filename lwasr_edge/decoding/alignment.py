"""The frames of a text's pieces: those of greedy decoding where it has the same words, else the best alignment."""

from __future__ import annotations

import numpy as np

from lwasr_edge.decoding.ctc_graph import CtcGraph
from lwasr_edge.decoding.spelling import SpellingTrie
from lwasr_edge.words import WORD_START, TimedToken


def align(log_probs: np.ndarray, spelled: str, pieces: dict[int, str], blank_id: int) -> list[TimedToken]:
    """The most likely spelling of a text and its frames.

    A beam search changes few words. The words before the first and after the last change keep the frames of greedy
    decoding, so that only the frames between them are searched (Viterbi).

    Args:
        log_probs: (T, V) float32, log posteriors.
        spelled: pieces of the text, joined, with word marks.
        pieces: text of each token.
        blank_id: token of the blank.

    Returns:
        The pieces in order; empty if T frames cannot hold them.
    """
    words = _words(spelled)
    greedy = _greedy_words(log_probs, pieces, blank_id)
    n_first = _n_common(words, [word for word, _ in greedy])
    rest = words[n_first:], greedy[n_first:]
    n_last = _n_common(rest[0][::-1], [word for word, _ in rest[1][::-1]])
    first = [token for _, tokens in greedy[:n_first] for token in tokens]
    last = [token for _, tokens in greedy[len(greedy) - n_last :] for token in tokens]
    changed = "".join(rest[0][: len(rest[0]) - n_last])
    if not changed:
        return first + last
    begin = first[-1].frame + 1 if first else 0
    end = last[0].frame if last else len(log_probs)
    between = _align_all(log_probs[begin:end], changed, pieces, blank_id)
    if between:
        return [*first, *(token._replace(frame=token.frame + begin) for token in between), *last]
    return _align_all(log_probs, spelled, pieces, blank_id)


def _align_all(log_probs: np.ndarray, spelled: str, pieces: dict[int, str], blank_id: int) -> list[TimedToken]:
    if not spelled or not len(log_probs):
        return []
    occurring = {token: piece for token, piece in pieces.items() if piece in spelled}  # few: a small trie
    return CtcGraph(SpellingTrie([spelled], occurring), blank_id).align(log_probs)


def _words(spelled: str) -> list[str]:
    """Each word with its mark; text before the first mark is a word too."""
    first, *rest = spelled.split(WORD_START)
    return ([first] if first else []) + [WORD_START + word for word in rest]


def _greedy_words(log_probs: np.ndarray, pieces: dict[int, str], blank_id: int) -> list[tuple[str, list[TimedToken]]]:
    """The words of greedy decoding with their tokens."""
    words: list[tuple[str, list[TimedToken]]] = []
    for token in greedy_tokens(log_probs, blank_id):
        piece = pieces.get(token.token, "")  # markers are no text, and make their word another one
        if piece.startswith(WORD_START) or not words:
            words.append(("", []))
        text, own = words[-1]
        words[-1] = (text + (piece or "<"), [*own, token])
    return words


def greedy_tokens(log_probs: np.ndarray, blank_id: int) -> list[TimedToken]:
    """Greedy decoding, as in the model file: the best token of each frame, without repeats and blanks."""
    best = log_probs.argmax(axis=1)
    frames = np.flatnonzero((best != blank_id) & (np.diff(best, prepend=blank_id) != 0))
    tokens = best[frames]
    scores = np.exp(log_probs[frames, tokens]).tolist()
    return [TimedToken(*one) for one in zip(tokens.tolist(), frames.tolist(), scores, strict=True)]


def _n_common(one: list[str], other: list[str]) -> int:
    """How many words at the beginning are the same."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
