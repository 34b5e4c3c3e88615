"""Batches: every utterance once per epoch, similar lengths together, limited size, reproducible by seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lwasr_edge.training.data.batches import Batches, WaveformStore
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.data.manifest import Utterance

RATE = 16_000


def corpus(lengths: list[int]) -> Corpus:
    """Utterance i holds samples of value i + 1."""
    sizes = np.array(lengths, np.int64)
    samples = np.concatenate([np.full(n, i + 1, np.int16) for i, n in enumerate(lengths)])
    utterances = [Utterance(f"u{i}", Path(f"u{i}.wav"), n / RATE, "a", "s") for i, n in enumerate(lengths)]
    return Corpus(utterances, samples, np.cumsum(sizes) - sizes, sizes)


@pytest.fixture(scope="module")
def speech() -> Corpus:
    lengths = np.random.default_rng(0).integers(RATE // 2, 12 * RATE, 300)
    return corpus([int(n) for n in lengths])


def test_an_epoch_holds_every_utterance_once(speech: Corpus) -> None:
    epoch = Batches(speech, 40, seed=1).epoch(0)
    assert sorted(np.concatenate(epoch).tolist()) == list(range(300))


def test_batches_respect_their_size_with_padding(speech: Corpus) -> None:
    sizes = [speech.lengths[batch].max() * len(batch) / RATE for batch in Batches(speech, 40, seed=1).epoch(0)]
    assert max(sizes) <= 40
    assert np.mean(sizes) > 32


def test_little_is_padding(speech: Corpus) -> None:
    batches = Batches(speech, 40, seed=1).epoch(0)
    padded = sum(speech.lengths[batch].max() * len(batch) for batch in batches)
    assert speech.lengths.sum() / padded > 0.85


def test_same_seed_same_batches_and_another_epoch_others(speech: Corpus) -> None:
    def flat(seed: int, number: int) -> list[int]:
        return np.concatenate(Batches(speech, 40, seed=seed).epoch(number)).tolist()

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1)
    assert flat(1, 0) != flat(2, 0)


def test_an_utterance_longer_than_a_batch_is_its_own_batch() -> None:
    batches = Batches(corpus([RATE, 50 * RATE, RATE]), 10, seed=1).epoch(0)
    assert sorted(len(batch) for batch in batches) == [1, 2]


def test_the_store_pads_with_zeros() -> None:
    store = WaveformStore(corpus([3, 5, 2]), torch.device("cpu"))
    batch = store.batch(np.array([2, 1]))
    assert batch.waveform.dtype == torch.float32
    assert (batch.waveform * 32768).tolist() == [[3, 3, 0, 0, 0], [2, 2, 2, 2, 2]]
    assert batch.n_samples.tolist() == [2, 5]
    assert batch.utterances.tolist() == [2, 1]


def test_a_selected_corpus_shares_its_samples() -> None:
    full = corpus([3, 5, 2])
    part = full.select([2, 0])
    assert part.samples is full.samples
    assert [utterance.id for utterance in part.utterances] == ["u2", "u0"]
    assert (WaveformStore(part, torch.device("cpu")).batch(np.array([0])).waveform * 32768).tolist() == [[3, 3]]
