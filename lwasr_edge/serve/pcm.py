"""Raw samples of clients: any width and number of channels, cut anywhere, to mono float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lwasr_edge.audio.mixing import Mixer
from lwasr_edge.audio.samples import MAX_CHANNELS, check_sample_rate, to_float32
from lwasr_edge.errors import AudioError
from lwasr_edge.validate import whole_number

WIDTHS = (1, 2, 3, 4)
SLICE_S = 1.0  # of a huge message at a time


@dataclass(frozen=True)
class PcmFormat:
    """Little-endian PCM as in WAV files: unsigned in 8 bits, signed in more.

    Raises:
        AudioError: a value outside the limits.
    """

    rate: int = 16_000  # Hz
    width: int = 2  # bytes of a sample
    channels: int = 1  # interleaved
    is_float: bool = False  # 32-bit floats in [-1, 1]

    def __post_init__(self) -> None:
        check_sample_rate(self.rate, "rate")
        whole_number("channels", self.channels, 1, MAX_CHANNELS, error=AudioError)
        whole_number("width", self.width, WIDTHS[0], WIDTHS[-1], error=AudioError, hint="give the bytes of one sample")
        if self.is_float and self.width != 4:
            raise AudioError(f"width must be 4 for samples of type float, got {self.width}: leave it out")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.width * self.channels

    def reader(self) -> PcmReader:
        """A reader of one stream."""
        return PcmReader(self)


class PcmReader:
    """Join bytes that were cut anywhere, and convert them to (n,) float32. Channels are mixed as those of a file."""

    def __init__(self, form: PcmFormat) -> None:
        self._form = form
        self._mixer = Mixer(form.rate)
        self._rest = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `process` takes in one call: a huge message is divided, so that streams take turns."""
        step = max(1, int(SLICE_S * self._form.rate)) * self._form.frame_bytes
        for start in range(0, len(data), step):
            yield data[start : start + step]

    def process(self, data: bytes) -> np.ndarray:
        """Add bytes; return the mono samples that are ready.

        Raises:
            AudioError: floats that are not finite, or far outside [-1, 1].
        """
        data = self._rest + data
        complete = len(data) // self._form.frame_bytes * self._form.frame_bytes
        self._rest = data[complete:]
        samples = self._samples(data[:complete])
        if self._form.channels == 1:
            return to_float32(samples)
        return self._mixer.process(to_float32(samples.reshape(-1, self._form.channels)))

    def flush(self) -> np.ndarray:
        """Return the samples that the mixer still has; part of a sample at the end is ignored."""
        return self._mixer.flush()

    def close(self) -> None:
        """Nothing is open."""

    def _samples(self, data: bytes) -> np.ndarray:
        """(n,) int16, int32 or float32."""
        width = self._form.width
        if self._form.is_float:
            return np.frombuffer(data, "<f4").astype(np.float32)
        if width == 1:
            return ((np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8).astype(np.int16)
        if width == 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return wide.reshape(-1).view("<i4").astype(np.int32)
        stored, samples = ("<i2", np.int16) if width == 2 else ("<i4", np.int32)
        return np.frombuffer(data, stored).astype(samples)
