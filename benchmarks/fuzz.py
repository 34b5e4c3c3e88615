"""Damaged recordings and files of every kind through the readers: inputs, silent losses, hangs and crashes.

    python -m benchmarks.fuzz [--recordings 100000] [--files 2000] [--first N] [--processes 2] -o FOLDER

Recordings are compared with what ffmpeg decodes. The folder holds the tables of the parts; a run that was interrupted
goes on there. 100,000 recordings take half an hour of two cores with a static build of ffmpeg, which starts faster, and
an hour with a distribution's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import CHECKOUT, write_json

PART = 2500  # recordings
FIRST = 4_000_000  # number of the first mutant: other ones than the tests'


def audio(first: int, count: int, folder: Path) -> dict[str, int]:
    """The table of some mutants of recordings, which is measured once."""
    path = folder / f"audio-{first}-{count}.json"
    if not path.is_file():
        command = [sys.executable, str(CHECKOUT / "tests" / "audio_fuzz.py"), "--first", str(first)]
        part = path.with_suffix(".part")
        keep = ["--keep", str(folder / "kept"), "--json", str(part)]
        if subprocess.run([*command, "--count", str(count), *keep], stdout=subprocess.DEVNULL).returncode not in (0, 1):
            sys.exit(f"{' '.join(command)} failed")
        part.rename(path)
    return json.loads(path.read_text())


def files(count: int, seed: int, folder: Path) -> dict[str, dict[str, int]]:
    """By kind of file, inputs and those that failed."""
    path = folder / f"files-{count}-{seed}.json"
    if not path.is_file():
        command = [sys.executable, str(CHECKOUT / "tests" / "fuzz_files.py"), "--count", str(count)]
        part = path.with_suffix(".part")
        command += ["--seed", str(seed), "--keep", str(folder / "kept"), "--json", str(part)]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode not in (0, 1):
            sys.exit(f"{' '.join(command)} crashed: the input is in {folder / 'kept'}")
        part.rename(path)
    return json.loads(path.read_text())


def section(figures: dict) -> str:
    """The figures as Markdown."""
    recordings, kinds = figures["audio"], figures["files"]
    rows = [(name, f"{count:,}") for name, count in recordings.items()]
    other = [(name, f"{row['inputs']:,}", f"{row['failed']:,}") for name, row in kinds.items()]
    return "\n".join(
        [
            f"Recordings of {figures['formats']} formats, damaged in one to six ways. A silent loss is more than a "
            f"tenth of what ffmpeg decodes, without a warning. {provenance_line(figures)}",
            "",
            table(("recordings", "number"), rows),
            "",
            "Files of other kinds. An input fails by an exception that is not of this package, a message that is too "
            "long, too much memory, or too much time.",
            "",
            table(("kind", "inputs", "failed"), other),
            "",
        ]
    )


def main() -> None:
    """Print the tables, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=100_000, help="(default: 100,000)")
    parser.add_argument("--files", type=int, default=2000, help="of each kind (default: 2,000)")
    parser.add_argument("--first", type=int, default=FIRST, help=f"number of the first recording (default: {FIRST:,})")
    parser.add_argument("--seed", type=int, default=25, help="of the files (default: 25)")
    parser.add_argument("--processes", type=int, default=2, help="(default: 2)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    starts = range(args.first, args.first + args.recordings, PART)
    with ThreadPoolExecutor(args.processes) as pool:
        other = pool.submit(files, args.files, args.seed, args.output)
        parts = list(pool.map(lambda at: audio(at, min(PART, args.first + args.recordings - at), args.output), starts))
    figures = {
        "audio": {name: sum(part[name] for part in parts) for name in parts[0]},
        "files": other.result(),
        "formats": n_formats(),
    }
    print(section(write_json(args.json, figures)))


def n_formats() -> int:
    """Formats of the recordings that are damaged."""
    sys.path.insert(0, str(CHECKOUT / "tests"))
    from audio_fuzz import FORMS

    return len(FORMS)


if __name__ == "__main__":
    main()
