"""Domain adaptation (step 2) in three domains that a general student does badly in, by minutes of their speech.

    python -m benchmarks.training.adaptation accent=CHECKPOINT spelling=CHECKPOINT noise=CHECKPOINT \
        --speech FOLDER --noise MANIFEST -o FOLDER

Domains: accented speech (speechocean), spelt letters and numbers (an4), and noise at 0 to 10 dB (librispeech-dev with
background recordings that no training used). For each domain and amount, `lwasr-train adapt` runs with the recipe for
little data: frozen subsampling, a low learning rate, and equal amounts of domain and general speech. An interrupted run
is resumed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge.audio.reader import load_audio
from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.files import read_json_lines
from lwasr_edge.training.data.manifest import Utterance, read_manifest, write_manifest
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.scoring.dev_sets import FULL_CONTEXT, DevSets

RATE = 16_000
GENERAL_TRAIN = ("librispeech-train", "commonvoice-train")
GENERAL_DEV = ("librispeech-dev", "commonvoice-dev")
SNR_DB = (0.0, 10.0)


@dataclass(frozen=True)
class Domain:
    """A domain to adapt to."""

    title: str
    train: tuple[str, ...]  # manifests
    test: str
    is_noisy: bool = False  # the test set is mixed with noise, and so is the training


DOMAINS = {
    "accent": Domain("accents (speechocean)", ("speechocean-train",), "speechocean-test"),
    "spelling": Domain("spelling and numbers (an4)", ("an4-train",), "an4-test"),
    "noise": Domain("noise, 0 to 10 dB", GENERAL_TRAIN, "librispeech-dev", is_noisy=True),
}


def shuffled(speech: Path, names: Sequence[str]) -> list[Utterance]:
    """All utterances of some manifests, in a fixed random order."""
    utterances = [utterance for name in names for utterance in read_manifest(speech / f"{name}.jsonl")]
    return [utterances[i] for i in np.random.default_rng(1).permutation(len(utterances))]


def first_minutes(utterances: Sequence[Utterance], minutes: float | None) -> list[Utterance]:
    """The first minutes of utterances; None for all."""
    if minutes is None:
        return list(utterances)
    ends = np.cumsum([utterance.duration_s for utterance in utterances])
    return list(utterances[: int(np.searchsorted(ends, 60 * minutes)) + 1])


def minutes_of(utterances: Sequence[Utterance]) -> float:
    """Total duration."""
    return sum(utterance.duration_s for utterance in utterances) / 60


def split_noise(manifest: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Split background recordings in half: a manifest for training, and files for the test."""
    recordings = read_manifest(manifest)
    path = folder / "noise-train.jsonl"
    write_manifest(path, recordings[::2])
    return path, [recording.path for recording in recordings[1::2]]


def write_noisy(source: Path, backgrounds: Sequence[Path], folder: Path, limit: int | None) -> Path:
    """Mix background recordings into a set, each utterance at its own ratio of `SNR_DB`; returns the manifest."""
    random = np.random.default_rng(7)
    mixed = []
    utterances = read_manifest(source)
    if limit is not None:
        utterances = [utterances[i] for i in evenly_spaced(len(utterances), limit, "down")]
    for utterance in utterances:
        speech = load_audio(utterance.path, RATE)
        noise = load_audio(backgrounds[random.integers(len(backgrounds))], RATE)
        noise = np.resize(noise, len(speech))  # repeated if it is too short
        snr_db = random.uniform(*SNR_DB)
        scale = np.sqrt(np.mean(speech**2) / (np.mean(noise**2) + 1e-9)) * 10 ** (-snr_db / 20)
        mixture = speech + scale * noise
        path = folder / "noisy" / f"{utterance.id}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, mixture / max(1.0, np.abs(mixture).max()), RATE)
        mixed.append(Utterance(utterance.id, path, len(speech) / RATE, utterance.text, utterance.speaker))
    path = folder / f"{source.stem}-noisy.jsonl"
    write_manifest(path, mixed)
    return path


def adapt(
    args: argparse.Namespace, checkpoint: Path, train: Path, noise: Path, domain: Domain, folder: Path
) -> tuple[Path, float]:
    """Run the command; return the student and its training time in seconds."""
    command = [sys.executable, "-m", "lwasr_edge.training.cli", "adapt", str(checkpoint), "--train", str(train)]
    command += [
        "--noise",
        str(noise),
        "--freeze-subsampling",
        "--steps",
        str(args.steps),
        "--batch-s",
        str(args.batch_s),
    ]
    command += ["--learning-rate", str(args.learning_rate), "--warmup-steps", "20", "-o", str(folder)]
    if domain.is_noisy:
        command += ["--augment", "noise_probability=1", f"snr_db={SNR_DB[0]:g},{SNR_DB[1]:g}"]
    ended = subprocess.run(command, check=False)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with status {ended.returncode}")
    *_, (_, last) = read_json_lines(folder / "log.jsonl")
    return folder / f"{checkpoint.stem}.safetensors", last["elapsed_s"]


def run_domain(args: argparse.Namespace, name: str, checkpoint: Path, noise: Path, backgrounds: list[Path]) -> dict:
    """Measure before, and after each amount of domain speech."""
    domain = DOMAINS[name]
    folder = args.output / name
    folder.mkdir(parents=True, exist_ok=True)
    test = args.speech / f"{domain.test}.jsonl"
    if domain.is_noisy:
        test = write_noisy(test, backgrounds, folder, args.utterances)
    dev = [test, *(args.speech / f"{one}.jsonl" for one in GENERAL_DEV)]
    sets = DevSets(dev, torch.device("cpu"), args.utterances)

    def wers(checkpoint: Path) -> dict[str, float]:
        measured = sets.measure({"student": load_checkpoint(checkpoint)[0].eval()}, (FULL_CONTEXT,))
        return {key.split("/")[1]: wer for key, wer in measured.items()}

    own, general = shuffled(args.speech, domain.train), shuffled(args.speech, GENERAL_TRAIN)
    rows = []
    for minutes in [*args.minutes, None]:
        chosen = first_minutes(own, minutes)
        if minutes is not None and len(chosen) == len(own):
            continue  # the domain has no more speech: this is the row "all"
        general_part = [] if domain.is_noisy else first_minutes(general, minutes_of(chosen))
        label = "all" if minutes is None else f"{minutes:g}"
        train = folder / f"train-{label}.jsonl"
        write_manifest(train, [*chosen, *general_part])
        student, elapsed_s = adapt(args, checkpoint, train, noise, domain, folder / label)
        row = {"minutes": round(minutes_of(chosen), 1), "training_s": elapsed_s, "wer": wers(student)}
        print(name, row, flush=True)
        rows.append(row)
    return {
        "title": domain.title,
        "student": str(checkpoint),
        "test": test.stem,
        "before": wers(checkpoint),
        "after": rows,
    }


def section(figures: dict) -> str:
    """Markdown of the figures."""
    lines = []
    for domain in figures["places"]:
        sets = [domain["test"], *GENERAL_DEV]
        before = ["none", "-", *(f"{domain['before'][name]:.1f}" for name in sets)]
        after = [
            [f"{row['minutes']:g}", f"{row['training_s'] / 60:.1f}", *(f"{row['wer'][name]:.1f}" for name in sets)]
            for row in domain["after"]
        ]
        header = ["minutes of domain speech", "minutes of training", *sets]
        lines += [f"**{domain['title']}**, `{domain['student']}`", "", table(header, [before, *after]), ""]
    return (
        f"WER in per cent, greedy, full context, of a student before and after `lwasr-train adapt` with "
        f"{figures['steps']} steps of {figures['batch_s']:g} s; `librispeech-dev` and `commonvoice-dev` measure "
        f"forgetting.\n\n{chr(10).join(lines)}\n{provenance_line(figures)}\n"
    )


def main() -> None:
    """Run every domain and amount, print the tables, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "domains", nargs="+", metavar="DOMAIN=CHECKPOINT", help=f"a student for one or more of {', '.join(DOMAINS)}"
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--noise", type=Path, required=True, help="manifest of background recordings")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--minutes", nargs="*", type=float, default=[5, 15, 60], help="amounts, in addition to all of it"
    )
    parser.add_argument("--utterances", type=int, help="of each test set (default: all)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-s", type=float, default=20)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    students = {name: Path(path) for name, _, path in (item.partition("=") for item in args.domains)}
    if not set(students) <= set(DOMAINS) or not all(path.is_file() for path in students.values()):
        parser.error(
            f"{' '.join(args.domains)}: must be DOMAIN=CHECKPOINT of existing files, with domains {', '.join(DOMAINS)}"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    noise, backgrounds = split_noise(args.noise, args.output)
    figures = {
        "steps": args.steps,
        "batch_s": args.batch_s,
        "places": [run_domain(args, name, path, noise, backgrounds) for name, path in students.items()],
    }
    print(section(write_json(args.json, figures)))


if __name__ == "__main__":
    main()
