"""Grouping of utterances into batches, and their waveforms on the training device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.training.data.corpus import Corpus


class Batch(NamedTuple):
    """Recordings on the training device, zero-padded to N samples."""

    waveform: Tensor  # (B, N) float32 in [-1, 1], zero from each recording's end on
    n_samples: Tensor  # (B,) samples of each recording
    utterances: Tensor  # (B,) their indices in the corpus


class Batches:
    """Batches of utterances of similar duration, reproducible by seed and epoch."""

    def __init__(self, corpus: Corpus, batch_s: float, seed: int, sample_rate: int = 16000) -> None:
        """Configure the batches.

        Args:
            corpus: all training audio.
            batch_s: seconds of audio in a batch, padding included.
            seed: of order and grouping.
            sample_rate: of the corpus, Hz.
        """
        self.lengths = corpus.lengths
        self.batch_samples = int(batch_s * sample_rate)
        self.seed = seed

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of one epoch, in training order: arrays of utterance indices, (B,) int64."""
        rng = np.random.default_rng((self.seed, number))
        order = np.argsort(self.lengths * rng.uniform(0.9, 1.1, len(self.lengths)), kind="stable")
        batches: list[np.ndarray] = []
        batch: list[int] = []
        longest = 0
        for index in order:
            longest = max(longest, int(self.lengths[index]))
            if batch and longest * (len(batch) + 1) > self.batch_samples:
                batches.append(np.array(batch))
                batch, longest = [], int(self.lengths[index])
            batch.append(index)
        batches.append(np.array(batch))
        return [batches[i] for i in rng.permutation(len(batches))]

    def endless(self, skip: int = 0) -> Iterator[np.ndarray]:
        """Batches of epoch after epoch, without the first `skip`."""
        for epoch in itertools.count():
            order = self.epoch(epoch)
            yield from order[min(skip, len(order)) :]
            skip = max(0, skip - len(order))


class WaveformStore:
    """The samples of a corpus, on the training device if its memory allows, to gather batches from."""

    def __init__(self, corpus: Corpus, device: torch.device, sample_rate: int = 16000) -> None:
        self.device = device
        home = device if fits(corpus.samples.nbytes, device) else torch.device("cpu")
        self.samples = torch.from_numpy(corpus.samples).to(home)
        self.starts = torch.from_numpy(corpus.starts).to(home)
        self.lengths = torch.from_numpy(corpus.lengths).to(home)
        self.lengths_s = corpus.lengths / sample_rate  # on the host: read without waiting for the device
        self.sample_rate = sample_rate

    def batch(self, indices: np.ndarray) -> Batch:
        """Gather utterances by their indices in the corpus, (B,) int64."""
        home = self.samples.device
        utterances = torch.from_numpy(indices).to(home)
        n_samples = self.lengths[utterances]
        longest = round(self.lengths_s[indices].max() * self.sample_rate)
        position = torch.arange(longest, device=home)
        valid = position < n_samples[:, None]
        index = torch.where(valid, self.starts[utterances][:, None] + position, 0)
        waveform = (self.samples[index] * valid).to(self.device) / 32768.0
        return Batch(waveform, n_samples.to(self.device), utterances.to(self.device))

    def spread(self, n_utterances: int) -> list[np.ndarray]:
        """Batches of up to 8 utterances of similar length, evenly spaced over the corpus; all if there are fewer."""
        chosen = evenly_spaced(len(self.lengths_s), n_utterances, "down")
        ordered = chosen[np.argsort(self.lengths_s[chosen], kind="stable")]
        return np.array_split(ordered, -(-len(ordered) // 8))


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether audio of this size takes at most a quarter of the device's memory."""
    return device.type != "cuda" or n_bytes < torch.cuda.get_device_properties(device).total_memory / 4
