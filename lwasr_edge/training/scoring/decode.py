"""Greedy CTC decoding of whole corpora in torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.manifest import Corpus
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.scoring.scores import Score, score


def collapse(path: torch.Tensor, blank_id: int) -> list[int]:
    """Repeats, then blanks, removed (Graves et al. 2006, the map B). (U,) token of each frame -> at most U ids"""
    path = torch.unique_consecutive(path)
    return path[path != blank_id].tolist()


def greedy_tokens(log_probs: torch.Tensor, blank_id: int) -> list[int]:
    """The best token of each frame, collapsed. (U, V) -> at most U ids"""
    return collapse(log_probs.argmax(1), blank_id)


def tokens_to_text(tokens: list[int], vocabulary: tuple[str, ...]) -> str:
    """Pieces joined; each word mark becomes a space."""
    return "".join(vocabulary[token] for token in tokens).replace("▁", " ").strip()


def batches_by_duration(corpus: Corpus, batch_s: float, sample_rate: int = 16000) -> Iterator[np.ndarray]:
    """Indices of utterances of like duration, longest first."""
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
) -> Iterator[tuple[int, torch.Tensor]]:
    """Places in the corpus, the longest utterance's first, and log-probabilities (U, V).

    Args:
        model: in evaluation mode.
        corpus: what to hear.
        store: its samples on the model's device.
        chunking: in encoder frames, as a stream would have it; None for full context.
        batch_s: seconds of audio at a time.
    """
    total = len(corpus.utterances)
    with tqdm(total=total, desc="transcribe", unit="file", mininterval=1, leave=False) as progress:
        for indices in batches_by_duration(corpus, batch_s):
            batch = store.batch(indices)
            log_probs, lengths = model.log_probs(batch.waveform, batch.n_samples, chunking)
            for index, one, length in zip(indices.tolist(), log_probs, lengths.tolist(), strict=True):
                yield index, one[:length]
            progress.update(len(indices))


def transcribe_corpus(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunking: Chunking | None = None,
    batch_s: float = 160,
) -> list[str]:
    """Greedy transcripts, in the corpus's order; see `corpus_log_probs`."""
    texts = [""] * len(corpus.utterances)
    for index, log_probs in corpus_log_probs(model, corpus, store, chunking, batch_s):
        texts[index] = tokens_to_text(greedy_tokens(log_probs, model.config.blank_id), model.config.vocabulary)
    return texts


def evaluate(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunking: Chunking | None = None,
) -> Score:
    """Greedy error rates of a model on a corpus."""
    hypotheses = transcribe_corpus(model, corpus, store, chunking)
    return score([utterance.text for utterance in corpus.utterances], hypotheses)
