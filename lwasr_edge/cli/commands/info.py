"""`lwasr info`: the metadata of a model file."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from lwasr_edge.cli.options import Commands, default_model_name
from lwasr_edge.cli.streams import json_text
from lwasr_edge.validate import printable


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("info", parents=[common], help="print the metadata of a model file")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"name, file or directory (default: {default_model_name()})"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open the model, which checks it, and print its metadata."""
    described = describe(args.model)
    if args.json:
        text = json_text(described, indent=2)
        is_plain = all(character.isprintable() for character in text if character != "\n")
        print(text if is_plain else json.dumps(described, indent=2))
        return 0
    width = max(map(len, described))
    for name, value in described.items():
        if name != "contract" and value not in ("", None, [], {}):
            print(f"{name:<{width}}  {_plain(value)}")
    return 0


def describe(model: str | None) -> dict[str, Any]:
    """Metadata of a model, in the order in which it is printed.

    "contract" and "format" are the same number, of the file's model format; the former key is kept for older programs.
    """
    from lwasr_edge.hub.catalog import find_model
    from lwasr_edge.model import Model

    opened = Model(find_model(model))
    info = dataclasses.asdict(opened.info)
    vocabulary = info.pop("vocabulary")
    format_version = info.pop("format_version")
    return {
        "name": info.pop("name"),
        "file": str(opened.path),
        "bytes": opened.path.stat().st_size,
        "contract": format_version,
        "format": format_version,
        **info,
        "frame_ms": opened.info.frame_ms,
        "chunk_ms": [frames * opened.info.frame_ms for frames in opened.info.chunk_frames],
        "vocabulary_size": len(vocabulary),
        "state": {name: list(shape) for name, shape in opened.state_shapes.items()},
        "state_bytes": opened.state_bytes,
    }


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return printable(str(value))
