"""Tokens in, events out: words are gathered into utterances, and the end-point rules cut them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lwasr_edge.errors import OptionError
from lwasr_edge.events import EndReason, Event, Final, Partial
from lwasr_edge.words import Word, WordBuilder, frame_start_s

if TYPE_CHECKING:
    from lwasr_edge.model import ChunkResult
    from lwasr_edge.model_info import ModelInfo


@dataclass(frozen=True)
class EndpointRules:
    """Silence rules. Silence is time without a new token, so no second model is needed; None turns a rule off.

    The three rules are those that users of sherpa-onnx know, whose defaults are 2.4, 1.2 and 20 s. Here silence ends an
    utterance after 0.8 s: pauses inside a spoken sentence seldom last as long, and the caller waits as long for the
    final text. Silence before speech is off until asked for: its event is a `Final` without words, which only those
    expect who asked.

    Raises:
        OptionError: a limit that is not a positive, finite number of seconds.
    """

    silence_before_speech_s: float | None = None  # nobody speaks: reported once, then not until somebody has spoken
    silence_after_speech_s: float | None = 0.8  # the utterance is over
    max_utterance_s: float | None = 20.0  # from its first word; cut between words

    def __post_init__(self) -> None:
        for rule in fields(self):
            value = getattr(self, rule.name)
            if value is None:
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value <= 0:
                raise OptionError(f"{rule.name} is expected to be a positive number of seconds or None; came {value!r}")

    def in_frames(self, frame_ms: float) -> tuple[float, float, float]:
        """The three limits in whole frames, rounded up; infinity for a rule that is off."""
        limits = (self.silence_before_speech_s, self.silence_after_speech_s, self.max_utterance_s)
        before, after, longest = (
            math.inf if limit is None else math.ceil(round(limit * 1000 / frame_ms, 6)) for limit in limits
        )
        return before, after, longest


NO_ENDPOINTS = EndpointRules(None, None, None)


class UtteranceTracker:
    """Follow one stream from its first frame to its last.

    Rules are applied frame by frame, not chunk by chunk: the same tokens in the same frames give the same utterances,
    whatever the chunk size. Frames count from the start of the stream and go on through end-points.
    """

    def __init__(self, info: ModelInfo, rules: EndpointRules, *, revisable: bool = False, first_frame: int = 0) -> None:
        """`revisable`: a second pass may change what is found here; `first_frame`: where counting begins."""
        self._info = info
        self._revisable = revisable
        self._before, self._after, self._longest = rules.in_frames(info.frame_ms)
        self._builder = WordBuilder(info)
        self._frames_heard = first_frame
        self._complete: list[Word] = []  # never changed but by append: partials share it
        self._first_frame: int | None = None  # of the first token of the utterance; None: no speech yet
        self._last_frame = -1  # of the newest token
        self._open_first_frame = 0  # of the open word
        self._silence_from: float = (
            first_frame  # the silence-before-speech rule counts from here; infinity: reported already
        )
        self._grown = False  # since the last event

    def push(self, result: ChunkResult, n_frames: int) -> list[Event]:
        """Take the tokens of the next chunk of `n_frames` frames; return what is to be told, in order of time."""
        events: list[Event] = []
        base = self._frames_heard
        for token, frame, score in zip(
            result.tokens.tolist(), result.frames.tolist(), result.scores.tolist(), strict=True
        ):
            events += self._apply_rules(until_frame=base + frame)
            self._add_token(token, base + frame, score)
        self._frames_heard += n_frames
        events += self._apply_rules(until_frame=self._frames_heard)
        if self._grown:
            self._grown = False
            heard_s = self._frames_heard * self._info.frame_ms / 1000
            open_word = self._builder.open_word()
            events.append(Partial(heard_s, self._complete, len(self._complete), open_word, self._revisable))
        return events

    @property
    def speaking(self) -> bool:
        """Is an utterance under way?"""
        return self._first_frame is not None

    def frames_to_endpoint(self) -> float:
        """Frames that must pass without a token for the silence-after-speech rule to fire; infinity if it cannot."""
        if self._first_frame is None:
            return math.inf
        return self._last_frame + 1 + self._after - self._frames_heard

    def endpoint_after_silence(self, n_frames: int) -> list[Event]:
        """Apply the rules as if `n_frames` without a token had been pushed; the frames are still to come."""
        return self._apply_rules(until_frame=self._frames_heard + n_frames)

    def finish(self, duration_s: float, reason: EndReason = "flush") -> list[Event]:
        """End the sound at `duration_s` seconds; return the last utterance, if there is one."""
        return _with_words(self._final(reason, self._frames_heard, duration_s))

    def _add_token(self, token: int, frame: int, score: float) -> None:
        completed = self._builder.add(token, frame, score)
        if completed is not None:
            self._complete.append(completed)
        if completed is not None or self._first_frame is None:
            self._open_first_frame = frame
        if self._first_frame is None:
            self._first_frame = frame
        self._last_frame = frame
        self._grown = True

    def _apply_rules(self, until_frame: int) -> list[Event]:
        """Fire every rule that falls due up to a frame, the earliest first."""
        events: list[Event] = []
        while True:
            if self._first_frame is None:
                due = self._silence_from + self._before
                if due > until_frame:
                    return events
                events.append(self._silence(int(due)))
                continue
            silence_due = self._last_frame + 1 + self._after
            length_due = self._first_frame + self._longest
            if min(silence_due, length_due) > until_frame:
                return events
            if silence_due <= length_due:
                events += _with_words(self._final("endpoint", int(silence_due)))
                self._silence_from = silence_due
            else:
                events += _with_words(self._cut_at_length(int(length_due)))

    def _silence(self, due_frame: int) -> Final:
        start_s = frame_start_s(self._info, int(self._silence_from))
        self._silence_from = math.inf
        return Final((), start_s, frame_start_s(self._info, due_frame), "endpoint", end_frame=due_frame)

    def _cut_at_length(self, due_frame: int) -> Final:
        """End the utterance before its newest word, which may still grow; a lone word is ended itself."""
        if not self._complete:
            self._silence_from = self._last_frame + 1
            return self._final("length", due_frame)
        words, self._complete = tuple(self._complete), []
        self._first_frame = self._open_first_frame
        self._grown = True
        return Final(words, words[0].start_s, words[-1].end_s, "length", end_frame=self._open_first_frame)

    def _final(self, reason: EndReason, end_frame: int, duration_s: float = math.inf) -> Final:
        word = self._builder.close()
        words = tuple(w.clamped(duration_s) for w in (*self._complete, *([word] if word else [])))
        self._complete = []
        self._first_frame = None
        self._grown = False
        start_s, end_s = (words[0].start_s, words[-1].end_s) if words else (0.0, 0.0)
        return Final(words, start_s, end_s, reason, end_frame=end_frame)


def _with_words(final: Final) -> list[Event]:
    """The event, unless nothing was said: a word mark alone is a token but no word."""
    return [final] if final.words else []
