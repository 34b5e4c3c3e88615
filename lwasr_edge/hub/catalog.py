"""Find installed models by name, read their cards, and verify their files.

A model is a folder with a card.json and the files it lists:

    {"name": "en-base", "default": true, "licence": "...", "wer": {...},
     "files": [{"path": "model.int8.onnx.gz", "sha256": "...", "bytes": 7000000}, ...]}

The first .onnx or .onnx.gz file of the list is the model file. The user's models come before those of the package.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lwasr_edge.errors import CatalogError, CatalogWarning, ModelNotFoundError, OptionError
from lwasr_edge.files import sha256_of
from lwasr_edge.hub.packaged import PACKAGED_MODEL, has_model, is_bundled, missing_model, models_folder
from lwasr_edge.validate import whole_number

CARD_NAME = "card.json"
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


@dataclass(frozen=True)
class InstalledModel:
    """A model's folder on this machine."""

    directory: Path
    card: Card

    @property
    def path(self) -> Path:
        """The model file."""
        return self.directory / self.card.model_file.path


def user_models_dir() -> Path:
    """Folder of fetched models: $LWASR_HOME/models, or lwasr/models in the user's data folder."""
    home = os.environ.get("LWASR_HOME")
    if home:
        return Path(home).expanduser() / "models"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "lwasr" / "models"


def packaged_models_dir() -> Path:
    """Folder of the models in the installed package; in a checkout, models/ beside the package."""
    return models_folder()


def installed_models() -> list[InstalledModel]:
    """All models, the user's first, each name once; folders without a card are skipped.

    In a program of PyInstaller or in a zip file, the packaged models come first.

    A user's card that cannot be read is skipped too, with a `CatalogWarning`: the other models still work.

    Raises:
        CatalogError: a packaged card that cannot be read.
    """
    found: dict[str, InstalledModel] = {}
    roots = (user_models_dir(), packaged_models_dir())
    for root in reversed(roots) if is_bundled() else roots:
        for card_path in sorted(root.glob(f"*/{CARD_NAME}")):
            if card_path.parent.name.startswith("."):
                continue
            try:
                card = read_card(card_path)
            except CatalogError as error:
                if root == packaged_models_dir():
                    raise
                remedy = f"remove {card_path.parent}, or fetch the model again"
                warnings.warn(f"the model was skipped, {error}: {remedy}", CatalogWarning, stacklevel=2)
                continue
            found.setdefault(card.name, InstalledModel(card_path.parent, card))
    return list(found.values())


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """Path of a model file.

    Args:
        model: the path of a model file or of a model's folder; the name of an installed model; None for the default. A
            string is a path if it has a separator, ends in .onnx or .onnx.gz, or is a folder with a card.json: other
            files and folders do not hide an installed model of the same name.

    Raises:
        ModelNotFoundError: neither a path nor a name, a folder without a card, or no default.
        CatalogError: a card that cannot be read.
        OptionError: `model` is of another type.
    """
    if model is None:
        return default_model().path
    if not isinstance(model, (str, os.PathLike)):
        raise OptionError(f"model must be a name, a path or None, got {model!r}")
    if not os.fspath(model):
        raise OptionError("model must be a name, a path or None, got an empty string: None is the default model")
    path = Path(model)
    try:
        is_folder_of_model = (path / CARD_NAME).is_file()
    except OSError as error:  # the name is too long, or there is no permission
        raise ModelNotFoundError(f"model must be a file or a name, got {str(path)[:100]!r}: {error.strerror}") from None
    if is_folder_of_model:
        return path / read_card(path / CARD_NAME).model_file.path
    separators = {os.sep, os.altsep or os.sep}
    if isinstance(model, str) and not separators & set(model) and not model.endswith(MODEL_SUFFIXES):
        try:
            return installed_model(model).path
        except ModelNotFoundError:
            if not path.exists():
                raise
    if path.is_dir():
        raise ModelNotFoundError(
            f"model must be a file or a folder with a {CARD_NAME}, got the folder {path} without one: "
            "name the .onnx or .onnx.gz file in it"
        )
    return path


def installed_model(name: str) -> InstalledModel:
    """The installed model of that name.

    Raises:
        ModelNotFoundError: there is none.
        CatalogError: a card that cannot be read.
    """
    models = installed_models()
    for candidate in models:
        if candidate.card.name == name:
            return candidate
    if name == PACKAGED_MODEL:
        raise ModelNotFoundError(missing_model())
    names = ", ".join(candidate.card.name for candidate in models) or "none"
    raise ModelNotFoundError(f"model must be a file or one of the installed models ({names}), got {name!r}")


def default_model() -> InstalledModel:
    """The first installed model whose card has "default": true, or the only one there is.

    Raises:
        ModelNotFoundError: there is no such model, or this is a program of PyInstaller or a zip file without it.
        CatalogError: a card that cannot be read.
    """
    models = installed_models()
    if is_bundled() and not has_model():
        raise ModelNotFoundError(missing_model())
    for candidate in models:
        if candidate.card.is_default or len(models) == 1:
            if not has_model():
                warnings.warn(f"{missing_model()}; {candidate.directory} is used", CatalogWarning, stacklevel=2)
            return candidate
    names = ", ".join(candidate.card.name for candidate in models) or "none"
    raise ModelNotFoundError(
        f"no installed model is the default (installed: {names}): give a name or a path, or install one with "
        "`lwasr models fetch DIR|URL`"
    )


def read_card(path: Path) -> Card:
    """Read a card from a file.

    Raises:
        CatalogError: see `parse_card`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    return parse_card(data, str(path))


def parse_card(data: bytes, source: str) -> Card:
    """Read a card from bytes; `source` is for messages.

    Raises:
        CatalogError: not JSON, a field missing or of another type, no model file, or a path outside the folder.
    """
    try:
        fields = json.loads(data)
        files = tuple(_card_file(entry) for entry in fields["files"])
        name, version = _text(fields["name"], "name"), str(fields.get("version", ""))
        card = Card(name, version, fields.get("default") is True, files, fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CatalogError(f"{source} must be a model card, got other content: {reason}") from None
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\n\0'):
        raise CatalogError(f"{source}: name must be usable as a folder's name, got {name!r}")
    for file in files:
        inside = PurePosixPath(file.path)
        if inside.is_absolute() or ".." in inside.parts or set(file.path) & set("\\\0") or not inside.parts:
            raise CatalogError(f"{source}: path must be inside the model's folder, got {file.path!r}")
    if not any(file.path.endswith(MODEL_SUFFIXES) for file in files):
        raise CatalogError(f"{source}: files must list an .onnx or .onnx.gz file, got {[file.path for file in files]}")
    return card


def _card_file(entry: dict[str, Any]) -> CardFile:
    size = whole_number("bytes", entry["bytes"], 0)
    return CardFile(_text(entry["path"], "path"), _text(entry["sha256"], "sha256").lower(), size)


def _text(value: Any, name: str) -> str:
    """A string that can be written as UTF-8: JSON may hold half of a surrogate pair."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    value.encode()
    return value


def verify_model(model: InstalledModel) -> Iterator[tuple[CardFile, str]]:
    """Yield each file of the card with "ok" or its fault."""
    for file in model.card.files:
        path = model.directory / file.path
        if not path.is_file():
            yield file, "missing"
        elif path.stat().st_size != file.size:
            yield file, f"damaged: {path.stat().st_size} bytes, must be {file.size}"
        elif sha256_of(path) != file.sha256:
            yield file, "damaged: its SHA-256 is not the one in the card"
        else:
            yield file, "ok"
