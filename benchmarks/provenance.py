"""What every figure carries: the command, the commit, the machine and the time it was taken."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from lwasr_edge.bench.board import read_board, read_condition

CHECKOUT = Path(__file__).resolve().parents[1]


def commit() -> str:
    """Abbreviated commit of the checkout, "+" behind it if files differ from it; "unknown" outside git."""
    try:
        named = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return named.stdout.strip()


def provenance() -> dict[str, Any]:
    """For the JSON of a benchmark script."""
    board, condition = read_board(), read_condition()
    script = Path(sys.argv[0]).resolve()
    name = str(script.relative_to(CHECKOUT)) if script.is_relative_to(CHECKOUT) else script.name
    return {
        "command": shlex.join(["python", name, *sys.argv[1:]]),
        "commit": commit(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "board": asdict(board),
        "load": condition.load,
        "onnxruntime": metadata.version("onnxruntime"),
    }


def write_json(path: Path | None, figures: dict[str, Any]) -> dict[str, Any]:
    """Write figures with their provenance, if a path was given; return both together."""
    described = {**provenance(), **figures}
    if path is not None:
        path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return described
