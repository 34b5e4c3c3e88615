"""Memory of a process from outside: files, streams, and what is given back when they are closed.

    python -m benchmarks.speed.memory [--model NAME|PATH ...] [--json OUT]

A process of its own stops at each point, and its parent reads /proc/PID/smaps_rollup (Linux). "Anonymous" is what the
process has for itself; the rest of the resident memory is pages of files (libraries, the language model), which
processes share and the system can take back. The recording is the packaged one, again and again for ten minutes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge import load_audio
from lwasr_edge.bench.recordings import CLIP
from lwasr_edge.hub.catalog import find_model

RATE = 16_000
SHORT_S, LONG_S, STREAM_S = 5, 600, 30
BEGIN = """
import sys
model, short, long, stream_s = *sys.argv[1:4], int(sys.argv[4])

def point(name):
    print(name, flush=True)
    sys.stdin.readline()

import numpy, onnxruntime
point("numpy and onnxruntime")
import lwasr_edge.recognizer, soundfile
point("lwasr_edge imported")
recognizer = lwasr_edge.recognizer.Recognizer(model)
point("Recognizer()")
"""
PROGRAMS = {
    "files": BEGIN
    + """
recognizer.transcribe(short)
point("file of 5 s")
recognizer.transcribe(long)
point("file of 10 min")
recognizer.close()
point("Recognizer closed")
""",
    "streams": BEGIN
    + """
def run(count):
    streams = [recognizer.stream(16000) for _ in range(count)]
    for block in soundfile.blocks(long, 1600, dtype="float32", frames=stream_s * 16000):
        for stream in streams:
            stream.accept(block)
    return streams

streams = run(1)
point("1 stream")
streams += run(1)
point("2 streams")
streams += run(8)
point("10 streams")
for stream in streams:
    stream.close()
point("streams closed")
recognizer.close()
point("Recognizer closed")
""",
}


def main() -> None:
    """Print the section, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="name or path; may be repeated (default: the default model)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory(prefix="lwasr-memory-") as folder:
        files = write_recordings(Path(folder))
        for path in map(find_model, args.model or [None]):
            name = path.parent.name if path.parent.parent.name == "models" else path.name
            for mode, program in PROGRAMS.items():
                runs.append({"model": name, "mode": mode, "points": measure(program, path, files)})
                print(f"{name} {mode}: {runs[-1]['points'][-1]['peak'] / 1e6:.0f} MB", file=sys.stderr)
    print(section(write_json(args.json, {"runs": runs})))


def write_recordings(folder: Path) -> tuple[Path, Path]:
    """A short and a long FLAC file."""
    clip = load_audio(CLIP, target_hz=RATE)
    paths = folder / "short.flac", folder / "long.flac"
    for path, seconds in zip(paths, (SHORT_S, LONG_S), strict=True):
        soundfile.write(path, np.resize(clip, seconds * RATE), RATE)
    return paths


def measure(program: str, model: Path, files: tuple[Path, Path]) -> list[dict[str, float | str]]:
    """Bytes at each point of one process: resident, of these anonymous, and the largest so far."""
    command = [sys.executable, "-c", program, str(model), *map(str, files), str(STREAM_S)]
    points: list[dict[str, float | str]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            points.append({"point": line.strip(), **memory_of(process.pid)})
            process.stdin.write("\n")
            process.stdin.flush()
    if process.returncode != 0 or not points:
        sys.exit(f"the measured process ended with status {process.returncode}")
    return points


def memory_of(pid: int) -> dict[str, float]:
    """Bytes of another process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    fields = {"resident": ("Rss", rollup), "anonymous": ("Anonymous", rollup), "peak": ("VmHWM", status)}
    return {name: 1024 * int(re.findall(rf"^{key}:\s+(\d+)", text, re.M)[0]) for name, (key, text) in fields.items()}


def section(figures: dict) -> str:
    """The figures as Markdown."""
    rows = [
        (
            f"{run['model']}, {run['mode']}" if number == 0 else "",
            point["point"],
            *(f"{point[name] / 1e6:.1f}" for name in ("resident", "anonymous", "peak")),
        )
        for run in figures["runs"]
        for number, point in enumerate(run["points"])
    ]
    head = ("process", "after", "resident MB", "of it anonymous", "peak MB")
    return f"Read from outside, one thread. {provenance_line(figures)}\n\n{table(head, rows)}\n"


if __name__ == "__main__":
    main()
