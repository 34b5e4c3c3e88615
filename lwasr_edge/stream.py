"""A stream: blocks of samples of any size in, events out."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from lwasr_edge.audio.mixing import Mixer
from lwasr_edge.audio.samples import SampleBytes, StreamResampler, check_sample_rate, to_float32
from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError, StreamError
from lwasr_edge.hub.model_file import free_unused_memory
from lwasr_edge.streaming.speech_tracker import SpeechTracker
from lwasr_edge.utterance import NO_ENDPOINTS, EndpointRules
from lwasr_edge.validate import whole_number

if TYPE_CHECKING:
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.events import EndReason, Event
    from lwasr_edge.model import Model

SLICE_S = 5  # of a huge block at a time, so that its copies stay small


class Stream:
    """Recognise one recording or one microphone. Made by `Recognizer.stream`.

        with recognizer.stream(sample_rate=48000) as stream:
            for block in blocks:
                for event in stream.accept(block):
                    ...
            for event in stream.flush():
                ...

    `accept` resamples the samples to the model's rate; `SpeechTracker` makes events of them. Words do not depend on the
    size of the blocks. Times count from the first sample, through endpoints. Memory is constant; only without endpoints
    do words, and the posteriors for a decoder, accumulate until `flush`.

    Threads: any thread may call any method; calls wait for each other. Streams of one Recognizer may run at once in
    different threads.

    Args:
        model: shared between streams.
        sample_rate: Hz of the samples given to `accept`.
        chunking: how often the newest audio is recognised, and how much right context makes a word stable.
        endpoint: when an utterance is over; None for never: all words come in one `Final` at `flush`.
        decoder: decides the text of every utterance at its end; None for greedy decoding, which needs no posteriors
            from the model.

    Raises:
        AudioError: invalid `sample_rate`.
        OptionError: `endpoint` is of another type.
    """

    def __init__(
        self,
        model: Model,
        *,
        sample_rate: int,
        chunking: Chunking,
        endpoint: EndpointRules | None,
        decoder: Decoder | None = None,
    ) -> None:
        if endpoint is not None and not isinstance(endpoint, EndpointRules):
            raise OptionError(f"endpoint must be EndpointRules(...) or None, got {endpoint!r}")
        self.sample_rate = check_sample_rate(sample_rate)
        self._model = model
        self._info = model.info
        self._rules = endpoint or NO_ENDPOINTS
        self._decoder = decoder
        self._chunking = chunking
        self._lock = threading.RLock()  # reentrant: a signal handler may close the stream in the middle of a call
        self._closed = False
        self._calls = 0  # in progress; more than one if a signal handler calls in the middle of a call
        self._flushed = False
        self._restart()

    @property
    def time_s(self) -> float:
        """Seconds of audio accepted or skipped since the start or the last `reset`."""
        return self._samples_accepted / self.sample_rate

    @property
    def hop_ms(self) -> float:
        """Milliseconds from one recognition of the newest audio to the next, while somebody speaks."""
        return self._chunking.hop_frames * self._info.frame_ms

    @property
    def right_context_ms(self) -> float:
        """Milliseconds of later audio that a word needs to become stable."""
        return self._chunking.look_ahead_frames * self._info.frame_ms

    def accept(self, samples: np.ndarray | bytes) -> list[Event]:
        """Recognise the next samples.

        Args:
            samples: (N,) or (N, channels), N >= 0, at the stream's rate: int16, int32, or floats in [-1, 1]. Channels
                are mixed, up to 0.1 s later; where they cancel, the loudest one is used. Or bytes of mono
                little-endian int16 samples; an odd byte at the end is kept for the next call.

        Returns:
            The events they caused, in order of time; often none.

        Raises:
            AudioError: samples of another type or shape, or not finite; none of them was used.
            StreamError: the stream is closed or flushed.
        """
        with self._call():
            floats = to_float32(self._bytes.samples(samples), first_sample=self._samples_accepted)
            self._samples_accepted += len(floats)
            mono = self._mixer.process(floats)
            events: list[Event] = []
            step = SLICE_S * self.sample_rate
            for start in range(0, len(mono), step):
                events += self._tracker.accept(self._resampler.process(mono[start : start + step]))
            return events

    def flush(self) -> list[Event]:
        """End the recording: recognise everything accepted, the last word included.

        The model gets the zeros it needs to complete the last word. After this the stream accepts no samples until
        `reset`. A second call returns nothing.

        Raises:
            StreamError: the stream is closed.
        """
        with self._call(allow_flushed=True):
            if self._flushed:
                return []
            self._flushed = True
            return self._end("flush")

    def skip(self, n_samples: int) -> list[Event]:
        """Skip samples that are missing, for example lost by a recorder.

        The current utterance ends before them with the reason "gap", whatever the endpoint rules, and the model starts
        after them as with a new recording. Times include the missing samples.

        Args:
            n_samples: missing samples at the stream's rate; with 0, the utterance ends all the same.

        Returns:
            The events of what was accepted before.

        Raises:
            OptionError: not a whole number >= 0.
            StreamError: the stream is closed or flushed.
        """
        with self._call():
            n_samples = whole_number("n_samples", n_samples, 0)
            events = self._end("gap")
            self._restart(self._samples_accepted + n_samples)
            return events

    def reset(self) -> None:
        """Start a new recording: the state is that of a new stream, and times count from 0 again.

        Raises:
            StreamError: the stream is closed.
        """
        with self._call(allow_flushed=True):
            self._restart()

    def close(self) -> None:
        """Close the stream without recognising the rest; call `flush` before for the last words.

        Its memory is free, after a call in progress.
        """
        self._closed = True
        if self._lock.acquire(blocking=False):  # otherwise at the end of the call of another thread
            try:
                self._release_if_closed()
            finally:
                self._lock.release()

    def __reduce__(self) -> NoReturn:
        raise StreamError(
            "a stream must stay in its process, got one to pickle or to copy: it holds the state of one recording; "
            "pass the Recognizer instead and call its stream() there"
        )

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _restart(self, at: int = 0) -> None:
        """Reset the state at sample `at` (of the stream's rate)."""
        info = self._info
        self._resampler = StreamResampler(self.sample_rate, info.sample_rate)
        self._bytes = SampleBytes()
        self._mixer = Mixer(self.sample_rate)
        self._tracker = SpeechTracker(
            self._model,
            self._chunking,
            self._rules,
            self._decoder,
            first_sample=math.floor(at * info.sample_rate / self.sample_rate),
        )
        self._samples_accepted = at
        self._flushed = False

    def _end(self, reason: EndReason) -> list[Event]:
        """Recognise what is still in the mixer and the resampler, and end the current utterance."""
        rest = [self._resampler.process(self._mixer.flush()), self._resampler.flush()]
        events = [event for waveform in rest for event in self._tracker.accept(waveform)]
        return events + self._tracker.finish(reason, self.time_s)

    @contextlib.contextmanager
    def _call(self, *, allow_flushed: bool = False) -> Iterator[None]:
        with self._lock:
            self._check_usable(allow_flushed=allow_flushed)
            self._calls += 1
            try:
                yield
            finally:
                self._calls -= 1
                self._release_if_closed()

    def _release_if_closed(self) -> None:
        if self._closed and self._calls == 0 and hasattr(self, "_tracker"):
            del self._tracker, self._resampler, self._mixer, self._model
            free_unused_memory()

    def _check_usable(self, *, allow_flushed: bool = False) -> None:
        if self._closed:
            raise StreamError("the stream is closed: open another with recognizer.stream()")
        if self._flushed and not allow_flushed:
            raise StreamError("the stream was flushed: call reset() to start a new recording")
