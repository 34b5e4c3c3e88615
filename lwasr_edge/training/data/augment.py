"""Augmentation of training audio, batch by batch, on the training device.

Speed and silence padding change the targets, so reference and student both get them. Reverberation, noise, telephone
and gain are for the student only: its targets are those of the clean recording.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.rooms import reverberated, simulated_responses

COMMON_RMS = 0.05  # -26 dB below full scale


def uniform(low: float, high: float, *shape: int, like: Tensor) -> Tensor:
    """Uniform random numbers from ``low`` to ``high`` of the given shape, on the device of ``like``."""
    return torch.empty(shape, device=like.device).uniform_(low, high)


def change_speed(waveform: Tensor, speed: float, half_width: int = 12) -> Tensor:
    """Change speed and pitch by band-limited interpolation with a Hann-windowed sinc.

    Args:
        waveform: (B, N).
        speed: a ratio of small integers; 1.1 gives N / 1.1 samples.
        half_width: zero crossings of the sinc on either side.

    Returns:
        (B, N / speed, rounded up to a multiple of the ratio's denominator).
    """
    ratio = Fraction(speed).limit_denominator(40)
    step, phases = ratio.numerator, ratio.denominator
    if step == phases:
        return waveform
    cutoff = 0.97 * min(1.0, phases / step)  # of half the sample rate
    reach = math.ceil(half_width / cutoff)  # samples on either side
    taps = torch.arange(-reach, reach + step, device=waveform.device, dtype=torch.float32)
    offset = torch.arange(phases, device=waveform.device, dtype=torch.float32)[:, None] * step / phases
    time = (taps - offset) * cutoff
    window = torch.cos(math.pi / 2 * (time / half_width).clamp(-1, 1)).square()
    kernel = torch.sinc(time) * window * cutoff  # (phases, taps)
    padded = F.pad(waveform, (reach, reach + step))
    return F.conv1d(padded.unsqueeze(1), kernel.unsqueeze(1), stride=step).transpose(1, 2).flatten(1)


def pad_silence(waveform: Tensor, n_samples: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """Lengthen recordings at both ends, and add white noise to them, 30 to 55 dB below their RMS.

    Args:
        waveform: (B, N).
        n_samples: (B,) samples of each recording.
        before: samples to add at the start.
        after: samples to add at the end.

    Returns:
        (B, before + N + after), and (B,) samples of each.
    """
    padded = F.pad(waveform, (before, after))
    longer = n_samples + before + after
    rms = waveform.square().sum(1).div(n_samples).sqrt()[:, None]
    floor = rms * 10 ** (uniform(-55, -30, len(waveform), 1, like=waveform) / 20)
    valid = torch.arange(padded.shape[1], device=padded.device) < longer[:, None]
    return (padded + floor * torch.randn_like(padded)) * valid, longer


def coloured_noise(like: Tensor) -> Tensor:
    """Noise with a spectral slope of 0 to -6 dB per octave, drawn for each row. (B, N) -> (B, N), B at least 1"""
    n_fft = 1 << (like.shape[1] - 1).bit_length()
    spectrum = torch.fft.rfft(torch.randn(len(like), n_fft, device=like.device))
    bins = torch.arange(n_fft // 2 + 1, device=like.device) + n_fft / 300
    return torch.fft.irfft(spectrum * bins ** -uniform(0, 1, len(like), 1, like=like), n_fft)[:, : like.shape[1]]


def telephone_line(waveform: Tensor, sample_rate: int) -> Tensor:
    """Band of 300 to 3400 Hz, and mu-law of 8 bits after normalisation to a peak of a half.

    Args:
        waveform: (B, N).
        sample_rate: Hz.

    Returns:
        (B, N), as loud as before.
    """
    n_fft = 1 << (waveform.shape[1] - 1).bit_length()
    hz = torch.fft.rfftfreq(n_fft, 1 / sample_rate, device=waveform.device)
    response = torch.sigmoid((hz - 300) / 40) * torch.sigmoid((3400 - hz) / 40)
    narrow = torch.fft.irfft(torch.fft.rfft(waveform, n_fft) * response, n_fft)[:, : waveform.shape[1]]
    peak = 2 * narrow.abs().amax(1, keepdim=True) + 1e-9
    scaled = narrow / peak
    companded = (scaled.sign() * torch.log1p(255 * scaled.abs()) / math.log(256) * 127).round() / 127
    return companded.sign() * ((256 ** companded.abs() - 1) / 255) * peak


class Augmenter:
    """Applies random augmentation; it draws from torch's default generators, which make it reproducible by seed."""

    def __init__(
        self, config: AugmentConfig, noise: Tensor | None, rooms: Tensor | None = None, sample_rate: int = 16000
    ) -> None:
        """Configure the augmentation.

        Args:
            config: probabilities and ranges.
            noise: (samples,) int16, concatenated noise recordings on the training device; None: all noise is synthetic.
            rooms: (R, N) measured impulse responses on the training device; None: all are simulated.
            sample_rate: Hz.
        """
        self.config = config
        self.noise = noise
        self.rooms = rooms
        self.sample_rate = sample_rate

    def for_both(self, waveform: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Speed and silence padding, for reference and student.

        Args:
            waveform: (B, N) float32 in [-1, 1].
            n_samples: (B,) samples of each recording.

        Returns:
            (B, M), and (B,) samples of each.
        """
        config = self.config
        speed = config.speeds[int(torch.randint(len(config.speeds), ()))]
        changed = change_speed(waveform, speed)
        n_samples = (n_samples / speed).long().clamp(min=1, max=changed.shape[1])
        if torch.rand(()) < config.pause_probability:
            before, after = (torch.rand(2) * config.pause_s * self.sample_rate).long().tolist()
            changed, n_samples = pad_silence(changed, n_samples, before, after)
        return changed, n_samples

    def for_student(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """Augmentation of the student's input alone. (B, N) and (B,) samples -> (B, N) in [-1, 1]"""
        valid = torch.arange(waveform.shape[1], device=waveform.device) < n_samples[:, None]
        waveform = self.add_reverberation(waveform)
        waveform = self.telephone(self.add_noise(waveform, n_samples))
        return (self.change_gain(waveform, n_samples) * valid).clamp(-1, 1)

    def chosen(self, probability: float, waveform: Tensor) -> Tensor:
        """Draw the recordings to augment. (B,) bool"""
        return torch.rand(len(waveform), device=waveform.device) < probability

    def add_reverberation(self, waveform: Tensor) -> Tensor:
        """Convolve with a simulated response of a room, or in half of the cases a measured one. (B, N) -> (B, N)"""
        config = self.config
        chosen = self.chosen(config.room_probability, waveform)
        if not chosen.any():  # an FFT of no rows is an error
            return waveform
        wet = waveform.clone()
        is_measured = chosen & self.chosen(0.0 if self.rooms is None else 0.5, waveform)
        is_simulated = chosen & ~is_measured
        if is_simulated.any():
            dry = waveform[is_simulated]
            responses = simulated_responses(len(dry), config.reverberation_s, self.sample_rate, waveform)
            wet[is_simulated] = reverberated(dry, responses)
        if self.rooms is not None and is_measured.any():
            dry = waveform[is_measured]
            drawn = torch.randint(len(self.rooms), (len(dry),), device=waveform.device)
            wet[is_measured] = reverberated(dry, self.rooms[drawn])
        return wet

    def telephone(self, waveform: Tensor) -> Tensor:
        """In some recordings, the band of a telephone and 8-bit mu-law (ITU-T G.711). (B, N) -> (B, N)"""
        chosen = self.chosen(self.config.telephone_probability, waveform)
        if not chosen.any():
            return waveform
        return waveform.index_put((chosen,), telephone_line(waveform[chosen], self.sample_rate))

    def add_noise(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """Add a random segment of the noise recordings, or synthetic noise, at a random signal-to-noise ratio.

        The power of speech and noise is measured over each recording's own samples. (B, N) and (B,) -> (B, N)
        """
        chosen = self.chosen(self.config.noise_probability, waveform)
        speech, n_valid = waveform[chosen], n_samples[chosen, None]
        position = torch.arange(waveform.shape[1], device=waveform.device)
        noise = torch.zeros_like(speech)
        is_coloured = self.chosen(1.0 if self.noise is None else 0.3, speech)
        if self.noise is not None:
            start = torch.randint(len(self.noise), (len(speech), 1), device=waveform.device)
            noise = self.noise[(start + position) % len(self.noise)].float()
        if is_coloured.any():
            noise[is_coloured] = coloured_noise(noise[is_coloured])
        noise = noise * (position < n_valid)
        speech_power = speech.square().sum(1, keepdim=True) / n_valid
        noise_power = noise.square().sum(1, keepdim=True) / n_valid + 1e-9
        snr_db = uniform(*self.config.snr_db, len(speech), 1, like=waveform)
        scale = (speech_power / noise_power).sqrt() * 10 ** (-snr_db / 20)
        return waveform.index_put((chosen,), speech + noise * scale)

    def change_gain(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """Normalise each recording to `COMMON_RMS`, which makes levels comparable, and apply a random gain.

        In some recordings the gain changes once. (B, N) and (B,) samples -> (B, N)
        """
        batch, length = waveform.shape
        gain_db = uniform(*self.config.gain_db, batch, 1, like=waveform)
        other_db = uniform(*self.config.gain_db, batch, 1, like=waveform)
        changes = self.chosen(self.config.gain_step_probability, waveform)[:, None]
        late = torch.arange(length, device=waveform.device) > torch.rand(batch, 1, device=waveform.device) * length
        gain_db = torch.where(changes & late, other_db, gain_db)
        rms = (waveform.square().sum(1, keepdim=True) / n_samples[:, None]).sqrt() + 1e-6
        return waveform * (COMMON_RMS / rms) * 10 ** (gain_db / 20)

    def mask(self, features: Tensor) -> Tensor:
        """SpecAugment (Park et al. 2019, arXiv 1904.08779) without warping: mask bands and segments with 0.

        Args:
            features: (B, T, n_mels).
        """
        batch, n_frames, n_mels = features.shape
        keep = torch.ones(batch, n_frames, n_mels, device=features.device, dtype=torch.bool)
        for axis, count, width in (
            (2, self.config.band_masks, self.config.band_mask_width),
            (1, self.config.time_masks, self.config.time_mask_frames),
        ):
            size = features.shape[axis]
            position = torch.arange(size, device=features.device)
            for _ in range(count):
                span = torch.rand(batch, 1, device=features.device) * width
                start = torch.rand(batch, 1, device=features.device) * (size - span).clamp(min=0)
                masked = (position >= start) & (position < start + span)
                keep &= ~(masked[:, None, :] if axis == 2 else masked[:, :, None])
        return features * keep
