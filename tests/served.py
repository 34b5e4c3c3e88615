"""A service with the tiny model in the event loop of a test, and bytes of tones for it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import speak

from lwasr_edge import EndpointRules, Recognizer
from lwasr_edge.cli.commands.listen import event_to_dict
from lwasr_edge.cli.subtitles import to_srt, to_vtt
from lwasr_edge.serve.program import Plan, running
from lwasr_edge.serve.settings import Forms, Limits

if TYPE_CHECKING:
    from lwasr_edge.serve.service import Service

for extra in ("aiohttp", "prometheus_client", "wyoming", "zeroconf"):
    pytest.importorskip(extra, reason="needs the extra: pip install '.[serve]'")

LIMITS = Limits(clients=16, files=4, idle_s=20.0, late_s=60.0)  # the machine of a test may be busy
SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s")
TEXTS = ["one fourteen two", "threes"]  # its utterances; it ends in the last word


@dataclass(frozen=True)
class Served:
    """A running service and its addresses."""

    service: Service
    wyoming: str
    http: str

    @property
    def url(self) -> str:
        return f"http://{self.http}"


@contextlib.asynccontextmanager
async def served(
    recognizer: Recognizer,
    limits: Limits = LIMITS,
    *,
    remake: Callable[[], Recognizer] | None = None,
    log_transcripts: bool = False,
    **plan: Any,
) -> AsyncIterator[Served]:
    """A service on free ports of the loopback address; it must be idle at the end."""
    from lwasr_edge.serve.service import Service

    forms = Forms(event_to_dict, to_srt, to_vtt)
    service = Service(recognizer, limits, forms, log_transcripts=log_transcripts)
    wanted = Plan("tcp://127.0.0.1:0", "127.0.0.1:0", EndpointRules(), grace_s=3.0)
    try:
        async with running(service, dataclasses.replace(wanted, **plan), remake or (lambda: recognizer)) as (
            wyoming,
            http,
        ):
            yield Served(service, wyoming, http)
        assert (service.open_streams, service.open_files) == (0, 0)
    finally:
        await asyncio.to_thread(service.close)


def limited(**values: float) -> Limits:
    """The limits of tests with other values."""
    return dataclasses.replace(LIMITS, **values)


def run(scenario: Coroutine[Any, Any, None], timeout_s: float = 60.0) -> None:
    """Run a scenario in an event loop."""

    async def within_time() -> None:
        await asyncio.wait_for(scenario, timeout_s)

    asyncio.run(within_time())


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Wait for a condition."""
    for _ in range(round(timeout_s / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come true: {what}")


def pcm(*spoken: str | float, sample_rate: int = 16_000, width: int = 2, channels: int = 1) -> bytes:
    """Tones as little-endian PCM, as in WAV files; every channel is the same."""
    samples = np.repeat(speak(*spoken, sample_rate=sample_rate)[:, None], channels, axis=1).reshape(-1)
    if width == 1:
        return np.round(samples * 127 + 128).astype(np.uint8).tobytes()
    if width == 3:
        return (samples * 8388607).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    scale, kind = (32767, "<i2") if width == 2 else (2147483000, "<i4")
    return (samples.astype(np.float64) * scale).astype(kind).tobytes()


def open_descriptors() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
