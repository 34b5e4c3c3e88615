"""Choose, roll back and remove installed models; every step leaves a model that works, also after a power cut."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.errors import CatalogError
from lwasr_edge.files import read_regular, write_file
from lwasr_edge.hub import catalog
from lwasr_edge.hub.card import CARD_NAME, PLAIN_NAME, Card, CardFile, read_card
from lwasr_edge.hub.install import exchange_with_previous, previous_folder, remove_model_folder
from lwasr_edge.hub.preference import BEFORE, CHANGE, MODEL, read_config, write_config

USE, INSTALL = "use", "install"  # kinds of the last change
LEFT_NAME = ".rolled-back.json"  # in the user's models
MAX_LEFT, MAX_LEFT_BYTES = 100, 1 << 20  # versions of a model


@dataclass(frozen=True)
class Change:
    """What a command changed, for its message; None where nothing was or is chosen."""

    kind: str  # "default" or "version"
    name: str  # of the model
    before: str | None
    after: str | None


def is_older(version: str, other: str) -> bool:
    """Whether a version is older than another, as "1.9" is than "1.10"; False for versions without numbers."""
    numbers, others = ([int(part) for part in re.findall(r"\d{1,18}", one)] for one in (version, other))
    length = max(len(numbers), len(others))
    filled = [one + [0] * (length - len(one)) for one in (numbers, others)]
    return bool(numbers and others) and filled[0] < filled[1]


def previous_version(folder: Path) -> Card | None:
    """The card of the version before of a model in `folder`; None if there is none."""
    try:
        return read_card(previous_folder(folder) / CARD_NAME)
    except CatalogError:
        return None


def was_rolled_back(name: str, files: tuple[CardFile, ...]) -> bool:
    """Whether this user went back from a version of a model with these files, and not to it again."""
    return _identity(files) in _left_versions().get(name, [])


def _left_versions() -> dict[str, list[str]]:
    """By model, the versions that were rolled back, the newest last; none where the file is damaged."""
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        found = json.loads(read_regular(catalog.user_models_dir() / LEFT_NAME, MAX_LEFT_BYTES))
        return {name: [one for one in left if isinstance(one, str)] for name, left in found.items()}
    return {}


def _note_roll_back(name: str, left: Card, now: Card) -> None:
    known = _left_versions()
    wanted = {_identity(left.files), _identity(now.files)}
    known[name] = [*(one for one in known.get(name, []) if one not in wanted), _identity(left.files)][-MAX_LEFT:]
    write_file(catalog.user_models_dir() / LEFT_NAME, json.dumps(known) + "\n")


def _identity(files: tuple[CardFile, ...]) -> str:
    return hashlib.sha256("".join(sorted(f"{one.path} {one.sha256}\n" for one in files)).encode()).hexdigest()


def note_installation(name: str) -> None:
    """Remember that a version of a model was replaced: `roll_back` without a name undoes the last change.

    Raises:
        CatalogError: the settings cannot be written.
    """
    write_config(**{CHANGE: {"kind": INSTALL, "name": name}})


def use_model(name: str) -> Change:
    """Make an installed model the default of this user.

    Raises:
        ModelNotFoundError: no such model.
        CatalogError: the settings cannot be written.
    """
    catalog.installed_model(name)
    before = read_config().get(MODEL)
    if before != name:
        write_config(**{MODEL: name, BEFORE: before, CHANGE: {"kind": USE, "name": name}})
    return Change("default", name, before, name)


def roll_back(name: str | None = None) -> Change:
    """Return to the version before of a model; without a name, undo the last `use_model` or replacement.

    A second call undoes the first.

    Raises:
        ModelNotFoundError: no such model.
        CatalogError: there is nothing to return to, or no permission.
    """
    config = read_config()
    last = config.get(CHANGE)
    kind, changed = (last.get("kind"), last.get("name")) if isinstance(last, dict) else (None, None)
    if name is None and kind == USE:
        before, now = config.get(BEFORE), config.get(MODEL)
        if before is not None:
            catalog.installed_model(before)
        write_config(**{MODEL: before, BEFORE: now})
        return Change("default", before or "", now, before)
    if name is None:
        name = changed if kind == INSTALL and isinstance(changed, str) else catalog.default_model().card.name
    folder = _users_folder(name)
    previous = previous_version(folder)
    if previous is None:
        raise CatalogError(f"{name!r} must have a version before to go back to, got none: install one")
    left = read_card(folder / CARD_NAME)
    try:
        _note_roll_back(name, left, previous)
        exchange_with_previous(folder)
    except OSError as error:
        raise CatalogError(f"{folder} cannot be exchanged: {error.strerror or error}") from error
    return Change("version", name, left.version, previous.version)


def remove_model(name: str) -> Path:
    """Remove a model of the user and its version before; the default is then the one of the package again.

    Returns:
        The folder that was removed.

    Raises:
        ModelNotFoundError: no such model.
        CatalogError: it is part of the package, or there is no permission.
    """
    folder = _users_folder(name)
    config = read_config()
    reset = {key: None for key in (MODEL, BEFORE) if config.get(key) == name}
    if reset:
        write_config(**reset)
    try:
        remove_model_folder(folder)
    except OSError as error:
        raise CatalogError(f"{folder} cannot be removed: {error.strerror or error}") from error
    return folder


def _users_folder(name: str) -> Path:
    """The folder of a model that the user installed, which has the model's name or another."""
    root = catalog.user_models_dir()
    model = catalog.installed_model(name)
    if model.directory.parent != root or not PLAIN_NAME.fullmatch(model.directory.name):
        raise CatalogError(
            f"the model must be one that was installed, got {name!r} in {model.directory}: leave it there"
        )
    return model.directory
