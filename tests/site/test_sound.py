"""Level, noise and clipping of signals whose values are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lwasr_edge.site.sound import measure_sound, sound_advice

RATE = 16_000


def bursts(level_db: float, noise_db: float, rate: int = RATE) -> np.ndarray:
    """Two seconds of white noise, as loud as speech in every other fifth of a second."""
    random = np.random.default_rng(0)
    noise = random.standard_normal(2 * rate) * 10 ** (noise_db / 20)
    loud = random.standard_normal(2 * rate) * 10 ** (level_db / 20)
    return (noise + loud * (np.arange(2 * rate) // (rate // 5) % 2)).astype(np.float32)


@pytest.mark.parametrize(("level_db", "noise_db"), [(-26, -60), (-20, -40), (-45, -70), (-26, -36)])
def test_level_and_noise(level_db: float, noise_db: float) -> None:
    sound = measure_sound(bursts(level_db, noise_db) + 0.01, RATE)  # an offset is no level
    assert sound.level_db == pytest.approx(level_db, abs=0.7)
    assert sound.noise_db == pytest.approx(noise_db, abs=0.7)
    assert sound.clipped == 0
    assert sound.duration_s == 2.0


def keys(samples: np.ndarray, rate: int = RATE) -> list[str]:
    return [remark.key for remark in sound_advice(measure_sound(samples, rate))]


def test_advice() -> None:
    assert keys(bursts(-26, -60)) == []
    low = sound_advice(measure_sound(bursts(-38, -75), RATE))
    assert [(remark.key, remark.values) for remark in low] == [("advice_low", {"db": 12})]
    assert keys(np.clip(bursts(-3, -60), -0.99, 0.99) * 0.9)[0] == "advice_clipped"
    assert keys(bursts(-26, -35)) == ["advice_noise"]
    assert keys(bursts(-26, -60, 8000), 8000) == ["advice_rate"]


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_clipping_is_found_also_after_a_lower_gain(tmp_path: Path, gain: float) -> None:
    time = np.arange(RATE) / RATE
    voice = sum(np.sin(2 * np.pi * hz * time) / n for n, hz in enumerate((140, 280, 433, 911), 1)) * (time % 0.4 < 0.2)
    for factor, is_clipped in ((0.3, False), (2.5, True)):
        path = tmp_path / f"{factor}.wav"
        soundfile.write(path, np.clip(voice * factor, -1, 1) * gain * 0.999, RATE, "PCM_16")
        assert (measure_sound(path).clipped > 0.5) is is_clipped


def test_silence_and_steady_noise_have_no_speech() -> None:
    assert not measure_sound(np.zeros(RATE, np.float32), RATE).has_sound
    assert not measure_sound(bursts(-200, -30), RATE).has_sound
    assert measure_sound(bursts(-26, -32), RATE).has_sound


def test_long_recordings_are_measured_up_to_a_limit() -> None:
    assert 1.0 <= measure_sound(bursts(-26, -60), RATE, max_s=1.0).duration_s < 1.5
