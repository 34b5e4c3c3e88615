"""Files that a command writes its result to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lwasr_edge.errors import OutputError


def check_output(path: Path) -> None:
    """Refuse a path that cannot be written to, before the work whose result goes there.

    Raises:
        OutputError: it is a folder, its folder does not exist, or one of them takes no writing.
    """
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: it is a folder; name a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")
    if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: {path.parent} takes no files; name another place")


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text so that the file is either the old one or the whole new one, whatever happens meanwhile.

    Raises:
        OutputError: the directory does not exist, or cannot be written to.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: there is nothing to replace
        _write_in_place(path, text)
        return
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes files private
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _write_in_place(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
