"""Tokens to words, with times and a confidence."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lwasr_edge.model_info import ModelInfo

WORD_START = "\u2581"  # SentencePiece's mark
_UNKNOWN = {"<unk>": "\u2047"}  # written as SentencePiece writes it


class TimedToken(NamedTuple):
    """One token of a stream."""

    token: int  # id in the vocabulary
    frame: int  # in which it starts, counted from the start of the stream
    score: float  # posterior probability in that frame, 0..1


@dataclass(frozen=True)
class Word:
    """One recognised word; times in seconds from the start of the recording or stream."""

    text: str
    start_s: float
    end_s: float
    confidence: float  # 0..1, see WordBuilder

    def clamped(self, end_s: float) -> Word:
        """This word, cut at `end_s`."""
        if self.end_s <= end_s:
            return self
        return replace(self, start_s=min(self.start_s, end_s), end_s=end_s)


def join_words(words: Iterable[Word]) -> str:
    """The text of the words, separated by spaces."""
    return " ".join(word.text for word in words)


def mean_confidence(words: Iterable[Word]) -> float:
    """The geometric mean of the confidences, as that of the pieces of a word; of equal ones, exactly their value."""
    values = [word.confidence for word in words]
    if len(set(values)) == 1:
        return values[0]
    return math.exp(math.fsum(math.log(max(value, 1e-10)) for value in values) / len(values))


class WordBuilder:
    """Collect tokens into words; the newest word stays open, because its next piece may still come.

    Frame u covers samples_per_frame samples around its centre, u * samples_per_frame - frame_delay_samples. A word
    lasts from the start of its first token's frame to the end of its last token's frame (its sound is longer: see
    `extended_to_sound`). A greedy CTC decoder gives at most one token per frame, so words never overlap.

    A word's confidence is the geometric mean of its tokens' posteriors. Their product, the probability of the word's
    path, shrinks with the number of pieces; the geometric mean makes long and short words comparable, and one unlikely
    piece lowers it more than an arithmetic mean.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._vocabulary = info.vocabulary
        self._info = info
        self._pieces: list[str] = []  # of the open word
        self._log_scores: list[float] = []
        self._first_frame = 0
        self._last_frame = 0

    def copy(self) -> WordBuilder:
        """A builder with the same open word."""
        other = copy.copy(self)
        other._pieces, other._log_scores = list(self._pieces), list(self._log_scores)
        return other

    def add(self, token: int, frame: int, score: float) -> Word | None:
        """Add the next token.

        Args:
            token: id in the vocabulary.
            frame: its frame, counted from the start of the stream.
            score: its posterior, 0..1.

        Returns:
            The word before, if this token starts another.
        """
        piece = self._vocabulary[token]
        completed = self.close() if piece.startswith(WORD_START) else None
        piece = piece.removeprefix(WORD_START)
        if not self._pieces:
            self._first_frame = frame
        self._last_frame = frame
        self._pieces.append(_UNKNOWN.get(piece, piece))
        self._log_scores.append(math.log(max(score, 1e-10)))
        return completed

    def open_word(self) -> Word | None:
        """The open word so far; None if there is none."""
        text = "".join(self._pieces)
        if not text:  # a lone word mark
            return None
        confidence = math.exp(math.fsum(self._log_scores) / len(self._log_scores))
        start_s = frame_start_s(self._info, self._first_frame)
        end_s = frame_start_s(self._info, self._last_frame + 1)
        return Word(text, start_s, end_s, min(1.0, confidence))

    def close(self) -> Word | None:
        """Return the open word as complete; the next token starts a new one."""
        word = self.open_word()
        self._pieces = []
        self._log_scores = []
        return word


def build_words(info: ModelInfo, tokens: Iterable[TimedToken]) -> list[Word]:
    """The words of some tokens; the last one is taken as complete."""
    builder = WordBuilder(info)
    completed = [builder.add(*token) for token in tokens]
    return [word for word in (*completed, builder.close()) if word is not None]


def frame_start_s(info: ModelInfo, frame: int) -> float:
    """Start of a frame in seconds: half a frame before its centre, at least 0."""
    start_samples = frame * info.samples_per_frame - info.frame_delay_samples - info.samples_per_frame / 2
    return max(0.0, start_samples / info.sample_rate)
