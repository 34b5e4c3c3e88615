"""Take the releases that an index has for this device."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lwasr_edge.errors import CatalogError, ChecksumError
from lwasr_edge.hub.address import Source, open_source
from lwasr_edge.hub.card import CARD_NAME, Card, parse_card
from lwasr_edge.hub.fetch import SIGNED_BY, Progress, install_card, installed_card, origin_of_new
from lwasr_edge.hub.fleet.device import device_id, is_for, note_index
from lwasr_edge.hub.fleet.index import INDEX_NAME, Index, Release, read_index
from lwasr_edge.hub.fleet.signing import PublicKey
from lwasr_edge.hub.versions import is_older, was_rolled_back

INSTALLED, CURRENT, NEWER, ROLLED_BACK, NONE = "installed", "current", "newer", "rolled back", "none"


@dataclass(frozen=True)
class Outcome:
    """What an update did with one model."""

    kind: str  # one of the constants above
    name: str
    offered: str  # version that the index has for this device; "" for none
    installed: str  # version that was there before; "" for none


@dataclass(frozen=True)
class Fleet:
    """An index, where it came from, and which device reads it."""

    source: Source
    index: Index
    device: str
    trusted: frozenset[str] = frozenset()  # identifiers of all keys of this device

    def release(self, name: str) -> Release | None:
        """The release of a model for this device; None if there is none."""
        return next((one for one in self.index.releases if one.name == name and is_for(one, self.device)), None)


def open_fleet(source: str, keys: Sequence[PublicKey] | None) -> Fleet:
    """Read and check the index of a folder or address.

    Args:
        source: a folder or http(s) address, or its index.json.
        keys: one of them must have signed it; None for an index that is only shown.

    Raises:
        CatalogError: it cannot be read, is not signed by a key, or is older than the last one that this device has
            seen of the same key, from whatever source.
        MissingExtraError: PyNaCl is not installed.
    """
    opened = open_source(source.removesuffix(INDEX_NAME) or ".")
    index = read_index(opened, keys)
    if keys is not None:
        note_index(index)
    return Fleet(opened, index, device_id(), frozenset(key.id for key in keys or ()))


def update_model(fleet: Fleet, name: str, *, replace: bool = False, progress: Progress | None = None) -> Outcome:
    """Install the release of a model that is for this device, if it is another than the installed one.

    A version that was rolled back on this device, and an older one, are not installed.

    Args:
        fleet: with an index that was checked.
        name: of the model.
        replace: also replace a model of the package, and one that came from elsewhere.
        progress: see `fetch_model`.

    Raises:
        CatalogError: no such model in the index, one that came from elsewhere, or see `fetch_model`.
        ChecksumError: a file is not that of the index.
    """
    if not fleet.index.key_id:
        raise CatalogError("the index must be checked with a key before its models are installed, got none")
    if name not in fleet.index.names():
        raise CatalogError(f"the model must be one of the index ({_listed(fleet.index)}), got {name!r}")
    release, installed = fleet.release(name), installed_card(name)
    present = "" if installed is None else installed.version
    if release is None:
        return Outcome(NONE, name, "", present)
    if installed is not None:
        kind = _why_not(release, installed, name)
        if kind is not None:
            return Outcome(kind, name, release.version, present)
    origin = fleet.source.folder(release.path)
    card = _card(origin, release)
    named_origin = origin.origin
    is_ours = installed is not None and str(installed.fields.get(SIGNED_BY)) in fleet.trusted
    if not replace and not is_ours:
        named_origin = origin_of_new(card, origin.origin, origin.siblings)
    install_card(origin, card, named_origin, fleet.index.key_id, progress)
    return Outcome(INSTALLED, name, release.version, present)


def names_to_update(index: Index, wanted: Sequence[str]) -> list[str]:
    """The models of this device: those that are wanted; else those of the index that the user has installed.

    Raises:
        CatalogError: there are none.
    """
    names = list(dict.fromkeys(wanted)) or [name for name in index.names() if installed_card(name) is not None]
    if not names:
        raise CatalogError(f"a model of the index must be named the first time, got none: --model {_listed(index)}")
    return names


def _listed(index: Index) -> str:
    names = index.names()
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "") or "none"


def _why_not(release: Release, installed: Card, name: str) -> str | None:
    """Why a release does not replace what is installed; None if it does."""
    if installed.files == release.files and installed.version == release.version:
        return CURRENT
    if is_older(release.version, installed.version):
        return NEWER
    return ROLLED_BACK if was_rolled_back(name, release.files) else None


def _card(origin: Source, release: Release) -> Card:
    data = origin.read_card()
    if hashlib.sha256(data).hexdigest() != release.card.sha256:
        raise ChecksumError(
            f"{origin.origin}/{CARD_NAME} must be the card of the index, got another SHA-256: not installed"
        )
    card = parse_card(data, f"{origin.origin}/{CARD_NAME}")
    if (card.name, card.version, card.files) != (release.name, release.version, release.files):
        raise CatalogError(f"{origin.origin}/{CARD_NAME} must describe what the index does, got other content")
    return card
