"""The events of a stream: `Partial` while an utterance grows, `Final` when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lwasr_edge.words import Word, join_words

if TYPE_CHECKING:
    from lwasr_edge.decoding.decoder import Alternative

# Silence; maximum length; the stream was flushed; the audio that follows is missing.
EndReason = Literal["endpoint", "length", "flush", "gap"]


@dataclass(frozen=True, eq=False)
class Partial:
    """The current utterance, after it grew.

    Greedy CTC never revises a token: every word but the last is final, and the last can only grow. With phrases, a beam
    or a language model, a partial is the greedy hypothesis and the `Final` may differ: then no word is stable.

    `text` and `words` are built when read, so partials that are not read cost nothing, whatever the utterance's length.
    """

    time_s: float  # audio of the stream processed so far
    _complete: Sequence[Word] = field(repr=False)  # shared with the stream, which only appends to it
    _complete_count: int = field(repr=False)
    _open: Word | None = field(repr=False)
    _is_revisable: bool = field(default=False, repr=False)

    @property
    def stable_words(self) -> tuple[Word, ...]:
        """The words that will not change."""
        return () if self._is_revisable else self._complete_words

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, the growing one included."""
        return self._complete_words if self._open is None else (*self._complete_words, self._open)

    @property
    def stable_text(self) -> str:
        """The part of `text` that will not change."""
        return join_words(self.stable_words)

    @property
    def text(self) -> str:
        """All words as text."""
        return join_words(self.words)

    @property
    def _complete_words(self) -> tuple[Word, ...]:
        return tuple(self._complete[: self._complete_count])


@dataclass(frozen=True)
class Final:
    """A complete utterance.

    Its text is empty for the silence-before-speech rule, and for speech that matches none of the given phrases.
    """

    words: tuple[Word, ...]
    start_s: float  # of the first word; of the silence if there is no word
    end_s: float
    reason: EndReason
    alternatives: tuple[Alternative, ...] = ()  # most likely first; only with phrases, a beam or a language model
    heard: str | None = None  # greedy hypothesis, where another decoder gave `words`; else None
    end_frame: int = field(default=0, repr=False, compare=False)  # the next utterance's first frame

    @property
    def text(self) -> str:
        """All words as text."""
        return join_words(self.words)


Event = Partial | Final
