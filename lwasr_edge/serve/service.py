"""The recogniser of a service, its worker threads, and how many clients may use them at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from lwasr_edge.errors import AudioError, LimitError
from lwasr_edge.serve.metrics import Metrics
from lwasr_edge.serve.settings import usable_cores

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Recognizer, Transcript
    from lwasr_edge.serve.settings import Forms, Limits
    from lwasr_edge.words import Word

log = logging.getLogger("lwasr_edge.serve")

LATE_FOR_S = 5.0  # new streams are refused so long after audio waited for `late_s`
LOG_EVERY_S = 60.0  # one refusal for each reason: a flood of clients must not fill the log
FILE_NICENESS = 10  # of the threads for files: streams come first

Result = TypeVar("Result")
OnSegment = Callable[["tuple[Word, ...]"], object]


class Service:
    """What the servers of one process share.

    Streams and files have worker threads of their own, as many as there are cores, so that the event loop never waits
    for the model, and files, whose threads have a lower priority, do not delay streams.

    Args:
        recognizer: shared by all clients. It may be replaced at any time: streams that are open keep theirs.
        limits: what clients may use.
        forms: of results.
        log_transcripts: whether recognised text is written to the log.
    """

    def __init__(self, recognizer: Recognizer, limits: Limits, forms: Forms, *, log_transcripts: bool = False) -> None:
        self.recognizer = recognizer
        self.limits = limits
        self.forms = forms
        self.metrics = Metrics()
        self.open_streams = 0
        self.open_files = 0
        self.is_stopping = False
        self._stopped: asyncio.Future[None] | None = None
        self._log_transcripts = log_transcripts
        self._late_until_s = 0.0
        self._logged_s: dict[str, float] = {}  # reason of a refusal -> when it was logged
        self._abandoned = threading.Event()  # the time for files after `stop` is over
        self._cores = cores = usable_cores()
        self._stream_pool = ThreadPoolExecutor(cores, thread_name_prefix="lwasr-stream")
        self._file_pool = ThreadPoolExecutor(
            min(cores, limits.files), thread_name_prefix="lwasr-file", initializer=_lower_priority
        )

    @contextlib.contextmanager
    def stream_slot(self, protocol: str) -> Iterator[None]:
        """A context that counts as one stream.

        Raises:
            LimitError: there are as many as allowed, or recognition is late already.
        """
        if self.is_stopping:
            raise self._refused("stopping", "the service is stopping: try again later")
        if self.open_streams >= self.limits.clients:
            raise self._refused("clients", f"streams must be at most {self.limits.clients}: try again later")
        if self.open_streams >= self._cores and time.monotonic() < self._late_until_s:
            raise self._refused("late", "the service has as many streams as it can recognise in time: try again later")
        self.open_streams += 1
        self.metrics.open_streams.inc()
        self.metrics.streams.labels(protocol).inc()
        try:
            yield
        finally:
            self.open_streams -= 1
            self.metrics.open_streams.dec()

    @contextlib.contextmanager
    def file_slot(self) -> Iterator[None]:
        """A context that counts as one file.

        Raises:
            LimitError: there are as many as allowed.
        """
        if self.is_stopping:
            raise self._refused("stopping", "the service is stopping: try again later")
        if self.open_files >= self.limits.files:
            raise self._refused("files", f"files must be at most {self.limits.files} at a time: try again later")
        self.open_files += 1
        try:
            yield
        finally:
            self.open_files -= 1

    async def run_for_stream(self, function: Callable[[], Result]) -> Result:
        """Run a short function in a worker thread of the streams."""
        return await asyncio.get_running_loop().run_in_executor(
            self._stream_pool, partial(self._after_waiting, time.monotonic(), function)
        )

    def _after_waiting(self, since_s: float, function: Callable[[], Result]) -> Result:
        now_s = time.monotonic()
        if now_s - since_s > self.limits.late_s:
            self._late_until_s = now_s + LATE_FOR_S
        return function()

    async def transcribe(self, file: BinaryIO, on_segment: OnSegment | None = None) -> Transcript:
        """Transcribe an uploaded file in a worker thread; a cancelled call ends soon.

        Args:
            file: seekable.
            on_segment: of `Recognizer.transcribe`; called in the worker thread.

        Raises:
            AudioError: it cannot be read.
            LimitError: it has more audio than allowed, or the service is stopping.
        """
        given_up = threading.Event()
        work = partial(self._transcribe, file, given_up, on_segment)
        run = asyncio.get_running_loop().run_in_executor(self._file_pool, work)
        return await to_its_end(run, given_up.set)

    def _transcribe(self, file: BinaryIO, given_up: threading.Event, on_segment: OnSegment | None = None) -> Transcript:
        reasons: list[str] = []

        def progress(done_s: float, _: float) -> bool:
            if done_s > self.limits.audio_s:
                reasons.append("audio")
            elif given_up.is_set():
                reasons.append("gone")
            elif self._abandoned.is_set():
                reasons.append("stopping")
            return not reasons

        began_s = time.monotonic()
        if given_up.is_set():
            raise LimitError("the client is gone", "gone")
        try:
            transcript = self.recognizer.transcribe(
                cast(BinaryIO, _Upload(file)), progress=progress, on_segment=on_segment
            )
        except (OSError, MemoryError) as error:
            if isinstance(error, AudioError):
                raise
            raise AudioError(f"the file cannot be decoded: {error}") from error
        if reasons == ["audio"]:
            raise self._refused("audio", f"audio must have at most {self.limits.audio_s:g} s, got more: cut the file")
        if reasons == ["gone"]:
            raise LimitError("the client is gone", "gone")
        if reasons:
            raise self._refused("stopping", "the service is stopping: try again later")
        self.metrics.file_s.observe(time.monotonic() - began_s)
        self.metrics.audio.labels("file").inc(transcript.duration_s)
        self.log_text("file", transcript.text)
        return transcript

    def refused(self, reason: str, message: str) -> LimitError:
        """Count a request that is beyond a limit; return the error to raise."""
        return self._refused(reason, message)

    def _refused(self, reason: str, message: str) -> LimitError:
        self.metrics.refused.labels(reason).inc()
        now_s = time.monotonic()
        if now_s - self._logged_s.get(reason, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged_s[reason] = now_s
            log.warning("refused (%s): %s; /metrics counts all of them", reason, message)
        return LimitError(message, reason)

    def log_text(self, source: str, text: str) -> None:
        """Write recognised text to the log, if that was asked for."""
        if self._log_transcripts:
            log.info("%s: %s", source, text)

    async def next_of(self, awaitable: Any, patience: float = 1) -> Any:
        """Await what a client sends next.

        Args:
            awaitable: cancelled if it takes too long.
            patience: how many times `idle_s` it may take.

        Raises:
            LimitError: nothing came for `idle_s` seconds (reason "idle"), or the service is stopping ("stopping").
        """
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(awaitable)
        try:
            done, _ = await asyncio.wait(
                {task, self._stopped}, timeout=patience * self.limits.idle_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task in done:
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # or asyncio reports that nobody has asked for it
        if self._stopped in done:
            raise LimitError("the service is stopping", "stopping")
        idle_s = patience * self.limits.idle_s
        raise self._refused("idle", f"nothing was received for {idle_s:g} s: send audio, or close")

    def stop(self) -> None:
        """Refuse new clients; those that are waited for in `next_of` get their results."""
        self.is_stopping = True
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_future()
        if not self._stopped.done():
            self._stopped.set_result(None)

    def abandon_files(self) -> None:
        """End the recognition of files."""
        self._abandoned.set()

    def close(self) -> None:
        """End the worker threads; blocks until what they do is done."""
        self._abandoned.set()
        self._stream_pool.shutdown(cancel_futures=True)
        self._file_pool.shutdown(cancel_futures=True)


class _Upload:
    """The interface of a seekable file, with a name for messages."""

    name = "the file"

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell

    def seekable(self) -> bool:
        """Whether the position can be changed."""
        return True


async def to_its_end(run: asyncio.Future[Result], at_cancel: Callable[[], object] = lambda: None) -> Result:
    """Await what a thread does with a file of the caller: a cancelled caller goes on when the thread has ended.

    Args:
        run: the future of the thread's work.
        at_cancel: called when the caller is cancelled.
    """
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        at_cancel()
        await asyncio.wait({run})
        if not run.cancelled():
            run.exception()  # or asyncio reports that nobody has asked for it
        raise


def _lower_priority() -> None:
    """Let streams come first; only Linux has a priority for each thread."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), FILE_NICENESS)
