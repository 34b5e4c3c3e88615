"""Augmentation: the effect and its size, and reproducibility by seed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import QUIET

from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.augment import COMMON_RMS, Augmenter, change_speed, pad_silence
from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.data.manifest import Utterance
from lwasr_edge.training.data.rooms import measured_responses

RATE = 16_000


def tone(hz: float, n_samples: int = RATE) -> torch.Tensor:
    return 0.3 * torch.sin(2 * math.pi * hz * torch.arange(n_samples) / RATE)[None]


def peak_hz(waveform: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(waveform[0] * torch.hann_window(waveform.shape[1])).abs()
    return float(spectrum.argmax()) * RATE / waveform.shape[1]


def quiet(**changes) -> AugmentConfig:
    return dataclasses.replace(QUIET, **changes)


@pytest.mark.parametrize("speed", [0.85, 0.9, 1.1, 1.15])
def test_speed_changes_length_and_pitch(speed: float) -> None:
    changed = change_speed(tone(1000), speed)
    assert changed.shape[1] == pytest.approx(RATE / speed, abs=25)
    assert peak_hz(changed) == pytest.approx(1000 * speed, abs=3)
    middle = changed[0, 1000:-1000]
    time = torch.arange(changed.shape[1])[1000:-1000] * speed / RATE
    assert float((middle - 0.3 * torch.sin(2 * math.pi * 1000 * time)).abs().max()) < 0.01


def test_speed_does_not_alias() -> None:
    """At 1.15, a tone of 7.5 kHz would become 8.6 kHz, above the Nyquist frequency: it must be removed."""
    assert float(change_speed(tone(7500), 1.15)[0, 500:-500].abs().max()) < 0.01


def test_speed_one_returns_the_waveform() -> None:
    waveform = tone(440)
    assert change_speed(waveform, 1.0) is waveform


def test_speed_changes_the_lengths() -> None:
    waveform, n_samples = Augmenter(quiet(speeds=(1.1,)), None).for_both(tone(440), torch.tensor([RATE]))
    assert n_samples.tolist() == [int(RATE / 1.1)]
    assert waveform.shape[1] >= n_samples[0]


def test_silence_padding_is_faint_and_keeps_the_speech() -> None:
    torch.manual_seed(0)
    speech = torch.cat([tone(440), tone(300)])
    padded, longer = pad_silence(speech, torch.tensor([RATE, RATE]), 800, 1600)
    assert longer.tolist() == [RATE + 2400] * 2 and padded.shape == (2, RATE + 2400)
    below_db = 20 * torch.log10(padded[:, :800].square().mean(1).sqrt() / speech.square().mean(1).sqrt())
    assert ((below_db > -57) & (below_db < -28)).all()
    assert float((padded[:, 800 : 800 + RATE] - speech).abs().max()) < 0.05


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_noise_has_the_signal_to_noise_ratio(snr_db: float) -> None:
    torch.manual_seed(0)
    background = (3000 * torch.randn(50_000)).to(torch.int16)
    augmenter = Augmenter(quiet(noise_probability=1, snr_db=(snr_db, snr_db)), background)
    n_samples = torch.tensor([RATE, RATE // 2, RATE // 4])
    speech = tone(440).repeat(3, 1) * (torch.arange(RATE) < n_samples[:, None])
    added = augmenter.add_noise(speech, n_samples) - speech
    for i, n in enumerate(n_samples.tolist()):
        ratio = speech[i, :n].square().sum() / added[i, :n].square().sum()
        assert float(10 * torch.log10(ratio)) == pytest.approx(snr_db, abs=0.01)
        assert float(added[i, n:].abs().sum()) == 0


def test_without_recordings_noise_is_synthetic() -> None:
    torch.manual_seed(0)
    speech, n_samples = tone(440).repeat(2, 1), torch.tensor([RATE, RATE])
    added = Augmenter(quiet(noise_probability=1, snr_db=(10, 10)), None).add_noise(speech, n_samples) - speech
    ratio = speech.square().sum(1) / added.square().sum(1)
    assert (10 * torch.log10(ratio)).tolist() == pytest.approx([10, 10], abs=0.01)
    assert not torch.allclose(added[0], added[1])


def test_probability_zero_changes_nothing() -> None:
    background = torch.ones(1000, dtype=torch.int16)
    augmenter = Augmenter(QUIET, background)
    speech, n_samples = tone(440), torch.tensor([RATE])
    torch.testing.assert_close(augmenter.add_noise(speech, n_samples), speech)
    torch.testing.assert_close(augmenter.add_reverberation(speech), speech, atol=1e-5, rtol=1e-4)
    features = torch.randn(2, 40, 80)
    assert torch.equal(augmenter.mask(features), features)


@pytest.mark.parametrize("gain_db", [-20.0, 0.0, 6.0])
def test_gain_is_relative_to_the_common_level(gain_db: float) -> None:
    augmenter = Augmenter(quiet(gain_db=(gain_db, gain_db)), None)
    n_samples = torch.tensor([RATE, RATE // 2])
    speech = torch.cat([0.01 * tone(440), tone(440)]) * (torch.arange(RATE) < n_samples[:, None])
    changed = augmenter.for_student(speech, n_samples)
    for i, n in enumerate(n_samples.tolist()):
        level_db = 20 * math.log10(float(changed[i, :n].square().mean().sqrt()) / COMMON_RMS)
        assert level_db == pytest.approx(gain_db, abs=0.05)


def test_reverberation_is_causal_and_decays() -> None:
    torch.manual_seed(0)
    click = torch.zeros(1, RATE)
    click[0, 4000] = 1
    wet = Augmenter(quiet(room_probability=1, reverberation_s=(0.3, 0.3)), None).add_reverberation(click)
    assert float(wet[0, :4000].abs().max()) < 1e-4
    assert float(wet[0, 4000]) == pytest.approx(1, abs=1e-4)  # the direct path has no delay
    early, late = wet[0, 4001:4801].square().mean(), wet[0, 6401:7201].square().mean()
    assert 10 * math.log10(float(early / late)) == pytest.approx(60 * 2400 / (0.3 * RATE), abs=4)


def test_half_of_the_rooms_are_measured_ones_that_begin_at_their_direct_sound() -> None:
    torch.manual_seed(0)
    recorded = np.zeros(RATE // 2, np.float32)
    recorded[2000], recorded[3600] = -0.5, 0.25  # direct sound, and an echo 100 ms later
    samples = np.round(recorded * 32767).astype(np.int16)
    utterance = Utterance("hall", Path("hall.wav"), 0.5, "", "")
    corpus = Corpus([utterance], samples, np.array([0]), np.array([len(samples)]))
    rooms = measured_responses(corpus, torch.device("cpu"))
    assert rooms.shape == (1, 1601)
    clicks = torch.zeros(40, RATE)
    clicks[:, 4000] = 1
    settings = quiet(room_probability=1, reverberation_s=(0.01, 0.01))
    wet = Augmenter(settings, None, rooms).add_reverberation(clicks)
    assert wet[:, 4000] == pytest.approx(np.ones(40), abs=1e-3)
    is_measured = (wet[:, 5600] + 0.5).abs() < 1e-3
    assert 8 <= int(is_measured.sum()) <= 32
    assert float(wet[~is_measured][:, 5600].abs().max()) < 1e-3


def test_telephone_has_its_band_and_the_steps_of_mu_law() -> None:
    torch.manual_seed(0)
    low, middle, high = (tone(hz) for hz in (80, 1000, 6000))
    augmenter = Augmenter(quiet(telephone_probability=1), None)
    heard = [float(augmenter.telephone(one)[0, 800:-800].square().mean().sqrt()) for one in (low, middle, high)]
    loud = float(middle[0, 800:-800].square().mean().sqrt())
    assert heard[0] < 0.05 * loud
    assert heard[1] == pytest.approx(loud, rel=0.02)
    assert heard[2] < 0.01 * loud
    assert len(augmenter.telephone(middle)[0].unique()) <= 255


def test_masks_are_bands_and_segments() -> None:
    torch.manual_seed(0)
    features = torch.ones(8, 200, 80)
    masked = Augmenter(quiet(band_masks=1, band_mask_width=14), None).mask(features) == 0
    assert (masked.all(1) == masked.any(1)).all()  # whole bands
    assert 0 < int(masked.any(1).sum(1).max()) <= 14
    masked = Augmenter(quiet(time_masks=2, time_mask_frames=30), None).mask(features) == 0
    assert (masked.all(2) == masked.any(2)).all()  # whole frames
    assert 0 < int(masked.any(2).sum(1).max()) <= 60


def test_same_seed_same_output() -> None:
    background = torch.randint(-3000, 3000, (20_000,), dtype=torch.int16)
    augmenter = Augmenter(AugmentConfig(pause_probability=1, noise_probability=1, room_probability=1), background)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return augmenter.for_student(*augmenter.for_both(tone(440), torch.tensor([RATE])))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1)[:, :8000], draw(2)[:, :8000])
    assert float(draw(3).abs().max()) <= 1


def test_digital_silence_stays_finite() -> None:
    augmenter = Augmenter(
        AugmentConfig(noise_probability=1, room_probability=1, telephone_probability=1),
        torch.zeros(100, dtype=torch.int16),
    )
    out = augmenter.for_student(*augmenter.for_both(torch.zeros(2, 8000), torch.tensor([8000, 4000])))
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    "values", [{"noise_probability": 1.5}, {"snr_db": (10.0, 0.0)}, {"speeds": ()}, {"speeds": (0.0,)}]
)
def test_impossible_settings_are_refused(values: dict) -> None:
    with pytest.raises(OptionError, match=next(iter(values))):
        AugmentConfig(**values)
