"""Distortions of training audio, in whole batches, on the device that trains.

Speed changes what is said and is heard by the reference too. Level, noise and room are heard by the student alone: its
targets stay those of the clean recording.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from lwasr_edge.errors import OptionError

COMMON_RMS = 0.05  # -26 dB below full scale


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how far; every probability is per utterance but for speed and pauses, drawn per batch."""

    speeds: tuple[float, ...] = (0.85, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.15)
    pause_probability: float = 0.3
    pause_s: float = 1.5  # s, longest pause added before and after
    gain_db: tuple[float, float] = (-20.0, 10.0)
    gain_step_probability: float = 0.1  # level changes once within the utterance
    noise_probability: float = 0.3
    snr_db: tuple[float, float] = (3.0, 30.0)
    room_probability: float = 0.2
    reverberation_s: tuple[float, float] = (0.1, 0.6)  # time to decay by 60 dB
    band_masks: int = 2
    band_mask_width: int = 10  # mel bands
    time_masks: int = 2
    time_mask_frames: int = 20  # mel frames

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not all(math.isfinite(number) for number in (value if isinstance(value, tuple) else (value,))):
                raise OptionError(f"{name} is {value}: expected finite numbers")
        for name in ("pause_probability", "gain_step_probability", "noise_probability", "room_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}: expected a probability between 0 and 1")
        for name in ("gain_db", "snr_db", "reverberation_s"):
            ends = getattr(self, name)
            if len(ends) != 2 or ends[0] > ends[1]:
                raise OptionError(f"{name} is {' to '.join(map(str, ends))}: expected two numbers, the smaller first")
        for name in ("pause_s", "band_masks", "band_mask_width", "time_masks", "time_mask_frames"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} is {getattr(self, name)}: expected 0 or more")
        if not self.speeds or min(self.speeds) <= 0:
            raise OptionError(f"speeds are {self.speeds}: expected positive numbers, at least one")
        if self.reverberation_s[0] <= 0:
            raise OptionError(f"reverberation_s begins at {self.reverberation_s[0]}: expected a positive time")


def uniform(low: float, high: float, *shape: int, like: Tensor) -> Tensor:
    """Numbers drawn evenly between ``low`` and ``high``, in ``shape``, on the device of ``like``."""
    return torch.empty(shape, device=like.device).uniform_(low, high)


def change_speed(waveform: Tensor, speed: float, half_width: int = 12) -> Tensor:
    """Play faster or slower (pitch moves too) by band-limited interpolation with a Hann-windowed sinc.

    Args:
        waveform: (B, N).
        speed: 1.1 gives N / 1.1 samples; a ratio of small integers.
        half_width: zero crossings of the sinc on either side.

    Returns:
        (B, N / speed rounded up to whole periods of the ratio).
    """
    ratio = Fraction(speed).limit_denominator(40)
    step, phases = ratio.numerator, ratio.denominator
    if step == phases:
        return waveform
    cutoff = 0.97 * min(1.0, phases / step)  # of half the sample rate
    reach = math.ceil(half_width / cutoff)
    taps = torch.arange(-reach, reach + step, device=waveform.device, dtype=torch.float32)
    offset = torch.arange(phases, device=waveform.device, dtype=torch.float32)[:, None] * step / phases
    time = (taps - offset) * cutoff
    window = torch.cos(math.pi / 2 * (time / half_width).clamp(-1, 1)).square()
    kernel = torch.sinc(time) * window * cutoff  # (phases, taps)
    padded = F.pad(waveform, (reach, reach + step))
    return F.conv1d(padded.unsqueeze(1), kernel.unsqueeze(1), stride=step).transpose(1, 2).flatten(1)


def add_pauses(waveform: Tensor, n_samples: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """Put faint noise before, after and under each recording, 30 to 55 dB below its speech."""
    padded = F.pad(waveform, (before, after))
    longer = n_samples + before + after
    rms = waveform.square().sum(1).div(n_samples).sqrt()[:, None]
    floor = rms * 10 ** (uniform(-55, -30, len(waveform), 1, like=waveform) / 20)
    heard = torch.arange(padded.shape[1], device=padded.device) < longer[:, None]
    return (padded + floor * torch.randn_like(padded)) * heard, longer


def coloured_noise(like: Tensor) -> Tensor:
    """Noise whose spectrum falls by 0 to 6 dB an octave, drawn for each row. (B, N) -> (B, N), B at least 1"""
    n_fft = 1 << (like.shape[1] - 1).bit_length()
    spectrum = torch.fft.rfft(torch.randn(len(like), n_fft, device=like.device))
    bins = torch.arange(n_fft // 2 + 1, device=like.device) + n_fft / 300
    return torch.fft.irfft(spectrum * bins ** -uniform(0, 1, len(like), 1, like=like), n_fft)[:, : like.shape[1]]


class Augmenter:
    """Draws distortions from torch's default generators: seed those to repeat them."""

    def __init__(self, config: AugmentConfig, noise: Tensor | None, sample_rate: int = 16000) -> None:
        """Prepare.

        Args:
            config: how often and how far.
            noise: (samples,) int16, background recordings end to end on the training device; None for none, where all
                noise is made up.
            sample_rate: Hz.
        """
        self.config = config
        self.noise = noise
        self.sample_rate = sample_rate

    def for_both(self, waveform: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Speed and pauses: what reference and student both hear."""
        config = self.config
        speed = config.speeds[int(torch.randint(len(config.speeds), ()))]
        changed = change_speed(waveform, speed)
        n_samples = (n_samples / speed).long().clamp(min=1, max=changed.shape[1])
        if torch.rand(()) < config.pause_probability:
            before, after = (torch.rand(2) * config.pause_s * self.sample_rate).long().tolist()
            changed, n_samples = add_pauses(changed, n_samples, before, after)
        return changed, n_samples

    def for_student(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """Room, noise and level: what the student alone hears."""
        heard = torch.arange(waveform.shape[1], device=waveform.device) < n_samples[:, None]
        waveform = self.add_room(waveform)
        waveform = self.add_noise(waveform, n_samples)
        return (self.change_level(waveform, n_samples) * heard).clamp(-1, 1)

    def chosen(self, probability: float, waveform: Tensor) -> Tensor:
        """Which recordings a distortion falls on. (B,) bool"""
        return torch.rand(len(waveform), device=waveform.device) < probability

    def add_room(self, waveform: Tensor) -> Tensor:
        """Convolve with exponentially decaying noise behind a direct path; the direct path keeps its time."""
        config = self.config
        chosen = self.chosen(config.room_probability, waveform)
        if not chosen.any():  # an FFT of no rows is an error
            return waveform
        dry = waveform[chosen]
        n_taps = int(config.reverberation_s[1] * self.sample_rate)
        time = torch.arange(n_taps, device=waveform.device) / self.sample_rate
        decay_s = uniform(*config.reverberation_s, len(dry), 1, like=waveform)
        response = torch.randn(len(dry), n_taps, device=waveform.device) * 10 ** (-3 * time / decay_s)
        direct_db = uniform(-3, 12, len(dry), 1, like=waveform)  # energy of the direct path over the rest
        response *= 10 ** (-direct_db / 20) / response.square().sum(1, keepdim=True).sqrt()
        response[:, 0] = 1
        n_fft = 1 << (waveform.shape[1] + n_taps - 1).bit_length()
        product = torch.fft.rfft(dry, n_fft) * torch.fft.rfft(response, n_fft)
        return waveform.index_put((chosen,), torch.fft.irfft(product, n_fft)[:, : waveform.shape[1]])

    def add_noise(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """Add a random stretch of background, or noise of a random spectral slope, at a random ratio to the speech.

        Speech and noise are both measured over each recording's own samples.
        """
        chosen = self.chosen(self.config.noise_probability, waveform)
        speech, n_heard = waveform[chosen], n_samples[chosen, None]
        position = torch.arange(waveform.shape[1], device=waveform.device)
        noise = torch.zeros_like(speech)
        is_coloured = self.chosen(1.0 if self.noise is None else 0.3, speech)
        if self.noise is not None:
            start = torch.randint(len(self.noise), (len(speech), 1), device=waveform.device)
            noise = self.noise[(start + position) % len(self.noise)].float()
        if is_coloured.any():
            noise[is_coloured] = coloured_noise(noise[is_coloured])
        noise = noise * (position < n_heard)
        speech_power = speech.square().sum(1, keepdim=True) / n_heard
        noise_power = noise.square().sum(1, keepdim=True) / n_heard + 1e-9
        snr_db = uniform(*self.config.snr_db, len(speech), 1, like=waveform)
        scale = (speech_power / noise_power).sqrt() * 10 ** (-snr_db / 20)
        return waveform.index_put((chosen,), speech + noise * scale)

    def change_level(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """One gain for each recording, relative to `COMMON_RMS`; in some it changes on the way.

        Relative to a common level, since recordings come at levels of their own.
        """
        batch, length = waveform.shape
        gain_db = uniform(*self.config.gain_db, batch, 1, like=waveform)
        other_db = uniform(*self.config.gain_db, batch, 1, like=waveform)
        stepped = self.chosen(self.config.gain_step_probability, waveform)[:, None]
        late = torch.arange(length, device=waveform.device) > torch.rand(batch, 1, device=waveform.device) * length
        gain_db = torch.where(stepped & late, other_db, gain_db)
        rms = (waveform.square().sum(1, keepdim=True) / n_samples[:, None]).sqrt() + 1e-6
        return waveform * (COMMON_RMS / rms) * 10 ** (gain_db / 20)

    def mask(self, features: Tensor) -> Tensor:
        """SpecAugment (Park et al. 2019, arXiv 1904.08779) without warping: bands and stretches of time become 0."""
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
