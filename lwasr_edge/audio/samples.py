"""Checks and conversion of samples to float32, and resampling of a stream."""

from __future__ import annotations

import numpy as np

from lwasr_edge.errors import AudioError
from lwasr_edge.native import NativeCall
from lwasr_edge.validate import number

MIN_SAMPLE_RATE_HZ = 1000
MAX_SAMPLE_RATE_HZ = 192_000
MAX_CHANNELS = 64  # a larger second dimension is probably time
# Float samples belong in [-1, 1]; a loud recording may exceed that a little, integers stored as floats by thousands.
MAX_PEAK = 64.0

_INTEGER_SCALE = {"int16": 1.0 / 32768.0, "int32": 1.0 / 2147483648.0}


def check_sample_rate(sample_rate: float, name: str = "sample_rate") -> int:
    """Return the rate as an int.

    Raises:
        AudioError: it is not a whole number of Hz from MIN_SAMPLE_RATE_HZ to MAX_SAMPLE_RATE_HZ.
    """
    rate = number(name, sample_rate, error=AudioError, hint="give a sample rate in Hz")
    if not MIN_SAMPLE_RATE_HZ <= rate <= MAX_SAMPLE_RATE_HZ or not rate.is_integer():
        hint = ": multiply by 1000 if it is in kHz" if 0 < rate <= 192 else ""
        limits = f"{MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}"
        raise AudioError(f"{name} must be a whole number of Hz from {limits}, got {sample_rate}{hint}")
    return int(rate)


def to_float32(samples: np.ndarray, first_sample: int = 0) -> np.ndarray:
    """Check a block of samples and convert it to float32.

    Args:
        samples: (N,) or (N, channels), int16, int32, float32 or float64; N may be 0.
        first_sample: index of the block's first sample in the recording, for messages.

    Returns:
        float32 of the same shape, integers scaled to [-1, 1]. The input itself if it already has this form.

    Raises:
        AudioError: another type or shape, a NaN or infinite sample, floats far outside [-1, 1].
    """
    if isinstance(samples, (bytes, bytearray, memoryview)):
        raise AudioError("samples must be a numpy array, got bytes: np.frombuffer(data, np.int16) reads 16-bit samples")
    if not hasattr(samples, "__array__"):
        raise AudioError(f"samples must be a numpy array, got {type(samples).__name__}")
    samples = np.asarray(samples)  # also of subclasses: soxr refuses np.memmap
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples must be (N,) or (N, channels), got shape {samples.shape}")
    if samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS:
        raise AudioError(
            f"samples must be (N, channels) with 1 to {MAX_CHANNELS} channels, got shape {samples.shape}: "
            "transpose the array if it is (channels, N)"
        )
    if samples.dtype.name in _INTEGER_SCALE:
        return samples.astype(np.float32) * np.float32(_INTEGER_SCALE[samples.dtype.name])
    if samples.dtype.name in ("float32", "float64"):
        _check_float_samples(samples, first_sample)
        return samples.astype(np.float32, copy=False)
    raise AudioError(f"samples must be int16, int32, float32 or float64, got {samples.dtype}")


def _check_float_samples(samples: np.ndarray, first_sample: int) -> None:
    if samples.size == 0:
        return
    peak = max(float(samples.max()), -float(samples.min()))  # NaN if any sample is
    if peak <= MAX_PEAK:
        return
    finite = np.isfinite(samples)
    if finite.all():
        raise AudioError(
            f"float samples must be in [-1, 1], got {peak:g}: divide by 32768 if they were 16-bit integers"
        )
    index = int(np.argwhere(~finite)[0][0])
    value = samples[index] if samples.ndim == 1 else samples[index][~finite[index]][0]
    raise AudioError(f"samples must be finite, got {value} at sample {first_sample + index}")


class SampleBytes:
    """Join bytes of int16 samples that were cut anywhere, as pipes and sockets do."""

    def __init__(self) -> None:
        self._rest = b""

    def samples(self, block: np.ndarray | bytes) -> np.ndarray:
        """Samples of a block of little-endian int16 bytes; an odd byte is kept. Anything else is returned as it is."""
        if not isinstance(block, (bytes, bytearray, memoryview)):
            return block
        data = self._rest + bytes(block)
        complete = len(data) // 2 * 2
        self._rest = data[complete:]
        return np.frombuffer(data[:complete], "<i2").astype(np.int16, copy=False)


class StreamResampler:
    """Resample a stream block by block; the result does not depend on the block sizes (soxr, high quality).

    The filter delays its output: at 48 kHz by about 40 ms, until more input or `flush`. With equal rates there is no
    delay.

    Args:
        source_hz: rate of the input of `process`.
        target_hz: rate of its output.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self._soxr = None
        if source_hz != target_hz:
            with NativeCall():
                import soxr

                self._soxr = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Add (n,) float32 samples; return the (m,) float32 resampled samples that are ready."""
        return self._resample(samples)

    def flush(self) -> np.ndarray:
        """Return the delayed samples and end the stream."""
        return self._resample(np.zeros(0, np.float32), last=True)

    def _resample(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        if self._soxr is None:
            return samples
        with NativeCall():
            return self._soxr.resample_chunk(samples, last=last)
