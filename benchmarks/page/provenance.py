"""The provenance of figures: command, commit, machine and time."""

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
from lwasr_edge.errors import OptionError
from lwasr_edge.files import write_file

CHECKOUT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """Abbreviated commit of the checkout, with "+" if files differ from it; "unknown" outside git."""
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
    """The common fields of the JSON of every benchmark."""
    board, condition = read_board(), read_condition()
    return {
        "command": shlex.join(["python", *program(Path(sys.argv[0]).resolve()), *sys.argv[1:]]),
        "commit": commit(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "board": asdict(board),
        "load": condition.load,
        "onnxruntime": metadata.version("onnxruntime"),
    }


def program(script: Path) -> list[str]:
    """How Python runs a script: `-m` and a module inside the checkout."""
    if not script.is_relative_to(CHECKOUT):
        return [script.name]
    return ["-m", ".".join(script.relative_to(CHECKOUT).with_suffix("").parts)]


def write_json(path: Path | None, figures: dict[str, Any]) -> dict[str, Any]:
    """Write figures with their provenance, if a path was given; return both.

    Raises:
        OutputError: the path cannot be written.
    """
    described = {**provenance(), **figures}
    if path is not None:
        write_file(path, json.dumps(described, indent=1) + "\n")
    return described


def read_json(path: Path) -> dict[str, Any]:
    """Read figures.

    Raises:
        OptionError: the file cannot be read, or is not a JSON object.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path} must be figures in JSON: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(figures, dict):
        raise OptionError(f"{path} must be figures in JSON, got other JSON")
    return figures
