"""Recordings: files, bytes and arrays become blocks of mono float32 samples at their own rate.

Nothing here reads a recording as a whole unless asked to (`load_audio`): an hour-long file passes block by block.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lwasr_edge.audio_file import announced_samples, decoder_reason, open_sound_file
from lwasr_edge.errors import AudioError, AudioFormatError, AudioWarning
from lwasr_edge.samples import StreamResampler, check_sample_rate, to_mono_float32

if TYPE_CHECKING:
    import soundfile

    AudioSource = str | os.PathLike[str] | bytes | BinaryIO | np.ndarray | tuple[np.ndarray, int]

BLOCK_SAMPLES = 4096  # read at once; of a damaged file, what comes before the damaged block is kept


class AudioReader:
    """A source of audio, opened: its rate, its length if known, and its samples block by block.

    Args:
        source: path; bytes of an audio file; binary file object; array (with `sample_rate`); (array, sample_rate).
        sample_rate: Hz, for an array. A file states its own: given one that differs, it is refused.

    Attributes:
        name: for messages.
        sample_rate: Hz, the source's own.
        total_samples: per channel, as announced by the source.

    Raises:
        AudioFileNotFoundError, AudioFormatError, AudioError
    """

    def __init__(self, source: AudioSource, sample_rate: int | None = None) -> None:
        self._file: soundfile.SoundFile | None = None
        self._array = np.zeros(0, np.float32)
        if isinstance(source, tuple):
            source, sample_rate = _unpack_pair(source, sample_rate)
        if isinstance(source, np.ndarray) or hasattr(source, "__array__"):
            self.name = "the array"
            if sample_rate is None:
                raise AudioError("an array does not know its sample rate: pass sample_rate=16000, or whatever it is")
            self.sample_rate = check_sample_rate(sample_rate)
            self._array = source if isinstance(source, np.ndarray) else np.asarray(source)
            self.total_samples = self._array.shape[0] if self._array.ndim else 0
            return
        self.name, self._file = open_sound_file(source)
        self.total_samples = self._file.frames
        try:
            self.sample_rate = _rate_of_file(self._file, self.name, sample_rate)
        except AudioError:
            self._file.close()
            raise

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield (n,) float32 mono blocks at the source's own rate; together, the whole recording.

        A file that ends early gives what is there and an `AudioWarning`.

        Raises:
            AudioError: no samples at all, or samples that are not finite.
            AudioFormatError: nothing of the file can be decoded.
        """
        count = 0
        raw_blocks = _array_blocks(self._array) if self._file is None else _file_blocks(self._file, self.name)
        for block in raw_blocks:
            try:
                mono = to_mono_float32(block, first_sample=count)
            except AudioError as error:
                raise AudioError(f"{self.name}: {error}") from None
            count += len(mono)
            yield mono
        if count == 0:
            raise AudioError(f"{self.name} holds no audio: 0 samples")
        if self._file is not None:
            _warn_if_cut_short(self._file, self.name, count)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def load_audio(source: AudioSource, sample_rate: int | None = None, target_hz: int = 16_000) -> np.ndarray:
    """Read a whole recording into memory.

    Args:
        source: see `AudioReader`.
        sample_rate: Hz, for an array.
        target_hz: rate of the result.

    Returns:
        (N,) float32 mono at `target_hz`.

    Raises:
        AudioError: see `AudioReader`.
    """
    with AudioReader(source, sample_rate) as audio:
        resampler = StreamResampler(audio.sample_rate, target_hz)
        parts = [resampler.process(block) for block in audio.blocks()]
    return np.concatenate([*parts, resampler.flush()])


def _array_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    to_mono_float32(array[:0] if array.ndim else array)  # shape and type, before the first block is cut from it
    for start in range(0, len(array), BLOCK_SAMPLES):
        yield array[start : start + BLOCK_SAMPLES]


def _file_blocks(file: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    import soundfile

    is_first = True
    while True:
        try:
            block = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            if is_first:
                raise AudioFormatError(f"{name} cannot be decoded ({decoder_reason(error)}): is it damaged?") from error
            return  # the rest is damaged: _warn_if_cut_short reports it
        if len(block) == 0:
            return
        is_first = False
        yield block


def _warn_if_cut_short(file: soundfile.SoundFile, name: str, count: int) -> None:
    expected = max(file.frames, announced_samples(file))
    missing = expected - count
    if missing > 0.1 * file.samplerate and missing > 0.01 * expected:  # MP3 lengths are estimates
        warnings.warn(
            f"{name} ends early: {count / file.samplerate:.2f} s of the announced {expected / file.samplerate:.2f} s "
            "are there; the rest is missing or damaged",
            AudioWarning,
            stacklevel=2,
        )


def _rate_of_file(file: soundfile.SoundFile, name: str, wanted: int | None) -> int:
    try:
        sample_rate = check_sample_rate(file.samplerate)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from None
    if wanted is not None and check_sample_rate(wanted) != sample_rate:
        raise AudioError(
            f"{name} says it has {sample_rate} Hz; sample_rate={wanted} was passed: leave it out for files, they are "
            "resampled as needed"
        )
    return sample_rate


def _unpack_pair(pair: tuple[Any, ...], sample_rate: int | None) -> tuple[np.ndarray, int]:
    if len(pair) != 2 or not hasattr(pair[0], "__array__") or np.ndim(pair[0]) == 0:
        raise AudioError("a tuple is expected to be (array, sample_rate), in this order")
    if sample_rate is not None and sample_rate != pair[1]:
        raise AudioError(f"the tuple says {pair[1]} Hz and sample_rate says {sample_rate} Hz: pass one of them")
    return pair[0], pair[1]
