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

    def start(self) -> State:
        """State before the first piece."""

    def extend(self, state: State, token: int) -> State | None:
        """State after one more piece; None if no allowed text continues with it."""

    def bonus(self, state: State) -> float:
        """Bonus of the text so far in nats; the part for incomplete words or phrases may be revoked later."""

    def final_bonus(self, state: State) -> float | None:
        """Bonus of the text in nats if it ends here; None if it must not end here."""


class Hypothesis(NamedTuple):
    """A text with its scores."""

    spelled: str  # its pieces, joined, with word marks
    score: float  # natural log: sum over its alignments, plus the scorers' bonuses
    log_likelihood: float  # without the scorers' bonuses

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


class PrefixBeamSearch:
    """Search one utterance at a time.

    Args:
        pieces: text of each token that may be used, see `text_pieces`.
        blank_id: token of the blank.
        width: hypotheses kept from frame to frame.
        min_posterior: pieces less likely in a frame are pruned.
        scorers: their bonuses are added; a text that one forbids is forbidden.
    """

    def __init__(
        self,
        pieces: dict[int, str],
        blank_id: int,
        *,
        width: int = 8,
        min_posterior: float = 1e-3,
        scorers: Sequence[Scorer] = (),
    ) -> None:
        self._pieces = pieces
        self._blank_id = blank_id
        self._width = width
        self._min_log_posterior = math.log(min_posterior) if min_posterior else _MINUS_INFINITY
        self._scorers = tuple(scorers)
        self._tokens = np.array(sorted(pieces), np.int64)

    def search(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """Find the most likely texts.

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            At most `width` texts, the best first; empty if no allowed text was found.
        """
        root = _Node("", self._blank_id, tuple(s.start() for s in self._scorers), 0.0)
        nodes: dict[tuple[str, int], _Node] = {("", self._blank_id): root}
        # log probability of alignments that end in a blank, of those that end in the last piece
        beam: dict[_Node, tuple[float, float]] = {root: (0.0, _MINUS_INFINITY)}
        blanks = log_probs[:, self._blank_id].tolist()
        for frame, blank, candidates in zip(log_probs, blanks, self._candidates(log_probs), strict=True):
            beam = self._advance(beam, nodes, blank, frame, candidates)
        return self._best(beam)

    def _candidates(self, log_probs: np.ndarray) -> list[list[tuple[int, float]]]:
        """For each frame, the (token, log probability) pairs that are not pruned."""
        allowed = log_probs[:, self._tokens]
        frames, columns = np.nonzero(allowed >= self._min_log_posterior)
        by_frame: list[list[tuple[int, float]]] = [[] for _ in log_probs]
        for frame, token, value in zip(
            frames.tolist(), self._tokens[columns].tolist(), allowed[frames, columns].tolist(), strict=True
        ):
            by_frame[frame].append((token, value))
        return by_frame

    def _advance(
        self,
        beam: dict[_Node, tuple[float, float]],
        nodes: dict[tuple[str, int], _Node],
        blank: float,
        frame: np.ndarray,
        candidates: list[tuple[int, float]],
    ) -> dict[_Node, tuple[float, float]]:
        """Extend every hypothesis by one frame; keep the best."""
        blank_ends: dict[_Node, float] = {}
        piece_ends: dict[_Node, float] = {}
        for node, (ends_blank, ends_piece) in beam.items():
            total = _log_add(ends_blank, ends_piece)
            blank_ends[node] = total + blank
            if ends_piece != _MINUS_INFINITY:  # the last piece continues
                stays = ends_piece + float(frame[node.token])
                piece_ends[node] = _log_add(piece_ends.get(node, _MINUS_INFINITY), stays)
            for token, log_prob in candidates:
                child = node.children.get(token, node)
                if child is node:  # not tried before: a node is never its own child
                    child = node.children[token] = self._extend(node, token, nodes)
                if child is not None:
                    # A repeated piece is a new one only after a blank.
                    begins = (ends_blank if token == node.token else total) + log_prob
                    if begins != _MINUS_INFINITY:
                        piece_ends[child] = _log_add(piece_ends.get(child, _MINUS_INFINITY), begins)
        extended = {
            node: (blank_ends.get(node, _MINUS_INFINITY), piece_ends.get(node, _MINUS_INFINITY))
            for node in blank_ends.keys() | piece_ends.keys()
        }
        if len(extended) <= self._width:
            return extended
        ranked = sorted(extended.items(), key=lambda item: -(_log_add(*item[1]) + item[0].bonus))
        return dict(ranked[: self._width])

    def _extend(self, node: _Node, token: int, nodes: dict[tuple[str, int], _Node]) -> _Node | None:
        piece = self._pieces[token]
        key = (node.spelled + piece, token)
        if key in nodes:
            return nodes[key]
        states = []
        for scorer, state in zip(self._scorers, node.states, strict=True):
            following = scorer.extend(state, token)
            if following is None:
                return None
            states.append(following)
        bonus = sum(scorer.bonus(state) for scorer, state in zip(self._scorers, states, strict=True))
        nodes[key] = _Node(*key, tuple(states), bonus)
        return nodes[key]

    def _best(self, beam: dict[_Node, tuple[float, float]]) -> list[Hypothesis]:
        """Sum the hypotheses with the same text, and sort them."""
        found: dict[str, Hypothesis] = {}
        for node, ends in beam.items():
            bonuses = [scorer.final_bonus(state) for scorer, state in zip(self._scorers, node.states, strict=True)]
            if any(bonus is None for bonus in bonuses):
                continue
            log_likelihood = _log_add(*ends)
            score = log_likelihood + math.fsum(bonus for bonus in bonuses if bonus is not None)
            text = unmark_words(node.spelled)
            same = found.get(text)
            if same is not None:
                best = max(same, Hypothesis(node.spelled, score, log_likelihood), key=lambda h: h.score)
                likelihood = _log_add(same.log_likelihood, log_likelihood)
                found[text] = Hypothesis(best.spelled, _log_add(same.score, score), likelihood)
            else:
                found[text] = Hypothesis(node.spelled, score, log_likelihood)
        return sorted(found.values(), key=lambda h: -h.score)


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    if a < b:
        a, b = b, a
    return a if b == _MINUS_INFINITY else a + math.log1p(math.exp(b - a))
