"""Take every figure of benchmarks/RESULTS.md again, and write the page and its plots (`make bench`).

    python benchmarks/run.py [--speech FOLDER] [--reference FILE.nemo] [--only NAME] [--render]

Figures are kept as JSON in benchmarks/results/, each with command, commit, machine and time; the page is made of them.
What lacks its data is left as it was and named. On a quiet machine with two cores all of it takes about ten
minutes. What takes longer is taken with --only alone: instructions on emulated Arm (minutes a model), training methods
(hours), their ablations and adaptation (an hour each, after the methods). Sections of RESULTS.md that are not between
markers are written by hand and stay.
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

import adaptation
import arithmetic
import conditions
import int8
import latency
import methods
import phrases
import plots
import speed
from provenance import CHECKOUT, commit

from lwasr_edge.bench.results import read_report
from lwasr_edge.hub.catalog import default_model, installed_models
from lwasr_edge.training.study.baselines import ABLATIONS

HERE = Path("benchmarks")
sys.path += [str(CHECKOUT / HERE / "peers"), str(CHECKOUT / HERE / "arm64")]
import compare  # noqa: E402
import instructions  # noqa: E402

RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
BUILD = Path("build", "bench")
DEV = "librispeech-dev.jsonl"  # clean speech, held out of train-clean-5: the reference learnt it, the students did not


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    title: str
    take: Callable[[argparse.Namespace, Path], None]  # runs the measurement, which writes the JSON
    write: Callable[[dict], str]  # Markdown of the JSON
    plots: dict[str, Callable[[dict, Path], str]] = field(default_factory=dict)  # PNG: writes it, gives a caption
    is_usual: bool = True  # False: only if named with --only


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=CHECKOUT.parent / "shared" / "speech", help="with manifests")
    parser.add_argument("--reference", type=Path, help="NeMo checkpoint (default: the one beside --speech)")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="take this one again; may be repeated")
    parser.add_argument("--render", action="store_true", help="take nothing again, only write the page")
    args = parser.parse_args()
    args.speech = Path(os.path.relpath(args.speech, CHECKOUT))
    args.reference = args.reference and Path(os.path.relpath(args.reference, CHECKOUT))
    os.chdir(CHECKOUT)  # the commands on the page are those of somebody who stands in the checkout
    RESULTS.mkdir(exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    usual = [name for name, section in SECTIONS.items() if section.is_usual]
    for name in [] if args.render else args.only or usual:
        began_s = time.monotonic()
        print(f"== {name}", flush=True)
        SECTIONS[name].take(args, RESULTS / f"{name}.json")
        print(f"== {name}: {time.monotonic() - began_s:.0f} s", flush=True)
    render()


def render() -> None:
    """Write every section whose figures are there into the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "# Results\n"
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        figures = json.loads(path.read_text(encoding="utf-8"))
        body = f"## {section.title}\n\n{section.write(figures)}"
        for stem, plot in section.plots.items():
            caption = plot(figures, RESULTS / f"{stem}.png")
            body += f"\n![{caption}](results/{stem}.png)\n"
        page = replaced(page, name, body)
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE} is written")


def replaced(page: str, name: str, body: str) -> str:
    """The page with the marked section in place of the old one, or at the end."""
    begin, end = f"<!-- make bench: {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{body}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


def take_speed(args: argparse.Namespace, output: Path) -> None:
    """`lwasr bench` over the packaged recording, all installed models."""
    lwasr_bench([model.card.name for model in installed_models()], output)


def take_accuracy(args: argparse.Namespace, output: Path) -> None:
    """`lwasr bench` over real speech, once."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        names = [model.card.name for model in installed_models()]
        lwasr_bench([*names, "--manifest", str(manifest), "--limit", "30", "--repeat", "1"], output)


def take_latency(args: argparse.Namespace, output: Path) -> None:
    """What a listener waits for, with the default model."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        run_script("latency.py", "--manifest", str(manifest), "--limit", "20", "--json", str(output))


def take_conditions(args: argparse.Namespace, output: Path) -> None:
    """Levels, pauses and noise, with the default model in a stream."""
    manifest = found(args.speech / DEV)
    if manifest is not None:
        run_script("conditions.py", "--manifest", str(manifest), "--limit", "40", "--json", str(output))


def take_phrases(args: argparse.Namespace, output: Path) -> None:
    """Phrase lists, beams and language models, in a stream of 640 ms."""
    if found(args.speech / "an4-test.jsonl") is not None:
        options = ["--speech", str(args.speech), "--chunk-ms", "640", "--json", str(output)]
        run_script("phrases.py", *each_model(), *options)


def take_peers(args: argparse.Namespace, output: Path) -> None:
    """The default model, the reference, and whatever peers are installed."""
    manifest = found(args.speech / DEV)
    if manifest is None:
        return
    model = default_model()
    entries = ["--lwasr", model.card.name, "--pocketsphinx"]
    checkpoint = model.directory / "checkpoint.safetensors"
    if util.find_spec("sherpa_onnx") and found(checkpoint):
        folder = BUILD / f"sherpa-{model.card.name}"
        if not (folder / "tokens.txt").is_file() or folder.stat().st_mtime < max(written(checkpoint), export_written()):
            run_script("peers/sherpa_model.py", str(checkpoint), "-o", str(folder))
        entries += ["--sherpa-nemo-ctc", str(folder)]
    checkpoint = args.reference or next(args.speech.parent.glob("reference/*.nemo"), None)
    reference = exported_reference(checkpoint, args.speech / "an4-test.jsonl")
    entries += ["--lwasr", str(reference)] if reference else []
    common = ["--manifest", str(manifest), "--limit", "10", "--rounds", "2", "--json", str(output)]
    run_script("peers/compare.py", *common, *entries)


def take_arithmetic(args: argparse.Namespace, output: Path) -> None:
    """The default model against its arithmetic, in a stream and in files."""
    run_script("arithmetic.py", "--chunk-ms", "640", "--chunk-ms", "2560", "--json", str(output))


def take_int8(args: argparse.Namespace, output: Path) -> None:
    """Ways to quantise the default model."""
    manifest, calibration = found(args.speech / "commonvoice-dev.jsonl"), args.speech / "commonvoice-train.jsonl"
    checkpoint = found(default_model().directory / "checkpoint.safetensors")
    if manifest is not None and checkpoint is not None:
        common = ["--manifest", str(manifest), "--calibrate", str(calibration), "--json", str(output)]
        run_script("int8.py", os.path.relpath(checkpoint), *common)


def take_methods(args: argparse.Namespace, output: Path) -> None:
    """Training methods at one budget."""
    compare_methods(args, output, "methods")


def take_ablations(args: argparse.Namespace, output: Path) -> None:
    """Losses of step 1 and layers that are kept, 8 of 16, at a smaller budget."""
    names = ["dropped", "encrl", *ABLATIONS]
    compare_methods(args, output, "ablations", "--keep", "8", "--steps", "300", "--methods", *names)


def compare_methods(args: argparse.Namespace, output: Path, name: str, *options: str) -> None:
    """Train by several methods; what is there already is not trained again."""
    reference = imported_reference(args.reference or next(args.speech.parent.glob("reference/*.nemo"), None))
    if reference is not None:
        data = training_data(args, name)
        run_script("methods.py", "--reference", str(reference), *data, *options, "--json", str(output))


def take_adaptation(args: argparse.Namespace, output: Path) -> None:
    """Step 2 in three places. The default model knows two of them: there, a student of the comparison learns."""
    unspoilt = found(BUILD / "methods" / "dropped" / "phase1" / "layers8.safetensors")
    default = found(default_model().directory / "checkpoint.safetensors")
    if unspoilt is not None and default is not None:
        known = os.path.relpath(default)
        places = [f"accent={unspoilt}", f"spelling={unspoilt}", f"noise={known}"]
        run_script("adaptation.py", *places, *training_data(args, "adaptation"), "--json", str(output))


def training_data(args: argparse.Namespace, name: str) -> list[str]:
    """Arguments of the scripts that train."""
    noise = args.speech.parent / "noise" / "noise.jsonl"
    return ["--speech", str(args.speech), "--noise", str(noise), "-o", str(BUILD / name)]


def take_instructions(args: argparse.Namespace, output: Path) -> None:
    """All installed models on emulated Arm processors."""
    folder = Path("build", "arm64")
    run_command(["tests/arm64/prepare.sh", str(folder), sys.executable])
    run_script("arm64/instructions.py", str(folder), *each_model(), "--json", str(output))


def each_model() -> list[str]:
    """Arguments that name all installed models."""
    return [word for model in installed_models() for word in ("--model", model.card.name)]


def exported_reference(checkpoint: Path | None, check: Path) -> Path | None:
    """The reference as an int8 model of this project, checked as every export; made again when the export changed."""
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
    """When a file was last written, s since 1970."""
    return path.stat().st_mtime


def export_written() -> float:
    """When the export was last changed."""
    return max(written(path) for path in Path("export").glob("*.py"))


def imported_reference(checkpoint: Path | None) -> Path | None:
    """The reference as a checkpoint of this project; made once."""
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
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run_script(script: str, *arguments: str) -> None:
    """Run a script of this folder."""
    run([str(HERE / script), *arguments])


def run(arguments: list[str]) -> None:
    """Run Python."""
    run_command([sys.executable, *arguments])


def run_command(command: list[str]) -> None:
    """Run a command; a failure ends everything."""
    ended = subprocess.run(command, check=False)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with status {ended.returncode}")


def found(path: Path) -> Path | None:
    """The path if it is there; else say that it is not."""
    if path.is_file():
        return path
    print(f"{path} is not there: its figures stay as they were", file=sys.stderr)
    return None


SECTIONS = {
    "speed": Section("Speed, latency, start-up and memory", take_speed, speed.section, {"speed": plots.speed}),
    "accuracy": Section(
        "Word error rate by chunk size", take_accuracy, speed.accuracy_section, {"accuracy": plots.accuracy}
    ),
    "latency": Section("What a listener waits for", take_latency, latency.section, {"latency": plots.latency}),
    "conditions": Section("Levels, pauses, noise", take_conditions, conditions.section),
    "phrases": Section("Phrases, beams, language models", take_phrases, phrases.render),
    "peers": Section("Beside its peers", take_peers, compare.section, {"peers": plots.peers}),
    "arithmetic": Section("How far from the arithmetic", take_arithmetic, arithmetic.section),
    "int8": Section("Ways to int8", take_int8, int8.section),
    "methods": Section(
        "Training methods at one budget",
        take_methods,
        methods.section,
        {"methods": methods.plot_cost_figures, "methods-size": methods.plot_size_figures},
        is_usual=False,
    ),  # hours
    "ablations": Section(
        "What step 1 learns from, and which layers are kept",
        take_ablations,
        methods.section,
        {"ablations": methods.plot_cost_figures},
        is_usual=False,
    ),  # an hour
    "adaptation": Section(
        "Adaptation to three places",
        take_adaptation,
        adaptation.section,
        {"adaptation": plots.adaptation},
        is_usual=False,
    ),  # an hour
    "instructions": Section(
        "Instructions on Arm", take_instructions, instructions.section, is_usual=False
    ),  # needs Debian and minutes for each model
}

if __name__ == "__main__":
    main()
