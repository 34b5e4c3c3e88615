"""Read the card.json of a model, which may come from a stranger: names are plain, and numbers bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lwasr_edge.errors import CatalogError
from lwasr_edge.files import read_regular
from lwasr_edge.validate import shown, whole_number

CARD_NAME = "card.json"
MAX_CARD_BYTES = 1 << 20
MAX_FILES = 100  # in one card
MAX_FILE_BYTES = 1 << 40
MAX_PATH = 300  # characters
PART_SUFFIX = ".part"  # of a file that is being fetched
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # of a model, and of each part of a file's path
MODEL_SUFFIXES = (".onnx", ".onnx.gz")


@dataclass(frozen=True)
class CardFile:
    """One file of a model."""

    path: str  # relative to the model's folder
    sha256: str
    size: int  # bytes


@dataclass(frozen=True)
class Card:
    """The card.json of a model."""

    name: str
    version: str
    is_default: bool
    files: tuple[CardFile, ...]
    fields: dict[str, Any]  # the card as in the file, with all its fields

    @property
    def model_file(self) -> CardFile:
        """The first .onnx or .onnx.gz file."""
        return next(file for file in self.files if file.path.endswith(MODEL_SUFFIXES))


def read_card(path: Path) -> Card:
    """Read a card from a file.

    Raises:
        CatalogError: see `parse_card`; or it is no regular file, or larger than `MAX_CARD_BYTES`.
    """
    return parse_card(read_card_bytes(path), str(path))


def read_card_bytes(path: Path) -> bytes:
    """The bytes of a card.

    Raises:
        CatalogError: it cannot be read, is no regular file, or is larger than `MAX_CARD_BYTES`.
    """
    try:
        return read_regular(path, MAX_CARD_BYTES)
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error


def parse_card(data: bytes, source: str) -> Card:
    """Read a card from bytes; `source` is for messages.

    Raises:
        CatalogError: not JSON, a field missing, of another type or out of bounds, no model file, a name that is not
            plain, or a path outside the folder.
    """
    try:
        fields = json.loads(data)
        if not isinstance(fields["files"], list):
            raise TypeError(f"files must be a list, got {shown(fields['files'])}")
        files = tuple(card_file(entry) for entry in fields["files"][:MAX_FILES])
        name, version = _text(fields["name"], "name"), _version(fields.get("version", ""))
        card = Card(name, version, fields.get("default") is True, files, fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CatalogError(f"{source} must be a model card, got other content: {reason}") from None
    if not PLAIN_NAME.fullmatch(name):
        raise CatalogError(
            f"{source}: name must be usable as a folder's name, of at most 100 letters, digits, '.', '_' and '-', "
            f"got {shown(name)}"
        )
    if len(fields["files"]) > MAX_FILES:
        raise CatalogError(f"{source}: files must be at most {MAX_FILES}, got {len(fields['files'])}")
    check_paths(files, source)
    if not any(file.path.endswith(MODEL_SUFFIXES) for file in files):
        names = [file.path for file in files]
        raise CatalogError(f"{source}: files must list an .onnx or .onnx.gz file, got {shown(names)}")
    return card


def check_paths(files: Iterable[CardFile], source: str) -> None:
    """Refuse paths that leave the model's folder, and those of one file twice.

    Raises:
        CatalogError: there is one.
    """
    files = list(files)
    for file in files:
        parts = file.path.split("/")
        if not all(map(PLAIN_NAME.fullmatch, parts)) or len(file.path) > MAX_PATH:
            raise CatalogError(
                f"{source}: path must be inside the model's folder, of letters, digits, '.', '_', '-' and '/', "
                f"got {shown(file.path)}"
            )
    _refuse_clashes(files, source)


def _refuse_clashes(files: Iterable[CardFile], source: str) -> None:
    """Refuse two files of one path, also on disks that ignore case, and files where a folder or the card must be."""
    taken = {CARD_NAME}
    for file in sorted(files, key=lambda file: file.path.lower()):
        path = PurePosixPath(file.path.lower())
        if taken & {str(path), *(str(parent) for parent in path.parents)} or path.suffix == PART_SUFFIX:
            raise CatalogError(
                f"{source}: each path must be another one, got {file.path!r}, which is taken or reserved"
            )
        taken.add(str(path))


def card_file(entry: dict[str, Any]) -> CardFile:
    """An entry of a card's list of files; raises KeyError, TypeError or ValueError if it is none."""
    if not isinstance(entry, dict):
        raise TypeError(f"each file must be an object, got {shown(entry)}")
    size = whole_number("bytes", entry["bytes"], 0, MAX_FILE_BYTES)
    return CardFile(_text(entry["path"], "path"), _text(entry["sha256"], "sha256").lower(), size)


def _version(value: Any) -> str:
    if not isinstance(value, (str, int, float)) or len(str(value)) > 100:
        raise TypeError(f"version must be a string of at most 100 characters, got {shown(value)}")
    return str(value)


def _text(value: Any, name: str) -> str:
    """A string that can be written as UTF-8: JSON may hold half of a surrogate pair."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {shown(value)}")
    value.encode()
    return value
