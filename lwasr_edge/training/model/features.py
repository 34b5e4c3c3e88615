"""Waveform to normalised log-mel features: one definition for reference, students and export.

Mel frame ``t`` is centred at sample ``t * hop_length - FRAME_DELAY``: with this delay of 40 samples, n * 640
samples are sufficient for n encoder frames of 40 ms, and a stream never waits for a partial frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.model.config import FrontendConfig

FRAME_DELAY = 40  # samples
SUBSAMPLING_FACTOR = 4  # mel frames in an encoder frame
FRAME_MS = 40.0  # of an encoder frame: 4 hops of 10 ms, in every model of this project


def mel_filterbank(config: FrontendConfig) -> Tensor:
    """Triangular filters on Slaney's scale, each of unit area (Slaney 1998, Auditory Toolbox).

    Returns:
        (n_fft // 2 + 1, n_mels) weights for a power spectrum.
    """
    hz_per_mel, knee_hz = 200.0 / 3, 1000.0
    knee_mel, log_step = knee_hz / hz_per_mel, math.log(6.4) / 27.0

    def to_mel(hz: float) -> float:
        return hz / hz_per_mel if hz < knee_hz else knee_mel + math.log(hz / knee_hz) / log_step

    mels = torch.linspace(to_mel(config.f_min_hz), to_mel(config.f_max_hz), config.n_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < knee_mel, mels * hz_per_mel, knee_hz * torch.exp(log_step * (mels - knee_mel)))
    bins = torch.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2.0 / (edges[2:] - edges[:-2])).float()


class LogMel(nn.Module):
    """Pre-emphasis, windowed power spectrum, mel filters, logarithm."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.left_samples = config.win_length // 2 + FRAME_DELAY + 1  # before the first sample; 1 for pre-emphasis
        self.register_buffer("window", torch.hann_window(config.win_length, periodic=False), persistent=False)
        self.register_buffer("filters", mel_filterbank(config), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel features of every complete window.

        Args:
            waveform: (B, left_samples + N) samples in [-1, 1], N a multiple of hop_length; the first left_samples are
                audio before the chunk (zeros at the start of a recording).

        Returns:
            (B, N / hop_length, n_mels) natural logarithm of mel power.
        """
        emphasised = waveform[:, 1:] - self.config.preemphasis * waveform[:, :-1]
        windows = emphasised.unfold(1, self.config.win_length, self.config.hop_length) * self.window
        spectrum = torch.fft.rfft(windows, n=self.config.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power @ self.filters + self.config.log_guard)


class UtteranceNorm(nn.Module):
    """Normalise each band to mean 0 and (unbiased) standard deviation 1 over the full recording."""

    epsilon = 1e-5

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()

    def forward(self, log_mel: Tensor, lengths: Tensor, chunking: Chunking | None = None) -> Tensor:
        """Normalise; frames from ``lengths`` on become 0.

        Args:
            log_mel: (B, T, n_mels).
            lengths: (B,) frames that hold audio.
            chunking: must be None: these statistics need the full recording.

        Raises:
            ValueError: ``chunking`` is not None.
        """
        if chunking is not None:
            raise ValueError("chunking must be None: normalisation over the utterance cannot run in chunks")
        valid = (torch.arange(log_mel.shape[1], device=log_mel.device) < lengths[:, None]).unsqueeze(2)
        count = lengths[:, None, None].to(log_mel.dtype)
        mean = (log_mel * valid).sum(1, keepdim=True) / count
        centred = (log_mel - mean) * valid
        variance = centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)
        return centred / (variance.sqrt() + self.epsilon)


class RunningNorm(nn.Module):
    """Normalise each band to mean 0 and standard deviation 1 over the current chunk and a short past.

    The statistics weight a frame by its amplitude exp(level / 2), where level is its log-mel averaged over the bands:
    a pause of any length hardly changes them, and the first loud frame after it counts at once. All frames of the chunk
    have full weight; earlier ones decay with time constant ``norm_memory_s``, which is short, so that speech after a
    loud noise is normalised by its own statistics. They include a prior worth ``prior_frames`` frames, whose mean is a
    spectral shape relative to the current level. Frames of digital silence have weight 0.

    ``gain`` and ``offset`` map the result to the scale of `UtteranceNorm`, which gives pauses full weight, because the
    layers initialised from the reference were trained on such features.
    """

    prior_shape: Tensor
    prior_variance: Tensor
    gain: Tensor
    offset: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.memory_frames = config.norm_memory_s * config.sample_rate / config.hop_length
        self.prior_frames = config.prior_frames
        self.silence_level = math.log(config.log_guard) + 1e-3
        self.register_buffer("prior_shape", torch.zeros(config.n_mels))
        self.register_buffer("prior_variance", torch.ones(config.n_mels))
        self.register_buffer("gain", torch.ones(config.n_mels))
        self.register_buffer("offset", torch.zeros(config.n_mels))

    @property
    def state_size(self) -> int:
        """Length of the state: weight, effective frames, first and second moment of each band."""
        return 2 + 2 * self.prior_shape.numel()

    def moments(self, log_mel: Tensor) -> Tensor:
        """Contribution of each frame to the state. (B, T, n_mels) -> (B, T, state_size)"""
        level = log_mel.mean(2, keepdim=True)
        active = (level > self.silence_level).to(log_mel.dtype)
        weight = torch.exp(level / 2) * active
        return torch.cat([weight, active, weight * log_mel, weight * log_mel.square()], dim=2)

    def apply_state(self, log_mel: Tensor, state: Tensor) -> Tensor:
        """Normalise frames by the statistics at the end of their chunk.

        Args:
            log_mel: (B, T, n_mels).
            state: (B, T or 1, state_size).
        """
        n_mels = log_mel.shape[2]
        weight, frames, first, second = state.split([1, 1, n_mels, n_mels], dim=2)
        mean = first / weight.clamp(min=1e-12)
        variance = (second / weight.clamp(min=1e-12) - mean.square()).clamp(min=0)
        trust = frames / (frames + self.prior_frames)
        mean = trust * mean + (1 - trust) * (mean.mean(2, keepdim=True) + self.prior_shape)
        variance = trust * variance + (1 - trust) * self.prior_variance
        return (log_mel - mean) * torch.rsqrt(variance + 1e-3) * self.gain + self.offset

    def step(self, log_mel: Tensor, state: Tensor, consumed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalise one chunk.

        Args:
            log_mel: (B, T, n_mels).
            state: (B, state_size) after the frames before this chunk.
            consumed: () or (1,) int64, frames that enter the next state; the others are look-ahead, which enters only
                the statistics of this chunk. None for all T.

        Returns:
            Normalised (B, T, n_mels), and the next state (B, state_size).
        """
        n_frames = log_mel.shape[1]
        moments = self.moments(log_mel)
        until = torch.full((1,), n_frames, device=log_mel.device) if consumed is None else consumed
        age = until - torch.arange(1, n_frames + 1, device=log_mel.device)  # frames before the next chunk begins
        fade = torch.exp(-age.to(log_mel.dtype) / self.memory_frames) * (age >= 0)
        following = self.faded(state, until) + (moments * fade[None, :, None]).sum(1)
        return self.apply_state(log_mel, (state + moments.sum(1)).unsqueeze(1)), following

    def faded(self, state: Tensor, n_frames: Tensor) -> Tensor:
        """The state ``n_frames`` later, without what those frames add."""
        return state * torch.exp(-n_frames.to(state.dtype) / self.memory_frames)

    def forward(self, log_mel: Tensor, lengths: Tensor, chunking: Chunking | None = None) -> Tensor:
        """Normalise recordings as a stream of chunks would; frames from ``lengths`` on become 0.

        Args:
            log_mel: (B, T, n_mels).
            lengths: (B,) frames that hold audio.
            chunking: in mel frames; None takes each recording as one chunk. Look-ahead frames are normalised once, by
                the statistics of the chunk that consumes them.
        """
        n_frames = log_mel.shape[1]
        valid = (torch.arange(n_frames, device=log_mel.device) < lengths[:, None]).unsqueeze(2).to(log_mel.dtype)
        moments = self.moments(log_mel) * valid
        if chunking is None:
            return self.apply_state(log_mel, moments.sum(1, keepdim=True)) * valid
        hop = chunking.hop_frames
        age = torch.arange(hop - 1, -1, -1, device=log_mel.device)
        fade = torch.exp(-age.to(log_mel.dtype) / self.memory_frames)[None, :, None]
        past = torch.zeros_like(moments[:, 0])
        statistics = []
        for start in range(0, n_frames, hop):
            consumed = moments[:, start : start + hop]
            statistics.append((past + moments[:, start : start + chunking.chunk_frames].sum(1)).unsqueeze(1))
            past = self.faded(past, age.new_full((1,), hop)) + (consumed * fade[:, : consumed.shape[1]]).sum(1)
        state = torch.cat(statistics, 1).repeat_interleave(hop, dim=1)[:, :n_frames]
        return self.apply_state(log_mel, state) * valid


NORMS: dict[str, type[UtteranceNorm] | type[RunningNorm]] = {"utterance": UtteranceNorm, "running": RunningNorm}
