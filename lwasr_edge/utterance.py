"""Tokens in, events out: words are collected into utterances, which the endpoint rules end."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lwasr_edge.events import EndReason, Event, Final, Partial
from lwasr_edge.validate import number
from lwasr_edge.words import Word, WordBuilder, frame_start_s

if TYPE_CHECKING:
    from lwasr_edge.model import ChunkResult
    from lwasr_edge.model_info import ModelInfo


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance ends. Silence is time without a new token, so no voice activity model is needed.

    None turns a rule off. The three rules are those of sherpa-onnx, whose defaults are 2.4, 1.2 and 20 s. Here silence
    after speech is 0.8 s: pauses inside a spoken sentence are seldom as long, and the caller waits as long for the
    final text. Silence before speech is off by default: its event is a `Final` without words, which callers that did
    not ask for it would not expect.

    Raises:
        OptionError: a limit that is not a positive, finite number of seconds.
    """

    silence_before_speech_s: float | None = None  # nobody speaks: reported once, and again after the next speech
    silence_after_speech_s: float | None = 0.8  # the utterance is over
    max_utterance_s: float | None = 20.0  # from its first word; cut between words

    def __post_init__(self) -> None:
        for rule in fields(self):
            value = getattr(self, rule.name)
            if value is not None:
                seconds = number(rule.name, value, above=0, hint="give seconds, or None for no limit")
                object.__setattr__(self, rule.name, seconds)

    def in_frames(self, frame_ms: float) -> tuple[float, float, float]:
        """The three limits in frames, rounded up; infinity for a rule that is off."""
        limits = (self.silence_before_speech_s, self.silence_after_speech_s, self.max_utterance_s)
        before, after, longest = (
            math.inf if limit is None else math.ceil(round(limit * 1000 / frame_ms, 6)) for limit in limits
        )
        return before, after, longest


NO_ENDPOINTS = EndpointRules(None, None, None)


class UtteranceTracker:
    """Collect the tokens of one stream into utterances.

    Rules are applied frame by frame, not chunk by chunk: the same tokens in the same frames give the same utterances,
    whatever the chunk size. Frames count from the start of the stream, through endpoints, beginning with `first_frame`.
    With `revisable`, a second pass may change the words, so partials have no stable words.
    """

    def __init__(self, info: ModelInfo, rules: EndpointRules, *, revisable: bool = False, first_frame: int = 0) -> None:
        self._info = info
        self._revisable = revisable
        self._before, self._after, self._longest = rules.in_frames(info.frame_ms)
        self._builder = WordBuilder(info)
        self._n_frames = first_frame
        self._complete: list[Word] = []  # only appended to: partials share it
        self._first_frame: int | None = None  # of the first token of the utterance; None: no speech yet
        self._last_frame = -1  # of the newest token
        self._open_first_frame = 0  # of the open word
        # The silence-before-speech rule counts from here; infinity: already reported.
        self._silence_from: float = first_frame
        self._grown = False  # since the last event

    def push(self, result: ChunkResult, n_frames: int) -> list[Event]:
        """Add the tokens of the next chunk of `n_frames` frames; return its events in order of time."""
        events: list[Event] = []
        base = self._n_frames
        for token, frame, score in zip(
            result.tokens.tolist(), result.frames.tolist(), result.scores.tolist(), strict=True
        ):
            events += self._apply_rules(until_frame=base + frame)
            self._add_token(token, base + frame, score)
        self._n_frames += n_frames
        events += self._apply_rules(until_frame=self._n_frames)
        if self._grown:
            self._grown = False
            time_s = self._n_frames * self._info.frame_ms / 1000
            open_word = self._builder.open_word()
            events.append(Partial(time_s, self._complete, len(self._complete), open_word, self._revisable))
        return events

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun and not ended."""
        return self._first_frame is not None

    def frames_to_endpoint(self) -> float:
        """Frames without a token until the silence-after-speech rule applies; infinity if it cannot."""
        if self._first_frame is None:
            return math.inf
        return self._last_frame + 1 + self._after - self._n_frames

    def endpoint_after_silence(self, n_frames: int) -> list[Event]:
        """Apply the rules as if `n_frames` without a token had been pushed; the frames are pushed later."""
        return self._apply_rules(until_frame=self._n_frames + n_frames)

    def finish(self, duration_s: float, reason: EndReason = "flush") -> list[Event]:
        """End the audio at `duration_s` seconds; return the last utterance, if there is one."""
        return _with_words(self._final(reason, self._n_frames, duration_s))

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
        """Apply every rule that is due up to a frame, the earliest first."""
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
        """End the utterance before its newest word, which may still grow; a single word is ended as it is."""
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
    """The event, unless it has no words: a word mark alone is a token but not a word."""
    return [final] if final.words else []
