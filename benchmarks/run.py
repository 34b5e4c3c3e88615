"""Measure every figure of benchmarks/RESULTS.md, and write the page and its plots (`make bench`).

    python benchmarks/run.py [--speech FOLDER] [--reference FILE.nemo] [--only NAME] [--render]

Figures are JSON files in benchmarks/results/, each with command, commit, machine and time; the page is made from them.
Measurements without their data are skipped with a message, and their figures stay. All usual ones take about ten
minutes on an idle machine with two cores. The longer ones run only with --only: instructions on emulated Arm (minutes
per model), training methods (hours), their ablations and adaptation (an hour each, after the methods). Text of
RESULTS.md outside the markers is written by hand and stays.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

if __name__ == "__main__":  # run by its path, as `make bench` does: imports start at the checkout
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.accuracy import conditions, phrases
from benchmarks.arm64 import instructions
from benchmarks.page import plots, reports
from benchmarks.page.provenance import CHECKOUT, commit, read_json
from benchmarks.peers import compare
from benchmarks.speed import arithmetic, int8, latency
from benchmarks.training import adaptation, methods
from lwasr_edge.bench.results import read_report
from lwasr_edge.files import write_file
from lwasr_edge.hub.catalog import default_model, installed_models
from lwasr_edge.training.study.baselines import ABLATIONS

HERE = Path("benchmarks")
RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
BUILD = Path("build", "bench")
DEV = "librispeech-dev.jsonl"  # clean speech that the reference was trained on, but not the students


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    title: str
    measure: Callable[[argparse.Namespace, Path], None]  # runs the measurement, which writes the JSON
    write: Callable[[dict], str]  # Markdown of the JSON
    plots: dict[str, Callable[[dict, Path], str]] = field(default_factory=dict)  # PNG -> writes it, returns its caption
    is_usual: bool = True  # False: runs with --only alone


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--speech",
        type=Path,
        default=CHECKOUT.parent / "shared" / "speech",
        help="folder with manifests (default: %(default)s)",
    )
    parser.add_argument("--reference", type=Path, help="NeMo checkpoint (default: the one beside --speech)")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure this section; may be repeated")
    parser.add_argument("--render", action="store_true", help="measure nothing, only write the page")
    args = parser.parse_args()
    args.speech = Path(os.path.relpath(args.speech, CHECKOUT))
    args.reference = args.reference and Path(os.path.relpath(args.reference, CHECKOUT))
    os.chdir(CHECKOUT)  # the commands on the page run in the checkout
    RESULTS.mkdir(exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    usual = [name for name, section in SECTIONS.items() if section.is_usual]
    for name in [] if args.render else args.only or usual:
        began_s = time.monotonic()
        print(f"== {name}", flush=True)
        SECTIONS[name].measure(args, RESULTS / f"{name}.json")
        print(f"== {name}: {time.monotonic() - began_s:.0f} s", flush=True)
    render()


def render() -> None:
    """Write every section with figures into the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "# Results\n"
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        figures = read_json(path)
        body = f"## {section.title}\n\n{section.write(figures)}"
        for stem, plot in section.plots.items():
            caption = plot(figures, RESULTS / f"{stem}.png")
            body += f"\n![{caption}](results/{stem}.png)\n"
        page = replaced(page, name, body)
    write_file(PAGE, page)
    print(f"{PAGE} is written")


def replaced(page: str, name: str, body: str) -> str:
    """The page with its marked section replaced, or added at the end."""
    begin, end = f"<!-- make bench: {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{body}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


def measure_speed(args: argparse.Namespace, output: Path) -> None:
    """`lwasr bench` over the packaged recording, all installed models."""
    lwasr_bench([model.card.name for model in installed_models()], output)


def measure_accuracy(args: argparse.Namespace, output: Path) -> None:
    """`lwasr bench` over real speech, once."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        names = [model.card.name for model in installed_models()]
        lwasr_bench([*names, "--manifest", str(manifest), "--limit", "30", "--repeat", "1"], output)


def measure_latency(args: argparse.Namespace, output: Path) -> None:
    """Latency of words and utterances with the default model."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        run_module("speed.latency", "--manifest", str(manifest), "--limit", "20", "--json", str(output))


def measure_conditions(args: argparse.Namespace, output: Path) -> None:
    """Levels, pauses and noise, with the default model in a stream."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        run_module("accuracy.conditions", "--manifest", str(manifest), "--limit", "40", "--json", str(output))


def measure_phrases(args: argparse.Namespace, output: Path) -> None:
    """Phrase lists, beams and language models, in a stream of 640 ms."""
    if found(args.speech / "an4-test.jsonl") is not None:
        options = ["--speech", str(args.speech), "--chunk-ms", "640", "--json", str(output)]
        run_module("accuracy.phrases", *each_model(), *options)


def measure_peers(args: argparse.Namespace, output: Path) -> None:
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


def measure_arithmetic(args: argparse.Namespace, output: Path) -> None:
    """Distance of the default model from its arithmetic limit, in a stream and in files."""
    run_module("speed.arithmetic", "--chunk-ms", "640", "--chunk-ms", "2560", "--json", str(output))


def measure_int8(args: argparse.Namespace, output: Path) -> None:
    """Quantisation variants of the default model."""
    manifest, calibration = found(args.speech / "commonvoice-dev.jsonl"), args.speech / "commonvoice-train.jsonl"
    checkpoint = found(default_model().directory / "checkpoint.safetensors")
    if manifest is not None and checkpoint is not None:
        common = ["--manifest", str(manifest), "--calibrate", str(calibration), "--json", str(output)]
        run_module("speed.int8", os.path.relpath(checkpoint), *common)


def measure_methods(args: argparse.Namespace, output: Path) -> None:
    """Training methods at one budget."""
    compare_methods(args, output, "methods")


def measure_ablations(args: argparse.Namespace, output: Path) -> None:
    """Losses and kept layers (8 of 16) of step 1, at a smaller budget."""
    names = ["dropped", "encrl", *ABLATIONS]
    compare_methods(args, output, "ablations", "--keep", "8", "--steps", "300", "--methods", *names)


def compare_methods(args: argparse.Namespace, output: Path, name: str, *options: str) -> None:
    """Train by several methods; finished students are not trained again."""
    reference = imported_reference(args.reference or next(args.speech.parent.glob("reference/*.nemo"), None))
    if reference is not None:
        data = training_data(args, name)
        run_module("training.methods", "--reference", str(reference), *data, *options, "--json", str(output))


def measure_adaptation(args: argparse.Namespace, output: Path) -> None:
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


def measure_instructions(args: argparse.Namespace, output: Path) -> None:
    """All installed models on emulated Arm processors."""
    folder = Path("build", "arm64")
    run_command(["tests/arm64/prepare.sh", str(folder), sys.executable])
    run_module("arm64.instructions", str(folder), *each_model(), "--json", str(output))


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


SECTIONS = {
    "speed": Section("Speed, latency, start-up and memory", measure_speed, reports.section, {"speed": plots.speed}),
    "accuracy": Section(
        "Word error rate by chunk size", measure_accuracy, reports.accuracy_section, {"accuracy": plots.accuracy}
    ),
    "latency": Section("Latency of words and utterances", measure_latency, latency.section, {"latency": plots.latency}),
    "conditions": Section("Levels, pauses, noise", measure_conditions, conditions.section),
    "phrases": Section("Phrases, beams, language models", measure_phrases, phrases.render),
    "peers": Section("Comparison with other recognisers", measure_peers, compare.section, {"peers": plots.peers}),
    "arithmetic": Section("Distance from the arithmetic limit", measure_arithmetic, arithmetic.section),
    "int8": Section("Quantisation variants", measure_int8, int8.section),
    "methods": Section(
        "Training methods at one budget",
        measure_methods,
        methods.section,
        {"methods": methods.plot_cost_figures, "methods-size": methods.plot_size_figures},
        is_usual=False,
    ),  # hours
    "ablations": Section(
        "Ablation of step 1: losses and kept layers",
        measure_ablations,
        methods.section,
        {"ablations": methods.plot_cost_figures},
        is_usual=False,
    ),  # an hour
    "adaptation": Section(
        "Domain adaptation",
        measure_adaptation,
        adaptation.section,
        {"adaptation": plots.adaptation},
        is_usual=False,
    ),  # an hour
    "instructions": Section(
        "Instructions on Arm", measure_instructions, instructions.section, is_usual=False
    ),  # needs Debian and minutes for each model
}

if __name__ == "__main__":
    main()
