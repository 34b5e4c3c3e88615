"""Opus of clients, decoded while it arrives: in Ogg or WebM, cut anywhere, or as one packet per message.

PyAV (FFmpeg's libraries) reads and decodes it. Its containers are read from a file that may wait for data, so such a
stream has a thread, which runs only while `process` waits for it.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lwasr_edge.audio.mixing import Mixer
from lwasr_edge.audio.samples import to_float32
from lwasr_edge.errors import AudioError, MissingExtraError
from lwasr_edge.validate import whole_number

OPUS_RATE = 48_000  # Hz; decoders give this, whatever was encoded
CONTAINERS = {"ogg": "ogg", "webm": "matroska"}  # our name -> FFmpeg's
MAX_PART = OPUS_RATE  # samples, in one result of `process`
FILE_OPTIONS = {"probesize": "32", "analyzeduration": "0"}  # the headers say everything
BUFFER_BYTES = 1024
NO_SAMPLES = np.zeros(0, np.float32)


@dataclass(frozen=True)
class OpusFormat:
    """Opus in a container, or as packets.

    Raises:
        AudioError: packets of more than two channels.
        MissingExtraError: PyAV is not installed.
    """

    kind: str  # "ogg", "webm" or "opus", which are packets
    channels: int = 1  # of packets

    rate = OPUS_RATE

    def __post_init__(self) -> None:
        whole_number("channels", self.channels, 1, 2, error=AudioError, hint="use ogg or webm for more")
        if importlib.util.find_spec("av") is None:
            raise MissingExtraError("the service cannot decode Opus, av is not installed: pip install '.[opus]'")

    def reader(self) -> ContainerReader | PacketReader:
        """A decoder of one stream."""
        return ContainerReader(self.kind) if self.kind in CONTAINERS else PacketReader(self.channels)


class PacketReader:
    """Opus packets, one a call, to (n,) float32."""

    def __init__(self, channels: int) -> None:
        import av

        self._codec: Any = av.CodecContext.create("opus", "r")
        self._codec.layout = "mono" if channels == 1 else "stereo"
        self._mixer = Mixer(OPUS_RATE)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `process` takes in one call."""
        if data:
            yield data

    def process(self, data: bytes) -> np.ndarray:
        """Decode one packet.

        Raises:
            AudioError: it is invalid.
        """
        import av

        try:
            frames = self._codec.decode(av.Packet(data))
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"a message must be one Opus packet, got {len(data)} other bytes: {error}") from None
        return np.concatenate([NO_SAMPLES, *(self._mixer.process(_samples(frame)) for frame in frames)])

    def flush(self) -> np.ndarray:
        """Return the samples that the mixer still has."""
        return self._mixer.flush()

    def close(self) -> None:
        """Nothing is open."""


class ContainerReader:
    """Bytes of an Ogg or WebM stream, cut anywhere, to (n,) float32.

    The thread and its caller take turns: it runs until it needs more bytes, has a second of audio, or has ended.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._mixer = Mixer(OPUS_RATE)
        self._input = memoryview(b"")
        self._output: list[np.ndarray] = []
        self._n_output = 0
        self._is_last = False  # no more bytes follow
        self._error: AudioError | None = None
        self._thread: threading.Thread | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `process` takes in one call: a huge message has more audio than one of its results."""
        yield data
        while self._n_output >= MAX_PART:
            yield b""

    def process(self, data: bytes) -> np.ndarray:
        """Add bytes; return the mono samples that are ready, about a second at most.

        Raises:
            AudioError: this is no such stream, or it is damaged.
        """
        if data:
            self._input = memoryview(bytes(self._input) + data)
        self._output, self._n_output = [], 0
        self._take_turns()
        if self._error is not None:
            raise self._error
        return np.concatenate([NO_SAMPLES, *self._output])

    def flush(self) -> np.ndarray:
        """End the stream; return its last samples.

        Raises:
            AudioError: as for `process`.
        """
        if self._thread is None:
            return NO_SAMPLES
        self._is_last = True
        parts = [self.process(b"")]
        while self._n_output >= MAX_PART:
            parts.append(self.process(b""))
        return np.concatenate([*parts, self._mixer.flush()])

    def close(self) -> None:
        """End the thread, also while another thread waits for it."""
        self._is_last, self._input = True, memoryview(b"")
        self._error = AudioError("the stream is closed")
        self._go.release()

    def _take_turns(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lwasr-opus", daemon=True)
            self._thread.start()
        else:
            self._go.release()
        while self._thread.is_alive() and not self._back.acquire(timeout=1):
            pass

    def _run(self) -> None:
        """Decode all of the stream. In the thread."""
        import av

        try:
            self._decode()
        except AudioError as error:
            self._error = error
        except (av.FFmpegError, ValueError, LookupError) as error:
            self._error = AudioError(f"the audio must be Opus in {self._kind}, got other bytes: {error}")
        finally:
            self._back.release()

    def _decode(self) -> None:
        import av

        with av.open(
            self, format=CONTAINERS[self._kind], mode="r", options=FILE_OPTIONS, buffer_size=BUFFER_BYTES
        ) as file:
            found = [stream.codec_context.name for stream in file.streams.audio]
            if not found or not found[0].endswith("opus"):
                raise AudioError(f"the audio must be Opus in {self._kind}, got {found[0] if found else 'no audio'}")
            for frame in file.decode(audio=0):
                samples = self._mixer.process(_samples(frame))
                self._output.append(samples)
                self._n_output += len(samples)
                if self._error is not None:
                    return
                if self._n_output >= MAX_PART:
                    self._pause()

    def read(self, size: int) -> bytes:
        """The next bytes, of which the caller has perhaps to be asked; empty at the end. In the thread."""
        while not self._input and not self._is_last:
            self._pause()
        part, self._input = self._input[:size], self._input[size:]
        return bytes(part)

    def _pause(self) -> None:
        self._back.release()
        self._go.acquire()


def _samples(frame: Any) -> np.ndarray:
    """(n, channels) float32."""
    array, channels = frame.to_ndarray(), frame.layout.nb_channels
    return to_float32(np.ascontiguousarray(array.T if frame.format.is_planar else array.reshape(-1, channels)))
