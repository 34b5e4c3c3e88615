"""Find installed models by name, read their cards, and verify their files.

A model is a folder with a card.json and the files it lists:

    {"name": "en-base", "default": true, "licence": "...", "wer": {...},
     "files": [{"path": "model.int8.onnx.gz", "sha256": "...", "bytes": 7000000}, ...]}

The first .onnx or .onnx.gz file of the list is the model file. The user's models come before those of the package; a
card that cannot be read hides no other model.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.errors import CatalogError, CatalogWarning, ModelNotFoundError, OptionError
from lwasr_edge.files import sha256_of
from lwasr_edge.hub.card import CARD_NAME, MODEL_SUFFIXES, Card, CardFile, parse_card, read_card  # noqa: F401
from lwasr_edge.hub.packaged import PACKAGED_MODEL, has_model, is_bundled, missing_model, models_folder
from lwasr_edge.hub.preference import preferred_model

OLD_SUFFIX = ".old"  # of the hidden folder of a version that is being replaced


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
        cards = [path for path in root.glob(f"*/{CARD_NAME}") if not path.parent.name.startswith(".")]
        for card_path in sorted([*cards, *_between_renames(root)]):
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
        return _preferred_path() or _default_of_cards().path
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


def _preferred_path() -> Path | None:
    """Path of the model that $LWASR_MODEL or config.json names; None without one.

    Raises:
        ModelNotFoundError: the variable names no model. A file that names none is skipped, with a `CatalogWarning`.
    """
    preference = preferred_model()
    if preference is None:
        return None
    try:
        path = find_model(preference.model)
        if not path.is_file():
            raise ModelNotFoundError(f"model must be a file or the name of a model, got {preference.model!r:.100}")
    except (ModelNotFoundError, CatalogError) as error:
        if preference.is_variable:
            raise ModelNotFoundError(f"{preference.named_by}: {error}") from None
        remedy = "choose another with `lwasr models use NAME`"
        warnings.warn(f"{preference.named_by} was skipped, {error}: {remedy}", CatalogWarning, stacklevel=3)
        return None
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
    """The model that $LWASR_MODEL or config.json names; else the first whose card has "default": true, or the only one.

    Raises:
        ModelNotFoundError: there is no such model, the variable names a file that is in no model's folder, or this is
            a program of PyInstaller or a zip file without it.
        CatalogError: a card that cannot be read.
    """
    preferred = _preferred_path()
    return _default_of_cards() if preferred is None else _model_of(preferred)


def _default_of_cards() -> InstalledModel:
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


def _model_of(path: Path) -> InstalledModel:
    for model in installed_models():
        if model.path == path:
            return model
    for folder in (path.parent, *path.parent.parents[:1]):
        if (folder / CARD_NAME).is_file():
            model = InstalledModel(folder, read_card(folder / CARD_NAME))
            if model.path == path:
                return model
    raise ModelNotFoundError(f"the default model must be in a folder with a {CARD_NAME}, got {path}: name its folder")


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
