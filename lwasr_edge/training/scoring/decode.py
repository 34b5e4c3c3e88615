"""Greedy CTC decoding of corpora in torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.scoring.scores import Score, score


def collapse(path: torch.Tensor, blank_id: int) -> list[int]:
    """Remove repeats, then blanks (Graves et al. 2006, the map B). (U,) token of each frame -> at most U ids

    The exported graph has its own, `lwasr_edge.export.streaming.collapse`: it continues across chunks.
    """
    path = torch.unique_consecutive(path)
    return path[path != blank_id].tolist()


def greedy_tokens(log_probs: torch.Tensor, blank_id: int) -> list[int]:
    """Greedy CTC decoding: the best token of each frame, collapsed. (U, V) -> at most U ids"""
    return collapse(log_probs.argmax(1), blank_id)


class BestTokens(NamedTuple):
    """What greedy decoding with any blank penalty needs of an utterance of U frames."""

    blank: Tensor  # (U,) log-probability of the blank
    best: Tensor  # (U,) log-probability of the best other token
    tokens: Tensor  # (U,) that token

    @classmethod
    def of(cls, log_probs: Tensor, blank_id: int) -> BestTokens:
        """From an utterance's log-probabilities, (U, V)."""
        others = log_probs.clone()
        others[:, blank_id] = -math.inf
        return cls(log_probs[:, blank_id].clone(), *others.max(1))

    def path(self, penalty: float, blank_id: int) -> Tensor:
        """(U,) the greedy token of each frame."""
        return torch.where(self.blank - penalty > self.best, blank_id, self.tokens)


def tokens_to_text(tokens: list[int], vocabulary: tuple[str, ...]) -> str:
    """Join SentencePiece pieces; word marks become spaces."""
    return "".join(vocabulary[token] for token in tokens).replace("▁", " ").strip()


def batches_by_duration(corpus: Corpus, batch_s: float, sample_rate: int = 16000) -> Iterator[np.ndarray]:
    """Batches of indices of utterances of similar duration, longest first."""
    order = np.argsort(-corpus.lengths, kind="stable")
    while len(order):
        size = max(1, int(batch_s * sample_rate / max(1, corpus.lengths[order[0]])))
        yield order[:size]
        order = order[size:]


def corpus_log_probs(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunking: Chunking | None = None,
    batch_s: float = 160,
    *,
    quiet: bool = False,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the index of each utterance and its log-probabilities (U, V) in float32, longest utterance first.

    Args:
        model: in evaluation mode.
        corpus: the utterances.
        store: their samples, for the model's device.
        chunking: in encoder frames, as in a stream; None for full context.
        batch_s: seconds of audio in a batch.
        quiet: show no progress.
    """
    total = len(corpus.utterances)
    with tqdm(total=total, desc="transcribe", unit="file", mininterval=1, leave=False, disable=quiet) as progress:
        for indices in batches_by_duration(corpus, batch_s):
            batch = store.batch(indices)
            log_probs, lengths = model.log_probs(batch.waveform, batch.n_samples, chunking)
            for index, padded, length in zip(indices.tolist(), log_probs, lengths.tolist(), strict=True):
                yield index, padded[:length]
            progress.update(len(indices))


def transcribe_corpus(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunking: Chunking | None = None,
    batch_s: float = 160,
    *,
    quiet: bool = False,
) -> list[str]:
    """Greedy transcripts in the order of the corpus; for the arguments see `corpus_log_probs`."""
    texts = [""] * len(corpus.utterances)
    for index, log_probs in corpus_log_probs(model, corpus, store, chunking, batch_s, quiet=quiet):
        texts[index] = tokens_to_text(greedy_tokens(log_probs, model.config.blank_id), model.config.vocabulary)
    return texts


def evaluate(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunking: Chunking | None = None,
) -> Score:
    """Error rates of a model with greedy decoding; for the arguments see `corpus_log_probs`."""
    hypotheses = transcribe_corpus(model, corpus, store, chunking)
    return score([utterance.text for utterance in corpus.utterances], hypotheses)
