"""Measure every figure of benchmarks/RESULTS.md, and write the page and its plots (`make bench`).

    python benchmarks/run.py [--speech FOLDER] [--reference FILE.nemo] [--only NAME] [--render]

Figures are JSON files in benchmarks/results/, each with command, commit, machine and time; the page is made from them.
Measurements without their data are skipped with a message, and their figures stay. All usual ones take about ten
minutes on an idle machine with two cores. The longer ones run only with --only: instructions on emulated Arm (minutes
per model), training methods (hours), their ablations and adaptation (an hour each, after the methods), damaged input
(an hour). Text of RESULTS.md outside the markers is written by hand and stays.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # run by its path, as `make bench` does: imports start at the checkout
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import fuzz, measurements
from benchmarks.accuracy import conditions, confidence, noise_before, noisy, phrases
from benchmarks.arm64 import instructions
from benchmarks.page import plots, reports
from benchmarks.page.provenance import CHECKOUT, read_json
from benchmarks.peers import compare
from benchmarks.speed import arithmetic, int8, latency, memory
from benchmarks.training import adaptation, methods
from lwasr_edge.files import write_file

HERE = Path("benchmarks")
RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
OLD = "Measured with version 0.1 streams, whose options were a chunk and a look-ahead."


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    title: str
    measure: Callable[[argparse.Namespace, Path], None]  # runs the measurement, which writes the JSON
    write: Callable[[dict], str]  # Markdown of the JSON
    plots: dict[str, Callable[[dict, Path], str]] = field(default_factory=dict)  # PNG -> writes it, returns its caption
    is_usual: bool = True  # False: runs with --only alone
    is_present: Callable[[dict], bool] = lambda _: True  # False: figures of an older form, whose section stays


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
    measurements.BUILD.mkdir(parents=True, exist_ok=True)
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
        if not section.is_present(figures):
            page = marked_as_old(page, name)
            continue
        body = f"## {section.title}\n\n{section.write(figures)}"
        for stem, plot in section.plots.items():
            caption = plot(figures, RESULTS / f"{stem}.png")
            body += f"\n![{caption}](results/{stem}.png)\n"
        page = replaced(page, name, body)
    write_file(PAGE, page)
    print(f"{PAGE} is written")


def marked_as_old(page: str, name: str) -> str:
    """The page with a note in a section whose figures have an older form; the rest of the section stays."""
    pattern = re.compile(rf"({re.escape(begin_of(name))}\n## [^\n]*\n\n)(?!{re.escape(OLD)})")
    return pattern.sub(lambda found: f"{found[1]}{OLD}\n\n", page)


def begin_of(name: str) -> str:
    """The mark at the beginning of a section."""
    return f"<!-- make bench: {name} -->"


def has_all_hops(figures: dict) -> bool:
    """Whether the runs are of streams with a hop."""
    return all("hop_ms" in run for run in figures["runs"])


def replaced(page: str, name: str, body: str) -> str:
    """The page with its marked section replaced, or added at the end."""
    begin, end = begin_of(name), f"<!-- end of {name} -->"
    block = f"{begin}\n{body}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


SECTIONS = {
    "speed": Section(
        "Speed, latency, start-up and memory",
        measurements.speed,
        reports.section,
        {"speed": plots.speed},
        is_present=reports.is_present,
    ),
    "accuracy": Section(
        "Word error rate by hop",
        measurements.accuracy,
        reports.accuracy_section,
        {"accuracy": plots.accuracy},
        is_present=reports.is_present,
    ),
    "memory": Section("Memory of a process", measurements.memory, memory.section),
    "latency": Section(
        "Latency of words and utterances",
        measurements.latency,
        latency.section,
        {"latency": plots.latency},
        is_present=lambda figures: "settings" in figures,
    ),
    "conditions": Section(
        "Levels, pauses, noise",
        measurements.conditions,
        conditions.section,
        is_present=lambda figures: "hop_ms" in figures,
    ),
    "noisy": Section("Speech in noise", measurements.noisy, noisy.section),
    "noise_before": Section("Speech after noise", measurements.noise_before, noise_before.section),
    "confidence": Section(
        "Language model and confidence",
        measurements.confidence,
        confidence.section,
        {"confidence": confidence.plot},
    ),
    "phrases": Section(
        "Phrases, beams, language models",
        measurements.phrases,
        phrases.render,
        is_present=lambda figures: "mode" in figures,
    ),
    "peers": Section("Comparison with other recognisers", measurements.peers, compare.section, {"peers": plots.peers}),
    "arithmetic": Section("Distance from the arithmetic limit", measurements.arithmetic, arithmetic.section),
    "int8": Section("Quantisation variants", measurements.int8, int8.section),
    "fuzz": Section("Damaged and hostile input", measurements.fuzz, fuzz.section, is_usual=False),  # an hour
    "methods": Section(
        "Training methods at one budget",
        measurements.methods,
        methods.section,
        {"methods": methods.plot_cost_figures, "methods-size": methods.plot_size_figures},
        is_usual=False,
    ),  # hours
    "modules": Section(
        "Layers or modules removed",
        measurements.modules,
        methods.section,
        {"modules": methods.plot_cost_figures},
        is_usual=False,
    ),  # two hours
    "ablations": Section(
        "Ablation of step 1: losses and kept layers",
        measurements.ablations,
        methods.section,
        {"ablations": methods.plot_cost_figures},
        is_usual=False,
    ),  # an hour
    "adaptation": Section(
        "Domain adaptation",
        measurements.adaptation,
        adaptation.section,
        {"adaptation": plots.adaptation},
        is_usual=False,
    ),  # an hour
    "instructions": Section(
        "Instructions on Arm",
        measurements.instructions,
        instructions.section,
        is_usual=False,
        is_present=has_all_hops,
    ),  # needs Debian and minutes for each model
}

if __name__ == "__main__":
    main()
