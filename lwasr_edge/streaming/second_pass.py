"""A decoder's text of a segment, part by part: neither its memory nor its time at the end grows with the segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lwasr_edge.streaming.full_pass import Decoded
from lwasr_edge.words import WORD_START, Word, build_words

if TYPE_CHECKING:
    from lwasr_edge.decoding.alternatives import Alternative
    from lwasr_edge.decoding.decoder import Decoded as DecodedAgain
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.words import TimedToken

# In encoder frames of 40 ms.
PART = 150  # a part is decoded when so many frames are complete
LAST = 20  # of the newest frames, in which no part ends
NEAR = 100  # a part ends in the longest gap between words of so many frames before them
LONGEST = 1500  # a part without a gap between words


class Text(NamedTuple):
    """What the decoder found."""

    words: list[Word]
    alternatives: tuple[Alternative, ...]


class SecondPass:
    """One segment after another.

    Args:
        info: of the model.
        decoder: decides the text.
    """

    def __init__(self, info: ModelInfo, decoder: Decoder) -> None:
        self._info = info
        self._decoder: Any = decoder
        self._is_divisible = bool(getattr(decoder, "corrects_greedy", False))
        self.start(0)

    def start(self, frame: int) -> None:
        """Begin a segment."""
        self.first_frame = frame  # of what is not decoded yet
        self._tokens: list[TimedToken] = []
        self._state: Any = None

    def take(self, done: Decoded) -> Decoded:
        """Decode the beginning of what is complete, if it is long enough; return the rest of it.

        Args:
            done: all tokens of the segment, and the posteriors from `first_frame` on.

        Returns:
            All tokens of the segment, and the posteriors of what is not decoded yet.
        """
        if not self._is_divisible or done.end_frame - self.first_frame < PART:
            return done
        cut = self._gap(done)
        if cut is None:
            return done
        log_probs = np.concatenate(done.log_probs)
        head, tail = np.split(log_probs, [cut - self.first_frame])
        decoded = self._decode(head, _within(done.tokens, self.first_frame, cut), is_end=False)
        self._tokens += decoded.tokens
        self.first_frame = cut
        return done._replace(log_probs=[tail.copy()])  # a view would keep all of them

    def text(self, decoded: Decoded) -> Text:
        """The words of the segment, if it ends with these frames.

        Args:
            decoded: all tokens of the segment, and the posteriors from `first_frame` on.
        """
        again = self._decode(
            np.concatenate(decoded.log_probs), _within(decoded.tokens, self.first_frame, decoded.end_frame), is_end=True
        )
        words: Sequence[Word] = build_words(self._info, [*self._tokens, *again.tokens])
        if again.confidence is not None:
            words = [replace(word, confidence=again.confidence) for word in words]
        if again.confidence_map:
            posteriors, shares = zip(*again.confidence_map, strict=True)
            words = [replace(w, confidence=float(np.interp(w.confidence, posteriors, shares))) for w in words]
        if again.spelling is not None:
            from lwasr_edge.decoding.spoken import respelled_words  # not loaded for greedy decoding

            words = respelled_words(words, again.spelling)
        return Text(list(words), again.alternatives)

    def _decode(self, log_probs: np.ndarray, greedy: list[TimedToken], *, is_end: bool) -> DecodedAgain:
        """Decode frames from `first_frame` on; the frames of the result count like those of the segment."""
        if not self._is_divisible:
            again: DecodedAgain = self._decoder.decode(log_probs)
        elif greedy:
            again, state = self._decoder.decode_part(log_probs, self._state, is_end=is_end)
            if not is_end:
                self._state = state
        else:
            again = self._decoder.nothing
        shift = self.first_frame
        return replace(again, tokens=[token._replace(frame=token.frame + shift) for token in again.tokens])

    def _gap(self, done: Decoded) -> int | None:
        """The middle of the longest gap before a word near the end; None to wait for one."""
        end = done.end_frame - LAST
        best, cut = 0, None
        for before, token in zip(done.tokens, done.tokens[1:], strict=False):
            gap = token.frame - before.frame
            is_start = self._info.vocabulary[token.token].startswith(WORD_START)
            if is_start and self.first_frame < before.frame and end - NEAR <= token.frame < end and gap > best:
                best, cut = gap, before.frame + (gap + 1) // 2
        if cut is None and done.end_frame - self.first_frame >= LONGEST:
            return end
        return cut


def _within(tokens: list[TimedToken], first_frame: int, end_frame: int) -> list[TimedToken]:
    return [token for token in tokens if first_frame <= token.frame < end_frame]
