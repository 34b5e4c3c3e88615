"""CTC over a graph of spellings: the exact probability of each text, and the frames of its pieces.

Graves et al. 2006, section 4.1, on a lattice instead of one labelling. A state is a piece (an arc) or the blank between
pieces (a node). From frame to frame a state may stay, a blank may enter any arc that leaves its node, and an arc may
enter its target's blank or directly a following arc, unless that is the same piece: a repeated piece needs a blank
between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lwasr_edge.decoding.spelling import ROOT, SpellingTrie, pairs
from lwasr_edge.words import TimedToken

# From here on, about 4000 short phrases, states far behind the likeliest one of a frame are pruned. A phrase that falls
# 34 nats behind is rejected in the end: with a confidence of 0.5, one of 20 pieces is 13 nats behind the best path.
LARGE_GRAPH_STATES = 100_000
MIN_SHARE = 1e-15  # e**-34


class CtcGraph:
    """The states of a `SpellingTrie` and the transitions between them.

    A node of the graph is a node of the trie in which a piece ends, or the root, which is node 0. State 0 to
    n_nodes - 1 are the nodes' blanks, the arcs follow, sorted by target: the sum over the arcs into each node is a
    single `reduceat`.
    """

    def __init__(self, trie: SpellingTrie, blank_id: int) -> None:
        self._blank_id = blank_id
        order = np.argsort(trie.arc_target, kind="stable")
        is_node = np.zeros(trie.n_nodes, bool)
        is_node[trie.arc_target] = is_node[ROOT] = True
        number = np.cumsum(is_node) - 1
        self.n_nodes = int(number[-1]) + 1
        self.n_states = self.n_nodes + len(order)
        self.ends = number[trie.ends]
        self._arc_token = trie.arc_token[order]
        self._arc_source = number[trie.arc_source[order]]
        self._arc_target = number[trie.arc_target[order]]
        self._arcs_into = np.searchsorted(self._arc_target, np.arange(1, self.n_nodes))  # the first arc into each node
        self._arcs_by_source = Groups.of(self._arc_source, self.n_nodes)
        self._find_repeats()

    def _find_repeats(self) -> None:
        """The arcs after an arc with the same piece, which must not enter them, and the states that may."""
        first, second = pairs(self._arc_target, self._arc_source)  # pairs of consecutive arcs
        same = self._arc_token[first] == self._arc_token[second]
        is_repeat = np.zeros(len(self._arc_token), bool)
        is_repeat[second[same]] = True
        self._repeats = np.flatnonzero(is_repeat)
        self._repeat_number = np.where(is_repeat, np.cumsum(is_repeat) - 1, -1)
        follows = is_repeat[second] & ~same
        source = np.concatenate([self._arc_source[self._repeats], self.n_nodes + first[follows]])
        target = np.concatenate([self._repeats, second[follows]])
        sources = Groups.of(self._repeat_number[target], len(self._repeats))
        self._repeat_sources = Groups(source[sources.members], sources.bounds)

    def log_likelihoods(self, log_probs: np.ndarray) -> np.ndarray:
        """Log probability of each text, summed over its spellings and their alignments.

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            (n_texts,) float64; minus infinity for a text with more pieces than T frames can hold, and for one that
            falls about 700 nats behind another text at some frame (underflow), which later frames cannot make up for.
            In a graph of `LARGE_GRAPH_STATES`, 34 nats (`MIN_SHARE`).
        """
        if self.n_states >= LARGE_GRAPH_STATES:
            return self._pruned_log_likelihoods(log_probs)
        alpha = np.zeros(self.n_states)
        blanks, arcs = alpha[: self.n_nodes], alpha[self.n_nodes :]  # views
        inflow = np.empty(len(arcs))
        piece_probs = np.empty(len(arcs))
        total = np.zeros(self.n_nodes)  # of the blank of a node and all arcs into it
        total[ROOT] = blanks[ROOT] = 1.0  # before the first frame
        log_scale, scale = 0.0, 1.0
        for frame_probs in np.exp(log_probs.astype(np.float64)):
            frame_probs /= scale  # of the frame before: scales all states
            np.take(total, self._arc_source, out=inflow)
            if len(self._repeats):
                inflow[self._repeats] = self._repeat_sources.sums(alpha)
            arcs += inflow
            arcs *= np.take(frame_probs, self._arc_token, out=piece_probs)
            np.multiply(total, frame_probs[self._blank_id], out=blanks)
            total[:] = blanks
            total[1:] += np.add.reduceat(arcs, self._arcs_into)
            scale = alpha.max()
            if scale == 0.0:
                return np.full(len(self.ends), -np.inf)
            log_scale += np.log(scale)
        with np.errstate(divide="ignore"):
            return np.log(total[self.ends] / scale) + log_scale

    def _pruned_log_likelihoods(self, log_probs: np.ndarray) -> np.ndarray:
        """As `log_likelihoods`, without the states below `MIN_SHARE` of the likeliest one in each frame."""
        alpha = np.zeros(self.n_states)
        blanks, arcs = alpha[: self.n_nodes], alpha[self.n_nodes :]  # views
        total = np.zeros(self.n_nodes)
        total[ROOT] = blanks[ROOT] = 1.0
        nodes, active = np.array([ROOT]), np.zeros(0, np.int64)  # all others are zero
        log_scale, scale = 0.0, 1.0
        for frame_probs in np.exp(log_probs.astype(np.float64)):
            frame_probs /= scale
            least = MIN_SHARE * scale
            likely = np.flatnonzero(total >= least)
            staying = active[(arcs[active] >= least) & (total[self._arc_source[active]] < least)]
            entered = np.concatenate([self._arcs_by_source.of_groups(likely), staying])
            inflow = total[self._arc_source[entered]]
            repeats = self._repeat_number[entered]
            is_repeat = repeats >= 0
            inflow[is_repeat] = self._repeat_sources.sums(alpha, repeats[is_repeat])
            values = (arcs[entered] + inflow) * frame_probs[self._arc_token[entered]]
            blank_values = total[likely] * frame_probs[self._blank_id]
            blanks[nodes] = 0.0
            arcs[active] = 0.0
            nodes, active = likely, entered
            blanks[nodes], arcs[active] = blank_values, values
            total = np.bincount(self._arc_target[active], weights=values, minlength=self.n_nodes)  # type: ignore[assignment]
            total[nodes] += blank_values
            scale = max(values.max(initial=0.0), blank_values.max(initial=0.0))
            if scale == 0.0:
                return np.full(len(self.ends), -np.inf)
            log_scale += np.log(scale)
        with np.errstate(divide="ignore"):
            return np.log(total[self.ends] / scale) + log_scale

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
        source, offsets, state_token = self._transitions()
        delta = np.full(self.n_states, -np.inf)
        delta[ROOT] = 0.0
        history = [delta]
        for frame in log_probs:
            delta = np.maximum.reduceat(delta[source], offsets) + frame[state_token]
            history.append(delta)
        last = np.append(self.ends, self.n_nodes + np.flatnonzero(self._arc_target == self.ends[0]))
        state = int(last[np.argmax(delta[last])])
        if delta[state] == -np.inf:
            return []
        aligned: list[TimedToken] = []
        bounds = np.append(offsets, len(source))
        for t in range(len(log_probs) - 1, -1, -1):
            before = source[bounds[state] : bounds[state + 1]]
            previous = int(before[np.argmax(history[t][before])])
            if state >= self.n_nodes and previous != state:
                token = int(state_token[state])
                aligned.append(TimedToken(token, t, float(np.exp(log_probs[t, token]))))
            state = previous
        return aligned[::-1]

    def _transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All transitions, sorted by target.

        Returns:
            The source of each, the first transition into each state, and the token of each state. Every state has a
            transition to itself, so none has no transition.
        """
        nodes = np.arange(self.n_nodes)
        arcs = self.n_nodes + np.arange(len(self._arc_token))
        first, second = pairs(self._arc_target, self._arc_source)
        differ = self._arc_token[first] != self._arc_token[second]
        transitions = [
            (nodes, nodes),
            (arcs, arcs),
            (arcs, self._arc_target),
            (self._arc_source, arcs),
            (arcs[first[differ]], arcs[second[differ]]),
        ]
        source = np.concatenate([source for source, _ in transitions])
        target = np.concatenate([target for _, target in transitions])
        order = np.argsort(target, kind="stable")
        offsets = np.searchsorted(target[order], np.arange(self.n_states))
        return source[order], offsets, np.concatenate([np.full(self.n_nodes, self._blank_id), self._arc_token])


class Groups(NamedTuple):
    """Numbers in consecutive groups."""

    members: np.ndarray  # of all groups
    bounds: np.ndarray  # (n_groups + 1,) where each begins and ends

    @classmethod
    def of(cls, group: np.ndarray, n_groups: int) -> Groups:
        """The indices of `group` that have each of its values, 0 to n_groups - 1."""
        order = np.argsort(group, kind="stable")
        return cls(order, np.searchsorted(group[order], np.arange(n_groups + 1)))

    def of_groups(self, chosen: np.ndarray) -> np.ndarray:
        """The members of some groups, one group after the other."""
        begin = self.bounds[chosen]
        counts = self.bounds[chosen + 1] - begin
        ends = np.cumsum(counts)
        return self.members[np.repeat(begin - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)]

    def sums(self, values: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """The sum of `values` over the members of each group, or of the chosen ones; none of them is empty."""
        if chosen is None:
            return np.add.reduceat(values[self.members], self.bounds[:-1])
        if len(chosen) == 0:
            return np.zeros(0)
        counts = self.bounds[chosen + 1] - self.bounds[chosen]
        return np.add.reduceat(values[self.of_groups(chosen)], np.cumsum(counts) - counts)
