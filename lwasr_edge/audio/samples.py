"""Samples: which are accepted, the one form they are brought to, and resampling of a stream."""

from __future__ import annotations

import math

import numpy as np

from lwasr_edge.errors import AudioError

MIN_SAMPLE_RATE_HZ = 1000
MAX_SAMPLE_RATE_HZ = 192_000
MAX_CHANNELS = 64  # a second dimension beyond this is taken for time
# Float samples belong in [-1, 1]; a hot recording may pass that by a little, integers stored as floats by thousands.
MAX_PEAK = 64.0

_INTEGER_SCALE = {"int16": 1.0 / 32768.0, "int32": 1.0 / 2147483648.0}


def check_sample_rate(sample_rate: float) -> int:
    """Return the rate as an int.

    Raises:
        AudioError: it is not a whole number of Hz from MIN_SAMPLE_RATE_HZ to MAX_SAMPLE_RATE_HZ.
    """
    is_number = isinstance(sample_rate, (int, float, np.integer, np.floating)) and not isinstance(sample_rate, bool)
    if not is_number or not math.isfinite(sample_rate) or int(sample_rate) != sample_rate:
        raise AudioError(f"a sample rate is a whole number of Hz; came {sample_rate!r}")
    if not MIN_SAMPLE_RATE_HZ <= sample_rate <= MAX_SAMPLE_RATE_HZ:
        hint = ": was it given in kHz?" if 0 < sample_rate <= 192 else ""
        raise AudioError(
            f"sample rates from {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz are accepted; came {sample_rate}{hint}"
        )
    return int(sample_rate)


def to_mono_float32(samples: np.ndarray, first_sample: int = 0) -> np.ndarray:
    """Check a block of samples and bring it to the one form used inside.

    Args:
        samples: (N,) or (N, channels), int16, int32, float32 or float64; N may be 0. Channels are averaged.
        first_sample: position of the block in its recording, for messages.

    Returns:
        (N,) float32, integers scaled to [-1, 1]. The input itself when it already has this form.

    Raises:
        AudioError: another type or shape, a NaN or infinite sample, floats that are plainly not in [-1, 1].
    """
    if isinstance(samples, (bytes, bytearray, memoryview)):
        raise AudioError("samples are expected as an array; came raw bytes: np.frombuffer(data, np.int16) reads 16-bit")
    if not hasattr(samples, "__array__"):
        raise AudioError(f"samples are expected as a numpy array; came {type(samples).__name__}")
    samples = np.asarray(samples)  # of subclasses too: soxr refuses np.memmap
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples are expected as (N,) or (N, channels); came the shape {samples.shape}")
    if samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS:
        raise AudioError(
            f"samples are expected as (N, channels) with 1 to {MAX_CHANNELS} channels; "
            f"came the shape {samples.shape}: transposed?"
        )
    if samples.dtype.name in _INTEGER_SCALE:
        floats = samples.astype(np.float32) * np.float32(_INTEGER_SCALE[samples.dtype.name])
    elif samples.dtype.name in ("float32", "float64"):
        _check_float_samples(samples, first_sample)
        floats = samples.astype(np.float32, copy=False)
    else:
        raise AudioError(f"samples are expected as int16, int32, float32 or float64; came {samples.dtype}")
    return floats if floats.ndim == 1 else floats.mean(axis=1, dtype=np.float32)


def _check_float_samples(samples: np.ndarray, first_sample: int) -> None:
    if samples.size == 0:
        return
    peak = max(float(samples.max()), -float(samples.min()))  # NaN if any sample is
    if peak <= MAX_PEAK:
        return
    finite = np.isfinite(samples)
    if finite.all():
        raise AudioError(
            f"float samples are expected in [-1, 1]; came {peak:g}: divide by 32768 if they were 16-bit integers"
        )
    position = int(np.argwhere(~finite)[0][0])
    value = samples[position] if samples.ndim == 1 else samples[position][~finite[position]][0]
    raise AudioError(f"every sample must be a finite number; sample {first_sample + position} is {value}")


class StreamResampler:
    """Resample a stream block by block; the result does not depend on how it was cut (soxr, high quality).

    The filter looks ahead: at 48 kHz about 40 ms of output are held back until more input or `flush` comes. With equal
    rates nothing is held back.

    Args:
        source_hz: rate of what is given to `process`.
        target_hz: rate of what it returns.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self._soxr = None
        if source_hz != target_hz:
            import soxr

            self._soxr = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Take (n,) float32 samples; return those, (m,) float32, that are ready."""
        return samples if self._soxr is None else self._soxr.resample_chunk(samples)

    def flush(self) -> np.ndarray:
        """Return the samples held back; the stream is over then."""
        empty = np.zeros(0, np.float32)
        return empty if self._soxr is None else self._soxr.resample_chunk(empty, last=True)
