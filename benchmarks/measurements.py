"""The measurements of `benchmarks/run.py`: one function per section of RESULTS.md, which writes its JSON."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

from benchmarks.page.provenance import commit
from lwasr_edge.bench.results import read_report
from lwasr_edge.files import write_file
from lwasr_edge.hub.catalog import default_model, installed_models
from lwasr_edge.training.study.baselines import ABLATIONS

BUILD = Path("build", "bench")
DEV = "librispeech-dev.jsonl"  # clean speech that the reference was trained on, but not the students


def speed(args: argparse.Namespace, output: Path) -> None:
    """`lwasr bench` over the packaged recording, all installed models."""
    lwasr_bench([model.card.name for model in installed_models()], output)


def accuracy(args: argparse.Namespace, output: Path) -> None:
    """`lwasr bench` over real speech, once."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        names = [model.card.name for model in installed_models()]
        lwasr_bench([*names, "--manifest", str(manifest), "--limit", "30", "--repeat", "1"], output)


def latency(args: argparse.Namespace, output: Path) -> None:
    """Latency of words and utterances with the default model."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        run_module("speed.latency", "--manifest", str(manifest), "--limit", "20", "--json", str(output))


def conditions(args: argparse.Namespace, output: Path) -> None:
    """Levels, pauses and noise, with the default model in a stream."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        run_module("accuracy.conditions", "--manifest", str(manifest), "--limit", "40", "--json", str(output))


def noisy(args: argparse.Namespace, output: Path) -> None:
    """Recordings with noise mixed in, all models."""
    manifest, noise = found(args.speech / DEV), found(args.speech.parent / "noise" / "noise-dev.jsonl")
    if manifest is not None and noise is not None:
        options = ["--manifest", str(manifest), "--noise", str(noise), "--json", str(output)]
        run_module("accuracy.noisy", *each_model(), *options)


def fuzz(args: argparse.Namespace, output: Path) -> None:
    """Damaged recordings and files."""
    run_module("fuzz", "-o", str(BUILD / "fuzz"), "--json", str(output))


def noise_before(args: argparse.Namespace, output: Path) -> None:
    """A sentence after noise, with the default model as stream and file."""
    run_module("accuracy.noise_before", "--json", str(output))


def confidence(args: argparse.Namespace, output: Path) -> None:
    """Error rates with and without the general language model, and calibration of the confidence, of all models."""
    manifests = [args.speech / name for name in (DEV, "commonvoice-dev.jsonl")]
    if all(found(manifest) is not None for manifest in manifests):
        options = [word for manifest in manifests for word in ("--manifest", str(manifest))]
        run_module("accuracy.confidence", *each_model(), *options, "--json", str(output))


def phrases(args: argparse.Namespace, output: Path) -> None:
    """Phrase lists, beams and language models, in a stream."""
    if found(args.speech / "an4-test.jsonl") is not None:
        options = ["--speech", str(args.speech), "--stream", "--json", str(output)]
        run_module("accuracy.phrases", *each_model(), *options)


def peers(args: argparse.Namespace, output: Path) -> None:
    """The default model, the reference, and the installed recognisers of other projects."""
    manifest = found(args.speech / DEV)
    if manifest is None:
        return
    model = default_model()
    entries = ["--lwasr", model.card.name, "--pocketsphinx"]
    checkpoint = model.directory / "checkpoint.safetensors"
    if util.find_spec("sherpa_onnx") and found(checkpoint):
        folder = BUILD / f"sherpa-{model.card.name}"
        if not (folder / "tokens.txt").is_file() or folder.stat().st_mtime < max(written(checkpoint), export_written()):
            run_module("peers.sherpa_model", str(checkpoint), "-o", str(folder))
        entries += ["--sherpa-nemo-ctc", str(folder)]
    checkpoint = args.reference or next(args.speech.parent.glob("reference/*.nemo"), None)
    reference = exported_reference(checkpoint, args.speech / "an4-test.jsonl")
    entries += ["--lwasr", str(reference)] if reference else []
    common = ["--manifest", str(manifest), "--limit", "10", "--rounds", "2", "--json", str(output)]
    run_module("peers.compare", *common, *entries)


def arithmetic(args: argparse.Namespace, output: Path) -> None:
    """Distance of the default model from its arithmetic limit, in a stream and in files."""
    run_module("speed.arithmetic", "--hop-ms", "320", "--chunk-ms", "2560", "--json", str(output))


def int8(args: argparse.Namespace, output: Path) -> None:
    """Quantisation variants of the default model."""
    manifest, calibration = found(args.speech / "commonvoice-dev.jsonl"), args.speech / "commonvoice-train.jsonl"
    checkpoint = found(default_model().directory / "checkpoint.safetensors")
    if manifest is not None and checkpoint is not None:
        common = ["--manifest", str(manifest), "--calibrate", str(calibration), "--json", str(output)]
        run_module("speed.int8", os.path.relpath(checkpoint), *common)


def methods(args: argparse.Namespace, output: Path) -> None:
    """Training methods at one budget."""
    compare_methods(args, output, "methods")


def ablations(args: argparse.Namespace, output: Path) -> None:
    """Losses and kept layers (8 of 16) of step 1, at a smaller budget."""
    names = ["dropped", "encrl", *ABLATIONS]
    compare_methods(args, output, "ablations", "--keep", "8", "--steps", "300", "--methods", *names)


def modules(args: argparse.Namespace, output: Path) -> None:
    """What to remove, layers or modules, and whether to learn the reference's posteriors first."""
    names = ["dropped", "modules", "modules+kl"]
    compare_methods(args, output, "modules", "--keep", "8,5", "--steps", "600", "--methods", *names)


def compare_methods(args: argparse.Namespace, output: Path, name: str, *options: str) -> None:
    """Train by several methods; finished students are not trained again."""
    reference = imported_reference(args.reference or next(args.speech.parent.glob("reference/*.nemo"), None))
    if reference is not None:
        data = training_data(args, name)
        run_module("training.methods", "--reference", str(reference), *data, *options, "--json", str(output))


def adaptation(args: argparse.Namespace, output: Path) -> None:
    """Adapt to three domains. The default model was trained on two of them: these adapt a student of the comparison."""
    student = found(BUILD / "methods" / "dropped" / "phase1" / "layers8.safetensors")
    default = found(default_model().directory / "checkpoint.safetensors")
    if student is not None and default is not None:
        domains = [f"accent={student}", f"spelling={student}", f"noise={os.path.relpath(default)}"]
        run_module("training.adaptation", *domains, *training_data(args, "adaptation"), "--json", str(output))


def training_data(args: argparse.Namespace, name: str) -> list[str]:
    """Arguments of the modules that train."""
    noise = args.speech.parent / "noise" / "noise.jsonl"
    return ["--speech", str(args.speech), "--noise", str(noise), "-o", str(BUILD / name)]


def instructions(args: argparse.Namespace, output: Path) -> None:
    """All installed models on emulated Arm processors."""
    folder = Path("build", "arm64")
    run_command(["tests/arm64/prepare.sh", str(folder), sys.executable])
    run_module("arm64.instructions", str(folder), *each_model(), "--json", str(output))


def memory(args: argparse.Namespace, output: Path) -> None:
    """All installed models, as files and as streams."""
    run_module("speed.memory", *each_model(), "--json", str(output))


def each_model() -> list[str]:
    """Arguments that name all installed models."""
    return [word for model in installed_models() for word in ("--model", model.card.name)]


def exported_reference(checkpoint: Path | None, check: Path) -> Path | None:
    """The reference as an int8 model of this project, verified like every export; renewed when the exporter changed."""
    target = BUILD / "reference" / "reference.int8.onnx"
    if target.is_file() and written(target) > export_written():
        return target
    if checkpoint is None or not found(checkpoint):
        return None
    imported = str(imported_reference(checkpoint))
    options = ["--int8", "--name", "reference", "--verify", str(check), "--max-wer-loss", "1"]
    run(["-m", "lwasr_edge.export.cli", imported, "-o", str(target), *options])
    return target


def written(path: Path) -> float:
    """Modification time of a file, s since 1970."""
    return path.stat().st_mtime


def export_written() -> float:
    """Modification time of the exporter."""
    return max(written(path) for path in Path("export").glob("*.py"))


def imported_reference(checkpoint: Path | None) -> Path | None:
    """The reference as a checkpoint of this project; imported once."""
    target = BUILD / "reference" / "reference.safetensors"
    if target.is_file():
        return target
    if checkpoint is None or not found(checkpoint):
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    run(["-m", "lwasr_edge.training.cli", "import-nemo", str(checkpoint), "-o", str(target)])
    return target


def lwasr_bench(arguments: list[str], output: Path) -> None:
    """Run `lwasr bench` and add the commit to its JSON."""
    run(["-m", "lwasr_edge", "bench", *arguments, "--json", str(output)])
    report = {**read_report(output), "commit": commit()}
    write_file(output, json.dumps(report, indent=1) + "\n")


def run_module(module: str, *arguments: str) -> None:
    """Run a module of this folder."""
    run(["-m", f"benchmarks.{module}", *arguments])


def run(arguments: list[str]) -> None:
    """Run Python."""
    run_command([sys.executable, *arguments])


def run_command(command: list[str]) -> None:
    """Run a command; exit if it fails."""
    ended = subprocess.run(command, check=False)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with status {ended.returncode}")


def found(path: Path) -> Path | None:
    """The path if it is a file; otherwise None, with a message."""
    if path.is_file():
        return path
    print(f"{path} does not exist: its figures stay as they were", file=sys.stderr)
    return None
