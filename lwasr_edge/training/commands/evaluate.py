"""`lwasr-train evaluate`: greedy word and character error rates over manifests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from lwasr_edge.chunking import Chunking
from lwasr_edge.cli.outputs import check_text_output
from lwasr_edge.errors import OptionError
from lwasr_edge.files import write_file
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import Utterance, read_manifest
from lwasr_edge.training.loop.device import choose_device
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.scoring.decode import transcribe_corpus
from lwasr_edge.training.scoring.scores import aligned, by_speaker, score, speaker_table, worst
from lwasr_edge.validate import printable, whole_number


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
        manifests: recordings to transcribe; each is a set with the name of its file.
        chunk_ms: chunk size, as in a stream; None for full context.
        per_speaker: also print a line for each speaker.
        device: where to run.
        n_worst: also print so many utterances of each set, those with the most errors.
        look_ahead_ms: look-ahead of a chunk; None for the default of streams.

    Returns:
        By set: its `Score`, hypotheses by id, and what the options ask for; for several sets also "total".

    Raises:
        OptionError: see `chunking_of`; or two manifests have one name.
    """
    names = [path.stem for path in manifests]
    if len({*names, "total"}) <= len(names):
        raise OptionError(f"manifests must have different names, none of them 'total', got {', '.join(names)}")
    model = load_checkpoint(checkpoint)[0].to(device)
    chunking = chunking_of(model, chunk_ms, look_ahead_ms)
    results: dict[str, Any] = {}
    references: list[str] = []
    hypotheses: list[str] = []
    for path in manifests:
        corpus = load_corpus(read_manifest(path))
        texts = transcribe_corpus(model, corpus, WaveformStore(corpus, device), chunking)
        results[path.stem] = report(path.stem, corpus.utterances, texts, per_speaker, n_worst)
        references += [utterance.text for utterance in corpus.utterances]
        hypotheses += texts
    if len(manifests) > 1:
        total = score(references, hypotheses)
        print(f"total: {total}")
        results["total"] = vars(total)
    return results


def report(name: str, utterances: list[Utterance], texts: list[str], per_speaker: bool, n_worst: int) -> dict[str, Any]:
    """Print the results of one set, and return them for JSON."""
    total = score([utterance.text for utterance in utterances], texts)
    print(f"{name}: {total}")
    ids = [utterance.id for utterance in utterances]
    result: dict[str, Any] = {**vars(total), "hypotheses": dict(zip(ids, texts, strict=True))}
    if per_speaker:
        speakers = by_speaker(utterances, texts)
        print(printable(speaker_table(speakers), keep="\n"))
        result["speakers"] = {speaker: vars(one) for speaker, one in speakers.items()}
    if n_worst:
        found = worst(utterances, texts, n_worst)
        for utterance, one, text in found:
            print(printable(f"  {utterance.id}: {one}\n{aligned(utterance.text, text)}", keep="\n"))
        result["worst"] = [{"id": u.id, "reference": u.text, "hypothesis": t, **vars(one)} for u, one, t in found]
    return result


def chunking_of(model: AcousticModel, chunk_ms: float | None, look_ahead_ms: float | None) -> Chunking | None:
    """The chunks that the options ask for; None for full context.

    Raises:
        OptionError: impossible values, or a model that cannot run in chunks.
    """
    if chunk_ms is None:
        if look_ahead_ms is not None:
            raise OptionError("--look-ahead-ms needs --chunk-ms: full context has no look-ahead")
        return None
    if model.config.frontend.normalization == "utterance":
        raise OptionError("--chunk-ms must be left out: this model normalises over whole recordings")
    frame_ms = 1000 * model.samples_per_frame / model.config.frontend.sample_rate
    right_context_ms = min(320.0, chunk_ms // (2 * frame_ms) * frame_ms) if look_ahead_ms is None else look_ahead_ms
    if chunk_ms <= 0 or chunk_ms % frame_ms:
        raise OptionError(f"--chunk-ms must be a positive multiple of {frame_ms:g} ms, got {chunk_ms}")
    if not 0 <= right_context_ms < chunk_ms or right_context_ms % frame_ms:
        raise OptionError(
            f"--look-ahead-ms must be a multiple of {frame_ms:g} ms and less than the chunk, {chunk_ms} ms, "
            f"got {look_ahead_ms}"
        )
    return Chunking.of_stream(frame_ms, chunk_ms - right_context_ms, right_context_ms)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train evaluate`."""
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("manifests", nargs="+", type=Path)
    add("--chunk-ms", type=int, help="run in chunks of this size, as a stream (default: full context)")
    add("--look-ahead-ms", type=int, help="look-ahead of a chunk (default: as in streams, 320 of 640)")
    add("--per-speaker", action="store_true", help="also print a table of speakers, the worst first")
    add(
        "--worst",
        type=int,
        default=0,
        metavar="N",
        help="also print the N worst utterances of each set, aligned",
    )
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    add("--json", type=Path, metavar="FILE", help="write scores and hypotheses to FILE")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train evaluate`."""
    whole_number("--worst", args.worst, 0)
    if args.json:
        check_text_output(args.json, [args.checkpoint, *args.manifests])
    device = choose_device(args.device)
    scores = evaluate_checkpoint(
        args.checkpoint, args.manifests, args.chunk_ms, args.per_speaker, device, args.worst, args.look_ahead_ms
    )
    if args.json:
        write_file(args.json, json.dumps(scores, indent=1) + "\n")
