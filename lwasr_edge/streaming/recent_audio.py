"""The newest audio of a stream and its levels, addressed by encoder frame."""

from __future__ import annotations

import numpy as np

LEVELS_PER_FRAME = 4  # a level is that of 10 ms
PREEMPHASIS = 0.97  # hum and wind have their power at low frequencies, where speech does not need it
SILENT_DB = -100.0  # level of digital silence
DISCARDED_AT_ONCE = 32  # frames: moving a few samples on every call would cost more than keeping them
INAUDIBLE_DB = -90.0  # below it, a recording of 16 bits has only the noise of its last bit


class RecentAudio:
    """A waveform at the model's rate that is appended at its end and discarded from its beginning.

    Frame u is the samples from u * samples_per_frame on. Levels are kept longer than samples.

    Args:
        samples_per_frame: of the model.
        first_frame: of the first samples appended.
    """

    def __init__(self, samples_per_frame: int, first_frame: int = 0) -> None:
        self._samples_per_frame = samples_per_frame
        self._first_frame = first_frame
        self._waveform = np.zeros(DISCARDED_AT_ONCE * samples_per_frame, np.float32)
        self._n_samples = 0
        self._levels = Levels(samples_per_frame // LEVELS_PER_FRAME, first_frame)

    @property
    def levels(self) -> Levels:
        """Levels of the audio, in dB."""
        return self._levels

    @property
    def first_frame(self) -> int:
        """The oldest frame whose samples are kept."""
        return self._first_frame

    @property
    def end_frame(self) -> int:
        """One after the newest complete frame."""
        return self._first_frame + self._n_samples // self._samples_per_frame

    @property
    def incomplete_samples(self) -> int:
        """Samples after the newest complete frame."""
        return self._n_samples % self._samples_per_frame

    def append(self, waveform: np.ndarray) -> None:
        """Add (n,) float32 samples."""
        self._levels.append(waveform)
        needed = self._n_samples + len(waveform)
        if needed > len(self._waveform):
            self._resize(max(needed, len(self._waveform) * 5 // 4))
        self._waveform[self._n_samples : needed] = waveform
        self._n_samples = needed

    def frames(self, first: int, end: int) -> np.ndarray:
        """The samples of frames ``first`` to ``end`` - 1, all of which must be kept. A view, valid until the next call
        of another method."""
        begin, stop = ((frame - self._first_frame) * self._samples_per_frame for frame in (first, end))
        assert 0 <= begin <= stop <= self._n_samples, (first, end, self._first_frame, self.end_frame)
        return self._waveform[begin:stop]

    def discard(self, before_frame: int) -> None:
        """Drop the samples before a frame, at most those of complete frames."""
        count = min(before_frame, self.end_frame) - self._first_frame
        if count < DISCARDED_AT_ONCE:
            return
        dropped = count * self._samples_per_frame
        self._waveform[: self._n_samples - dropped] = self._waveform[dropped : self._n_samples].copy()
        self._n_samples -= dropped
        self._first_frame += count
        if len(self._waveform) > 4 * self._n_samples:  # after a long utterance
            self._resize(max(2 * self._n_samples, DISCARDED_AT_ONCE * self._samples_per_frame))

    def _resize(self, n_samples: int) -> None:
        resized = np.zeros(n_samples, np.float32)
        resized[: self._n_samples] = self._waveform[: self._n_samples]
        self._waveform = resized


class Levels:
    """The level of each complete 10 ms in dB of full scale, after pre-emphasis."""

    def __init__(self, samples_per_level: int, first_frame: int) -> None:
        self._samples_per_level = samples_per_level
        self._first = first_frame * LEVELS_PER_FRAME
        self._values = np.zeros(256, np.float32)
        self._count = 0
        self._rest = np.zeros(1, np.float32)  # the sample before the next level, then samples of an incomplete level

    @property
    def end(self) -> int:
        """One after the number of the newest level."""
        return self._first + self._count

    def append(self, waveform: np.ndarray) -> None:
        """Add (n,) float32 samples."""
        waveform = np.concatenate([self._rest, waveform])
        count = (len(waveform) - 1) // self._samples_per_level
        used = count * self._samples_per_level
        emphasised = waveform[1 : used + 1] - PREEMPHASIS * waveform[:used]
        power = emphasised.reshape(count, self._samples_per_level).var(axis=1)  # without the offset of cheap inputs
        self._rest = waveform[used:]
        if self._count + count > len(self._values):
            self._values = np.concatenate([self._values[: self._count], np.zeros(self._count + count, np.float32)])
        self._values[self._count : self._count + count] = 10 * np.log10(power + 10 ** (SILENT_DB / 10))
        self._count += count

    def between(self, first: int, end: int) -> np.ndarray:
        """Levels ``first`` to ``end`` - 1, as far as they are kept. (n,) float32, a view"""
        return self._values[max(0, first - self._first) : max(0, min(end - self._first, self._count))]

    def discard(self, before_frame: int) -> None:
        """Drop the levels before a frame."""
        count = min(before_frame * LEVELS_PER_FRAME - self._first, self._count)
        if count >= 1024:
            self._values[: self._count - count] = self._values[count : self._count].copy()
            self._count -= count
            self._first += count


def percentile(values: np.ndarray, percent: float, axis: int = 0) -> np.ndarray:
    """`np.percentile` with linear interpolation, without the overhead and without `np.unique`, which ends the process
    if the interpreter ends while a daemon thread is in it."""
    position = (values.shape[axis] - 1) * percent / 100
    low = int(position)
    high = min(low + 1, values.shape[axis] - 1)
    ordered = np.partition(values, (low, high), axis)
    below, above = ordered.take(low, axis), ordered.take(high, axis)
    return np.asarray(below + (above - below) * (position - low))
