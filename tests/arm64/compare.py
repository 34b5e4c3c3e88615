"""The same words on emulated Arm processors as on this one (`make test-arm64`).

    python tests/arm64/compare.py FOLDER [--model NAME|PATH] [RECORDING...]

FOLDER is what prepare.sh made. The processors are those of a Raspberry Pi 3 or Zero 2 (Cortex-A53; a Pi 4 has the same
instructions) and 5 (Cortex-A76, which has 8-bit dot products): onnxruntime takes other code paths on each. QEMU's `max`
is left out: onnxruntime uses the matrix instructions (SME) that it claims to have, and under QEMU 7.2 the result is no
text at all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lwasr_edge.hub.catalog import find_model
from lwasr_edge.wer import word_errors

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
PROCESSORS = ("cortex-a53", "cortex-a76")
# Sums are rounded in another order there, and a word that the model is unsure of can come out otherwise.
MAX_DIFFERENT = 0.05  # of the words, all recordings together, as files and as streams


def main() -> int:
    """Compare, and print what differs; exit status 1 if more than `MAX_DIFFERENT` of the words do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="default: the default model")
    parser.add_argument("recordings", nargs="*", metavar="RECORDING", help="default: those of tests/data")
    args = parser.parse_args()
    data = sorted(path for path in (HERE.parent / "data").iterdir() if path.suffix in (".flac", ".opus", ".wav"))
    arguments = [str(HERE / "hear.py"), str(find_model(args.model)), *(args.recordings or map(str, data))]
    native = heard_by([sys.executable], arguments, {})
    print(f"{native['machine']}, onnxruntime {native['onnxruntime']}:")
    for path, texts in native["heard"].items():
        print(f"  {Path(path).name}: {texts['file']}")
    failed = False
    for processor in PROCESSORS:
        began_s = time.monotonic()
        emulated = heard_by(*emulator(args.folder.resolve(), processor, arguments))
        print(f"{processor}, onnxruntime {emulated['onnxruntime']}, {time.monotonic() - began_s:.0f} s: ", end="")
        expected, came = flat(native), flat(emulated)
        if expected == came:
            print("the same words")
            continue
        different = word_errors(expected, came).wer
        failed |= not different <= MAX_DIFFERENT
        print(f"{100 * different:.2f} % of the words differ")
        for ours, theirs in zip(expected, came, strict=True):
            if ours != theirs:
                print(f"  here: {ours}\n  there: {theirs}")
    return int(failed)


def emulator(folder: Path, processor: str, arguments: list[str]) -> tuple[list[str], list[str], dict[str, str]]:
    """Command, arguments and environment of an emulated Python with our base install."""
    python = next((folder / "rootfs/usr/bin").glob("python3.[0-9]*"))
    command = [str(folder / "qemu/usr/bin/qemu-aarch64-static"), "-cpu", processor, "-L", str(folder / "rootfs")]
    paths = {"PYTHONHOME": str(folder / "rootfs/usr"), "PYTHONPATH": f"{folder / 'site'}:{CHECKOUT}"}
    return [*command, str(python)], arguments, paths


def heard_by(python: list[str], arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run hear.py; return its JSON."""
    ended = subprocess.run(
        [*python, *arguments],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        sys.exit(f"{' '.join(python)} ended with status {ended.returncode}")
    return json.loads(ended.stdout.splitlines()[-1])


def flat(result: dict[str, Any]) -> list[str]:
    """All texts of a run, in order."""
    return [text for texts in result["heard"].values() for text in texts.values()]


if __name__ == "__main__":
    sys.exit(main())
