"""When an utterance ends: the endpoint rules, applied to the tokens of a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from lwasr_edge.validate import number
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.words import TimedToken


MAX_LIMIT_S = 1e9


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance ends. Silence begins where the sound of the last token ends, so that no voice activity model is
    needed, and steady noise counts as silence.

    None turns a rule off. The three rules are those of sherpa-onnx, whose defaults are 2.4, 1.2 and 20 s. Here silence
    after speech is 0.8 s: pauses inside a spoken sentence are seldom as long, and the caller waits as long for the
    final text. Silence before speech is off by default: its event is a `Final` without words, which callers that did
    not ask for it would not expect.

    Raises:
        OptionError: a limit that is not a positive number of seconds, at most `MAX_LIMIT_S`.
    """

    silence_before_speech_s: float | None = None  # nobody speaks: reported once, and again after the next speech
    silence_after_speech_s: float | None = 0.8  # the utterance is over
    max_utterance_s: float | None = 20.0  # from its first word; cut between words

    def __post_init__(self) -> None:
        for rule in fields(self):
            value = getattr(self, rule.name)
            if value is not None:
                seconds = number(
                    rule.name, value, maximum=MAX_LIMIT_S, above=0, hint="give seconds, or None for no limit"
                )
                object.__setattr__(self, rule.name, seconds)

    def in_frames(self, frame_ms: float) -> tuple[float, float, float]:
        """The three limits in frames, rounded up; infinity for a rule that is off."""
        limits = (self.silence_before_speech_s, self.silence_after_speech_s, self.max_utterance_s)
        before, after, longest = (
            math.inf if limit is None else math.ceil(round(limit * 1000 / frame_ms, 6)) for limit in limits
        )
        return before, after, longest


NO_ENDPOINTS = EndpointRules(None, None, None)


@dataclass(frozen=True)
class UtteranceEnd:
    """The end of an utterance, or of silence that was too long."""

    reason: Literal["endpoint", "length"]
    end_frame: int  # tokens before it are the utterance's; the next utterance may begin in it
    silence_from: int | None = None  # first frame of the silence, if nobody spoke; else None


class UtteranceEnds:
    """Find the ends of utterances in the tokens of one stream. A pause begins where the sound of a token ends.

    Rules are applied frame by frame: the same tokens in the same frames give the same ends, however many frames come at
    a time. Frames count from the start of the stream.

    Args:
        info: of the model.
        rules: the limits.
        sound_end: gives, for the frame of a token, the frame after its sound.
        first_frame: of the stream.
    """

    def __init__(
        self, info: ModelInfo, rules: EndpointRules, sound_end: Callable[[int], int], first_frame: int = 0
    ) -> None:
        self._sound_end = sound_end
        self._vocabulary = info.vocabulary
        self._before, self._after, self._longest = rules.in_frames(info.frame_ms)
        self.has_rules = min(self._before, self._after, self._longest) < math.inf
        # The silence-before-speech rule counts from here; infinity: already reported.
        self._silence_from: float = first_frame

    def first(self, tokens: Sequence[TimedToken], until_frame: int) -> UtteranceEnd | None:
        """The earliest end up to a frame, or None. The caller drops the tokens before it and asks again.

        Args:
            tokens: of the current utterance and of what follows, in order.
            until_frame: one after the newest frame whose tokens are known.
        """
        if not self.has_rules:
            return None
        silence_due = self._silence_from + self._before
        if silence_due <= (tokens[0].frame if tokens else until_frame):
            end = UtteranceEnd("endpoint", int(silence_due), int(self._silence_from))
            self._silence_from = math.inf
            return end
        if not tokens:
            return None
        length_due = tokens[0].frame + self._longest
        following = [token.frame for token in tokens[1:]]
        for token, next_frame in zip(tokens, [*following, until_frame], strict=True):
            if next_frame < token.frame + 1 + self._after and next_frame < length_due:
                continue
            pause_due = self._sound_end(token.frame) + self._after
            if pause_due <= next_frame and pause_due <= length_due:
                self._silence_from = pause_due
                return UtteranceEnd("endpoint", int(pause_due))
            if length_due <= next_frame:
                return self._at_length(tokens, int(length_due))
        return None

    def frame_due(self, tokens: Sequence[TimedToken]) -> float:
        """The frame in which the utterance ends if no token follows; infinity for never."""
        if not tokens:
            return self._silence_from + self._before
        return min(self._sound_end(tokens[-1].frame) + self._after, tokens[0].frame + self._longest)

    def restart_silence(self, frame: int) -> None:
        """Count silence before speech from ``frame``."""
        self._silence_from = frame

    def _at_length(self, tokens: Sequence[TimedToken], due_frame: int) -> UtteranceEnd:
        """End before the newest word, which may still grow; a single word is ended as it is."""
        inside = [token for token in tokens if token.frame < due_frame]
        beginnings = [token.frame for token in inside[1:] if self._vocabulary[token.token].startswith(WORD_START)]
        end_frame = beginnings[-1] if beginnings else due_frame
        self._silence_from = end_frame
        return UtteranceEnd("length", end_frame)
