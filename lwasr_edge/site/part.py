"""A part of a longer recording: Kaldi's segments, and NeMo's entries with an offset."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwasr_edge.audio.reader import AudioReader
from lwasr_edge.errors import AudioError, AudioWarning

# Where libsndfile seeks to the sample; other recordings are decoded from their start.
SEEKABLE = frozenset(["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC"])
TOLERANCE_S = 0.5  # that a part may end after its recording: tools round


@dataclass(frozen=True)
class Part:
    """Where a part is in its recording."""

    start_s: float
    end_s: float | None  # None: to the end of the recording

    @property
    def is_possible(self) -> bool:
        """Whether there can be such a part."""
        end_s = self.start_s + 1 if self.end_s is None else self.end_s
        return 0 <= self.start_s < end_s < math.inf  # False for NaN

    def __str__(self) -> str:
        end = "" if self.end_s is None else f"{self.end_s:.2f}"
        return f"{self.start_s:.2f}-{end} s"


def read_part(path: Path, part: Part) -> tuple[np.ndarray, int]:
    """Read a part of a recording.

    Returns:
        (N,) float32 mono samples, and their rate in Hz.

    Raises:
        AudioError: the recording cannot be read, or ends before the part does.
    """
    import soundfile

    with suppress(soundfile.SoundFileError, OSError, TypeError), soundfile.SoundFile(path) as sound:
        start = round(part.start_s * sound.samplerate)
        if sound.format in SEEKABLE and sound.seekable() and start < sound.frames:
            sound.seek(start)
            with AudioReader(sound) as audio:
                return _cut(audio, path, part, start)
    with AudioReader(path) as audio:
        return _cut(audio, path, part, 0)


def _cut(audio: AudioReader, path: Path, part: Part, first: int) -> tuple[np.ndarray, int]:
    """The samples of a part, from a reader that is at sample `first` of the recording."""
    rate = audio.sample_rate
    start = round(part.start_s * rate)
    end = math.inf if part.end_s is None else round(part.end_s * rate)
    position, blocks = first, [np.zeros(0, np.float32)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)  # the level of a part is measured
        for block in audio.blocks():
            blocks.append(block[max(0, start - position) : max(0, int(min(end - position, len(block))))])
            position += len(block)
            if position >= end:
                break
    samples = np.concatenate(blocks)
    if not len(samples) or position < end - TOLERANCE_S * rate < math.inf:
        raise AudioError(f"{path} must have the part {part}, got {position / rate:.2f} s of sound")
    return samples, rate
