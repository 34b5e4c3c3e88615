"""Recordings as blocks of mono float32 samples: files, bytes and arrays, of any length in constant memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lwasr_edge.audio.mixing import Mixer
from lwasr_edge.audio.samples import MAX_CHANNELS, StreamResampler, check_sample_rate, to_float32
from lwasr_edge.errors import AudioError, AudioWarning
from lwasr_edge.validate import whole_number

if TYPE_CHECKING:
    from lwasr_edge.audio.opening import Recording

    # A soundfile.SoundFile too, but that package has no types.
    AudioSource = str | os.PathLike[str] | bytes | BinaryIO | np.ndarray | tuple[np.ndarray, int]

FAINT_PEAK = 1e-4  # -80 dB of full scale; speech of the right scale is never below
BLOCK_SAMPLES = 4096  # read at once; of a damaged file, everything before the damaged block is used


class AudioReader:
    """An open source of audio: its rate, its length if known, and its samples block by block.

    Args:
        source: path; bytes of an audio file; binary file object; `soundfile.SoundFile`; array (with `sample_rate`);
            (array, sample_rate).
        sample_rate: Hz, for an array. A file has its own; another value is refused.
        channel: the channel to read, from 1; None for the mean of all, see `Mixer`.

    Attributes:
        name: for messages.
        sample_rate: Hz, of the source.
        channels: of the source.
        total_samples: per channel, as declared by the source; 0 if unknown.

    Raises:
        AudioFileNotFoundError, AudioFormatError, AudioError
    """

    def __init__(self, source: AudioSource, sample_rate: int | None = None, *, channel: int | None = None) -> None:
        self._file: Recording | None = None
        self._samples_read = 0
        self._peak = 0.0
        self._array = np.zeros(0, np.float32)
        self._channel = None if channel is None else whole_number("channel", channel, 1, error=AudioError)
        if isinstance(source, tuple):
            source, sample_rate = _unpack_pair(source, sample_rate)
        if isinstance(source, np.ndarray) or hasattr(source, "__array__"):
            self.name = "the array"
            if sample_rate is None:
                raise AudioError("an array must have a sample rate, got None: pass sample_rate=16000, or its own")
            self.sample_rate = check_sample_rate(sample_rate)
            self._array = source if isinstance(source, np.ndarray) else np.asarray(source)
            shape: tuple[int, ...] = self._array.shape
            self.total_samples = shape[0] if shape else 0
            self.channels = shape[1] if len(shape) == 2 else 1
            return
        from lwasr_edge.audio.opening import open_recording  # arrays and streams need no decoders

        self._file = open_recording(source)
        self.name = self._file.name
        self.total_samples = self._file.declared_samples
        self.channels = self._file.channels
        try:
            self.sample_rate = _rate_of_file(self._file, sample_rate)
        except AudioError:
            self._file.close()
            raise

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the recording as (n,) float32 mono blocks at the source's rate.

        Truncated or damaged files are read as far as they can be decoded, with an `AudioWarning`; so is a recording
        that is not silent but more than 80 dB below full scale.

        Raises:
            AudioError: no samples at all, samples that are not finite, or no such channel.
            AudioFormatError: nothing of the file can be decoded.
        """
        mixer = Mixer(self.sample_rate, self._channel)
        raw_blocks = _array_blocks(self._array) if self._file is None else self._file.blocks(BLOCK_SAMPLES)
        for block in raw_blocks:
            try:
                samples = to_float32(block, first_sample=self._samples_read)
                mono = mixer.process(samples)
            except AudioError as error:
                raise AudioError(f"{self.name}: {error}") from None
            self._samples_read += len(samples)
            if samples.size:
                self._peak = max(self._peak, float(samples.max()), -float(samples.min()))
            if len(mono):
                yield mono
        if len(rest := mixer.flush()):
            yield rest
        if self._samples_read == 0:
            raise AudioError(f"{self.name} holds no audio: 0 samples")
        if self._file is not None and (fault := self._file.fault(self._samples_read)):
            warnings.warn(f"{self.name} {fault}", AudioWarning, stacklevel=2)
        if 0 < self._peak < FAINT_PEAK:
            warnings.warn(f"{self.name} {self._faintness()}", AudioWarning, stacklevel=2)

    def _faintness(self) -> str:
        level = f"is almost silent: its highest peak is {-20 * np.log10(self._peak):.0f} dB below full scale"
        if self._array.dtype.name == "int32":
            return f"{level}: use int16 if the int32 array holds 16-bit samples"
        if self._array.dtype.kind == "f" and self._file is None:
            return f"{level}: divide integers once by their full scale, not twice"
        return f"{level}: check the microphone's gain, or the scale of the program that wrote it"

    def estimated_duration_s(self) -> float:
        """Duration of the recording: declared, or estimated from the part read so far."""
        if self._file is None:
            return self.total_samples / self.sample_rate
        return self._file.estimated_duration_s(self._samples_read)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def load_audio(
    source: AudioSource, sample_rate: int | None = None, target_hz: int = 16_000, *, channel: int | None = None
) -> np.ndarray:
    """Read a recording into memory.

    Args:
        source: see `AudioReader`.
        sample_rate: Hz, for an array.
        target_hz: rate of the result.
        channel: the channel to read, from 1; None for the mean of all.

    Returns:
        (N,) float32 mono at `target_hz`.

    Raises:
        AudioError: see `AudioReader`; or an invalid `target_hz`.
    """
    target_hz = check_sample_rate(target_hz, "target_hz")
    with AudioReader(source, sample_rate, channel=channel) as audio:
        resampler = StreamResampler(audio.sample_rate, target_hz)
        parts = [resampler.process(block) for block in audio.blocks()]
    return np.concatenate([*parts, resampler.flush()])


def _array_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    to_float32(array[:0] if array.ndim == 1 or (array.ndim == 2 and array.shape[1] <= MAX_CHANNELS) else array)
    if array.ndim == 2 and 0 < len(array) < array.shape[1]:
        raise AudioError(
            f"samples must be (N, channels), got shape {array.shape}, fewer samples than channels: transpose the array"
        )
    for start in range(0, len(array), BLOCK_SAMPLES):
        yield array[start : start + BLOCK_SAMPLES]


def _rate_of_file(file: Recording, wanted: int | None) -> int:
    try:
        sample_rate = check_sample_rate(file.sample_rate)
    except AudioError as error:
        raise AudioError(f"{file.name}: {error}") from None
    if wanted is not None and check_sample_rate(wanted) != sample_rate:
        raise AudioError(
            f"sample_rate must be {sample_rate} Hz, the rate of {file.name}, got {wanted}: leave it out for files"
        )
    return sample_rate


def _unpack_pair(pair: tuple[Any, ...], sample_rate: int | None) -> tuple[np.ndarray, int]:
    if len(pair) != 2 or not hasattr(pair[0], "__array__") or np.ndim(pair[0]) == 0:
        raise AudioError("a tuple must be (array, sample_rate), in this order")
    if sample_rate is not None and sample_rate != pair[1]:
        raise AudioError(f"sample_rate must be {pair[1]} Hz, as in the tuple, got {sample_rate} Hz: pass one of them")
    return pair[0], pair[1]
