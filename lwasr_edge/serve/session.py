"""The audio of one client: blocks of bytes in, events out, recognised in the service's worker threads."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from lwasr_edge.events import Final
from lwasr_edge.serve.pcm import PcmReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lwasr_edge.events import Event
    from lwasr_edge.serve.pcm import PcmFormat
    from lwasr_edge.serve.service import Service
    from lwasr_edge.stream import Stream

SLICE_S = 1.0  # of a huge block at a time: streams take turns


class Session:
    """Recognise the audio of one client. Made by `open_session`; only its own task may use it.

    A client that sends faster than its audio is recognised waits: `accept` returns when everything is recognised, and
    nothing is read from the socket before. Clients take turns after `SLICE_S` seconds of audio.
    """

    def __init__(self, service: Service, stream: Stream, form: PcmFormat) -> None:
        self.form = form
        self._service = service
        self._stream = stream
        self._reader = PcmReader(form)
        self._bytes = 0

    @property
    def audio_s(self) -> float:
        """Seconds of audio so far."""
        return self._bytes / self.form.bytes_per_second

    async def accept(self, data: bytes) -> AsyncIterator[Event]:
        """Recognise the next bytes.

        Raises:
            LimitError: the stream has more audio than allowed.
            AudioError: samples that are not numbers.
        """
        step = max(1, int(SLICE_S * self.form.rate)) * self.form.frame_bytes
        for start in range(0, len(data), step):
            part = data[start : start + step]
            self._bytes += len(part)
            limit_s = self._service.limits.audio_s
            if self.audio_s > limit_s:
                raise self._service.refused("audio", f"audio must have at most {limit_s:g} s, got more: reconnect")
            began_s = time.monotonic()
            events = await self._service.run_for_stream(lambda part=part: self._accept(part))  # type: ignore[misc]
            self._service.metrics.block_s.observe(time.monotonic() - began_s)
            for event in self._logged(events):
                yield event

    async def finish(self) -> list[Event]:
        """End the audio: the events of its last words."""
        began_s = time.monotonic()
        events = await self._service.run_for_stream(self._finish)
        self._service.metrics.final_s.observe(time.monotonic() - began_s)
        return self._logged(events)

    def close(self) -> None:
        """Release the stream; later calls in worker threads fail."""
        self._stream.close()
        self._service.metrics.audio.labels("stream").inc(self.audio_s)
        self._bytes = 0

    def _accept(self, data: bytes) -> list[Event]:
        return self._stream.accept(self._reader.process(data))

    def _finish(self) -> list[Event]:
        return self._stream.accept(self._reader.flush()) + self._stream.flush()

    def _logged(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, Final):
                self._service.log_text("stream", event.text)
        return events


async def open_session(service: Service, form: PcmFormat, **settings: Any) -> Session:
    """Open a stream of the service's recogniser.

    Args:
        service: whose recogniser is used.
        form: of the client's audio.
        settings: of `Recognizer.stream`.

    Raises:
        LwasrError: as `Recognizer.stream`.
    """
    recognizer = service.recognizer
    stream = await asyncio.shield(service.run_for_stream(lambda: recognizer.stream(form.rate, **settings)))
    return Session(service, stream, form)
