"""Which models are there, where they lie, and whether they are whole.

A model is a directory with a card.json and the files it lists:

    {"name": "en-base", "default": true, "licence": "...", "wer": {...},
     "files": [{"path": "model.int8.onnx.gz", "sha256": "...", "bytes": 7000000}, ...]}

The first .onnx or .onnx.gz file of the list is the one that runs. Models of the user stand before those of the package.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lwasr_edge.errors import CatalogError, CatalogWarning, ModelNotFoundError
from lwasr_edge.files import sha256_of

CARD_NAME = "card.json"
MODEL_SUFFIXES = (".onnx", ".onnx.gz")


@dataclass(frozen=True)
class CardFile:
    """One file of a model."""

    path: str  # inside the model's directory
    sha256: str
    size: int  # bytes


@dataclass(frozen=True)
class Card:
    """The card.json of a model."""

    name: str
    version: str
    is_default: bool
    files: tuple[CardFile, ...]
    fields: dict[str, Any]  # the whole card, as it stands in the file

    @property
    def model_file(self) -> CardFile:
        """The file that runs."""
        return next(file for file in self.files if file.path.endswith(MODEL_SUFFIXES))


@dataclass(frozen=True)
class InstalledModel:
    """A model directory on this machine."""

    directory: Path
    card: Card

    @property
    def path(self) -> Path:
        """The file that runs."""
        return self.directory / self.card.model_file.path


def user_models_dir() -> Path:
    """Where fetched models go: $LWASR_HOME/models, or lwasr/models in the user's data directory."""
    home = os.environ.get("LWASR_HOME")
    if home:
        return Path(home).expanduser() / "models"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "lwasr" / "models"


def packaged_models_dir() -> Path:
    """The models inside the installed package; in a checkout, those beside it."""
    package = Path(__file__).parents[1]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def installed_models() -> list[InstalledModel]:
    """All models, the user's first, each name once; directories without a card are passed over.

    A card of the user's that cannot be read is passed over too, with a `CatalogWarning`: the other models still work.

    Raises:
        CatalogError: a packaged card that cannot be read.
    """
    found: dict[str, InstalledModel] = {}
    for root in (user_models_dir(), packaged_models_dir()):
        for card_path in sorted(root.glob(f"*/{CARD_NAME}")):
            if card_path.parent.name.startswith("."):
                continue
            try:
                card = read_card(card_path)
            except CatalogError as error:
                if root == packaged_models_dir():
                    raise
                remedy = f"it was passed over: remove {card_path.parent}, or fetch the model again"
                warnings.warn(f"{error}; {remedy}", CatalogWarning, stacklevel=2)
                continue
            found.setdefault(card.name, InstalledModel(card_path.parent, card))
    return list(found.values())


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """Path of the model file that is meant.

    Args:
        model: a path to a file or to a model's directory; else the name of an installed model; None for the default.

    Raises:
        ModelNotFoundError: neither a path nor a name, or no default.
        CatalogError: a card that cannot be read.
    """
    if model is None:
        return default_model().path
    path = Path(model)
    if path.is_dir() and (path / CARD_NAME).is_file():
        return path / read_card(path / CARD_NAME).model_file.path
    if path.exists() or isinstance(model, os.PathLike):
        return path
    return installed_model(str(model)).path


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
    names = ", ".join(candidate.card.name for candidate in models) or "none"
    raise ModelNotFoundError(f"no model file and no installed model is called {name!r}; installed: {names}")


def default_model() -> InstalledModel:
    """The first installed model whose card says so, or the only one there is.

    Raises:
        ModelNotFoundError: there is no such model.
        CatalogError: a card that cannot be read.
    """
    models = installed_models()
    for candidate in models:
        if candidate.card.is_default:
            return candidate
    if len(models) == 1:
        return models[0]
    names = ", ".join(candidate.card.name for candidate in models) or "none"
    raise ModelNotFoundError(
        f"no installed model is the default: name one (installed: {names}), give a path, or get one with "
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
        CatalogError: not JSON, a field missing, no model file, or a path that leaves the model's directory.
    """
    try:
        fields = json.loads(data)
        files = tuple(
            CardFile(str(entry["path"]), str(entry["sha256"]).lower(), int(entry["bytes"])) for entry in fields["files"]
        )
        card = Card(str(fields["name"]), str(fields.get("version", "")), fields.get("default") is True, files, fields)
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{source} is not a model card (missing or wrong: {error})") from None
    if not card.name or card.name.startswith(".") or set(card.name) & set('/\\:*?"<>|\n\0'):
        raise CatalogError(f"{source}: {card.name!r} cannot be the name of a model")
    for file in files:
        inside = PurePosixPath(file.path)
        if inside.is_absolute() or ".." in inside.parts or "\\" in file.path or not inside.parts:
            raise CatalogError(f"{source}: the path {file.path!r} leaves the model's directory")
    if not any(file.path.endswith(MODEL_SUFFIXES) for file in files):
        raise CatalogError(f"{source} lists no .onnx or .onnx.gz file")
    return card


def verify_model(model: InstalledModel) -> Iterator[tuple[CardFile, str]]:
    """Yield each file of the card with "ok", or with what is wrong with it."""
    for file in model.card.files:
        path = model.directory / file.path
        if not path.is_file():
            yield file, "missing"
        elif path.stat().st_size != file.size:
            yield file, f"damaged: {path.stat().st_size} bytes, the card says {file.size}"
        elif sha256_of(path) != file.sha256:
            yield file, "damaged: its SHA-256 is not the card's"
        else:
            yield file, "ok"
