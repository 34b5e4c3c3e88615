"""When is an utterance over? Rules that the caller sets; the recogniser's own silence (blanks) drives them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from lwasr_edge.errors import OptionError


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
