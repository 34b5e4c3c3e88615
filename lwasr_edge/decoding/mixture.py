"""Linear interpolation of word models: the general one and a site's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lwasr_edge.decoding.ngram import END, UNKNOWN

if TYPE_CHECKING:
    from lwasr_edge.decoding.language_model import WordModel


class Mixture:
    """The weighted mean of the probabilities of several models. A context is one of each.

    A word has no probability in a model that does not know it, unless none does: then all take their `<unk>`.

    Args:
        models: at least one.
        shares: of each, positive; only their ratios matter.
    """

    def __init__(self, models: Sequence[WordModel], shares: Sequence[float]) -> None:
        self._models = tuple(models)
        self._log_shares = [math.log(share / math.fsum(shares)) for share in shares]

    @property
    def words(self) -> Iterator[str]:
        """Every word that a model knows, once for each of them."""
        for model in self._models:
            yield from model.words

    def __contains__(self, word: str) -> bool:
        return any(word in model for model in self._models)

    def is_beginning(self, text: str) -> bool:
        """Whether a known word begins with, or is, this text."""
        return any(model.is_beginning(text) for model in self._models)

    def start(self) -> Any:
        """Context before the first word of a sentence."""
        return tuple(model.start() for model in self._models)

    def score(self, context: Any, word: str) -> tuple[float, Any]:
        """Natural log probability of a word (or `END`) after a context, and the context after it."""
        knows = [word in model for model in self._models]
        nobody_knows = not any(knows)
        scores, following = [], []
        for model, log_share, before, is_known in zip(self._models, self._log_shares, context, knows, strict=True):
            log_prob, after = model.score(before, word if is_known or word == END else UNKNOWN)
            following.append(after)
            if is_known or nobody_knows:
                scores.append(log_share + log_prob)
        most = max(scores)
        return most + math.log(math.fsum(math.exp(score - most) for score in scores)), tuple(following)
