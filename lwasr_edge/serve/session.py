"""The audio of one client: blocks of bytes in, events out, recognised in the service's worker threads."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from lwasr_edge.events import Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lwasr_edge.events import Event
    from lwasr_edge.serve.opus import OpusFormat
    from lwasr_edge.serve.pcm import PcmFormat
    from lwasr_edge.serve.service import Service
    from lwasr_edge.stream import Stream

Shown = TypeVar("Shown")
AudioFormat: TypeAlias = "PcmFormat | OpusFormat"

MAX_UTTERANCE_S = 600.0  # of streams without end-points, whose partials have all words since the start


class Session(Generic[Shown]):
    """Recognise the audio of one client. Made by `open_session`; only its own task may use it.

    A client that sends faster than its audio is recognised waits: `accept` returns when everything is recognised, and
    nothing is read from the socket before. Clients take turns after a second of audio.
    """

    def __init__(
        self, service: Service, stream: Stream, form: AudioFormat, show: Callable[[Event], Shown], limit_s: float
    ) -> None:
        self.form = form
        self._service = service
        self._stream = stream
        self._show = show
        self._limit_s = limit_s
        self._reader = form.reader()
        self._n_samples = 0

    @property
    def audio_s(self) -> float:
        """Seconds of audio so far."""
        return self._n_samples / self.form.rate

    async def accept(self, data: bytes) -> AsyncIterator[Shown]:
        """Recognise the next bytes.

        Raises:
            LimitError: the stream has more audio than allowed.
            AudioError: samples that are not numbers, or bytes that cannot be decoded.
        """
        for piece in self._reader.pieces(data):
            began_s = time.monotonic()
            events = await self._service.run_for_stream(lambda piece=piece: self._accept(piece))  # type: ignore[misc]
            self._service.metrics.block_s.observe(time.monotonic() - began_s)
            for event in events:
                yield event

    async def finish(self) -> list[Shown]:
        """End the audio: the events of its last words."""
        began_s = time.monotonic()
        events = await self._service.run_for_stream(self._finish)
        self._service.metrics.final_s.observe(time.monotonic() - began_s)
        return events

    def close(self) -> None:
        """Release the stream; later calls in worker threads fail."""
        self._reader.close()
        self._stream.close()
        self._service.metrics.audio.labels("stream").inc(self.audio_s)
        self._n_samples = 0

    def _accept(self, piece: bytes) -> list[Shown]:
        samples = self._reader.process(piece)
        self._n_samples += len(samples)
        if self.audio_s > self._limit_s:
            raise self._service.refused("audio", f"audio must have at most {self._limit_s:g} s, got more: reconnect")
        return self._shown(self._stream.accept(samples))

    def _finish(self) -> list[Shown]:
        return self._shown(self._stream.accept(self._reader.flush()) + self._stream.flush())

    def _shown(self, events: list[Event]) -> list[Shown]:
        for event in events:
            if isinstance(event, Final):
                self._service.log_text("stream", event.text)
        return [self._show(event) for event in events]


async def open_session(
    service: Service, form: AudioFormat, show: Callable[[Event], Shown], **settings: Any
) -> Session[Shown]:
    """Open a stream of the service's recogniser.

    Args:
        service: whose recogniser is used.
        form: of the client's audio.
        show: makes of an event what the session returns; called in a worker thread.
        settings: of `Recognizer.stream`.

    Raises:
        LwasrError: as `Recognizer.stream`.
    """
    recognizer = service.recognizer
    stream = await asyncio.shield(service.run_for_stream(lambda: recognizer.stream(form.rate, **settings)))
    limit_s = service.limits.audio_s
    if settings.get("endpoint") is None:
        limit_s = min(limit_s, MAX_UTTERANCE_S)
    return Session(service, stream, form, show, limit_s)
