"""CTC prefix beam search with scorers for phrases and language models.

Graves 2012 (section 7.5.2), Hannun et al. 2014 and Maas et al. 2015: each hypothesis has two probabilities, the sum
over alignments that end in a blank and the sum over those that end in its last piece; the best hypotheses are kept.
Here a hypothesis is a text and its last piece, not a sequence of pieces, so spellings of the same text are summed too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from lwasr_edge.decoding.spelling import unmark_words
from lwasr_edge.errors import OptionError
from lwasr_edge.validate import number, whole_number

State = Any  # of a scorer, immutable
_MINUS_INFINITY = -math.inf
# A frame with no piece to try and at least so much blank changes all hypotheses alike, and none of their order.
_CLEAR_BLANK = 0.9
_LEAST = 1e-300  # a hypothesis less likely than that beside the best one has no probability any more
_MARGIN = 6.0  # nats: a hypothesis that begins so far behind the best one is not tried
MAX_WIDTH = 10_000  # more need minutes and gigabytes for an utterance


@dataclass(frozen=True)
class BeamSearch:
    """Options of the beam search. Larger values are more accurate and use more CPU.

    Raises:
        OptionError: an invalid value.
    """

    width: int = 8  # hypotheses kept from frame to frame
    nbest: int = 5  # alternatives returned
    min_posterior: float | None = None  # pieces less likely in a frame are pruned; None: 1e-3, with sequences 1e-4

    def __post_init__(self) -> None:
        for name in ("width", "nbest"):
            object.__setattr__(self, name, whole_number(f"the beam's {name}", getattr(self, name), 1))
        if self.width > MAX_WIDTH:
            raise OptionError(f"the beam's width must be at most {MAX_WIDTH}, got {self.width}")
        if self.min_posterior is not None:
            object.__setattr__(self, "min_posterior", number("min_posterior", self.min_posterior, 0, below=1))


class Scorer(Protocol):
    """Adds to the log probability of texts, or forbids them."""

    largest_gain: float  # nats by which one piece may raise the bonus of a text

    def start(self) -> State:
        """State before the first piece."""

    def extend(self, state: State, token: int) -> State | None:
        """State after one more piece; None if no allowed text continues with it."""

    def bonus(self, state: State) -> float:
        """Bonus of the text so far in nats; the part for incomplete words or phrases may be revoked later."""

    def final_bonus(self, state: State) -> float | None:
        """Bonus of the text in nats if it ends here; None if it must not end here."""

    def restart(self, state: State) -> State:
        """State before the first piece of a text that continues the one so far, whose bonus is not counted again."""


class Hypothesis(NamedTuple):
    """A text with its scores."""

    spelled: str  # its pieces, joined, with word marks
    score: float  # natural log: sum over its alignments, plus the scorers' bonuses
    log_likelihood: float  # without the scorers' bonuses
    states: tuple[State, ...] = ()  # of the scorers, for a text that continues this one

    @property
    def text(self) -> str:
        """Words separated by spaces."""
        return unmark_words(self.spelled)


class _Node:
    """A text and its last piece; one object, by whichever path the search reaches it."""

    __slots__ = ("bonus", "children", "spelled", "states", "token")

    def __init__(self, spelled: str, token: int, states: tuple[State, ...], bonus: float) -> None:
        self.spelled = spelled
        self.token = token
        self.states = states  # one for each scorer
        self.bonus = bonus
        self.children: dict[int, _Node | None] = {}  # by token; None: forbidden


# For each hypothesis, the probability of the alignments that end in a blank, and of those that end in its last piece:
# both relative to a scale that all hypotheses share, so that a frame needs no logarithm.
_Beam = dict[_Node, tuple[float, float]]
_Candidates = list[tuple[int, float]]


class PrefixBeamSearch:
    """Search one utterance at a time.

    Args:
        pieces: text of each token that may be used, see `text_pieces`.
        blank_id: token of the blank.
        width: hypotheses kept from frame to frame.
        min_posterior: pieces less likely in a frame are pruned.
        scorers: their bonuses are added; a text that one forbids is forbidden.
        blank_penalty: nats taken off the blank's log posterior.
    """

    def __init__(
        self,
        pieces: dict[int, str],
        blank_id: int,
        *,
        width: int = 8,
        min_posterior: float = 1e-3,
        scorers: Sequence[Scorer] = (),
        blank_penalty: float = 0.0,
    ) -> None:
        self._pieces = pieces
        self._blank_id = blank_id
        self._width = width
        self._min_posterior = min_posterior
        self._scorers = tuple(scorers)
        self._blank_penalty = blank_penalty
        self._margin = _MARGIN + sum(scorer.largest_gain for scorer in scorers) if min_posterior else math.inf
        self._is_allowed = np.zeros(max([blank_id, *pieces]) + 2, bool)  # the last one is for all tokens after it
        self._is_allowed[list(pieces)] = True

    def penalised(self, log_probs: np.ndarray) -> np.ndarray:
        """The (T, V) log posteriors that the search adds up: those of the blank with the penalty."""
        if not self._blank_penalty:
            return log_probs
        found = log_probs.copy()
        found[:, self._blank_id] -= self._blank_penalty
        return found

    def search(
        self, log_probs: np.ndarray, start: tuple[State, ...] | None = None, *, is_end: bool = True
    ) -> list[Hypothesis]:
        """Find the most likely texts.

        Args:
            log_probs: (T, V) float32, log posteriors.
            start: states of the scorers before the first piece; None for those of a new text.
            is_end: whether the text ends here; else it continues in the states of a hypothesis.

        Returns:
            At most `width` texts, the best first; empty if no allowed text was found.
        """
        if start is None:
            start = tuple(scorer.start() for scorer in self._scorers)
        root = _Node("", self._blank_id, start, 0.0)
        nodes: dict[tuple[str, int], _Node] = {("", self._blank_id): root}
        beam: _Beam = {root: (1.0, 0.0)}
        log_scale = 0.0
        log_clear = math.log(_CLEAR_BLANK)
        blanks = log_probs[:, self._blank_id].tolist()
        for frame, log_blank, candidates in zip(log_probs, blanks, self._candidates(log_probs), strict=True):
            if not candidates and log_blank > log_clear:
                log_scale += log_blank - self._blank_penalty
                if any(ends_piece for _, ends_piece in beam.values()):
                    beam = {node: (ends_blank + ends_piece, 0.0) for node, (ends_blank, ends_piece) in beam.items()}
                continue
            blank = math.exp(log_blank - self._blank_penalty)
            beam, log_total = self._advance(beam, nodes, blank, frame, candidates)
            log_scale += log_total
            if not beam:  # no allowed text is possible, as with the posteriors of a damaged model
                break
        return self._best(beam, log_scale, is_end=is_end)

    def _candidates(self, log_probs: np.ndarray) -> list[_Candidates]:
        """For each frame, the (token, posterior) pairs that are not pruned."""
        least = math.log(self._min_posterior) if self._min_posterior else _MINUS_INFINITY
        found = np.flatnonzero(log_probs >= least)  # of one dimension: many times faster than `nonzero` of two
        frames, tokens = np.divmod(found, log_probs.shape[1])
        is_allowed = self._is_allowed[np.minimum(tokens, len(self._is_allowed) - 1)]
        frames, tokens = frames[is_allowed], tokens[is_allowed]
        by_frame: list[_Candidates] = [[] for _ in log_probs]
        posteriors = np.exp(log_probs[frames, tokens], dtype=np.float64)
        for frame, token, value in zip(frames.tolist(), tokens.tolist(), posteriors.tolist(), strict=True):
            by_frame[frame].append((token, value))
        return by_frame

    def _advance(
        self,
        beam: _Beam,
        nodes: dict[tuple[str, int], _Node],
        blank: float,
        frame: np.ndarray,
        candidates: _Candidates,
    ) -> tuple[_Beam, float]:
        """Extend every hypothesis by one frame; keep the best, and return the logarithm of their new scale."""
        blank_ends: dict[_Node, float] = {}
        piece_ends: dict[_Node, float] = {}
        log_least = max(math.log(sum(ends)) + node.bonus for node, ends in beam.items()) - self._margin
        likeliest = max(blank, *(posterior for _, posterior in candidates)) if candidates else blank
        for node, (ends_blank, ends_piece) in beam.items():
            total = ends_blank + ends_piece
            blank_ends[node] = total * blank
            least = likeliest * math.exp(min(log_least - node.bonus, 700.0))
            own = node.token
            if ends_piece:  # the last piece continues
                piece_ends[node] = piece_ends.get(node, 0.0) + ends_piece * math.exp(frame[own])
            children = node.children
            for token, posterior in candidates:
                # A repeated piece is a new one only after a blank.
                begins = (ends_blank if token == own else total) * posterior
                if begins <= least:
                    continue
                child = children.get(token, node)
                if child is node:  # not tried before: a node is never its own child
                    child = children[token] = self._extend(node, token, nodes)
                if child is not None:
                    piece_ends[child] = piece_ends.get(child, 0.0) + begins
        return self._pruned(blank_ends, piece_ends)

    def _pruned(self, blank_ends: dict[_Node, float], piece_ends: dict[_Node, float]) -> tuple[_Beam, float]:
        """The best hypotheses, with the probability of the likeliest one as the new scale, and its logarithm."""
        totals = dict(piece_ends)
        for node, value in blank_ends.items():
            totals[node] = totals.get(node, 0.0) + value
        scale = max(totals.values(), default=0.0)
        if scale == 0.0:
            return {}, 0.0
        nodes = [node for node, total in totals.items() if total > _LEAST * scale]
        if len(nodes) > self._width:
            log = math.log
            nodes.sort(key=lambda node: -(log(totals[node]) + node.bonus))
            del nodes[self._width :]
            scale = max(totals[node] for node in nodes)
        factor = 1.0 / scale
        kept = {node: (blank_ends.get(node, 0.0) * factor, piece_ends.get(node, 0.0) * factor) for node in nodes}
        return kept, math.log(scale)

    def _extend(self, node: _Node, token: int, nodes: dict[tuple[str, int], _Node]) -> _Node | None:
        key = (node.spelled + self._pieces[token], token)
        known = nodes.get(key)
        if known is not None:
            return known
        states = []
        bonus = 0.0
        for scorer, state in zip(self._scorers, node.states, strict=True):
            following = scorer.extend(state, token)
            if following is None:
                return None
            states.append(following)
            bonus += scorer.bonus(following)
        nodes[key] = _Node(*key, tuple(states), bonus)
        return nodes[key]

    def _best(self, beam: _Beam, log_scale: float, *, is_end: bool) -> list[Hypothesis]:
        """Sum the hypotheses with the same text, and sort them."""
        found: dict[str, Hypothesis] = {}
        for node, (ends_blank, ends_piece) in beam.items():
            with_states = list(zip(self._scorers, node.states, strict=True))
            bonuses = [scorer.final_bonus(state) if is_end else scorer.bonus(state) for scorer, state in with_states]
            if any(bonus is None for bonus in bonuses):
                continue
            log_likelihood = math.log(ends_blank + ends_piece) + log_scale
            score = log_likelihood + math.fsum(bonus for bonus in bonuses if bonus is not None)
            text = unmark_words(node.spelled)
            states = tuple(scorer.restart(state) for scorer, state in with_states)
            hypothesis = Hypothesis(node.spelled, score, log_likelihood, states)
            same = found.get(text)
            if same is not None:
                best = max(same, hypothesis, key=lambda h: h.score)
                likelihood = _log_add(same.log_likelihood, log_likelihood)
                hypothesis = Hypothesis(best.spelled, _log_add(same.score, score), likelihood, best.states)
            found[text] = hypothesis
        return sorted(found.values(), key=lambda h: -h.score)


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    if a < b:
        a, b = b, a
    return a if b == _MINUS_INFINITY else a + math.log1p(math.exp(b - a))
