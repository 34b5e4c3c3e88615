"""This device among many: its settings, its stable identifier, and the indexes that it has seen."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.errors import CatalogError
from lwasr_edge.files import read_regular, write_bytes
from lwasr_edge.hub.catalog import user_models_dir
from lwasr_edge.hub.fleet.index import Index, Release
from lwasr_edge.hub.preference import config_path, read_config, write_config
from lwasr_edge.validate import shown

UPDATES, DEVICE = "updates", "device"  # keys of config.json
STATE_NAME = ".updates.json"  # in the user's models
MAX_STATE_BYTES = 1 << 16
# Of the board, so that copies of one memory card differ; then of the installed system.
IDENTIFIERS = ("/sys/firmware/devicetree/base/serial-number", "/etc/machine-id", "/var/lib/dbus/machine-id")


@dataclass(frozen=True)
class Updates:
    """What config.json says about updates.

    {"updates": {"source": "https://models.example/lwasr", "keys": ["base64"], "models": ["place"]}, "device": "hall-3"}
    """

    source: str = ""
    keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def read_updates() -> Updates:
    """The settings; empty ones without a file.

    Raises:
        CatalogError: they are something else.
    """
    value = read_config().get(UPDATES, {})
    try:
        source, keys, models = value.get("source", ""), value.get("keys", []), value.get("models", [])
        if not isinstance(source, str) or not all(
            isinstance(items, list) and all(isinstance(one, str) for one in items) for items in (keys, models)
        ):
            raise TypeError
    except (AttributeError, TypeError):
        example = {"source": "URL", "keys": ["KEY"], "models": ["NAME"]}
        raise CatalogError(
            f"{UPDATES} in {config_path()} must be like {json.dumps(example)}, got {shown(value)}: correct it"
        ) from None
    return Updates(source, tuple(keys), tuple(models))


def write_updates(updates: Updates) -> None:
    """Store the settings; raises CatalogError if the file cannot be written."""
    value: dict[str, Any] = {"source": updates.source, "keys": list(updates.keys), "models": list(updates.models)}
    write_config(**{UPDATES: value})


def device_id() -> str:
    """What distinguishes this device: `device` of config.json, the number of the board, that of the system.

    It is never sent. A device without any of them gets a random one, which is stored beside its models.
    """
    named = read_config().get(DEVICE)
    if isinstance(named, str) and named:
        return named
    for path in IDENTIFIERS:
        with suppress(OSError):
            if text := read_regular(Path(path), 1000).decode("ascii", "replace").strip("\0\n "):
                return text
    state = _read_state()
    if not isinstance(state.get(DEVICE), str):
        state[DEVICE] = os.urandom(16).hex()
        _write_state(state)
    return str(state[DEVICE])


def is_for(release: Release, device: str) -> bool:
    """Whether a release is for a device: the same answer each time, and other devices for each release."""
    if release.share >= 1:
        return True
    digest = hashlib.sha256("\0".join((release.name, release.version, device)).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") < release.share * 2**64


def note_index(index: Index) -> None:
    """Remember the number of an index that was checked.

    Raises:
        CatalogError: this device has seen a later one of the same key; or the note cannot be written.
    """
    state = _read_state()
    serials = state.setdefault("serials", {})
    seen = serials.get(index.key_id, 0)
    if index.serial < seen:
        raise CatalogError(
            f"the index must not be older than the last one, number {seen}, got number {index.serial} of "
            f"{index.created}: it may be an old copy, ask who publishes; nothing was used of it"
        )
    if index.serial > seen:
        serials[index.key_id] = index.serial
        _write_state(state)


def _read_state() -> dict[str, Any]:
    path = user_models_dir() / STATE_NAME
    try:
        state = json.loads(read_regular(path, MAX_STATE_BYTES))
        serials = state.get("serials", {})
        if not all(isinstance(serial, int) for serial in serials.values()):
            raise TypeError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        raise CatalogError(
            f"{path} must be a note of the last indexes, got other content: remove it; the next index is then accepted "
            "without regard to its age"
        ) from None
    return state


def _write_state(state: dict[str, Any]) -> None:
    path = user_models_dir() / STATE_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(state, indent=1).encode() + b"\n")
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
