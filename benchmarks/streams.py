"""The words of a recording that is given to a stream in one go, for the benchmarks of accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lwasr_edge import Final, Recognizer, Word
from lwasr_edge.words import join_words

RATE = 16_000
AFTER_S = 1.0  # of zeros after a recording: its last utterance ends by the endpoint rule, as at a microphone


def stream_words(recognizer: Recognizer, parts: Sequence[np.ndarray], hop_ms: float | None = None) -> list[Word]:
    """All words of one stream, from its finals.

    Args:
        parts: (N,) float32 each, at 16 kHz.
        hop_ms: None for the Recognizer's.
    """
    with recognizer.stream(RATE, hop_ms=hop_ms) as stream:
        events = [event for part in parts for event in stream.accept(part)] + stream.flush()
    return [word for event in events if isinstance(event, Final) for word in event.words]


def stream_text(recognizer: Recognizer, waveform: np.ndarray) -> str:
    """The text of one recording, followed by a second of zeros."""
    silence = np.zeros(round(AFTER_S * RATE), np.float32)
    return join_words(stream_words(recognizer, [waveform, silence]))
