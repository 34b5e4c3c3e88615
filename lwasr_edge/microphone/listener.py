"""A microphone, listened to: PortAudio (through sounddevice) in, events out.

What a callback in PortAudio's own thread hears is queued; the caller's thread takes it out and recognises it.
"""

from __future__ import annotations

import atexit
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lwasr_edge.audio.samples import MAX_CHANNELS
from lwasr_edge.errors import AudioDeviceError, StreamError
from lwasr_edge.microphone.devices import Device, choose_device, import_sounddevice

if TYPE_CHECKING:
    from lwasr_edge.events import Event
    from lwasr_edge.stream import Stream

QUEUE_S = 10.0  # sound kept for a recogniser that falls behind; what is more is dropped until half is worked off
COMMON_RATES_HZ = (48_000, 44_100, 16_000)
PA_INVALID_SAMPLE_RATE = -9997  # PortAudio's paInvalidSampleRate
DEVICE_BUFFER_S = 0.1  # kept by the driver for a busy processor; blocks come about every 25 ms
FIRST_SOUND_S = 5.0  # time a device has for its first sound: wireless headsets and sound servers wake up slowly
SILENT_DEVICE_S = 2.0  # a device that has delivered and then delivers nothing for so long is gone
CLOSE_S = 1.0  # a device that takes longer to close is left behind
_POLL_S = 0.1
_WAKE = None  # put into the queue to wake the listener


class Listener:
    """Iterate over it for the events of a microphone; made by `Recognizer.listen`.

    It goes on until `stop` or `close`, until the device fails, or until Ctrl-C. After `stop` the last words come as
    events, then the iteration ends. So they do when Ctrl-C strikes while the listener waits or recognises; after them
    it raises KeyboardInterrupt again. Leaving the loop ends nothing: the device goes on recording, and iterating again
    goes on with the next event. Use it as a context manager, or call `close`, to give the device up then.

    `stop`, `close`, `pause` and `resume` may be called from anywhere.

    Args:
        open_stream: makes a stream for a sample rate; called with the device's own.
        device: index or part of the name; None for the system's default.

    Attributes:
        device: the device that is open.
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
        self._ended = threading.Event()  # PortAudio's word that the stream is over
        self._input_closed = threading.Lock()  # taken, once for all, by who closes the device
        self._heard_at, self._patience_s = time.monotonic(), FIRST_SOUND_S
        # Each counter has one writer, the callback or the listener; what stands in the queue is their difference.
        self._samples_put = 0
        self._samples_taken = 0
        self._gap_samples = 0  # dropped since the last block that was put
        self._queue: queue.SimpleQueue[np.ndarray | int | None] = queue.SimpleQueue()  # int: so many were dropped
        self._stream = open_stream(self.device.sample_rate)  # first: it checks the caller's options
        sample_rate, self._input = self._open_input()
        if sample_rate != self.device.sample_rate:
            self.device = replace(self.device, sample_rate=sample_rate)
            self._stream = open_stream(sample_rate)
        self._events = self._listen()

    @property
    def overflow_count(self) -> int:
        """How often sound was lost: in the driver, or because the recogniser fell behind."""
        return self._overflows

    def pause(self) -> None:
        """Drop what the device records until `resume`, as while a loudspeaker beside it speaks.

        The utterance under way ends, with the reason "gap". Times count on.
        """
        self._is_paused = True
        self._queue.put(0)

    def resume(self) -> None:
        """Hear again after `pause`."""
        self._expect_sound_within(FIRST_SOUND_S)
        self._is_paused = False

    def stop(self) -> None:
        """End the iteration after the last words. Safe in signal handlers and other threads."""
        self._stop_asked.set()
        self._queue.put(_WAKE)

    def close(self) -> None:
        """Give the device up without more words; a thread that iterates ends quietly."""
        self._has_ended = True
        self._queue.put(_WAKE)
        self._close_input()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        if self._has_ended:
            raise StreamError("this listener has ended: call recognizer.listen() again")
        return self._events

    def _listen(self) -> Iterator[Event]:
        """The one iteration; kept by the listener, it stays where it is when a loop over it is left."""
        try:
            self._start()
            yield from self._hear()
        except KeyboardInterrupt:
            self._close_input()
            self._stop_asked.set()
            yield from self._hear()  # what was recorded before
            raise
        except AudioDeviceError:
            if self._has_ended:
                return  # closed at this very moment
            self._stop_asked.set()
            yield from self._hear()
            raise
        finally:
            self.close()
            self._stream.close()

    def _start(self) -> None:
        self._expect_sound_within(FIRST_SOUND_S)
        try:
            self._input.start()
        except self._sounddevice.PortAudioError as error:
            if not self._has_ended:
                raise AudioDeviceError(f"{self.device.name!r} cannot be started: {error}") from error

    def _hear(self) -> Iterator[Event]:
        """Recognise until `stop`, and to the last word; until `close`, and not even that."""
        for block in self._blocks():
            yield from self._stream.skip(block) if isinstance(block, int) else self._stream.accept(block)
        if not self._has_ended:
            yield from self._stream.flush()

    def _blocks(self) -> Iterator[np.ndarray | int]:
        """Yield what was queued, until the end; fail when the device stops or falls silent."""
        while not self._has_ended and not (self._stop_asked.is_set() and self._queue.empty()):
            try:
                block = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                self._check_device()
                continue
            if block is _WAKE:
                self._close_input()  # what was recorded before still stands in the queue
                continue
            if not isinstance(block, int):
                self._samples_taken += len(block)
            yield block

    def _check_device(self) -> None:
        if self._stop_asked.is_set() or self._has_ended:
            return
        if self._ended.is_set() or not self._input.active:
            raise AudioDeviceError(f"{self.device.name!r} stopped recording: was it unplugged?")
        patience_s = self._patience_s
        if not self._is_paused and time.monotonic() - self._heard_at > patience_s:
            raise AudioDeviceError(
                f"{self.device.name!r} has delivered nothing for {patience_s:g} s: was it unplugged, or taken by "
                "another program?"
            )

    def _expect_sound_within(self, patience_s: float) -> None:
        self._heard_at, self._patience_s = time.monotonic(), patience_s

    def _open_input(self) -> tuple[int, Any]:
        """Open the device; return the rate that it took, and sounddevice's stream."""
        errors: list[Exception] = []
        for settings in _settings_to_try(self.device):
            sample_rate = settings["samplerate"]
            if sample_rate != self.device.sample_rate and not any(PA_INVALID_SAMPLE_RATE in e.args for e in errors):
                break  # the rate is not the trouble
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
            f"{self.device.name!r} cannot be opened at its own {self.device.sample_rate} Hz ({errors[0]}): is another "
            "program using it? `lwasr listen --list-devices` shows the others"
        )

    def _on_audio(self, samples: np.ndarray, n_samples: int, time_info: object, status: Any) -> None:
        """PortAudio calls this in its own thread; it must never wait."""
        self._expect_sound_within(SILENT_DEVICE_S)
        if self._is_paused:
            self._gap_samples += n_samples
            return
        if status.input_overflow:
            self._overflows += 1
        behind_s = (self._samples_put - self._samples_taken) / self.device.sample_rate
        if behind_s > (QUEUE_S / 2 if self._is_dropping else QUEUE_S):  # one long gap harms fewer words than many
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
        """Close the device, unless it hangs.

        The driver of a device that is gone, or a sound server that no longer answers, may never return from closing.
        Nor would sounddevice's clean-up at exit, which tries the same: it is taken off then, so that the program ends.
        """
        if sys.is_finalizing() or not self._input_closed.acquire(blocking=False):
            return  # closed; at the interpreter's end by sounddevice, and no thread can be started any more
        closing = threading.Thread(target=self._input.close, daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            clean_up: Any = getattr(self._sounddevice, "_exit_handler", None)
            atexit.unregister(clean_up)


def _settings_to_try(device: Device) -> Iterator[dict[str, Any]]:
    """How a device may be opened, the best first: at its own rate, one channel of float32.

    Some drivers refuse the rate that they name as their own; one of the common ones works then. Virtual devices claim
    32 channels and more, of which at most two are likely to be true.
    """
    all_channels = min(device.channels, MAX_CHANNELS)
    for sample_rate in dict.fromkeys((device.sample_rate, *COMMON_RATES_HZ)):
        for channels in dict.fromkeys((1, min(2, device.channels), all_channels)):
            for dtype in ("float32", "int16"):
                yield {"samplerate": sample_rate, "channels": channels, "dtype": dtype}
