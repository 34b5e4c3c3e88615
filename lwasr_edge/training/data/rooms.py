"""Reverberation of training audio: simulated and measured impulse responses of rooms."""

from __future__ import annotations

import torch
from torch import Tensor

from lwasr_edge.errors import ManifestError
from lwasr_edge.training.data.corpus import Corpus

MAX_RESPONSE_S = 1.0  # what is later is 40 dB down in most rooms, and every response costs its length


def measured_responses(corpus: Corpus, device: torch.device, sample_rate: int = 16000) -> Tensor:
    """Impulse responses of a corpus, from their direct sound on.

    Args:
        corpus: a recording of each response.
        device: to hold them.
        sample_rate: Hz.

    Returns:
        (R, N) float32, N at most a second; the largest sample of each is 1 and the first one, so that reverberated
        speech is as loud as before, and not later.

    Raises:
        ManifestError: a recording is silent.
    """
    n_taps = int(MAX_RESPONSE_S * sample_rate)
    rows = torch.zeros(len(corpus.utterances), n_taps, device=device)
    for index in range(len(corpus.utterances)):
        response = torch.from_numpy(corpus.waveform(index)).to(device)
        start = int(response.abs().argmax())
        if response[start] == 0:
            raise ManifestError(
                f"{corpus.utterances[index].path} must be the response of a room, got silence: remove it"
            )
        cut = response[start : start + n_taps]
        rows[index, : len(cut)] = cut / response[start]
    used = int(rows.abs().gt(1e-4).any(0).nonzero().max()) + 1
    return rows[:, :used]


def simulated_responses(count: int, reverberation_s: tuple[float, float], sample_rate: int, like: Tensor) -> Tensor:
    """An impulse followed by exponentially decaying noise.

    Args:
        count: number R of responses.
        reverberation_s: shortest and longest RT60, s.
        sample_rate: Hz.
        like: a tensor on the device.

    Returns:
        (R, N) float32; the first sample of each is 1.
    """
    n_taps = int(reverberation_s[1] * sample_rate)
    time = torch.arange(n_taps, device=like.device) / sample_rate
    decay_s = torch.empty(count, 1, device=like.device).uniform_(*reverberation_s)
    response = torch.randn(count, n_taps, device=like.device) * 10 ** (-3 * time / decay_s)
    direct_db = torch.empty(count, 1, device=like.device).uniform_(-3, 12)  # direct-to-reverberant energy ratio
    response *= 10 ** (-direct_db / 20) / response.square().sum(1, keepdim=True).sqrt()
    response[:, 0] = 1
    return response


def reverberated(waveform: Tensor, response: Tensor) -> Tensor:
    """Convolve each row with its response. (B, N) and (B, M) -> (B, N)"""
    n_fft = 1 << (waveform.shape[1] + response.shape[1] - 1).bit_length()
    spectrum = torch.fft.rfft(waveform, n_fft) * torch.fft.rfft(response, n_fft)
    return torch.fft.irfft(spectrum, n_fft)[:, : waveform.shape[1]]
