"""A stream: blocks of samples of any size in, events out. Files are transcribed with one too."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from lwasr_edge.audio.samples import StreamResampler, check_sample_rate, to_mono_float32
from lwasr_edge.decoding.second_pass import SecondPass
from lwasr_edge.errors import OptionError, StreamError
from lwasr_edge.utterance import NO_ENDPOINTS, EndpointRules, UtteranceTracker
from lwasr_edge.validate import whole_number

if TYPE_CHECKING:
    from lwasr_edge.chunking import Chunking
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.events import EndReason, Event
    from lwasr_edge.model import Model


class Stream:
    """Recognise one recording or one microphone. Made by `Recognizer.stream`.

        with recognizer.stream(sample_rate=48000) as stream:
            for block in blocks:
                for event in stream.accept(block):
                    ...
            for event in stream.flush():
                ...

    `accept` resamples, fills chunks of one size and calls `Model.run_chunk` for each; `UtteranceTracker` makes events
    of the tokens. The words do not depend on the size of the blocks. With look-ahead, the end of a chunk is only right
    context, and the next chunk begins with it. Times count from the first sample, through endpoints. Memory is
    constant; only without endpoints do words, and the posteriors for a decoder, accumulate until `flush`.

    At an endpoint the utterance ends, but the model's state is kept: it holds the running mean of the features and the
    left context of the next words, and zeros would mean "the recording starts here".

    Threads: a stream belongs to the thread that first uses it; streams of one Recognizer may run in different threads.
    A call from another thread raises StreamError, unless the owner has ended or has called `release_thread`. `close`
    may be called from any thread.

    Args:
        model: shared between streams.
        sample_rate: Hz of the samples given to `accept`.
        chunking: size of a model call, and how much of it is look-ahead.
        endpoint: when an utterance is over; None for never: all words come in one `Final` at `flush`.
        decoder: decodes every utterance again at its end (second pass); None for greedy decoding alone, which needs no
            posteriors from the model.

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
        self._rules = endpoint or NO_ENDPOINTS
        self._decoder = decoder
        self._chunking = chunking
        self._chunk = np.zeros(chunking.chunk_frames * model.info.samples_per_frame, np.float32)
        self._owner: threading.Thread | None = None
        self._owner_lock = threading.Lock()
        self._closed = False
        self._flushed = False
        self._restart()

    @property
    def time_s(self) -> float:
        """Seconds of audio accepted or skipped since the start or the last `reset`."""
        return self._samples_accepted / self.sample_rate

    @property
    def chunk_ms(self) -> float:
        """Length of a chunk in milliseconds, look-ahead included."""
        return self._chunking.chunk_frames * self._model.info.frame_ms

    @property
    def hop_ms(self) -> float:
        """Milliseconds from the start of one chunk to the next: a chunk without its look-ahead."""
        return self._chunking.hop_frames * self._model.info.frame_ms

    def accept(self, samples: np.ndarray) -> list[Event]:
        """Recognise the next samples.

        Args:
            samples: (N,) or (N, channels), N >= 0, at the stream's rate: int16, int32, or floats in [-1, 1].

        Returns:
            The events they caused, in order of time; often none.

        Raises:
            AudioError: samples of another type or shape, or not finite; none of them was used.
            StreamError: the stream is closed, flushed, or another thread's.
        """
        self._check_usable()
        mono = to_mono_float32(samples, first_sample=self._samples_accepted)
        self._samples_accepted += len(mono)
        return self._fill_chunks(self._resampler.process(mono))

    def flush(self) -> list[Event]:
        """End the recording: recognise everything accepted, the last word included.

        The model gets the zeros it needs to complete the last word. After this the stream accepts no samples until
        `reset`. A second call returns nothing.

        Raises:
            StreamError: the stream is closed, or another thread's.
        """
        self._check_usable(allow_flushed=True)
        if self._flushed:
            return []
        self._flushed = True
        return self._finish("flush")

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
            StreamError: the stream is closed, flushed, or another thread's.
        """
        self._check_usable()
        n_samples = whole_number("n_samples", n_samples, 0)
        events = self._finish("gap")
        self._restart(self._samples_accepted + n_samples)
        return events

    def reset(self) -> None:
        """Start a new recording: the state is that of a new stream, and times count from 0 again.

        Raises:
            StreamError: the stream is closed, or another thread's.
        """
        self._check_usable(allow_flushed=True)
        self._restart()

    def release_thread(self) -> None:
        """Let the next thread that uses the stream own it (for thread pools).

        Raises:
            StreamError: the stream is closed, or another thread's.
        """
        self._check_usable(allow_flushed=True)
        self._owner = None

    def close(self) -> None:
        """Close the stream without recognising the rest; call `flush` before for the last words."""
        self._closed = True

    def __reduce__(self) -> NoReturn:
        raise StreamError(
            "a stream must stay in its process, got one to pickle or to copy: it holds the state of one recording; "
            "pass the Recognizer instead and call its stream() there"
        )

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _finish(self, reason: EndReason) -> list[Event]:
        """Recognise everything accepted, the last word included, and end the utterance."""
        if self._samples_accepted == self._start_sample:
            return []
        events = self._fill_chunks(self._resampler.flush())
        events += self._fill_chunks(np.zeros(self._model.info.flush_samples, np.float32))
        samples_per_frame = self._model.info.samples_per_frame
        padded = -(-self._filled // samples_per_frame) * samples_per_frame
        self._chunk[self._filled : padded] = 0.0
        events += self._run(padded)
        last = self._tracker.finish(self.time_s, reason)
        return events + (last if self._second_pass is None else self._second_pass.finish(last, self.time_s, reason))

    def _restart(self, at: int = 0) -> None:
        """Reset the state at sample `at` (of the stream's rate); zeros fill the part of a frame before it."""
        info = self._model.info
        first_frame, self._filled = divmod(at * info.sample_rate // self.sample_rate, info.samples_per_frame)
        self._chunk[: self._filled] = 0.0
        self._resampler = StreamResampler(self.sample_rate, info.sample_rate)
        self._state = self._model.initial_state()
        self._tracker = UtteranceTracker(
            info, self._rules, revisable=self._decoder is not None, first_frame=first_frame
        )
        self._second_pass = None if self._decoder is None else SecondPass(info, self._decoder, first_frame=first_frame)
        self._peek_at: float = math.inf  # samples in the chunk at which an early look for an endpoint is due
        self._start_sample = self._samples_accepted = at
        self._flushed = False

    def _fill_chunks(self, waveform: np.ndarray) -> list[Event]:
        """Add (n,) samples at the model's rate to the chunk; run it whenever it is full."""
        events: list[Event] = []
        taken = 0
        while taken < len(waveform):
            stop = self._peek_at if self._filled < self._peek_at < len(self._chunk) else len(self._chunk)
            count = min(int(stop) - self._filled, len(waveform) - taken)
            self._chunk[self._filled : self._filled + count] = waveform[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == len(self._chunk):
                events += self._run(self._filled, self._chunking.look_ahead_frames)
            elif self._filled == self._peek_at:
                events += self._peek()
        return events

    def _peek(self) -> list[Event]:
        """Check for an endpoint before the chunk is full; otherwise a `Final` could come a chunk late.

        The resulting state is discarded and the full chunk is run later: tokens do not depend on endpoint rules.
        """
        second_pass = self._second_pass
        result = self._model.run_chunk(self._chunk[: self._filled], self._state, with_log_probs=second_pass is not None)
        if len(result.tokens) > 0:
            return []
        events = self._tracker.endpoint_after_silence(self._filled // self._model.info.samples_per_frame)
        return events if second_pass is None else second_pass.revise(events, self.time_s, ahead=result.log_probs)

    def _run(self, n_samples: int, look_ahead_frames: int = 0) -> list[Event]:
        """Run the first samples of the chunk; its look-ahead frames begin the next chunk."""
        if n_samples == 0:
            return []
        samples_per_frame = self._model.info.samples_per_frame
        consumed = n_samples // samples_per_frame - look_ahead_frames
        second_pass = self._second_pass
        result = self._model.run_chunk(
            self._chunk[:n_samples],
            self._state,
            look_ahead=look_ahead_frames,
            with_log_probs=second_pass is not None,
        )
        kept = self._chunk[consumed * samples_per_frame : n_samples].copy()
        # Not before run_chunk has returned: if Ctrl-C interrupts it, `flush` still recognises the chunk.
        self._chunk[: len(kept)] = kept
        self._filled = len(kept)
        self._state = result.state
        events = self._tracker.push(result, consumed)
        self._peek_at = self._tracker.frames_to_endpoint() * samples_per_frame
        if second_pass is not None and result.log_probs is not None:
            second_pass.push(result.log_probs)
            events = second_pass.revise(events, self.time_s)
            if not self._tracker.speaking:
                second_pass.forget_silence()
        if 0 < self._peek_at <= self._filled:
            events += self._peek()
        return events

    def _check_usable(self, *, allow_flushed: bool = False) -> None:
        if self._closed:
            raise StreamError("the stream is closed: open another with recognizer.stream()")
        thread = threading.current_thread()
        with self._owner_lock:
            if self._owner is None or not self._owner.is_alive():
                self._owner = thread
            owner = self._owner
        if owner is not thread:
            raise StreamError(
                f"a stream must be used by one thread, {owner.name!r}, got a call from {thread.name!r}: open a stream "
                "for each thread, or call release_thread() in the owner first"
            )
        if self._flushed and not allow_flushed:
            raise StreamError("the stream was flushed: call reset() to start a new recording")
