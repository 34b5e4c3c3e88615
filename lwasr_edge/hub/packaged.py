"""Files inside the package, wherever it is: installed, in a checkout, in a program of PyInstaller, or in a zip file."""

from __future__ import annotations

import atexit
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

PACKAGED_MODEL = "en-base"  # the default; every installation has it
_PACKAGE = Path(__file__).parents[1]


def is_frozen() -> bool:
    """Whether this is a program made by PyInstaller or a similar tool, without Python's own command."""
    return bool(getattr(sys, "frozen", False))


def is_bundled() -> bool:
    """Whether the package is part of a program in one file or folder, instead of an installation."""
    return is_frozen() or not _PACKAGE.is_dir()


def packaged_path(name: str) -> Path:
    """A file or folder of the package; from a zip file, a copy that is removed when the process ends.

    Args:
        name: relative to the package, as in "bench/speech.flac".
    """
    return _PACKAGE / name if is_frozen() or _PACKAGE.is_dir() else _unzipped(name)


@cache
def _unzipped(name: str) -> Path:
    import tempfile  # these two are slow to load, and rarely needed
    from importlib.resources import files

    resource = files("lwasr_edge").joinpath(name)
    folder = Path(tempfile.mkdtemp(prefix="lwasr-"))
    atexit.register(_remove, folder, os.getpid())
    _copy(resource, folder / Path(name).name)
    return folder / Path(name).name


def _copy(resource: Any, target: Path) -> None:
    if resource.is_dir():
        target.mkdir()
        for item in resource.iterdir():
            _copy(item, target / item.name)
    elif resource.is_file():
        target.write_bytes(resource.read_bytes())


def _remove(folder: Path, owner: int) -> None:
    import shutil

    if os.getpid() == owner:  # a forked process runs the exit handlers of its parent
        shutil.rmtree(folder, ignore_errors=True)


def models_folder() -> Path:
    """Folder of the models in the package; in a checkout, models/ beside the package."""
    inside = packaged_path("models")
    return inside if inside.is_dir() or is_bundled() else _PACKAGE.parent / "models"


def has_model() -> bool:
    """Whether the packaged model is where it should be."""
    return (models_folder() / PACKAGED_MODEL / "card.json").is_file()


def missing_model() -> str:
    """The message for a package without its model."""
    if is_frozen():
        remedy = (
            "build the program again where lwasr-edge is installed with pip, which gives PyInstaller its hook, "
            f"or with --add-data FOLDER/{PACKAGED_MODEL}:lwasr_edge/models/{PACKAGED_MODEL}"
        )
    elif is_bundled():
        remedy = "build the zip file from an installed package (pip install --target FOLDER)"
    else:
        remedy = "install lwasr-edge again"
    folder = _PACKAGE / "models"
    return f"the packaged model {PACKAGED_MODEL!r} must be in {folder}, got none: {remedy}, or name another model"
