"""Which utterances train together, and their waveforms on the device that trains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lwasr_edge.errors import ManifestError
from lwasr_edge.training.manifest import Corpus


class Batch(NamedTuple):
    waveform: Tensor  # (B, N) float32 in [-1, 1], zero from each recording's end on
    n_samples: Tensor  # (B,) samples of each recording
    utterances: Tensor  # (B,) their places in the corpus


class Batches:
    """Batches of utterances of like duration, the same for the same seed and epoch."""

    def __init__(
        self, corpus: Corpus, batch_s: float, seed: int, sample_rate: int = 16000, min_utterances: int = 1
    ) -> None:
        """Prepare.

        Args:
            corpus: all training audio.
            batch_s: seconds of audio in a batch, padding included.
            seed: of order and grouping.
            sample_rate: of the corpus, Hz.
            min_utterances: fewest in a batch, even if it becomes longer than ``batch_s``: as many as there are
                processes, so that none is without work (see `share`).

        Raises:
            ManifestError: the corpus has fewer utterances than a batch must have.
        """
        if len(corpus.lengths) < min_utterances:
            raise ManifestError(f"{len(corpus.lengths)} utterances are too few for batches of {min_utterances}")
        self.lengths = corpus.lengths
        self.min_utterances = min_utterances
        self.batch_samples = int(batch_s * sample_rate)
        self.seed = seed

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of one pass over the corpus, in the order to train in: arrays of utterance indices."""
        rng = np.random.default_rng((self.seed, number))
        order = np.argsort(self.lengths * rng.uniform(0.9, 1.1, len(self.lengths)), kind="stable")
        batches: list[np.ndarray] = []
        batch: list[int] = []
        longest = 0
        for index in order:
            longest = max(longest, int(self.lengths[index]))
            if len(batch) >= self.min_utterances and longest * (len(batch) + 1) > self.batch_samples:
                batches.append(np.array(batch))
                batch, longest = [], int(self.lengths[index])
            batch.append(index)
        if len(batch) < self.min_utterances:
            batches[-1] = np.append(batches[-1], batch)
        else:
            batches.append(np.array(batch))
        return [batches[i] for i in rng.permutation(len(batches))]


def share(batch: np.ndarray, rank: int, n_ranks: int) -> np.ndarray:
    """The utterances of a batch that one of ``n_ranks`` processes takes: like durations to each, and all of them once.

    Every process makes the same batches (`Batches.epoch`) and takes its own share of each, so together they do, step by
    step, what one would do. A share is empty where the batch has fewer utterances than there are processes.
    """
    return batch[rank::n_ranks]


class WaveformStore:
    """The corpus's samples on the training device; a batch is gathered there."""

    def __init__(self, corpus: Corpus, device: torch.device, sample_rate: int = 16000) -> None:
        self.samples = torch.from_numpy(corpus.samples).to(device)
        self.starts = torch.from_numpy(corpus.starts).to(device)
        self.lengths = torch.from_numpy(corpus.lengths).to(device)
        self.lengths_s = corpus.lengths / sample_rate  # on the host: known without waiting for the device
        self.sample_rate = sample_rate

    def batch(self, indices: np.ndarray) -> Batch:
        """Gather utterances by their places in the corpus, (B,) int64."""
        device = self.samples.device
        utterances = torch.from_numpy(indices).to(device)
        n_samples = self.lengths[utterances]
        longest = round(self.lengths_s[indices].max() * self.sample_rate)
        position = torch.arange(longest, device=device)
        heard = position < n_samples[:, None]
        place = torch.where(heard, self.starts[utterances][:, None] + position, 0)
        return Batch(self.samples[place] * heard / 32768.0, n_samples, utterances)
