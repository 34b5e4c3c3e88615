"""This project and other recognisers: same recordings, threads and text normaliser, one process each, alternating.

    pip install -r benchmarks/peers/requirements.txt
    python -m benchmarks.peers.compare --manifest ../shared/speech/librispeech-dev.jsonl --limit 40 \\
        --lwasr en-base --sherpa-nemo-ctc FOLDER --pocketsphinx

Every round starts one process per recogniser, so that a machine that slows down affects all of them. Start-up is from
the start of the process to the text of a 5 s recording, with imports and loading. Peak memory is VmHWM of the process
with all recordings in memory; the column "added" is without the memory in use before the recogniser was loaded. RTF is
recognition time over audio time; audio was decoded to 16 kHz before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from benchmarks.peers.engines import DISTRIBUTIONS, ENGINES, fault_of_model
from lwasr_edge import load_audio
from lwasr_edge.bench.recordings import CLIP, from_manifest
from lwasr_edge.files import split_lines
from lwasr_edge.hub.catalog import find_model
from lwasr_edge.wer import word_errors

HAS_OWN_MODEL = "pocketsphinx"


def main() -> None:
    """Print the section, and write the figures with --json."""
    args = build_parser().parse_args()
    entries = chosen_entries(args)
    recordings = from_manifest(args.manifest, args.limit)
    with tempfile.TemporaryDirectory() as folder:
        paths = [decoded(item.path, Path(folder, f"{number}.npy")) for number, item in enumerate(recordings.items)]
        audio_s = sum(np.load(path, mmap_mode="r").size for path in paths) / 16_000
        job = {"first": decoded(str(CLIP), Path(folder, "first.npy")), "recordings": paths, "threads": args.threads}
        rounds: list[list[dict[str, Any]]] = [[] for _ in entries]
        for number in range(args.rounds):
            for (engine, model), results in zip(entries, rounds, strict=True):
                print(f"round {number + 1}: {engine} {model}", file=sys.stderr)
                results.append(run_worker({**job, "engine": engine, "model": model}))
    texts = [item.text or "" for item in recordings.items]
    figures = {
        "manifest": args.manifest.name,
        "recordings": len(paths),
        "audio_s": audio_s,
        "threads": args.threads,
        "rounds": args.rounds,
        "peers": [
            summary(engine, model, results, texts, audio_s)
            for (engine, model), results in zip(entries, rounds, strict=True)
        ],
    }
    print(section(write_json(args.json, figures)))


def build_parser() -> argparse.ArgumentParser:
    """One option per recogniser, repeated for several models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="recordings with transcripts")
    parser.add_argument("--limit", type=int, default=40, help="recordings (default: 40)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    for engine, load in ENGINES.items():
        help_text = (load.__doc__ or "").strip()
        if engine == HAS_OWN_MODEL:
            parser.add_argument(f"--{engine}", action="store_true", help=help_text)
        else:
            parser.add_argument(f"--{engine}", action="append", default=[], metavar="MODEL", help=help_text)
    return parser


def chosen_entries(args: argparse.Namespace) -> list[tuple[str, str]]:
    """(recogniser, model) in the order of `ENGINES`; those that are not installed are reported and left out."""
    entries = []
    for engine in ENGINES:
        asked = getattr(args, engine.replace("-", "_"))
        models = ([""] if asked else []) if engine == HAS_OWN_MODEL else asked
        for model in models:
            wrong = fault_of_model(engine, model)
            if wrong:
                sys.exit(f"--{engine} {model}: {wrong}")
        try:
            metadata.version(DISTRIBUTIONS[engine][0])
        except metadata.PackageNotFoundError:
            if models:
                print(f"{engine} is left out: {DISTRIBUTIONS[engine][0]} is not installed", file=sys.stderr)
            continue
        entries += [(engine, str(find_model(model)) if engine == "lwasr" else model) for model in models]
    return entries


def decoded(path: str, target: Path) -> str:
    """Write a recording as float32 at 16 kHz; return its path."""
    np.save(target, load_audio(path))
    return str(target)


def run_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Run one process; return its figures."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.worker"],
        input=json.dumps({**job, "spawned_at_s": time.monotonic()}),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        sys.exit(f"{job['engine']} ended with status {ended.returncode}")
    return json.loads(split_lines(ended.stdout)[-1])


def summary(engine: str, model: str, results: list[dict], texts: list[str], audio_s: float) -> dict[str, Any]:
    """The figures of one recogniser over all rounds."""
    path = Path(model)
    files = [] if not model else path.rglob("*") if path.is_dir() else [path]
    model_bytes = sum(file.stat().st_size for file in files if file.is_file())
    return {
        "engine": engine,
        "version": "" if engine == "lwasr" else metadata.version(DISTRIBUTIONS[engine][0]),
        "model": path.parent.name if engine == "lwasr" else path.name,
        "wer": word_errors(texts, results[0]["texts"]).wer,
        "rtf": [result["busy_s"] / audio_s for result in results],
        "cpu_s_per_audio_s": statistics.median(result["cpu_s"] for result in results) / audio_s,
        "startup_s": statistics.median(result["startup_s"] for result in results),
        "peak_bytes": max(result["peak_bytes"] for result in results),
        "added_bytes": max(result["peak_bytes"] - result["held_before_bytes"] for result in results),
        "model_bytes": model_bytes,
        "installed_bytes": installed_bytes(engine),
    }


def installed_bytes(engine: str) -> int:
    """Bytes on disk of the recogniser and what it needs beside Python, without models outside its distribution."""
    total = 0
    for name in DISTRIBUTIONS[engine]:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue  # an optional one
        total += sum(path.stat().st_size for file in files if (path := Path(file.locate())).is_file())
    return total


def section(figures: dict) -> str:
    """The figures as Markdown."""
    rows = [
        (
            f"{peer['engine']} {peer['version']} {peer['model']}".replace("  ", " ").strip(),
            f"{100 * peer['wer']:.2f} %",
            f"{statistics.median(peer['rtf']):.4f}",
            f"{peer['cpu_s_per_audio_s']:.4f}",
            f"{peer['startup_s']:.2f}",
            f"{peer['peak_bytes'] / 1e6:.0f}",
            f"{peer['added_bytes'] / 1e6:.0f}",
            f"{peer['model_bytes'] / 1e6:.1f}",
            f"{peer['installed_bytes'] / 1e6:.0f}",
        )
        for peer in figures["peers"]
    ]
    head = ("recogniser", "WER", "RTF", "CPU s/s", "start-up s", "peak MB", "added MB", "model MB", "installed MB")
    about = (
        f"{figures['recordings']} recordings of {figures['manifest']} ({figures['audio_s']:.0f} s), full context, "
        f"{figures['threads']} thread, median of {figures['rounds']} alternating rounds. {provenance_line(figures)}"
    )
    return f"{about}\n\n{table(head, rows)}\n"


if __name__ == "__main__":
    main()
