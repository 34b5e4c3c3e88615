"""The default model that the user chose: $LWASR_MODEL, or config.json, which `lwasr models use` writes.

    {"model": "my-place"}

The file is $LWASR_HOME/config.json, or lwasr/config.json in the user's folder of settings. A program of PyInstaller and
a zip file do not read it: they have their own model.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.errors import CatalogError, CatalogWarning
from lwasr_edge.files import read_regular, write_bytes
from lwasr_edge.hub.packaged import is_bundled

VARIABLE = "LWASR_MODEL"
CONFIG_NAME = "config.json"
MAX_BYTES = 1 << 16
MAX_MODEL = 4096  # characters of a name or path
MODEL, BEFORE, CHANGE = "model", "model_before", "last_change"  # keys of the file


@dataclass(frozen=True)
class Preference:
    """A model by name or path, and what names it, for messages."""

    model: str
    named_by: str
    is_variable: bool


def config_path() -> Path:
    """The file of settings, which need not exist."""
    home = os.environ.get("LWASR_HOME")
    if home:
        return Path(home).expanduser() / CONFIG_NAME
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "lwasr" / CONFIG_NAME


def preferred_model() -> Preference | None:
    """The model that the variable names, else that of the file; None without both.

    A file that cannot be used is skipped, with a `CatalogWarning`: the default of the package still works.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Preference(named, VARIABLE, is_variable=True)
    if is_bundled():
        return None
    try:
        model = read_config().get(MODEL)
    except CatalogError as error:
        warnings.warn(f"{error}: it was skipped", CatalogWarning, stacklevel=2)
        return None
    return None if model is None else Preference(model, str(config_path()), is_variable=False)


def read_config() -> dict[str, Any]:
    """The settings; empty without a file.

    Raises:
        CatalogError: the file is something else.
    """
    path = config_path()
    try:
        config = json.loads(read_regular(path, MAX_BYTES))
        if not isinstance(config, dict):
            raise ValueError("no object")
        for key in (MODEL, BEFORE):
            value = config.get(key)
            if value is not None and not (isinstance(value, str) and 0 < len(value) <= MAX_MODEL):
                raise ValueError(f"{key} is no name")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CatalogError(
            f'{path} must be JSON such as {{"model": "en-base"}}, got other content ({reason})'
        ) from None
    return config


def write_config(**changes: Any) -> None:
    """Change settings atomically; None removes one, and other keys stay.

    Raises:
        CatalogError: the file is something else, or cannot be written.
    """
    config = {key: value for key, value in {**read_config(), **changes}.items() if value is not None}
    path = config_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(config, indent=1).encode() + b"\n")
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
