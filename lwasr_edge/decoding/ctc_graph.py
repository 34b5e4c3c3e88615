"""CTC over a graph of spellings: the exact probability of each text, and the frames of its pieces.

Graves et al. 2006, section 4.1, on a lattice instead of one labelling. A state is a piece being said (an arc) or the
blank between pieces (a node). From frame to frame a state may stay, a blank may begin any arc that leaves its node, and
an arc may end in its node's blank or go straight on to a following arc, unless that is the same piece again: a piece
said twice needs a blank between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lwasr_edge.decoding.spelling import ROOT, SpellingTrie


class AlignedToken(NamedTuple):
    """One piece of an aligned text."""

    token: int
    frame: int  # in which it comes first
    score: float  # its posterior there, 0..1


class CtcGraph:
    """The states of a `SpellingTrie` and the steps between them.

    States 0 to n_nodes - 1 are the nodes' blanks, the arcs follow. Steps are sorted by the state they lead to, which
    has at least one, staying: so sums and maxima over all steps into each state are a single `reduceat`.
    """

    def __init__(self, trie: SpellingTrie, blank_id: int) -> None:
        nodes = np.arange(trie.n_nodes)
        arcs = trie.n_nodes + np.arange(len(trie.arc_token))
        self.ends = trie.ends
        self.n_nodes = trie.n_nodes
        self.n_states = trie.n_nodes + len(arcs)
        self.state_token = np.concatenate([np.full(trie.n_nodes, blank_id), trie.arc_token])
        first, second = _pairs(trie.arc_target, trie.arc_source)  # arcs that follow one another
        differ = trie.arc_token[first] != trie.arc_token[second]
        steps = [
            (nodes, nodes),
            (arcs, arcs),
            (arcs, trie.arc_target),
            (trie.arc_source, arcs),
            (arcs[first[differ]], arcs[second[differ]]),
        ]
        source = np.concatenate([source for source, _ in steps])
        target = np.concatenate([target for _, target in steps])
        order = np.argsort(target, kind="stable")
        self.step_source = source[order]
        self.step_offsets = np.searchsorted(target[order], np.arange(self.n_states))
        # For each text, the states in which it may end: its node's blank, and the arcs into that node.
        text, arc = _pairs(trie.ends, trie.arc_target)
        self._final_state = np.concatenate([trie.ends, arcs[arc]])
        self._final_text = np.concatenate([np.arange(len(trie.ends)), text])

    def log_likelihoods(self, log_probs: np.ndarray) -> np.ndarray:
        """Log probability of each text, summed over its spellings and their alignments.

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            (n_texts,) float64; minus infinity for a text with more pieces than fit into T frames, and for one that is
            some 700 nats behind another text half-way through, which no later frame makes good.
        """
        probs = np.exp(log_probs.astype(np.float64))
        alpha = np.zeros(self.n_states)
        alpha[ROOT] = 1.0  # before the first frame
        log_scale = 0.0
        for frame_probs in probs:
            alpha = np.add.reduceat(alpha[self.step_source], self.step_offsets) * frame_probs[self.state_token]
            scale = alpha.max()
            if scale == 0.0:
                return np.full(len(self.ends), -np.inf)
            alpha /= scale
            log_scale += np.log(scale)
        totals = np.bincount(self._final_text, weights=alpha[self._final_state], minlength=len(self.ends))
        with np.errstate(divide="ignore"):
            return np.log(totals) + log_scale

    def align(self, log_probs: np.ndarray) -> list[AlignedToken]:
        """The likeliest spelling and alignment of the graph's one text (Viterbi).

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            Its pieces in order; empty if it does not fit into T frames.

        Raises:
            ValueError: the graph has more texts than one.
        """
        if len(self.ends) != 1:
            raise ValueError(f"one text can be aligned; the graph has {len(self.ends)}")
        delta = np.full(self.n_states, -np.inf)
        delta[ROOT] = 0.0
        history = [delta]
        for frame in log_probs:
            delta = np.maximum.reduceat(delta[self.step_source], self.step_offsets) + frame[self.state_token]
            history.append(delta)
        state = int(self._final_state[np.argmax(delta[self._final_state])])
        if delta[state] == -np.inf:
            return []
        aligned: list[AlignedToken] = []
        bounds = np.append(self.step_offsets, len(self.step_source))
        for t in range(len(log_probs) - 1, -1, -1):
            before = self.step_source[bounds[state] : bounds[state + 1]]
            previous = int(before[np.argmax(history[t][before])])
            if state >= self.n_nodes and previous != state:
                token = int(self.state_token[state])
                aligned.append(AlignedToken(token, t, float(np.exp(log_probs[t, token]))))
            state = previous
        return aligned[::-1]


def _pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with left[i] == right[j]."""
    order = np.argsort(right, kind="stable")
    begin = np.searchsorted(right[order], left, side="left")
    counts = np.searchsorted(right[order], left, side="right") - begin
    i = np.repeat(np.arange(len(left)), counts)
    within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    return i, order[np.repeat(begin, counts) + within]
