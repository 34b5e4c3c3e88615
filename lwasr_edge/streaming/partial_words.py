"""The words that partials show while an utterance grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lwasr_edge.events import Partial
from lwasr_edge.words import Word, WordBuilder

if TYPE_CHECKING:
    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.words import TimedToken

# The newest word is shown when so many frames without a token follow it: before, it often still grows. With 0, 0.43
# words are changed for each final word of librispeech-dev; with 5, 0.12, and words are shown 120 ms later.
HOLD_FRAMES = 5


class PartialWords:
    """Build partials, and only those that differ from the one before.

    Args:
        info: of the model.
        is_revisable: another decoder decides the final text, so that no word is stable.
    """

    def __init__(self, info: ModelInfo, *, is_revisable: bool) -> None:
        self._info = info
        self._is_revisable = is_revisable
        self.clear()

    def clear(self) -> None:
        """Begin another utterance."""
        self._builder = WordBuilder(self._info)
        self._n_done = 0
        self._complete: list[Word] = []  # only appended to: partials share it
        self._shown_complete = 0  # of `_complete`, in the last partial
        self._shown: list[str] = []  # the words after them

    @property
    def is_shown(self) -> bool:
        """Whether the last partial of this utterance had words."""
        return self._shown_complete > 0 or bool(self._shown)

    def nothing(self, end_frame: int) -> Partial:
        """The partial that takes back all words."""
        return Partial(end_frame * self._info.frame_ms / 1000, (), 0, (), 0)

    def update(
        self, done: Sequence[TimedToken], newest: Sequence[TimedToken], stable_frame: int, end_frame: int
    ) -> Partial | None:
        """The partial after a window, or None if nothing changed.

        Args:
            done: tokens of the utterance that will not change; grows from call to call.
            newest: the tokens after them.
            stable_frame: tokens before it are committed.
            end_frame: one after the newest frame.
        """
        self._complete += [word for token in done[self._n_done :] if (word := self._builder.add(*token))]
        self._n_done = len(done)
        builder = self._builder.copy()
        words: list[Word] = []
        stable = 0
        for token in newest:
            completed = builder.add(*token)
            words += [completed] if completed else []
            if token.frame < stable_frame:
                stable = len(words)
        last_frame = max((tokens[-1].frame for tokens in (done, newest) if tokens), default=-1)
        open_word = builder.close()
        if open_word is not None and last_frame < end_frame - HOLD_FRAMES:
            words.append(open_word)
        texts = [word.text for word in words]
        if [word.text for word in self._complete[self._shown_complete :]] + texts == self._shown:
            return None
        self._shown_complete, self._shown = len(self._complete), texts
        n_stable = 0 if self._is_revisable else len(self._complete) + stable
        time_s = end_frame * self._info.frame_ms / 1000
        return Partial(time_s, self._complete, len(self._complete), tuple(words), n_stable)
