"""Put releases of models into a folder for many devices, and sign its index."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

from lwasr_edge.errors import CatalogError
from lwasr_edge.files import sha256_of, sync, write_bytes
from lwasr_edge.hub.address import Directory
from lwasr_edge.hub.card import CARD_NAME, Card, CardFile, read_card
from lwasr_edge.hub.catalog import InstalledModel, installed_model, verify_model
from lwasr_edge.hub.fetch import ORIGIN, SIGNED_BY
from lwasr_edge.hub.fleet.index import INDEX_NAME, MAX_RELEASES, Index, Release, read_index, write_index
from lwasr_edge.hub.fleet.signing import SecretKey
from lwasr_edge.hub.install import sync_folder
from lwasr_edge.hub.versions import is_older
from lwasr_edge.validate import number, printable, shown


def publish_models(folder: Path, models: list[str], key: SecretKey, share: float = 1.0) -> Index:
    """Copy models into a folder and sign its new index.

    With a share below 1, the other devices keep what the index offered them before; the same version may be published
    again with another share. With share 1, earlier versions leave the index; their files stay, as devices may be
    fetching them. A process that is killed leaves the old or the new index.

    Args:
        folder: made if it does not exist.
        models: names of installed models, or folders with a card.json.
        key: signs; it must have signed the present index too.
        share: of the devices that take the release, 0..1.

    Raises:
        CatalogError: a model that is damaged, older than what is published or changed under the same version; an index
            that the key has not signed; or the folder cannot be written.
        MissingExtraError: PyNaCl is not installed.
    """
    share = number("--share", share, 0.0, 1.0)
    index = _present_index(folder, key)
    releases = index.releases
    found = [_find(model) for model in models]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for model in found:
            release = _release(model.card, share)
            releases = _merged(releases, release)
            _copy_files(model, release, folder / release.path)
        if len(releases) > MAX_RELEASES:
            raise CatalogError(f"releases must be at most {MAX_RELEASES}, got {len(releases)}: publish with --share 1")
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        # From the clock, so that a folder that was made anew continues: devices refuse a smaller number.
        new = Index(max(index.serial + 1, int(time.time())), created, releases, key.public.id)
        write_bytes(folder / INDEX_NAME, write_index(new, key))
        sync_folder(folder)
    except OSError as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"{folder} cannot be written: {error.strerror or error}") from error
    return new


def _present_index(folder: Path, key: SecretKey) -> Index:
    if not os.path.lexists(folder / INDEX_NAME):
        return Index(0, "", ())
    return read_index(Directory(folder), [key.public])  # what somebody else has changed is not signed


def _find(model: str) -> InstalledModel:
    path = Path(model)
    found = InstalledModel(path, read_card(path / CARD_NAME)) if path.is_dir() else installed_model(model)
    for file, verdict in verify_model(found):
        if verdict != "ok":
            raise CatalogError(f"{found.directory / file.path} must be as its card says, got: {verdict}")
    if not found.card.version or found.card.version != printable(found.card.version):
        raise CatalogError(
            f"version in {found.directory / CARD_NAME} must be printable text such as '1.2', got "
            f"{shown(found.card.version)}: devices need it to tell which is newer"
        )
    return found


def _card_bytes(card: Card) -> bytes:
    fields = {key: value for key, value in card.fields.items() if key not in (ORIGIN, SIGNED_BY)}
    return json.dumps(fields, indent=1).encode()


def _release(card: Card, share: float) -> Release:
    data = _card_bytes(card)
    digest = hashlib.sha256(data).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", card.version)[:50]
    path = f"{card.name}/v{plain}-{digest[:8]}"
    return Release(card.name, card.version, path, share, CardFile(CARD_NAME, digest, len(data)), card.files)


def _merged(releases: tuple[Release, ...], new: Release) -> tuple[Release, ...]:
    """The releases with a new one before those of its name."""
    same = [one for one in releases if one.name == new.name]
    for one in same:
        if one.version == new.version and one.files != new.files:
            raise CatalogError(
                f"version of {new.name!r} must change with its files, got {new.version} for other files than were "
                "published: give its card a new version"
            )
        if is_older(new.version, one.version):
            raise CatalogError(
                f"version of {new.name!r} must not be older than the published one, {one.version}, got {new.version}: "
                f"to end the release of {one.version}, publish it again with --share 0"
            )
    others = [one for one in releases if one.name != new.name]
    if new.share == 1:
        return (*others, new)
    return (*others, new, *(one for one in same if one.version != new.version))


def _copy_files(model: InstalledModel, release: Release, target: Path) -> None:
    """Copy a model beside `target` and rename it; a folder of that name has the same files, or is replaced."""
    for leftover in target.parent.glob(f".{target.name}.*.partial"):  # of a publication that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    if _is_complete(release, target):
        return
    staging = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
    try:
        for file in release.files:
            path = staging / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.directory / file.path, path)
            with path.open("rb+") as copied:
                sync(copied)
        write_bytes(staging / CARD_NAME, _card_bytes(model.card))
        if not _is_complete(release, staging):
            raise CatalogError(f"{model.directory} must not change while it is published, got other files: try again")
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_complete(release: Release, folder: Path) -> bool:
    """Whether a folder has the files of a release."""
    for file in (release.card, *release.files):
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            return False
    return True
