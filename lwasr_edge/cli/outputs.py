"""Output paths that a program must not replace: its own inputs, recordings, models and other binary files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lwasr_edge.errors import OutputError
from lwasr_edge.files import check_output

PROTECTED_SUFFIXES = {
    **dict.fromkeys(
        (".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".wav"), "a recording"
    ),
    **dict.fromkeys((".onnx", ".ort", ".safetensors", ".nemo", ".gz", ".lm"), "a model or an archive"),
}
SNIFFED_BYTES = 65_536


def check_text_output(path: Path, inputs: Iterable[str | os.PathLike[str] | None] = ()) -> None:
    """Refuse a path for text (a transcript, a report) that cannot be written or must not be replaced.

    Args:
        path: where the text will go.
        inputs: files and folders that the program reads; those that do not exist, and None, are skipped.

    Raises:
        OutputError: see `files.check_output`; or the path is one of the inputs, by any spelling, symbolic link or hard
            link; or it exists and is a recording, a model or another binary file.
    """
    check_output(path)
    for name in inputs:
        if name is not None and is_same_file(path, name):
            raise OutputError(f"output must not be an input, got {path}, which is {os.fspath(name)}: name another file")
    kind = _protected_kind(path)
    if kind is not None:
        raise OutputError(f"output must be a text file or a new one, got {path}, which is {kind}: name another file")


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both name one existing file, by any spelling or link."""
    try:
        return Path(path).samefile(other)
    except (OSError, ValueError):  # one of them does not exist, or cannot be a path
        return False


def _protected_kind(path: Path) -> str | None:
    """What an existing regular file is if it is not text; by its suffix, then by a NUL in its first bytes."""
    if not path.is_file():
        return None
    kind = PROTECTED_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        try:
            with path.open("rb") as file:
                kind = "a binary file" if b"\0" in file.read(SNIFFED_BYTES) else None
        except OSError:  # not readable, yet its folder may let it be replaced
            return None
    return kind
