"""The second pass: when greedy decoding has found the end of an utterance, another decoder decodes it again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.decoding.spoken import respelled_words
from lwasr_edge.events import EndReason, Event, Final
from lwasr_edge.words import Word, WordBuilder

if TYPE_CHECKING:
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.model_info import ModelInfo

SILENCE_KEPT_S = 3.0  # before the first word: greedy decoding may have missed a word in it


class SecondPass:
    """Keep the log posteriors of the current utterance, and revise its `Final`.

    An utterance's frames begin at the end of the one before. Memory: a row of the vocabulary (4 kB for a thousand
    pieces) per frame of the utterance; of the silence before speech, only the last `SILENCE_KEPT_S` are kept.
    """

    def __init__(self, info: ModelInfo, decoder: Decoder, *, first_frame: int = 0) -> None:
        self._info = info
        self._decoder = decoder
        self._silence_kept = math.ceil(SILENCE_KEPT_S * 1000 / info.frame_ms)
        self._kept: list[np.ndarray] = []  # (t, V) of the chunks since frame `_first`
        self._first = first_frame
        self._end = first_frame  # one after the last frame pushed
        self._is_first = True  # no utterance has ended yet

    def push(self, log_probs: np.ndarray) -> None:
        """Add (t, V) float32 log posteriors of the next chunk."""
        self._kept.append(log_probs)
        self._end += len(log_probs)

    def revise(self, events: list[Event], limit_s: float, ahead: np.ndarray | None = None) -> list[Event]:
        """Replace the greedy hypothesis in every `Final`.

        Args:
            events: of the frames pushed; a `Final` without words (silence before speech) is not changed.
            limit_s: end of the audio; words are cut there.
            ahead: (t, V) of frames that will be pushed later, if the events depend on them.

        Returns:
            The events in the same order.
        """
        revised: list[Event] = []
        for event in events:
            if isinstance(event, Final):
                if event.words:
                    event = self._decode(event, limit_s, ahead)
                    self._is_first = False
                # Frames ahead were computed without their right context; with it, a word may begin in them.
                self._forget(min(event.end_frame, self._end))
            revised.append(event)
        return revised

    def finish(self, events: list[Event], limit_s: float, reason: EndReason = "flush") -> list[Event]:
        """As `revise`, at the end of the audio; if greedy decoding found no words at all, the decoder still may."""
        if events or not self._is_first or self._end <= self._first:
            return self.revise(events, limit_s)
        final = self._decode(Final((), 0.0, 0.0, reason, end_frame=self._end), limit_s, None)
        return [final] if final.words else []

    def forget_silence(self) -> None:
        """Drop silence older than `SILENCE_KEPT_S`; call it while nobody speaks."""
        self._forget(self._end - self._silence_kept)

    def _forget(self, before: int) -> None:
        """Drop the frames before number `before`, at most the next one."""
        while self._kept and self._first + len(self._kept[0]) <= before:
            self._first += len(self._kept.pop(0))
        if before > self._first:
            if self._kept:
                self._kept[0] = self._kept[0][before - self._first :]
            self._first = before

    def _decode(self, final: Final, limit_s: float, ahead: np.ndarray | None) -> Final:
        parts = [*self._kept, *([] if ahead is None else [ahead])]
        log_probs = np.concatenate(parts)[: final.end_frame - self._first]
        decoded = self._decoder.decode(log_probs)
        words: list[Word] = []
        builder = WordBuilder(self._info)
        for token, frame, score in decoded.tokens:
            word = builder.add(token, self._first + frame, score)
            words += [word] if word else []
        last = builder.close()
        words += [last] if last else []
        if decoded.confidence is not None:
            words = [replace(word, confidence=decoded.confidence) for word in words]
        if decoded.spelling is not None:
            words = respelled_words(words, decoded.spelling)
        return replace(
            final,
            words=tuple(word.clamped(limit_s) for word in words),
            start_s=words[0].start_s if words else final.start_s,
            end_s=min(words[-1].end_s, limit_s) if words else final.end_s,
            alternatives=decoded.alternatives,
            heard=final.text,
        )
