"""CTC over a graph of spellings: the exact probability of each text, and the frames of its pieces.

Graves et al. 2006, section 4.1, on a lattice instead of one labelling. A state is a piece (an arc) or the blank between
pieces (a node). From frame to frame a state may stay, a blank may enter any arc that leaves its node, and an arc may
enter its target's blank or directly a following arc, unless that is the same piece: a repeated piece needs a blank
between.
"""

from __future__ import annotations

import numpy as np

from lwasr_edge.decoding.spelling import ROOT, SpellingTrie
from lwasr_edge.words import TimedToken


class CtcGraph:
    """The states of a `SpellingTrie` and the transitions between them.

    States 0 to n_nodes - 1 are the nodes' blanks, the arcs follow. Transitions are sorted by target, and every state
    has one to itself: so sums and maxima over all transitions into each state are a single `reduceat`.
    """

    def __init__(self, trie: SpellingTrie, blank_id: int) -> None:
        nodes = np.arange(trie.n_nodes)
        arcs = trie.n_nodes + np.arange(len(trie.arc_token))
        self.ends = trie.ends
        self.n_nodes = trie.n_nodes
        self.n_states = trie.n_nodes + len(arcs)
        self.state_token = np.concatenate([np.full(trie.n_nodes, blank_id), trie.arc_token])
        first, second = _pairs(trie.arc_target, trie.arc_source)  # pairs of consecutive arcs
        differ = trie.arc_token[first] != trie.arc_token[second]
        transitions = [
            (nodes, nodes),
            (arcs, arcs),
            (arcs, trie.arc_target),
            (trie.arc_source, arcs),
            (arcs[first[differ]], arcs[second[differ]]),
        ]
        source = np.concatenate([source for source, _ in transitions])
        target = np.concatenate([target for _, target in transitions])
        order = np.argsort(target, kind="stable")
        self.transition_source = source[order]
        self.transition_offsets = np.searchsorted(target[order], np.arange(self.n_states))
        # The states in which each text may end: its node's blank, and the arcs into that node.
        text, arc = _pairs(trie.ends, trie.arc_target)
        self._final_state = np.concatenate([trie.ends, arcs[arc]])
        self._final_text = np.concatenate([np.arange(len(trie.ends)), text])

    def log_likelihoods(self, log_probs: np.ndarray) -> np.ndarray:
        """Log probability of each text, summed over its spellings and their alignments.

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            (n_texts,) float64; minus infinity for a text with more pieces than T frames can hold, and for one that
            falls about 700 nats behind another text at some frame (underflow), which later frames cannot make up for.
        """
        probs = np.exp(log_probs.astype(np.float64))
        alpha = np.zeros(self.n_states)
        alpha[ROOT] = 1.0  # before the first frame
        log_scale = 0.0
        for frame_probs in probs:
            alpha = (
                np.add.reduceat(alpha[self.transition_source], self.transition_offsets) * frame_probs[self.state_token]
            )
            scale = alpha.max()
            if scale == 0.0:
                return np.full(len(self.ends), -np.inf)
            alpha /= scale
            log_scale += np.log(scale)
        totals = np.bincount(self._final_text, weights=alpha[self._final_state], minlength=len(self.ends))
        with np.errstate(divide="ignore"):
            return np.log(totals) + log_scale

    def align(self, log_probs: np.ndarray) -> list[TimedToken]:
        """The most likely spelling and alignment of the graph's one text (Viterbi).

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            Its pieces in order; empty if T frames cannot hold it.

        Raises:
            ValueError: the graph has more than one text.
        """
        if len(self.ends) != 1:
            raise ValueError(f"the graph must have one text to align, got {len(self.ends)}")
        delta = np.full(self.n_states, -np.inf)
        delta[ROOT] = 0.0
        history = [delta]
        for frame in log_probs:
            delta = (
                np.maximum.reduceat(delta[self.transition_source], self.transition_offsets) + frame[self.state_token]
            )
            history.append(delta)
        state = int(self._final_state[np.argmax(delta[self._final_state])])
        if delta[state] == -np.inf:
            return []
        aligned: list[TimedToken] = []
        bounds = np.append(self.transition_offsets, len(self.transition_source))
        for t in range(len(log_probs) - 1, -1, -1):
            before = self.transition_source[bounds[state] : bounds[state + 1]]
            previous = int(before[np.argmax(history[t][before])])
            if state >= self.n_nodes and previous != state:
                token = int(self.state_token[state])
                aligned.append(TimedToken(token, t, float(np.exp(log_probs[t, token]))))
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
