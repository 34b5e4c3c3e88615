"""Greedy word and character error rates over manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from tqdm import tqdm

from lwasr_edge.errors import OptionError
from lwasr_edge.training.batches import WaveformStore
from lwasr_edge.training.checkpoint import load_checkpoint
from lwasr_edge.training.manifest import Corpus, load_corpus, read_manifest
from lwasr_edge.training.model import AcousticModel
from lwasr_edge.wer import normalize_text


def greedy_tokens(log_probs: torch.Tensor, blank_id: int) -> list[int]:
    """Best token of each frame, repeats then blanks removed (Graves et al. 2006, the map B). (U, V) -> at most U ids"""
    best = torch.unique_consecutive(log_probs.argmax(1))
    return best[best != blank_id].tolist()


def tokens_to_text(tokens: list[int], vocabulary: tuple[str, ...]) -> str:
    """Pieces joined; each word mark becomes a space."""
    return "".join(vocabulary[token] for token in tokens).replace("▁", " ").strip()


@dataclass(frozen=True)
class Score:
    """Errors of a set of hypotheses against their references."""

    wer: float  # fraction
    cer: float  # fraction
    substitutions: int
    deletions: int
    insertions: int
    words: int

    def __str__(self) -> str:
        counts = f"{self.substitutions} sub, {self.deletions} del, {self.insertions} ins of {self.words} words"
        return f"WER {100 * self.wer:.2f} %  CER {100 * self.cer:.2f} %  ({counts})"


def score(references: list[str], hypotheses: list[str]) -> Score:
    """Score by jiwer after `normalize_text` on both sides.

    Where nothing was said (an empty reference), every word of the hypothesis is an insertion. Rates are errors over
    words, and over characters, of the references; with no words at all, over one.
    """
    pairs = [(normalize_text(said), normalize_text(heard)) for said, heard in zip(references, hypotheses, strict=True)]
    spoken = [pair for pair in pairs if pair[0]]
    invented = [heard for said, heard in pairs if not said]
    substitutions = deletions = insertions = words = characters = wrong_characters = 0
    if spoken:
        said, heard = map(list, zip(*spoken, strict=True))
        by_word, by_character = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
        substitutions, deletions, insertions = by_word.substitutions, by_word.deletions, by_word.insertions
        words = by_word.hits + by_word.substitutions + by_word.deletions
        characters = by_character.hits + by_character.substitutions + by_character.deletions
        wrong_characters = by_character.substitutions + by_character.deletions + by_character.insertions
    insertions += sum(len(heard.split()) for heard in invented)
    wrong_characters += sum(map(len, invented))
    wer = (substitutions + deletions + insertions) / max(1, words)
    return Score(wer, wrong_characters / max(1, characters), substitutions, deletions, insertions, words)


def batches_by_duration(corpus: Corpus, batch_s: float, sample_rate: int = 16000) -> Iterator[np.ndarray]:
    """Indices of utterances of like duration, longest first."""
    order = np.argsort(-corpus.lengths, kind="stable")
    while len(order):
        size = max(1, int(batch_s * sample_rate / max(1, corpus.lengths[order[0]])))
        yield order[:size]
        order = order[size:]


def transcribe_corpus(
    model: AcousticModel, corpus: Corpus, store: WaveformStore, chunk_frames: int | None = None,
    look_ahead_frames: int = 0, batch_s: float = 160,
) -> list[str]:
    """Greedy transcripts, in the corpus's order.

    Args:
        model: in evaluation mode.
        corpus: what to transcribe.
        store: its samples on the model's device.
        chunk_frames: frames of 40 ms that a chunk hears, as a stream's would; None for whole recordings.
        look_ahead_frames: of these, the last, which are context only.
        batch_s: seconds of audio at a time.
    """
    texts = [""] * len(corpus.utterances)
    with tqdm(total=len(texts), desc="transcribe", unit="file", mininterval=1, leave=False) as progress:
        for indices in batches_by_duration(corpus, batch_s):
            batch = store.batch(indices)
            log_probs, lengths = model.log_probs(batch.waveform, batch.n_samples, chunk_frames, look_ahead_frames)
            for index, one, length in zip(indices, log_probs, lengths.tolist(), strict=True):
                tokens = greedy_tokens(one[:length], model.config.blank_id)
                texts[index] = tokens_to_text(tokens, model.config.vocabulary)
            progress.update(len(indices))
    return texts


def evaluate(
    model: AcousticModel, corpus: Corpus, store: WaveformStore, chunk_frames: int | None = None,
    look_ahead_frames: int = 0, batch_s: float = 160,
) -> Score:
    """Greedy error rates of a model on a corpus."""
    hypotheses = transcribe_corpus(model, corpus, store, chunk_frames, look_ahead_frames, batch_s)
    return score([utterance.text for utterance in corpus.utterances], hypotheses)


def evaluate_checkpoint(
    checkpoint: Path, manifests: list[Path], chunk_ms: int | None, per_speaker: bool, device: torch.device
) -> dict[str, Any]:
    """Print and return greedy WER and CER of a checkpoint on each manifest.

    Args:
        checkpoint: of a reference or a student.
        manifests: what to transcribe; known by their names without suffix.
        chunk_ms: as a stream with chunks of this length; None for whole recordings.
        per_speaker: also print each speaker's WER.
        device: where to run.

    Raises:
        OptionError: ``chunk_ms`` is not a multiple of a frame, or the model cannot run in chunks.
    """
    model = load_checkpoint(checkpoint)[0].to(device)
    chunk_frames = frames_in_chunk(model, chunk_ms)
    results: dict[str, Any] = {}
    for path in manifests:
        corpus = load_corpus(read_manifest(path))
        texts = transcribe_corpus(model, corpus, WaveformStore(corpus, device), chunk_frames)
        total = score([utterance.text for utterance in corpus.utterances], texts)
        print(f"{path.stem}: {total}")
        ids = [utterance.id for utterance in corpus.utterances]
        results[path.stem] = {**vars(total), "hypotheses": dict(zip(ids, texts, strict=True))}
        if per_speaker:
            results[path.stem]["speakers"] = by_speaker(corpus, texts)
    return results


def frames_in_chunk(model: AcousticModel, chunk_ms: int | None) -> int | None:
    """Encoder frames in a chunk of ``chunk_ms``; None for whole recordings."""
    if chunk_ms is None:
        return None
    frame_ms = 1000 * model.samples_per_frame // model.config.frontend.sample_rate
    if chunk_ms <= 0 or chunk_ms % frame_ms:
        raise OptionError(f"--chunk-ms {chunk_ms}: expected a positive multiple of {frame_ms}")
    if model.config.frontend.normalization == "utterance":
        raise OptionError("--chunk-ms: this model normalises over whole recordings and cannot run in chunks")
    return chunk_ms // frame_ms


def by_speaker(corpus: Corpus, texts: list[str]) -> dict[str, float]:
    """WER (%) of each speaker, printed worst first."""
    said: defaultdict[str, list[str]] = defaultdict(list)
    heard: defaultdict[str, list[str]] = defaultdict(list)
    for utterance, text in zip(corpus.utterances, texts, strict=True):
        said[utterance.speaker].append(utterance.text)
        heard[utterance.speaker].append(text)
    wers = {speaker: 100 * score(said[speaker], heard[speaker]).wer for speaker in said}
    for speaker, wer in sorted(wers.items(), key=lambda item: -item[1]):
        print(f"  {speaker or '(unnamed)'}: WER {wer:.2f} %")
    return wers
