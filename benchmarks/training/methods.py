"""The two-step method and alternatives at one training budget (`lwasr-train compare`).

    python -m benchmarks.training.methods --reference CHECKPOINT --speech FOLDER --noise MANIFEST -o FOLDER

No method is trained on the domain of an4. The comparison takes hours on two cores: it resumes from its folder, which
several commands, each with some of the --methods, may share.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.page.markdown import provenance_line
from benchmarks.page.provenance import read_json, write_json
from lwasr_edge.training.study.baselines import BASELINES, METHODS
from lwasr_edge.training.study.compare import RESULTS_FILE
from lwasr_edge.training.study.report import markdown, plot_costs, plot_sizes

TRAIN = ("librispeech-train", "commonvoice-train", "kathleen-train")
DEV = ("librispeech-dev", "commonvoice-dev", "an4-test")


def command(args: argparse.Namespace) -> list[str]:
    """Arguments of `lwasr-train`."""

    def manifests(names: tuple[str, ...]) -> list[str]:
        return [str(args.speech / f"{name}.jsonl") for name in names]

    words = ["compare", "--reference", str(args.reference), "--keep", args.keep, "--methods", *args.methods]
    words += ["--train", *manifests(TRAIN), "--dev", *manifests(DEV), "--noise", str(args.noise)]
    words += ["--dev-utterances", str(args.dev_utterances), "--freeze-subsampling", "--full-context-probability", "1"]
    words += ["--steps", str(args.steps), "--batch-s", "12", "--learning-rate", "4e-4", "--warmup-steps", "50"]
    return [*words, "--evaluate-every", "200", "--save-every", "200", "--precision", "float32", "-o", str(args.output)]


def section(figures: dict) -> str:
    """Markdown of the figures."""
    tables = re.sub(r"^### (.*)$", r"**\1**", markdown(figures["results"]), flags=re.MULTILINE)
    return f"{tables}\n`lwasr-train {shlex.join(figures['compare'])}`, by {provenance_line(figures)}\n"


def plot_cost_figures(figures: dict, path: Path) -> str:
    """WER against training cost."""
    plot_costs(figures["results"], path)
    return "WER by audio processed in training, for each method and size"


def plot_size_figures(figures: dict, path: Path) -> str:
    """WER against size and speed."""
    plot_sizes(figures["results"], path)
    return "WER by size of the int8 file and by real-time factor"


def main() -> None:
    """Compare, print the tables, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--speech", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--noise", type=Path, required=True, help="manifest of background recordings")
    parser.add_argument("--keep", default="8,5,3", help="layers of the students; default 8,5,3")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(BASELINES), metavar="METHOD")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--dev-utterances", type=int, default=40, help="of each set (default: 40)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="resumed if it exists")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    words = command(args)
    ended = subprocess.run([sys.executable, "-m", "lwasr_edge.training.cli", *words], check=False)
    if ended.returncode != 0:
        sys.exit(f"lwasr-train {shlex.join(words)} ended with status {ended.returncode}")
    results = read_json(args.output / RESULTS_FILE)
    print(section(write_json(args.json, {"compare": words, "results": results})))


if __name__ == "__main__":
    main()
