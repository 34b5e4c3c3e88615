"""`lwasr-train prepare`: make the JSONL manifests that all commands read of a published corpus."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.corpora import READERS, Split
from lwasr_edge.training.data.manifest import Fault, Utterance, metadata_faults, refuse_faults, write_manifest
from lwasr_edge.training.data.transcripts import foreign_reason, frames_needed, spoken_beyond_letters
from lwasr_edge.validate import number
from lwasr_edge.wer import normalize_text

FRAME_S = 0.04  # of the encoder, which CTC aligns with


def prepare(corpus: str, sources: list[Path], folder: Path, max_bad: float) -> list[Path]:
    """Write a manifest for each split of a corpus.

    Args:
        corpus: a name of `READERS`.
        sources: its folders.
        folder: receives NAME.jsonl for each split; the audio stays where it is.
        max_bad: share of unusable utterances in a split, 0 to 1, above which nothing is written.

    Returns:
        The manifests.

    Raises:
        ManifestError: a source is not that corpus, or too many utterances cannot be used.
        OptionError: two splits of one name, or a manifest that would replace its source.
    """
    splits: dict[str, Split] = {}
    for source in sources:
        for name, split in READERS[corpus](source).items():
            path = folder / f"{name}.jsonl"
            if name in splits:
                raise OptionError(
                    f"splits must have different names, got {name} again in {source}: prepare it into another folder"
                )
            if source.is_file() and path.resolve() == source.resolve():
                raise OptionError(f"-o must be another folder, got {folder}: {path.name} would replace its source")
            splits[name] = usable(split)
    for name, split in splits.items():
        print(f"{name}: ", end="")
        print(summary(split))
        refuse_faults(split.faults, len(split.utterances) + len(split.faults), max_bad)
    written = []
    for name, split in splits.items():
        path = folder / f"{name}.jsonl"
        write_manifest(path, split.utterances)
        print(path)
        written.append(path)
    return written


def usable(split: Split) -> Split:
    """The split with normalised texts; utterances that no model can be trained on are moved to the faults."""
    result = Split(faults=list(split.faults))
    for utterance, fault in zip(split.utterances, list(metadata_faults(split.utterances)), strict=True):
        reason = fault.reason if fault else text_fault(utterance)
        if reason:
            result.faults.append(Fault(utterance, reason))
        else:
            result.utterances.append(replace(utterance, text=normalize_text(utterance.text)))
    return result


def text_fault(utterance: Utterance) -> str | None:
    """Why CTC cannot align a transcript with any vocabulary: a word needs at least one piece."""
    if foreign := spoken_beyond_letters(utterance.text):
        return foreign_reason(foreign)
    words = normalize_text(utterance.text).split()
    n_frames = int(utterance.duration_s / FRAME_S)
    if n_frames < frames_needed(words):
        return f"{len(words)} words need {frames_needed(words)} frames, got {n_frames}"
    return None


def summary(split: Split) -> str:
    """The size of a split: "12 utterances, 0.03 h, 2 speakers, 1 left out"."""
    hours = sum(utterance.duration_s for utterance in split.utterances) / 3600
    speakers = len({utterance.speaker for utterance in split.utterances})
    return f"{len(split.utterances)} utterances, {hours:.2f} h, {speakers} speakers, {len(split.faults)} left out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train prepare`."""
    add = parser.add_argument
    add("corpus", choices=list(READERS), help="manifest: JSONL as NeMo's")
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="folders of the corpus; for manifest, JSONL files")
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="receives a JSONL manifest for each split")
    bad = "stop if more of a split cannot be used; less is listed and left out (default: %(default)g)"
    add("--max-bad", type=float, default=5.0, metavar="PERCENT", help=bad)


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train prepare`."""
    number("--max-bad", args.max_bad, 0, 100, hint="give per cent")
    for source in args.sources:
        if not source.exists():
            raise OptionError(f"source {source} does not exist")
    prepare(args.corpus, args.sources, args.output, args.max_bad / 100)
