"""What a stream tells its listener."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lwasr_edge.words import Word, join_words

if TYPE_CHECKING:
    from lwasr_edge.decoding.decoder import Alternative

# Silence; longest utterance reached; the stream was flushed; the sound that follows is missing.
EndReason = Literal["endpoint", "length", "flush", "gap"]


@dataclass(frozen=True, eq=False)
class Partial:
    """The utterance under way, after it grew.

    Greedy CTC never takes a token back: every word but the last is final already, and the last can only grow. With
    phrases, a beam or a language model a partial is still what greedy decoding hears, but the `Final` may differ: then
    no word is stable.

    `text` and `words` are put together when read, so that a listener who skips partials pays nothing for them, however
    long the utterance.
    """

    time_s: float  # so much of the stream has been heard
    _complete: Sequence[Word] = field(repr=False)  # shared with the stream, which only appends to it
    _complete_count: int = field(repr=False)
    _open: Word | None = field(repr=False)
    _is_revisable: bool = field(default=False, repr=False)

    @property
    def stable_words(self) -> tuple[Word, ...]:
        """The words that will not change again."""
        return () if self._is_revisable else self._complete_words

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, the growing one included."""
        return self._complete_words if self._open is None else (*self._complete_words, self._open)

    @property
    def stable_text(self) -> str:
        """The part of `text` that will not change again."""
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
    """An utterance that is over.

    Its text is empty for the silence-before-speech rule, and for speech that is none of the phrases asked for: then
    `heard` says what greedy decoding took it for.
    """

    words: tuple[Word, ...]
    start_s: float  # of the first word; of the silence, if there is no word
    end_s: float
    reason: EndReason
    alternatives: tuple[Alternative, ...] = ()  # the likeliest first; with phrases, a beam or a language model only
    heard: str | None = None  # what greedy decoding heard, if something else decoded the text
    end_frame: int = field(default=0, repr=False, compare=False)  # the next utterance's first frame

    @property
    def text(self) -> str:
        """All words as text."""
        return join_words(self.words)


Event = Partial | Final
