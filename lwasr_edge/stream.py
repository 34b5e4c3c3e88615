"""A stream: samples in, in blocks of any size; events out. Files go through here too."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.audio.samples import StreamResampler, check_sample_rate, to_mono_float32
from lwasr_edge.decoding.second_pass import SecondPass
from lwasr_edge.errors import OptionError, StreamError
from lwasr_edge.utterance import NO_ENDPOINTS, EndpointRules, UtteranceTracker

if TYPE_CHECKING:
    from lwasr_edge.chunking import Chunking
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.events import EndReason, Event
    from lwasr_edge.model import Model


class Stream:
    """One recording or one microphone, from its first sample to its last. Made by `Recognizer.stream`.

        with recognizer.stream(sample_rate=48000) as stream:
            for block in blocks:
                for event in stream.accept(block):
                    ...
            for event in stream.flush():
                ...

    Samples are gathered into chunks of one size before the model hears them, so the words do not depend on how the
    samples were cut into blocks. If the stream looks ahead, the end of a chunk is heard but not consumed: it is context
    for what comes before it, and the next chunk begins with it. Times count from the first sample, through end-points.
    Memory is constant; only without end-points do the words add up until `flush`, and the posteriors for a decoder.

    At an end-point only the utterance ends. The model's acoustic state goes on: it holds the running level of the sound
    and the context that the next words are understood in, and zeros would mean "the recording starts here".

    Threads: a stream belongs to the thread that first uses it; streams of one Recognizer may run in different threads.
    Another thread's use raises StreamError, unless the owner has ended or has called `release_thread`. `close` may come
    from anywhere.

    Args:
        model: shared between streams.
        sample_rate: Hz of what `accept` is given.
        chunking: size of a model call, and how much of it is look-ahead.
        endpoint: when an utterance is over; None for never, so that all words come in one `Final` at `flush`.
        decoder: hears every utterance again when greedy decoding has found its end; None for greedy decoding alone,
            which asks the model for no posteriors.
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
            raise OptionError(f"endpoint is expected to be EndpointRules(...) or None; came {endpoint!r}")
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
        self._start_anew()

    @property
    def time_s(self) -> float:
        """Seconds of sound accepted or skipped since the start or the last `reset`."""
        return self._samples_accepted / self.sample_rate

    @property
    def chunk_ms(self) -> float:
        """Milliseconds of sound that the model hears at a time."""
        return self._chunking.chunk_frames * self._model.info.frame_ms

    @property
    def hop_ms(self) -> float:
        """Milliseconds of sound from one chunk to the next: what is heard without the look ahead."""
        return self._chunking.hop_frames * self._model.info.frame_ms

    def accept(self, samples: np.ndarray) -> list[Event]:
        """Take the next samples.

        Args:
            samples: (N,) or (N, channels), N from 0, at the stream's rate: int16, int32, or floats in [-1, 1].

        Returns:
            The events they caused, in order of time; often none.

        Raises:
            AudioError: samples of another kind; none of them was taken.
            StreamError: the stream is closed, flushed, or another thread's.
        """
        self._check_usable()
        mono = to_mono_float32(samples, first_sample=self._samples_accepted)
        self._samples_accepted += len(mono)
        return self._hear(self._resampler.process(mono))

    def flush(self) -> list[Event]:
        """End the recording: everything accepted is recognised, the last word included.

        The model is given the zeros it needs to finish its last word. After this the stream takes no more samples until
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
        """Pass over samples that are missing, as when a recorder lost them: they are not recognised, however many.

        The utterance under way ends before them, with the reason "gap" and whatever the end-point rules say, and the
        model begins behind them as with a new recording. Times count on through them.

        Args:
            n_samples: how many are missing, at the stream's rate; with 0, the utterance ends all the same.

        Returns:
            The events of what was accepted before.

        Raises:
            OptionError: not a whole number from 0.
            StreamError: the stream is closed, flushed, or another thread's.
        """
        self._check_usable()
        if isinstance(n_samples, bool) or not isinstance(n_samples, (int, np.integer)) or n_samples < 0:
            raise OptionError(f"samples to skip are expected to be a whole number from 0; came {n_samples!r}")
        events = self._finish("gap")
        self._start_anew(self._samples_accepted + int(n_samples))
        return events

    def reset(self) -> None:
        """Start a new recording: the state is that of a new stream, and times count from 0 again.

        Raises:
            StreamError: the stream is closed, or another thread's.
        """
        self._check_usable(allow_flushed=True)
        self._start_anew()

    def release_thread(self) -> None:
        """Let the thread that uses the stream next own it (for pools, where each block may meet another thread).

        Raises:
            StreamError: the stream is closed, or another thread's.
        """
        self._check_usable(allow_flushed=True)
        self._owner = None

    def close(self) -> None:
        """Give the stream up; nothing is recognised any more. Call `flush` before, for the last words."""
        self._closed = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _finish(self, reason: EndReason) -> list[Event]:
        """Recognise everything accepted, to the last word, and end the utterance."""
        if self._samples_accepted == self._began_at:
            return []
        events = self._hear(self._resampler.flush())
        events += self._hear(np.zeros(self._model.info.flush_samples, np.float32))
        samples_per_frame = self._model.info.samples_per_frame
        padded = -(-self._filled // samples_per_frame) * samples_per_frame
        self._chunk[self._filled : padded] = 0.0
        events += self._run(padded)
        last = self._tracker.finish(self.time_s, reason)
        return events + (last if self._second_pass is None else self._second_pass.finish(last, self.time_s, reason))

    def _start_anew(self, at: int = 0) -> None:
        """Begin at a sample, counted at the stream's rate; zeros stand for the part of a frame before it."""
        info = self._model.info
        first_frame, self._filled = divmod(at * info.sample_rate // self.sample_rate, info.samples_per_frame)
        self._chunk[: self._filled] = 0.0
        self._resampler = StreamResampler(self.sample_rate, info.sample_rate)
        self._state = self._model.initial_state()
        self._tracker = UtteranceTracker(
            info, self._rules, revisable=self._decoder is not None, first_frame=first_frame
        )
        self._second_pass = None if self._decoder is None else SecondPass(info, self._decoder, first_frame=first_frame)
        self._peek_at: float = math.inf
        self._began_at = self._samples_accepted = at
        self._flushed = False

    def _hear(self, waveform: np.ndarray) -> list[Event]:
        """Put (n,) samples at the model's rate into the chunk; run it whenever it is full."""
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
        """Look whether the silence asked for has passed, though the chunk is not full yet.

        Otherwise a final text would come up to a whole chunk late. The state that the look gives is thrown away, and
        the full chunk is run when it is there: tokens do not depend on end-point rules.
        """
        second_pass = self._second_pass
        result = self._model.step(self._chunk[: self._filled], self._state, with_log_probs=second_pass is not None)
        if len(result.tokens) > 0:
            return []
        events = self._tracker.endpoint_after_silence(self._filled // self._model.info.samples_per_frame)
        return events if second_pass is None else second_pass.revise(events, self.time_s, ahead=result.log_probs)

    def _run(self, n_samples: int, look_ahead_frames: int = 0) -> list[Event]:
        """Run the first samples of the chunk; what was only looked ahead to begins the next."""
        if n_samples == 0:
            return []
        samples_per_frame = self._model.info.samples_per_frame
        consumed = n_samples // samples_per_frame - look_ahead_frames
        second_pass = self._second_pass
        result = self._model.step(
            self._chunk[:n_samples],
            self._state,
            look_ahead=look_ahead_frames,
            with_log_probs=second_pass is not None,
        )
        kept = self._chunk[consumed * samples_per_frame : n_samples].copy()
        # Not before the step is over: what Ctrl-C interrupts there is still to be heard by `flush`.
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
                f"a stream belongs to one thread: {owner.name!r} uses it, and {thread.name!r} called it: open a stream "
                "for each thread, or call release_thread() in the owner first"
            )
        if self._flushed and not allow_flushed:
            raise StreamError("the stream was flushed: call reset() to start a new recording")
