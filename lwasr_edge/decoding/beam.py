"""CTC prefix beam search, with words weighed by whoever knows something of them.

Graves 2012 (section 7.5.2), Hannun et al. 2014 and Maas et al. 2015: of every text so far, the probabilities of all
alignments that end in a blank and of all that end in its last piece are added up apart; the best texts go on. Here a
hypothesis is a text and its last piece, not a sequence of pieces: spellings of the same text add up too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from lwasr_edge.decoding.spelling import unmark_words
from lwasr_edge.errors import OptionError

State = Any  # a scorer's own, immutable
_MINUS_INFINITY = -math.inf


@dataclass(frozen=True)
class BeamSearch:
    """How hard to search.

    Raises:
        OptionError: an impossible value.
    """

    width: int = 8  # hypotheses kept from frame to frame
    nbest: int = 5  # alternatives returned
    min_posterior: float | None = None  # pieces less likely in a frame are not tried there; None for what suits

    def __post_init__(self) -> None:
        for name in ("width", "nbest"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"the beam's {name} is expected to be a whole number from 1; came {value!r}")
        if self.min_posterior is not None and not 0 <= self.min_posterior < 1:
            raise OptionError(f"min_posterior is expected to be from 0 to below 1; came {self.min_posterior!r}")


class Scorer(Protocol):
    """What is known of texts: adds to their log probability, or forbids them."""

    def start(self) -> State:
        """State before the first piece."""

    def extend(self, state: State, token: int) -> State | None:
        """State after one more piece; None if no allowed text goes on so."""

    def bonus(self, state: State) -> float:
        """All that the text so far has earned, in nats; what it only hopes to earn may be taken back later."""

    def final_bonus(self, state: State) -> float | None:
        """All that the text has earned if it ends here; None if it must not."""


class Hypothesis(NamedTuple):
    """A text found."""

    spelled: str  # its pieces, joined, with word marks
    score: float  # natural log: sum over its alignments, and what the scorers gave
    log_likelihood: float  # without what the scorers gave

    @property
    def text(self) -> str:
        """Words separated by spaces."""
        return unmark_words(self.spelled)


class _Node:
    """A text and its last piece; the same object wherever the search meets it again."""

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
        pieces: text of each token that may be used, see `spoken_pieces`.
        blank_id: token of the blank.
        width: hypotheses kept from frame to frame.
        min_posterior: pieces less likely in a frame are not tried there.
        scorers: their bonuses add up; what one forbids is forbidden.
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
        """Find the likeliest texts.

        Args:
            log_probs: (T, V) float32, log posteriors.

        Returns:
            At most `width` texts, the best first; none if no allowed text was found.
        """
        root = _Node("", self._blank_id, tuple(s.start() for s in self._scorers), 0.0)
        nodes: dict[tuple[str, int], _Node] = {("", self._blank_id): root}
        # log probability of alignments that end in a blank, of those that end in the last piece
        beam: dict[_Node, tuple[float, float]] = {root: (0.0, _MINUS_INFINITY)}
        blanks = log_probs[:, self._blank_id].tolist()
        for frame, blank, candidates in zip(log_probs, blanks, self._candidates(log_probs), strict=True):
            beam = self._step(beam, nodes, blank, frame, candidates)
        return self._best(beam)

    def _candidates(self, log_probs: np.ndarray) -> list[list[tuple[int, float]]]:
        """For each frame, the (token, log probability) worth trying."""
        allowed = log_probs[:, self._tokens]
        frames, columns = np.nonzero(allowed >= self._min_log_posterior)
        by_frame: list[list[tuple[int, float]]] = [[] for _ in log_probs]
        for frame, token, value in zip(
            frames.tolist(), self._tokens[columns].tolist(), allowed[frames, columns].tolist(), strict=True
        ):
            by_frame[frame].append((token, value))
        return by_frame

    def _step(
        self,
        beam: dict[_Node, tuple[float, float]],
        nodes: dict[tuple[str, int], _Node],
        blank: float,
        frame: np.ndarray,
        candidates: list[tuple[int, float]],
    ) -> dict[_Node, tuple[float, float]]:
        """Let every hypothesis hear one frame; keep the best."""
        blank_ends: dict[_Node, float] = {}
        piece_ends: dict[_Node, float] = {}
        for node, (ends_blank, ends_piece) in beam.items():
            total = _log_add(ends_blank, ends_piece)
            blank_ends[node] = total + blank
            if ends_piece != _MINUS_INFINITY:  # the last piece goes on
                stays = ends_piece + float(frame[node.token])
                piece_ends[node] = _log_add(piece_ends.get(node, _MINUS_INFINITY), stays)
            for token, log_prob in candidates:
                child = node.children.get(token, node)
                if child is node:  # not tried before: no node is its own child
                    child = node.children[token] = self._extend(node, token, nodes)
                if child is not None:
                    # The same piece again is a new one only after a blank.
                    begins = (ends_blank if token == node.token else total) + log_prob
                    if begins != _MINUS_INFINITY:
                        piece_ends[child] = _log_add(piece_ends.get(child, _MINUS_INFINITY), begins)
        heard = {
            node: (blank_ends.get(node, _MINUS_INFINITY), piece_ends.get(node, _MINUS_INFINITY))
            for node in blank_ends.keys() | piece_ends.keys()
        }
        if len(heard) <= self._width:
            return heard
        ranked = sorted(heard.items(), key=lambda item: -(_log_add(*item[1]) + item[0].bonus))
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
        """Add up the hypotheses that read the same, and sort them."""
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
