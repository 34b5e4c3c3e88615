"""The events of a stream: `Partial` while an utterance grows, `Final` when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from lwasr_edge.words import Word, join_words

if TYPE_CHECKING:
    from lwasr_edge.decoding.alternatives import Alternative
    from lwasr_edge.written.text import WrittenWord

# Silence; maximum length; the stream was flushed; the audio that follows is missing.
EndReason = Literal["endpoint", "length", "flush", "gap"]


@dataclass(frozen=True, eq=False, repr=False)
class Partial:
    """The current utterance, after it changed.

    Its words come from windows over the newest audio: those in the window's right context are provisional and may be
    revised by the next partial. The `Final` is decoded again with full context and the general language model, and
    corrects some of the others; with phrases, a beam or another language model it may have any other text, and no word
    of a partial is stable.

    A partial without words takes back what an earlier one showed: it was not speech.
    """

    time_s: float  # audio of the stream processed so far
    _complete: Sequence[Word]  # shared with the stream, which only appends to it
    _complete_count: int
    _newest: tuple[Word, ...]  # after the complete ones
    _stable_count: int  # of all words

    @property
    def stable_words(self) -> tuple[Word, ...]:
        """The words that have all of their right context: no later window changes them."""
        return self.words[: self._stable_count]

    @property
    def words(self) -> tuple[Word, ...]:
        """All words."""
        return (*self._complete[: self._complete_count], *self._newest)

    @property
    def stable_text(self) -> str:
        """The committed part of `text`."""
        return join_words(self.stable_words)

    @property
    def text(self) -> str:
        """All words as text, the provisional ones included."""
        return join_words(self.words)

    def __repr__(self) -> str:
        return f"Partial({self.text!r}, stable_text={self.stable_text!r}, time_s={self.time_s:.2f})"


class FinalText:
    """Text of words that no longer change: of a `Final` and of a `Transcript`."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """All words, separated by spaces; empty for silence."""
        return join_words(self.words)

    @property
    def written(self) -> str:
        """The text as people write it, in English: capitals, punctuation, digits."""
        return join_words(self.written_words)

    @cached_property
    def written_words(self) -> tuple[WrittenWord, ...]:
        """The words of `written` with their times; computed at the first use, in about a millisecond."""
        from lwasr_edge.written.text import write  # not loaded before it is used

        return write(self.words)


@dataclass(frozen=True)
class Final(FinalText):
    """A complete utterance.

    Its text is empty for the silence-before-speech rule, and for speech that matches none of the given phrases.
    """

    words: tuple[Word, ...]
    start_s: float  # of the first word; of the silence if there is no word
    end_s: float
    reason: EndReason
    alternatives: tuple[Alternative, ...] = ()  # most likely first; only with phrases, a beam or an own language model
    heard: str | None = None  # greedy hypothesis, where another decoder gave `words`; else None


Event = Partial | Final
