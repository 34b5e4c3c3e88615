"""Log-mel features: filters, level, silence, and the running normalisation in a stream."""

from __future__ import annotations

import math

import pytest
import torch
from small_models import TRANSCRIPTS, chunking, small_model, two_utterances

from lwasr_edge.training.model.config import FrontendConfig
from lwasr_edge.training.model.features import FRAME_DELAY, LogMel, RunningNorm, UtteranceNorm, mel_filterbank

CONFIG = FrontendConfig()
BIN_HZ = 16_000 / 512


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.05 * torch.randn(1, n_samples, generator=torch.Generator().manual_seed(seed))


def test_mel_filters_are_those_of_slaney() -> None:
    filters = mel_filterbank(CONFIG)
    assert filters.shape == (257, 80)
    assert float(filters.min()) == 0
    # 81 steps to 8 kHz, which is at mel 15 + 27 ln 8 / ln 6.4; below 1 kHz a mel is 66.7 Hz
    step_hz = (15 + 27 * math.log(8) / math.log(6.4)) / 81 * 200 / 3
    assert step_hz == pytest.approx(37.24, abs=0.005)
    assert float(filters[1, 0]) == pytest.approx(BIN_HZ / step_hz / step_hz, rel=1e-5)  # peak of 1 / step_hz
    # unit area, where a filter is wide enough for its sum over bins to be its area
    areas = filters[:, 50:].sum(0) * BIN_HZ
    assert areas.tolist() == pytest.approx([1.0] * 30, abs=0.03)
    assert float(filters[0].sum()) == 0 and float(filters[256].sum()) == 0


def test_a_tone_is_in_its_band_and_its_frame() -> None:
    time = torch.arange(16_000) / 16_000
    tone = 0.5 * torch.sin(2 * math.pi * 1000 * time) * (time >= 0.5)
    log_mel = LogMel(CONFIG)
    spectrum = log_mel(torch.nn.functional.pad(tone[None], (log_mel.left_samples, 0)))[0]
    assert spectrum.shape == (100, 80)
    centre_hz = torch.arange(257) * BIN_HZ
    peak_hz = float(centre_hz[mel_filterbank(CONFIG)[:, spectrum[80].argmax()].argmax()])
    assert peak_hz == pytest.approx(1000, abs=40)
    # mel frame t is centred at 160 t - 40 and reaches 200 samples to either side: the tone begins at sample 8000
    first = math.ceil((8000 - 200 + FRAME_DELAY) / 160)
    assert (spectrum[:first] < -16.6).all()
    assert float(spectrum[first + 1].max()) > -5


def test_running_norm_step_by_step_is_forward() -> None:
    torch.manual_seed(0)
    norm = RunningNorm(CONFIG)
    norm.prior_shape.copy_(torch.randn(80))
    norm.gain.copy_(torch.rand(80) + 0.5)
    log_mel = torch.randn(2, 70, 80) * 2 - 8
    for chunk in (16, 32, 70):
        wanted = norm(log_mel, torch.tensor([70, 70]), chunking(chunk))
        state = torch.zeros(2, norm.state_size)
        parts = []
        for start in range(0, 70, chunk):
            part, state = norm.step(log_mel[:, start : start + chunk], state)
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 1), wanted, atol=2e-4, rtol=1e-4)


def test_running_norm_of_a_recording_too_long_for_float32() -> None:
    torch.manual_seed(0)
    norm = RunningNorm(CONFIG)
    n_frames = 96_000  # 16 minutes
    log_mel = torch.randn(1, n_frames, 80) * 2 - 8
    at_once = norm(log_mel, torch.tensor([n_frames]), chunking(1600))
    state = torch.zeros(1, norm.state_size)
    parts = []
    for start in range(0, n_frames, 1600):
        part, state = norm.step(log_mel[:, start : start + 1600], state)
        parts.append(part)
    torch.testing.assert_close(at_once, torch.cat(parts, 1), atol=2e-4, rtol=1e-4)


def test_running_norm_does_not_use_later_chunks() -> None:
    norm = RunningNorm(CONFIG)
    log_mel = torch.randn(1, 64, 80)
    later = log_mel.clone()
    later[:, 32:] += 5
    before, after = (norm(x, torch.tensor([64]), chunking(16)) for x in (log_mel, later))
    assert torch.equal(before[:, :32], after[:, :32])


@pytest.mark.parametrize("chunk_frames", [None, 16])
def test_level_changes_features_little(chunk_frames: int | None, tmp_path) -> None:
    corpus = two_utterances(tmp_path)
    assert len(corpus.utterances) == 2 and corpus.utterances[0].text in TRANSCRIPTS.values()
    waveform = torch.from_numpy(corpus.samples[: corpus.lengths[0]]).float()[None] / 32768
    n_samples = torch.tensor([waveform.shape[1]])
    model = small_model(normalization="running")
    loud, _ = model.features(waveform, n_samples, chunking(chunk_frames))
    soft, _ = model.features(0.1 * waveform, n_samples, chunking(chunk_frames))  # 20 dB down
    # 20 dB down, pauses of synthetic speech are below log_guard: compare the frames above it
    audible = model.padded_log_mel(0.1 * waveform) > math.log(model.config.frontend.log_guard) + 3
    assert 0.2 < float(audible.float().mean()) < 0.9
    assert float((loud - soft)[audible].abs().mean()) < 0.1
    assert float(loud[audible].std()) > 0.5


@pytest.mark.parametrize("normalization", ["utterance", "running"])
def test_digital_silence_gives_finite_features(normalization: str) -> None:
    model = small_model(normalization=normalization)
    features, lengths = model.features(torch.zeros(1, 6400), torch.tensor([6400]))
    assert lengths.tolist() == [11]
    assert features.shape == (1, 44, 80)
    assert torch.isfinite(features).all()
    assert float(features.abs().max()) < 20


def test_digital_silence_before_speech_has_no_weight() -> None:
    norm = RunningNorm(CONFIG)
    silence = torch.full((1, 64, 80), math.log(CONFIG.log_guard))
    speech = torch.randn(1, 32, 80) - 6
    _, state = norm.step(silence, torch.zeros(1, norm.state_size))
    assert float(state.abs().max()) == 0
    after_silence, _ = norm.step(speech, state)
    at_once, _ = norm.step(speech, torch.zeros(1, norm.state_size))
    assert torch.equal(after_silence, at_once)


def test_utterance_norm() -> None:
    log_mel = 3 * torch.randn(2, 50, 80) - 7
    lengths = torch.tensor([50, 20])
    out = UtteranceNorm(CONFIG)(log_mel, lengths)
    assert float(out[1, :20].mean(0).abs().max()) < 1e-5
    assert out[1, :20].std(0).tolist() == pytest.approx([1.0] * 80, abs=1e-3)
    assert float(out[1, 20:].abs().max()) == 0
    with pytest.raises(ValueError, match="cannot run in chunks"):
        UtteranceNorm(CONFIG)(log_mel, lengths, 16)


def test_one_encoder_frame_for_640_samples() -> None:
    model = small_model()
    for n_samples, frames in ((1, 1), (599, 1), (600, 2), (640, 2), (1239, 2), (1240, 3), (16_000, 26)):
        assert model.frames(n_samples) == frames
        features, lengths = model.features(noise(n_samples), torch.tensor([n_samples]))
        assert features.shape[1] == 4 * frames and lengths.tolist() == [frames]
