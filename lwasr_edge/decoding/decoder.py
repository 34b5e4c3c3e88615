"""Decoders of the second pass: phrases, beam search, language model.

They take the log posteriors of an utterance and return its text, independent of streams. Greedy decoding is not here:
it is inside the model file and needs no posteriors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lwasr_edge.decoding.alignment import align
from lwasr_edge.decoding.alternatives import Alternative, against_none, alternatives_of, softmax, with_none
from lwasr_edge.decoding.beam import BeamSearch, Hypothesis, PrefixBeamSearch, Scorer
from lwasr_edge.decoding.ctc_graph import CtcGraph
from lwasr_edge.decoding.language_model import GENERAL, LanguageModel, WordScorer
from lwasr_edge.decoding.phrases import BiasScorer, PhraseList, SequenceScorer, phrase_trie
from lwasr_edge.decoding.spelling import mark_words, text_pieces
from lwasr_edge.decoding.spoken import Respelling, Spelling
from lwasr_edge.errors import OptionError

if TYPE_CHECKING:
    from lwasr_edge.decoding.beam import State
    from lwasr_edge.decoding.language_model import Source
    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.words import TimedToken

# Pieces less likely in a frame are pruned; sequences of phrases allow few pieces, so unlikely ones are tried too.
_MIN_POSTERIOR = 1e-3
_MIN_POSTERIOR_IN_SEQUENCES = 1e-4
_MIN_POSTERIOR_WITH_WORDS = 3e-3  # a language model rarely chooses others; two thirds of the time of 1e-3


@dataclass(frozen=True)
class Decoded:
    """The result of decoding one utterance."""

    tokens: list[TimedToken]  # of the text; empty for none of the phrases
    alternatives: tuple[Alternative, ...]  # most likely first
    confidence: float | None  # of the phrase; None: words have the confidence of their tokens
    confidence_map: tuple[tuple[float, float], ...] = ()  # from that of the tokens; empty: as it is
    spelling: Spelling | None = None  # the user's spelling of the text; None: as spoken


class Decoder(Protocol):
    """Immutable: streams in several threads share one.

    A decoder that corrects greedy decoding, instead of replacing it, has an attribute `corrects_greedy` that is true,
    and `decode_part` of `BeamDecoder`: audio in which greedy decoding finds nothing has no text, words of partials may
    be stable, and long utterances are decoded in parts.
    """

    def decode(self, log_probs: np.ndarray) -> Decoded:
        """Decode (T, V) float32 log posteriors of one utterance, T >= 1."""


def make_decoder(
    info: ModelInfo,
    phrases: PhraseList | Sequence[str] | None = None,
    beam: BeamSearch | int | None = None,
    lm: LanguageModel | Source | Sequence[Source] | None = None,
) -> Decoder | None:
    """Make the decoder for these options; None without any, for greedy decoding.

    "general" for ``lm`` is the default of a `Recognizer`: it is used where the model file has weights for it and the
    phrases, if there are any, are in mode "bias".

    Raises:
        OptionError: an invalid option, or a phrase that the model's pieces cannot spell.
        LanguageModelError: no such ARPA file, or a malformed one.
    """
    if phrases is not None and not isinstance(phrases, PhraseList):
        phrases = PhraseList(phrases)
    is_default = isinstance(lm, str) and lm == GENERAL
    if is_default and (not info.has_general_lm or (phrases is not None and phrases.mode != "bias")):
        lm = None
    if phrases is not None and phrases.mode == "one":
        if lm is not None:
            raise OptionError(
                f"lm must be None with phrases in mode 'one', got {lm!r}: give the phrases weights instead"
            )
        if beam is not None and (not isinstance(beam, BeamSearch) or beam != BeamSearch(nbest=beam.nbest)):
            raise OptionError(
                f"beam must be None or BeamSearch(nbest=...) with phrases in mode 'one' (no search), got {beam!r}"
            )
        return PhraseDecoder(info, phrases, (beam or BeamSearch()).nbest)
    if beam is not None and not isinstance(beam, BeamSearch):
        beam = BeamSearch(beam)
    if lm is not None and not isinstance(lm, LanguageModel):
        lm = LanguageModel(lm)
    if phrases is None and beam is None and lm is None:
        return None
    corrects_greedy = is_default and phrases is None and beam is None
    return BeamDecoder(info, phrases, beam or BeamSearch(), lm, corrects_greedy=corrects_greedy)


class PhraseDecoder:
    """The most likely one of the phrases. Each is scored exactly: all spellings, all alignments.

    Args:
        info: of the model.
        phrases: in mode "one".
        nbest: alternatives returned.
    """

    def __init__(self, info: ModelInfo, phrases: PhraseList, nbest: int) -> None:
        self._pieces = text_pieces(info.vocabulary, info.blank_id)
        self._blank_id = info.blank_id
        phrases, self._respelling = phrases.for_model(self._pieces, info.language)
        self._graph = CtcGraph(phrase_trie(phrases, self._pieces), info.blank_id)
        self._phrases = list(phrases.weights)
        weights = np.array(list(phrases.weights.values()))
        self._log_priors = np.log(weights / weights.max())
        self._min_confidence = phrases.min_confidence
        self._nbest = nbest

    def decode(self, log_probs: np.ndarray) -> Decoded:
        scores = self._graph.log_likelihoods(log_probs) + self._log_priors
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > -np.inf]
        best = self._phrases[order[0]] if len(order) else ""
        tokens = align(log_probs, mark_words(best), self._pieces, self._blank_id)
        confidences, none = against_none(log_probs, self._blank_id, scores[order], scores[order], len(tokens))
        confidence = float(confidences[0]) if len(order) else 0.0
        if confidence < self._min_confidence:
            tokens = []
        alternatives = [  # of thousands of phrases, only those that are returned
            Alternative(self._respelling.text(self._phrases[i]), float(scores[i]), float(share))
            for i, share in zip(order[: self._nbest], confidences, strict=False)
        ]
        ranking = with_none(alternatives, log_probs, none)
        return Decoded(tokens, tuple(ranking[: self._nbest]), confidence, (), self._respelling.spelling(best))


class BeamDecoder:
    """The most likely text of any kind, or sequence of phrases.

    Args:
        info: of the model.
        phrases: in mode "sequence" or "bias"; None for neither.
        beam: options of the search.
        lm: language model; None for none.
        corrects_greedy: see `Decoder`; there are no alternatives then.
    """

    def __init__(
        self,
        info: ModelInfo,
        phrases: PhraseList | None,
        beam: BeamSearch,
        lm: LanguageModel | None,
        *,
        corrects_greedy: bool = False,
    ) -> None:
        self.corrects_greedy = corrects_greedy
        self.nothing = Decoded([], (), None)
        self._pieces = text_pieces(info.vocabulary, info.blank_id)
        self._blank_id = info.blank_id
        scorers: list[Scorer] = []
        pieces = self._pieces
        min_posterior = _MIN_POSTERIOR
        self._min_confidence: float | None = None
        self._nbest = 0 if corrects_greedy else beam.nbest
        self._respelling: Respelling | None = None
        self._confidence_map = info.decoding.confidence if lm is not None and info.decoding is not None else ()
        if phrases is not None:
            phrases, respelling = phrases.for_model(pieces, info.language)
            trie = phrase_trie(phrases, pieces)
            if phrases.mode == "sequence":
                scorers.append(SequenceScorer(phrases, trie))
                self._respelling = respelling
                pieces = {token: pieces[token] for token in set(trie.arc_token.tolist())}
                self._min_confidence = phrases.min_confidence
                min_posterior = _MIN_POSTERIOR_IN_SEQUENCES
            else:
                scorers.append(BiasScorer(phrases, trie, pieces))
        if lm is not None:
            lm = lm.with_defaults(info.decoding)
            min_posterior = max(min_posterior, _MIN_POSTERIOR_WITH_WORDS) if not scorers else min_posterior
            words = [] if phrases is None else [word for phrase in phrases.weights for word in phrase.split()]
            scorers.append(WordScorer(lm, pieces, words))
        if beam.min_posterior is not None:
            min_posterior = beam.min_posterior
        self._search = PrefixBeamSearch(
            pieces,
            info.blank_id,
            width=beam.width,
            min_posterior=min_posterior,
            scorers=scorers,
            blank_penalty=0.0 if lm is None else lm.blank_penalty or 0.0,
        )

    def decode(self, log_probs: np.ndarray) -> Decoded:
        return self.decode_part(log_probs, None, is_end=True)[0]

    def decode_part(self, log_probs: np.ndarray, state: State | None, *, is_end: bool) -> tuple[Decoded, State]:
        """Decode a part of an utterance, which begins and ends between words.

        Args:
            log_probs: (T, V) float32, T >= 1.
            state: that of the part before; None for the first one.
            is_end: whether this is the last part.

        Returns:
            The text of the part, and the state for the next one.
        """
        found = self._search.search(log_probs, state, is_end=is_end)
        if not found:
            return self.nothing, state
        return self._decoded(log_probs, found), found[0].states

    def _decoded(self, log_probs: np.ndarray, found: list[Hypothesis]) -> Decoded:
        tokens = align(log_probs, found[0].spelled, self._pieces, self._blank_id)
        if self._nbest == 0:
            return Decoded(tokens, (), None, self._confidence_map)
        scores = np.array([hypothesis.score for hypothesis in found])
        if self._min_confidence is None:
            alternatives = tuple(alternatives_of(found, softmax(scores))[: self._nbest])
            return Decoded(tokens, alternatives, None, self._confidence_map)
        likelihoods = np.array([hypothesis.log_likelihood for hypothesis in found])
        log_probs = self._search.penalised(log_probs)  # as the likelihoods are
        confidences, none = against_none(log_probs, self._blank_id, scores, likelihoods, len(tokens))
        # Near-identical sequences split the confidence between them, so their sum is compared with the threshold.
        if 1.0 - none < self._min_confidence:
            tokens = []
        ranking = with_none(alternatives_of(found, confidences, self._respelling), log_probs, none)
        spelling = self._respelling.spelling(found[0].text) if self._respelling else None
        return Decoded(tokens, tuple(ranking[: self._nbest]), None, (), spelling)
