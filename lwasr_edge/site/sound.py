"""Level, noise and clipping of a recording, in constant memory, and what to do about them."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.audio.reader import AudioReader
from lwasr_edge.errors import AudioWarning
from lwasr_edge.site.remark import Remark
from lwasr_edge.streaming.recent_audio import percentile

if TYPE_CHECKING:
    from lwasr_edge.audio.reader import AudioSource

FRAME_S = 0.02
FLOOR_DB = -96.0  # of 16-bit samples
MAX_S = 1800.0  # longer recordings are refused, or measured up to here if they have no text
GOOD_LEVEL_DB = -26.0  # of speech, as ITU-T P.56 measures it: the usual target of recordings
LOW_LEVEL_DB = -36.0
HIGH_LEVEL_DB = -12.0
SILENT_DB = -70.0  # of the loudest twentieth of a recording
GOOD_SNR_DB = 20.0
LOW_SNR_DB = 12.0
SOME_CLIPPING = 0.02  # share of the frames with speech
MUCH_CLIPPING = 0.25
MUCH_READ = 0.9  # of a file: of less, the text says more than can be recognised
READ_OF = re.compile(r"([\d.]+) of ([\d.]+)(?: s could be decoded|: the rest is damaged)")  # in an `AudioWarning`
STEADY_DB = 3.0  # between loud and soft frames: there is no speech below


@dataclass(frozen=True)
class Sound:
    """What was measured of one recording; levels in dB of full scale."""

    duration_s: float
    sample_rate: int
    channels: int
    level_db: float  # mean power of the frames with speech
    noise_db: float  # of the softest tenth
    loud_db: float  # of the loudest twentieth
    clipped: float  # share of the frames with speech that have flat tops, 0..1
    digest: str  # of the samples: two files may be the same recording
    warnings: tuple[str, ...]  # of damaged files

    @property
    def snr_db(self) -> float:
        """Speech above noise, an estimate: recordings without a pause are measured too low."""
        return self.level_db - self.noise_db

    @property
    def readable(self) -> float:
        """The share, 0 to 1, of a damaged file that could be read, as its warnings state it."""
        found = [match for note in self.warnings for match in READ_OF.finditer(note)]
        return min((float(match[1]) / max(float(match[2]), 1e-9) for match in found), default=1.0)

    @property
    def has_sound(self) -> bool:
        """Whether there may be speech: not silence, and not steady noise."""
        return self.loud_db > SILENT_DB and self.loud_db - self.noise_db > STEADY_DB


def measure_sound(source: AudioSource, sample_rate: int | None = None, *, max_s: float = MAX_S) -> Sound:
    """Measure a recording, up to `max_s` seconds of it.

    Args:
        source, sample_rate: see `AudioReader`.
        max_s: seconds.

    Raises:
        AudioError: it cannot be read.
    """
    digest = hashlib.sha256()
    powers, peaks, flats = [], [], []
    n_samples = 0
    with warnings.catch_warnings(record=True) as caught, AudioReader(source, sample_rate) as audio:
        warnings.simplefilter("always", AudioWarning)
        rate = audio.sample_rate
        for frames, count in _frames(audio, max(1, round(FRAME_S * rate)), digest):
            n_samples += count
            if len(frames):
                powers.append(frames.var(axis=1))
                peaks.append(np.abs(frames).max(axis=1))
                flats.append(_flat_tops(frames, peaks[-1], run=max(3, round(1e-4 * rate))))
            if n_samples > max_s * rate:
                break
        notes = tuple(str(item.message) for item in caught)
        power, peak, flat = (np.concatenate([*parts, np.zeros(0)]) for parts in (powers, peaks, flats))
        level, noise, loud, active = _levels(power)
        is_clipped = (flat > 0) & (peak >= 0.9 * peak.max(initial=0.0)) & (peak > 0.05) & active
        clipped = float(is_clipped.sum()) / max(1, int(active.sum()))
        return Sound(n_samples / rate, rate, audio.channels, level, noise, loud, clipped, digest.hexdigest(), notes)


def _frames(audio: AudioReader, size: int, digest: hashlib._Hash) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (n, size) whole frames, and the samples that were read for them."""
    rest = np.zeros(0, np.float32)
    for block in audio.blocks():
        digest.update(block.tobytes())
        joined = np.concatenate([rest, block])
        n_frames = len(joined) // size
        rest = joined[n_frames * size :]
        yield joined[: n_frames * size].reshape(n_frames, size).astype(np.float64), len(block)


def _flat_tops(frames: np.ndarray, peak: np.ndarray, run: int) -> np.ndarray:
    """(n,) whether each frame stays at its peak for `run` samples, or is at full scale for two."""
    size = np.abs(frames)
    at_peak = size >= peak[:, None] - 3e-5
    count = frames.shape[1] - run + 1
    runs = np.logical_and.reduce([at_peak[:, first : first + count] for first in range(run)])
    return runs.any(axis=1) | ((size > 0.999).sum(axis=1) >= 2)


def _levels(power: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Levels of speech, noise and the loudest frames in dB, and the (n,) frames with speech."""
    if not len(power):
        return FLOOR_DB, FLOOR_DB, FLOOR_DB, np.zeros(0, bool)
    levels = np.maximum(10 * np.log10(power + 1e-12), FLOOR_DB)
    noise, loud = float(percentile(levels, 10)), float(percentile(levels, 95))
    active = levels >= noise + 0.5 * (loud - noise)
    return max(float(10 * np.log10(power[active].mean() + 1e-12)), FLOOR_DB), noise, loud, active


def sound_advice(sound: Sound) -> list[Remark]:
    """What to do about level, noise and clipping, the worst first."""
    advice = []
    if sound.clipped >= SOME_CLIPPING:
        advice.append(Remark("advice_clipped", {"percent": round(100 * sound.clipped)}))
    if sound.has_sound and sound.level_db < LOW_LEVEL_DB:
        advice.append(Remark("advice_low", {"db": round(GOOD_LEVEL_DB - sound.level_db)}))
    elif sound.level_db > HIGH_LEVEL_DB and sound.clipped < SOME_CLIPPING:
        advice.append(Remark("advice_high", {"db": round(sound.level_db - GOOD_LEVEL_DB)}))
    if sound.has_sound and sound.snr_db < LOW_SNR_DB:
        advice.append(Remark("advice_noise", {"db": round(sound.snr_db)}))
    if sound.sample_rate < 16_000:
        advice.append(Remark("advice_rate", {"hz": sound.sample_rate}))
    advice += [Remark("advice_damaged", {"why": note}) for note in sound.warnings]
    return advice
