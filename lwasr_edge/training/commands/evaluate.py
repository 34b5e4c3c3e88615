"""Greedy word and character error rates over manifests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lwasr_edge.errors import OptionError
from lwasr_edge.files import check_output, write_file
from lwasr_edge.recognizer import STREAM_LOOK_AHEAD_MS
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.manifest import Corpus, Utterance, load_corpus, read_manifest
from lwasr_edge.training.loop.device import choose_device
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.scoring.scores import Score, aligned, by_speaker, score, speaker_table, worst


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
    chunk_frames: int | None = None,
    look_ahead_frames: int = 0,
    batch_s: float = 160,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Places in the corpus, the longest utterance's first, and log-probabilities (U, V).

    Args:
        model: in evaluation mode.
        corpus: what to hear.
        store: its samples on the model's device.
        chunk_frames: frames of 40 ms that a chunk hears, as a stream's would; None for whole recordings.
        look_ahead_frames: of these, the last, which are context only.
        batch_s: seconds of audio at a time.
    """
    total = len(corpus.utterances)
    with tqdm(total=total, desc="transcribe", unit="file", mininterval=1, leave=False) as progress:
        for indices in batches_by_duration(corpus, batch_s):
            batch = store.batch(indices)
            log_probs, lengths = model.log_probs(batch.waveform, batch.n_samples, chunk_frames, look_ahead_frames)
            for index, one, length in zip(indices.tolist(), log_probs, lengths.tolist(), strict=True):
                yield index, one[:length]
            progress.update(len(indices))


def transcribe_corpus(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunk_frames: int | None = None,
    look_ahead_frames: int = 0,
    batch_s: float = 160,
) -> list[str]:
    """Greedy transcripts, in the corpus's order; see `corpus_log_probs`."""
    texts = [""] * len(corpus.utterances)
    for index, log_probs in corpus_log_probs(model, corpus, store, chunk_frames, look_ahead_frames, batch_s):
        texts[index] = tokens_to_text(greedy_tokens(log_probs, model.config.blank_id), model.config.vocabulary)
    return texts


def evaluate(
    model: AcousticModel,
    corpus: Corpus,
    store: WaveformStore,
    chunk_frames: int | None = None,
    look_ahead_frames: int = 0,
) -> Score:
    """Greedy error rates of a model on a corpus."""
    hypotheses = transcribe_corpus(model, corpus, store, chunk_frames, look_ahead_frames)
    return score([utterance.text for utterance in corpus.utterances], hypotheses)


def evaluate_checkpoint(
    checkpoint: Path,
    manifests: list[Path],
    chunk_ms: int | None,
    per_speaker: bool,
    device: torch.device,
    n_worst: int = 0,
    look_ahead_ms: int | None = None,
) -> dict[str, Any]:
    """Print and return greedy WER and CER of a checkpoint on each manifest, and over all of them.

    Args:
        checkpoint: of a reference or a student.
        manifests: what to transcribe; known by their names without suffix.
        chunk_ms: as a stream with chunks of this length; None for whole recordings.
        per_speaker: also print a line for each speaker.
        device: where to run.
        n_worst: also print so many utterances of each manifest, those with most errors.
        look_ahead_ms: context at a chunk's end that comes again with the next; None for what streams do by default.

    Returns:
        For each set its `Score`, its hypotheses by id, and what else was asked for; of several sets, "total" too.

    Raises:
        OptionError: see `stream_frames`; or two manifests have one name.
    """
    names = [path.stem for path in manifests]
    if len({*names, "total"}) <= len(names):
        raise OptionError(f"the manifests are called {', '.join(names)}: expected names that differ, and none 'total'")
    model = load_checkpoint(checkpoint)[0].to(device)
    chunk_frames, look_ahead_frames = stream_frames(model, chunk_ms, look_ahead_ms)
    results: dict[str, Any] = {}
    said: list[str] = []
    heard: list[str] = []
    for path in manifests:
        corpus = load_corpus(read_manifest(path))
        texts = transcribe_corpus(model, corpus, WaveformStore(corpus, device), chunk_frames, look_ahead_frames)
        results[path.stem] = report(path.stem, corpus.utterances, texts, per_speaker, n_worst)
        said += [utterance.text for utterance in corpus.utterances]
        heard += texts
    if len(manifests) > 1:
        total = score(said, heard)
        print(f"total: {total}")
        results["total"] = vars(total)
    return results


def report(name: str, utterances: list[Utterance], texts: list[str], per_speaker: bool, n_worst: int) -> dict[str, Any]:
    """Print what is asked for of one set, and return it as JSON can hold it."""
    whole = score([utterance.text for utterance in utterances], texts)
    print(f"{name}: {whole}")
    ids = [utterance.id for utterance in utterances]
    result: dict[str, Any] = {**vars(whole), "hypotheses": dict(zip(ids, texts, strict=True))}
    if per_speaker:
        speakers = by_speaker(utterances, texts)
        print(speaker_table(speakers))
        result["speakers"] = {speaker: vars(one) for speaker, one in speakers.items()}
    if n_worst:
        found = worst(utterances, texts, n_worst)
        for utterance, one, text in found:
            print(f"  {utterance.id}: {one}\n{aligned(utterance.text, text)}")
        result["worst"] = [{"id": u.id, "reference": u.text, "hypothesis": t, **vars(one)} for u, one, t in found]
    return result


def stream_frames(model: AcousticModel, chunk_ms: int | None, look_ahead_ms: int | None) -> tuple[int | None, int]:
    """Encoder frames that a chunk hears and, of these, its look ahead; None and 0 for whole recordings.

    Raises:
        OptionError: no multiples of a frame, a look ahead as long as the chunk, or a model that cannot run in chunks.
    """
    if chunk_ms is None:
        if look_ahead_ms is not None:
            raise OptionError("--look-ahead-ms: whole recordings have none: it goes with --chunk-ms")
        return None, 0
    frame_ms = 1000 * model.samples_per_frame // model.config.frontend.sample_rate
    if chunk_ms <= 0 or chunk_ms % frame_ms:
        raise OptionError(f"--chunk-ms {chunk_ms}: expected a positive multiple of {frame_ms}")
    if model.config.frontend.normalization == "utterance":
        raise OptionError("--chunk-ms: this model normalises over whole recordings and cannot run in chunks")
    chunk_frames = chunk_ms // frame_ms
    if look_ahead_ms is None:
        return chunk_frames, min(int(STREAM_LOOK_AHEAD_MS) // frame_ms, chunk_frames // 2)
    if not 0 <= look_ahead_ms < chunk_ms or look_ahead_ms % frame_ms:
        raise OptionError(f"--look-ahead-ms {look_ahead_ms}: expected a multiple of {frame_ms} below {chunk_ms}")
    return chunk_frames, look_ahead_ms // frame_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train evaluate`."""
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("manifests", nargs="+", type=Path)
    add("--chunk-ms", type=int, help="as a stream with chunks of this length; default: whole")
    look_ahead = "context at a chunk's end that comes again with the next; default: what streams do, 320 of 640"
    add("--look-ahead-ms", type=int, help=look_ahead)
    add("--per-speaker", action="store_true", help="also a table with a line for each speaker, the worst first")
    add("--worst", type=int, default=0, metavar="N", help="also the N utterances of each set with most errors, aligned")
    add("--device", help="cpu or cuda; default: cuda where there is one")
    add("--json", type=Path, metavar="FILE", help="write scores and hypotheses there")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train evaluate`."""
    if args.worst < 0:
        raise OptionError(f"--worst {args.worst}: expected 0 or more")
    if args.json:
        check_output(args.json)
    device = choose_device(args.device)
    scores = evaluate_checkpoint(
        args.checkpoint, args.manifests, args.chunk_ms, args.per_speaker, device, args.worst, args.look_ahead_ms
    )
    if args.json:
        write_file(args.json, json.dumps(scores, indent=1) + "\n")
