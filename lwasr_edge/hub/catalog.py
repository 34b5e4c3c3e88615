"""Find installed models by name, read their cards, and verify their files.

A model is a folder with a card.json and the files it lists:

    {"name": "en-base", "default": true, "licence": "...", "wer": {...},
     "files": [{"path": "model.int8.onnx.gz", "sha256": "...", "bytes": 7000000}, ...]}

The first .onnx or .onnx.gz file of the list is the model file. The user's models come before those of the package.
Cards and their files may come from a stranger: names are plain, numbers bounded, and a bad card hides no other model.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lwasr_edge.errors import CatalogError, CatalogWarning, ModelNotFoundError, OptionError
from lwasr_edge.files import read_regular, sha256_of
from lwasr_edge.validate import shown, whole_number

CARD_NAME = "card.json"
MAX_CARD_BYTES = 1 << 20
MAX_FILES = 100  # in one card
MAX_FILE_BYTES = 1 << 40
MAX_PATH = 300  # characters
OLD_SUFFIX = ".old"  # of the hidden folder of a version that is being replaced
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
    package = Path(__file__).parents[1]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def installed_models() -> list[InstalledModel]:
    """All models, the user's first, each name once; folders without a card are skipped.

    A user's card that cannot be read is skipped too, with a `CatalogWarning`: the other models still work.

    Raises:
        CatalogError: a packaged card that cannot be read.
    """
    found: dict[str, InstalledModel] = {}
    for root in (user_models_dir(), packaged_models_dir()):
        for card_path in sorted([*root.glob(f"*/{CARD_NAME}"), *_between_renames(root)]):
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


def _between_renames(root: Path) -> Iterator[Path]:
    """Cards of versions that a fetch was about to replace when it was killed; see `hub.install`."""
    for card_path in root.glob(f".*{OLD_SUFFIX}/{CARD_NAME}"):
        name = card_path.parent.name.removeprefix(".").removesuffix(OLD_SUFFIX)
        if not (root / name).exists():
            yield card_path


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
    path = Path(model)
    if (path / CARD_NAME).is_file():
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
    names = ", ".join(candidate.card.name for candidate in models) or "none"
    raise ModelNotFoundError(f"model must be a file or one of the installed models ({names}), got {name!r}")


def default_model() -> InstalledModel:
    """The first installed model whose card has "default": true, or the only one there is.

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
        f"no installed model is the default (installed: {names}): give a name or a path, or install one with "
        "`lwasr models fetch DIR|URL`"
    )


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
        files = tuple(_card_file(entry) for entry in fields["files"][:MAX_FILES])
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
    for file in files:
        parts = file.path.split("/")
        if not all(map(PLAIN_NAME.fullmatch, parts)) or len(file.path) > MAX_PATH:
            raise CatalogError(
                f"{source}: path must be inside the model's folder, of letters, digits, '.', '_', '-' and '/', "
                f"got {shown(file.path)}"
            )
    _refuse_clashes(files, source)
    if not any(file.path.endswith(MODEL_SUFFIXES) for file in files):
        names = [file.path for file in files]
        raise CatalogError(f"{source}: files must list an .onnx or .onnx.gz file, got {shown(names)}")
    return card


def _refuse_clashes(files: Iterable[CardFile], source: str) -> None:
    """Refuse two files of one path, also on disks that ignore case, and files where a folder or the card must be."""
    taken = {CARD_NAME}
    for file in sorted(files, key=lambda file: file.path.lower()):
        path = PurePosixPath(file.path.lower())
        if taken & {str(path), *(str(parent) for parent in path.parents)} or path.suffix == PART_SUFFIX:
            raise CatalogError(f"{source}: each path must be another one, got {file.path!r}, which is taken or reserved")
        taken.add(str(path))


def _card_file(entry: dict[str, Any]) -> CardFile:
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
