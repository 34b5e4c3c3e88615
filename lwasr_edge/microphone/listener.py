"""Recognise a microphone: audio from PortAudio (through sounddevice) in, events out.

A callback in PortAudio's thread puts audio into a queue; the caller's thread takes it out and recognises it.
"""

from __future__ import annotations

import atexit
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lwasr_edge.audio.samples import MAX_CHANNELS
from lwasr_edge.errors import AudioDeviceError, StreamError
from lwasr_edge.microphone.devices import Device, choose_device, import_sounddevice

if TYPE_CHECKING:
    from lwasr_edge.events import Event
    from lwasr_edge.stream import Stream

QUEUE_S = 10.0  # audio kept for a slow recogniser; when it is full, audio is dropped until half of it is processed
COMMON_RATES_HZ = (48_000, 44_100, 16_000)
PA_INVALID_SAMPLE_RATE = -9997  # PortAudio's paInvalidSampleRate
DEVICE_BUFFER_S = 0.1  # buffered by the driver for a busy CPU; blocks come about every 25 ms
FIRST_SOUND_S = 5.0  # limit for the first audio: wireless headsets and sound servers start slowly
SILENT_DEVICE_S = 2.0  # a device that stops delivering audio for this long is treated as disconnected
CLOSE_S = 1.0  # a device that takes longer to close is abandoned
_POLL_S = 0.1
_WAKE = None  # put into the queue to wake the listener


class Listener:
    """The events of a microphone, as an iterator; made by `Recognizer.listen`.

    The iteration ends after `stop` or `close`, when the device fails, or with Ctrl-C. After `stop` the last words come
    as events first. After Ctrl-C, while the listener waits or recognises, they do too, and then KeyboardInterrupt is
    raised again. Leaving the loop does not end the recording: iterating again continues with the next event. Use it as
    a context manager, or call `close`, to close the device.

    `stop`, `close`, `pause` and `resume` may be called from any thread.

    Args:
        open_stream: makes a stream for a sample rate; called with the device's.
        device: index or part of the name; None for the system's default.

    Attributes:
        device: the open device.
        lost_samples: samples dropped because the recogniser fell more than QUEUE_S behind.

    Raises:
        MissingExtraError: sounddevice or PortAudio is not installed.
        AudioDeviceError: no such device, or it cannot be opened.
        StreamError: iterated after its end.
    """

    def __init__(self, open_stream: Callable[[int], Stream], device: int | str | None = None) -> None:
        self._sounddevice = import_sounddevice()
        self.device = choose_device(device)
        self.lost_samples = 0
        self._overflows = 0
        self._is_dropping = False
        self._is_paused = False
        self._has_ended = False
        self._stop_asked = threading.Event()
        self._ended = threading.Event()  # set by PortAudio at the end of its stream
        self._input_closed = threading.Lock()  # acquired by the one thread that closes the device, never released
        self._last_audio_at, self._timeout_s = time.monotonic(), FIRST_SOUND_S
        # Each counter has one writer, the callback or the listener; their difference is in the queue.
        self._samples_put = 0
        self._samples_taken = 0
        self._gap_samples = 0  # dropped since the last block in the queue
        self._queue: queue.SimpleQueue[np.ndarray | int | None] = queue.SimpleQueue()  # int: dropped samples
        self._stream = open_stream(self.device.sample_rate)  # first: it checks the caller's options
        sample_rate, self._input = self._open_input()
        if sample_rate != self.device.sample_rate:
            self.device = replace(self.device, sample_rate=sample_rate)
            self._stream = open_stream(sample_rate)
        self._events = self._iterate()

    @property
    def overflow_count(self) -> int:
        """How often audio was lost: in the driver, or because the recogniser was too slow."""
        return self._overflows

    def pause(self) -> None:
        """Drop the audio until `resume`, for example while a loudspeaker nearby speaks.

        The current utterance ends with the reason "gap". Times include the pause.
        """
        self._is_paused = True
        self._queue.put(0)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._expect_audio_within(FIRST_SOUND_S)
        self._is_paused = False

    def stop(self) -> None:
        """End the iteration after the last words. Safe in signal handlers and other threads."""
        self._stop_asked.set()
        self._queue.put(_WAKE)

    def close(self) -> None:
        """Close the device without more words; an iteration in another thread ends without an error."""
        self._has_ended = True
        self._queue.put(_WAKE)
        self._close_input()

    def __reduce__(self) -> NoReturn:
        raise StreamError(
            "a listener must stay in its process, got one to pickle or to copy: it holds an open device; pass the "
            "Recognizer instead and call its listen() there"
        )

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        if self._has_ended:
            raise StreamError("this listener has ended: call recognizer.listen() again")
        return self._events

    def _iterate(self) -> Iterator[Event]:
        """The only iteration; the listener keeps it, so that a second loop continues the first."""
        try:
            self._start()
            yield from self._recognise()
        except KeyboardInterrupt:
            self._close_input()
            self._stop_asked.set()
            yield from self._recognise()  # the audio recorded before
            raise
        except AudioDeviceError:
            if self._has_ended:
                return  # closed at the same time
            self._stop_asked.set()
            yield from self._recognise()
            raise
        finally:
            self.close()
            self._stream.close()

    def _start(self) -> None:
        self._expect_audio_within(FIRST_SOUND_S)
        try:
            self._input.start()
        except self._sounddevice.PortAudioError as error:
            if not self._has_ended:
                raise AudioDeviceError(f"{self.device.name!r} cannot be started: {error}") from error

    def _recognise(self) -> Iterator[Event]:
        """Recognise until `stop`, the last word included, or until `close`, without it."""
        for block in self._blocks():
            yield from self._stream.skip(block) if isinstance(block, int) else self._stream.accept(block)
        if not self._has_ended:
            yield from self._stream.flush()

    def _blocks(self) -> Iterator[np.ndarray | int]:
        """Yield the queued audio until the end; raise an error when the device stops or delivers nothing."""
        while not self._has_ended and not (self._stop_asked.is_set() and self._queue.empty()):
            try:
                block = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                self._check_device()
                continue
            if block is _WAKE:
                self._close_input()  # audio recorded before is still in the queue
                continue
            if not isinstance(block, int):
                self._samples_taken += len(block)
            yield block

    def _check_device(self) -> None:
        if self._stop_asked.is_set() or self._has_ended:
            return
        if self._ended.is_set() or not self._input.active:
            raise AudioDeviceError(f"{self.device.name!r} stopped recording: was it unplugged?")
        timeout_s = self._timeout_s
        if not self._is_paused and time.monotonic() - self._last_audio_at > timeout_s:
            raise AudioDeviceError(
                f"{self.device.name!r} has delivered no audio for {timeout_s:g} s: was it unplugged, or opened by "
                "another program?"
            )

    def _expect_audio_within(self, timeout_s: float) -> None:
        self._last_audio_at, self._timeout_s = time.monotonic(), timeout_s

    def _open_input(self) -> tuple[int, Any]:
        """Open the device; return the accepted sample rate and sounddevice's stream."""
        errors: list[Exception] = []
        for settings in _settings_to_try(self.device):
            sample_rate = settings["samplerate"]
            if sample_rate != self.device.sample_rate and not any(PA_INVALID_SAMPLE_RATE in e.args for e in errors):
                break  # the rate is not the problem
            try:
                return sample_rate, self._sounddevice.InputStream(
                    device=self.device.index,
                    latency=DEVICE_BUFFER_S,
                    callback=self._on_audio,
                    finished_callback=self._ended.set,
                    **settings,
                )
            except (self._sounddevice.PortAudioError, ValueError) as error:
                errors.append(error)
        raise AudioDeviceError(
            f"{self.device.name!r} cannot be opened at its default rate, {self.device.sample_rate} Hz ({errors[0]}): "
            "is another program using it? `lwasr listen --list-devices` lists the others"
        )

    def _on_audio(self, samples: np.ndarray, n_samples: int, time_info: object, status: Any) -> None:
        """Called in PortAudio's thread; must not block."""
        self._expect_audio_within(SILENT_DEVICE_S)
        if self._is_paused:
            self._gap_samples += n_samples
            return
        if status.input_overflow:
            self._overflows += 1
        behind_s = (self._samples_put - self._samples_taken) / self.device.sample_rate
        if behind_s > (
            QUEUE_S / 2 if self._is_dropping else QUEUE_S
        ):  # one long gap loses fewer words than many short ones
            self._overflows += 0 if self._is_dropping else 1
            self._is_dropping = True
            self.lost_samples += n_samples
            self._gap_samples += n_samples
            return
        self._is_dropping = False
        if self._gap_samples:
            self._queue.put(self._gap_samples)
            self._gap_samples = 0
        self._samples_put += n_samples
        self._queue.put(samples.copy())

    def _close_input(self) -> None:
        """Close the device in a thread, and abandon it if closing does not return.

        Closing may block forever if the device was disconnected or the sound server no longer answers. So would
        sounddevice's clean-up at exit, which is then unregistered so that the program can end.
        """
        if sys.is_finalizing() or not self._input_closed.acquire(blocking=False):
            return  # closed; at interpreter exit sounddevice closes it, and no thread can be started
        closing = threading.Thread(target=self._input.close, daemon=True)
        try:
            closing.start()
        except RuntimeError:  # the interpreter is ending, and sounddevice's exit handler closes the device
            return
        closing.join(CLOSE_S)
        if closing.is_alive():
            clean_up: Any = getattr(self._sounddevice, "_exit_handler", None)
            atexit.unregister(clean_up)


def _settings_to_try(device: Device) -> Iterator[dict[str, Any]]:
    """Settings to open a device with, the best first: at its default rate, one channel, float32.

    Some drivers refuse their own default rate but accept a common one. Virtual devices report 32 channels and more, of
    which usually at most two exist.
    """
    all_channels = min(device.channels, MAX_CHANNELS)
    for sample_rate in dict.fromkeys((device.sample_rate, *COMMON_RATES_HZ)):
        for channels in dict.fromkeys((1, min(2, device.channels), all_channels)):
            for dtype in ("float32", "int16"):
                yield {"samplerate": sample_rate, "channels": channels, "dtype": dtype}
