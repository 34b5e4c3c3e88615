"""Instructions per second of audio on emulated Arm processors, where no board is available.

    tests/arm64/prepare.sh build/arm64
    python -m benchmarks.arm64.instructions build/arm64 [--model NAME|PATH ...] [--json OUT]

QEMU counts the instructions on an emulated Cortex-A53 (Pi 3 and Zero 2; a Pi 4 has the same instructions) and
Cortex-A76 (Pi 5). The count is the difference between a process that transcribes the packaged recording twice and one
that does so once, without start-up. Instructions are not time: an A76 retires several per cycle, an A53 less than one
when it waits for memory. The last column is the RTF of a core with one instruction per cycle at the clock of the board.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import CHECKOUT, write_json
from lwasr_edge.bench.recordings import CLIP_S
from lwasr_edge.chunking import STREAM_HOP_MS
from lwasr_edge.hub.catalog import find_model

HERE = Path(__file__).resolve().parent
CLOCK_HZ = {"cortex-a53": 1.2e9, "cortex-a76": 2.4e9}  # Pi 3, Pi 5
HOPS_MS = (0, round(STREAM_HOP_MS))  # 0: as a file
RUNS = (1, 2)


def main() -> None:
    """Print the section, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by tests/arm64/prepare.sh")
    parser.add_argument("--model", action="append", help="name or path; may be repeated (default: the default model)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    folder = args.folder.resolve()
    plugin = folder / "count.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(plugin), str(HERE / "count.c")], check=True)
    runs = []
    for path in map(find_model, args.model or [None]):
        for processor in CLOCK_HZ:
            for hop_ms in HOPS_MS:
                few, many = (count(folder, processor, [str(path), str(n_runs), str(hop_ms)]) for n_runs in RUNS)
                per_second = (many - few) / (RUNS[1] - RUNS[0]) / CLIP_S
                name = path.parent.name if path.parent.parent.name == "models" else path.name
                runs.append({"model": name, "processor": processor, "hop_ms": hop_ms, "per_audio_s": per_second})
                print(f"{name} {processor} {hop_ms}: {per_second / 1e6:.0f} M", file=sys.stderr)
    print(section(write_json(args.json, {"runs": runs})))


def count(folder: Path, processor: str, arguments: list[str]) -> int:
    """Instructions of one process."""
    native = folder / "qemu"
    libraries = ":".join(str(native / path) for path in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))
    python = next((folder / "rootfs/usr/bin").glob("python3.[0-9]*"))
    command = [
        # by its own loader, because its libraries are not installed
        *(str(native / "lib64/ld-linux-x86-64.so.2"), "--library-path", libraries),
        *(str(native / "usr/bin/qemu-aarch64"), "-cpu", processor, "-L", str(folder / "rootfs")),
        *("-plugin", str(folder / "count.so"), "-d", "plugin"),
        *(str(python), str(HERE / "run_model.py"), *arguments),
    ]
    paths = {"PYTHONHOME": str(folder / "rootfs/usr"), "PYTHONPATH": f"{folder / 'site'}:{CHECKOUT}"}
    ended = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    printed = re.search(r"^instructions (\d+)$", ended.stderr, re.MULTILINE)
    if ended.returncode != 0 or printed is None:
        sys.exit(f"the emulated process ended with status {ended.returncode}:\n{ended.stderr[-2000:]}")
    return int(printed[1])


def section(figures: dict) -> str:
    """The figures as Markdown."""
    rows = [
        (
            f"{run['model']}, stream, hop {run['hop_ms']} ms" if run["hop_ms"] else f"{run['model']}, file",
            run["processor"],
            f"{run['per_audio_s'] / 1e6:.0f}",
            f"{run['per_audio_s'] / CLOCK_HZ[run['processor']]:.3f} at {CLOCK_HZ[run['processor']] / 1e9:.1f} GHz",
        )
        for run in figures["runs"]
    ]
    head = ("model", "processor", "million instructions per audio s", "RTF at one instruction per cycle")
    return f"Emulated, one thread, onnxruntime below 1.28. {provenance_line(figures)}\n\n{table(head, rows)}\n"


if __name__ == "__main__":
    main()
