"""A recording fed to a stream in simulated real time, so that hours take minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from lwasr_edge.recognizer import Recognizer


@dataclass(frozen=True)
class StreamRun:
    """Text and latencies of one stream."""

    text: str
    hop_ms: float
    right_context_ms: float
    busy_s: float  # spent in `accept` and `flush`
    hop_latency_s: list[float]  # from the end of each hop to the return of `accept` with its events
    final_latency_s: float  # from the last sample to the return of `flush`


def run_stream(recognizer: Recognizer, waveform: np.ndarray, right_context_ms: float | None = None) -> StreamRun:
    """Feed a stream hop by hop, as if each arrived when its last sample is spoken.

    A hop that arrives while the previous one is being processed waits for it: on a board that is too slow for real
    time, the latency grows from hop to hop, as it does with a microphone.

    Args:
        recognizer: its own hop is used.
        waveform: (N,) float32 at the model's rate.
        right_context_ms: as for `Recognizer.stream`.
    """
    from lwasr_edge.events import Final

    rate = recognizer.info.sample_rate
    latencies, events = [], []
    busy_s = free_at_s = 0.0
    with recognizer.stream(rate, right_context_ms=right_context_ms) as stream:
        hop_ms, context_ms = stream.hop_ms, stream.right_context_ms
        hop = round(hop_ms * rate / 1000)
        ends = range(hop, len(waveform) + 1, hop)
        for start, end in pairwise([0, *ends]):
            began_s = time.perf_counter()
            events += stream.accept(waveform[start:end])
            took_s = time.perf_counter() - began_s
            busy_s += took_s
            free_at_s = max(free_at_s, end / rate) + took_s
            latencies.append(free_at_s - end / rate)
        rest = waveform[ends[-1] if ends else 0 :]
        began_s = time.perf_counter()
        events += stream.accept(rest)
        events += stream.flush()
        took_s = time.perf_counter() - began_s
    text = " ".join(event.text for event in events if isinstance(event, Final) and event.text)
    spoken_s = len(waveform) / rate
    final_s = max(free_at_s, spoken_s) + took_s - spoken_s
    return StreamRun(text, hop_ms, context_ms, busy_s + took_s, latencies, final_s)
