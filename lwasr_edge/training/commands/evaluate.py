"""Greedy word and character error rates over manifests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.files import check_output, write_file
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import Utterance, read_manifest
from lwasr_edge.training.loop.device import choose_device
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.scoring.decode import transcribe_corpus
from lwasr_edge.training.scoring.scores import aligned, by_speaker, score, speaker_table, worst


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
        OptionError: see `chunking_of`; or two manifests have one name.
    """
    names = [path.stem for path in manifests]
    if len({*names, "total"}) <= len(names):
        raise OptionError(f"the manifests are called {', '.join(names)}: expected names that differ, and none 'total'")
    model = load_checkpoint(checkpoint)[0].to(device)
    chunking = chunking_of(model, chunk_ms, look_ahead_ms)
    results: dict[str, Any] = {}
    said: list[str] = []
    heard: list[str] = []
    for path in manifests:
        corpus = load_corpus(read_manifest(path))
        texts = transcribe_corpus(model, corpus, WaveformStore(corpus, device), chunking)
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
    return Chunking.from_ms(frame_ms, chunk_ms, look_ahead_ms)


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
