"""Install a model from a folder or a URL: verified, tried, resumable, and atomic."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from lwasr_edge.errors import CatalogError, CatalogWarning, ChecksumError, ModelNotFoundError
from lwasr_edge.files import sha256_of, sync, write_bytes
from lwasr_edge.hub import catalog
from lwasr_edge.hub.address import Source, open_source, read_block
from lwasr_edge.hub.card import CARD_NAME, PART_SUFFIX, Card, CardFile, parse_card, read_card
from lwasr_edge.hub.install import keep_only, replace_folder, staging_folder
from lwasr_edge.hub.trial import try_model
from lwasr_edge.hub.versions import is_older, note_installation

MAX_TOTAL_BYTES = 1 << 30  # of a model's files together
SPARE_BYTES = 1 << 20  # of the disk
ORIGIN, SIGNED_BY = "fetched_from", "signed_by"  # fields of an installed card

Progress = Callable[[str, int, int], None]  # file, bytes copied, bytes in total


def fetch_model(
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Copy a model into the user's models.

    Files are copied to a hidden staging folder, verified against the card, tried, and moved into place at the end.
    After an interruption the next call resumes. If the default model is another one afterwards, a `CatalogWarning` says
    so.

    Args:
        source: a folder with a card.json, or its http(s) address.
        sha256: expected of the model file, in hexadecimal, from a trusted source: the checksums in the card protect
            against damage, not against the card's author.
        replace: also replace a model of the package, one that was fetched from elsewhere, and a newer version. Without
            it, only another version from the same folder or server path (of the source or beside it) is replaced. The
            version that is replaced is kept, see `hub.versions.roll_back`.
        progress: called while bytes arrive.

    Returns:
        The model's folder.

    Raises:
        CatalogError: the source cannot be read, is too slow or too large; the disk cannot be written or is too small;
            there is a model of that name from elsewhere; or the model does not run.
        ChecksumError: a file has another SHA-256 than the card or `sha256`.
    """
    origin = open_source(str(source))
    card = parse_card(origin.read_card(), f"{source}/{CARD_NAME}")
    if sha256 is not None and sha256.lower() != card.model_file.sha256:
        raise ChecksumError(
            f"SHA-256 of the model file must be {sha256.lower()}, got {card.model_file.sha256} in the card: "
            f"nothing was fetched from {source}"
        )
    named_origin = origin.origin if replace else origin_of_new(card, origin.origin, origin.siblings)
    if not replace:
        _refuse_older(card)
    return install_card(origin, card, named_origin, None, progress)


def install_card(
    origin: Source, card: Card, named_origin: str, signed_by: str | None, progress: Progress | None = None
) -> Path:
    """Copy the files of a card, check and try them, and make them the installed version.

    Args:
        origin: where the files are.
        card: checked by the caller, which also decides whether it may replace what is installed.
        named_origin: what the installed card will name as its origin.
        signed_by: identifier of the key that signed the card; None for none.
        progress: see `fetch_model`.

    Returns:
        The model's folder.

    Raises:
        CatalogError, ChecksumError: see `fetch_model`.
    """
    root = catalog.user_models_dir()
    default_before = _default_name()
    try:
        with staging_folder(root, card.name) as staging:
            _fetch_files(origin, card, staging, progress)
            _write_card(card, {ORIGIN: named_origin, SIGNED_BY: signed_by}, staging)
            _try(staging, card, f"the model {card.name!r} from {origin.origin}")
            before = installed_card(card.name)
            replace_folder(staging, root / card.name, keep=before is not None and before.files != card.files)
        if before is not None and before.files != card.files:
            _note(card.name)
    except OSError as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"the model {card.name!r} cannot be stored in {root}: {error.strerror or error}") from error
    _warn_of_another_default(default_before, root / card.name)
    return root / card.name


def origin_of_new(card: Card, origin: str, siblings: str) -> str:
    """The origin that an installed card will name, if it may replace the model that has its name now.

    The same files from elsewhere are no replacement: the card keeps the first origin.

    Raises:
        CatalogError: a model from elsewhere has the name.
    """
    users, packaged = catalog.user_models_dir(), catalog.packaged_models_dir()
    for folder, where in ((users, "was fetched from elsewhere"), (packaged, "is part of the package")):
        try:
            installed = read_card(folder / card.name / CARD_NAME)
        except CatalogError:  # there is none, or it cannot be used
            continue
        came_from = str(installed.fields.get(ORIGIN, ""))
        if came_from and _parent(came_from) == siblings:
            return origin
        if installed.files == card.files:
            return came_from
        raise CatalogError(
            f"name must be that of no other model, got {card.name!r}, which {where}: pass --replace (replace=True) to "
            "use the fetched model instead"
        )
    return origin


def _refuse_older(card: Card) -> None:
    installed = installed_card(card.name)
    if installed is not None and is_older(card.version, installed.version):
        raise CatalogError(
            f"version of {card.name!r} must not be older than the installed one, {installed.version}, got "
            f"{card.version}: pass --replace (replace=True), or go back with `lwasr models rollback {card.name}`"
        )


def installed_card(name: str) -> Card | None:
    """The card of the user's model of that name; None if there is none, or it cannot be used."""
    try:
        return read_card(catalog.user_models_dir() / name / CARD_NAME)
    except CatalogError:
        return None


def _fetch_files(origin: Source, card: Card, staging: Path, progress: Progress | None) -> None:
    """Copy the files of a card.

    Raises:
        CatalogError, OSError: see `fetch_model`.
    """
    keep_only(staging, [file.path for file in card.files])
    _check_space(card, staging)
    try:
        for file in card.files:
            _fetch_file(origin, file, staging / file.path, progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            shutil.rmtree(staging, ignore_errors=True)  # the disk must not stay full
        raise


def _write_card(card: Card, added: dict[str, str | None], staging: Path) -> None:
    """Write the card with fields of this machine instead of those that it may have brought."""
    fields = {key: value for key, value in {**card.fields, **added}.items() if key not in added or value is not None}
    try:
        text = json.dumps(fields, indent=1)
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"the card of {card.name!r} cannot be written: {error}") from error
    write_bytes(staging / CARD_NAME, text.encode())


def _try(staging: Path, card: Card, name: str) -> None:
    try:
        try_model(staging / card.model_file.path, name)
    except CatalogError:
        shutil.rmtree(staging, ignore_errors=True)  # there is nothing to resume
        raise


def _check_space(card: Card, staging: Path) -> None:
    total = sum(file.size for file in card.files)
    if total > MAX_TOTAL_BYTES:
        raise CatalogError(
            f"a model must have at most {MAX_TOTAL_BYTES >> 20} MB, got {total >> 20} MB in the card of {card.name!r}: "
            "nothing was fetched"
        )
    present = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    free = shutil.disk_usage(staging).free
    if total - present + SPARE_BYTES > free:
        raise CatalogError(
            f"the model {card.name!r} needs {total >> 20} MB in {staging.parent}, got {free >> 20} MB: free some"
        )


def _fetch_file(origin: Source, file: CardFile, target: Path, progress: Progress | None) -> None:
    """Copy one file to `target`, resuming a partial copy; from the start if that was of another file."""
    if target.is_file() and _is_complete(target, file):
        return
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + PART_SUFFIX)
    have = part.stat().st_size if part.is_file() else 0
    for first_byte in dict.fromkeys((have if have < file.size else 0, 0)):
        count = _copy(origin, file, part, first_byte, progress)
        if count < file.size:
            raise CatalogError(f"{file.path} ended after {count} of {file.size} bytes: run the command again to resume")
        if _is_complete(part, file):
            part.replace(target)
            return
        part.unlink()
    raise ChecksumError(
        f"{file.path} must have the size and SHA-256 in the card, got others: the download was discarded; an installed "
        "version is unchanged"
    )


def _copy(origin: Source, file: CardFile, part: Path, first_byte: int, progress: Progress | None) -> int:
    """Copy from `first_byte` on; return the size of the copy, at most one block more than in the card."""
    source, start = origin.open(file.path, first_byte)
    with source, part.open("r+b" if start else "wb") as sink:
        sink.seek(start)
        while sink.tell() <= file.size and (block := read_block(source)):
            sink.write(block)
            if progress is not None:
                progress(file.path, sink.tell(), file.size)
        sink.truncate()
        sync(sink)
        return sink.tell()


def _is_complete(path: Path, file: CardFile) -> bool:
    return path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _parent(origin: str) -> str:
    return origin.rpartition("/")[0] if "://" in origin else str(Path(origin).parent)


def _default_name() -> str | None:
    with warnings.catch_warnings(), contextlib.suppress(ModelNotFoundError, CatalogError):
        warnings.simplefilter("ignore")
        return catalog.default_model().card.name
    return None


def _note(name: str) -> None:
    """Remember the replacement; it is done, whatever the settings are."""
    try:
        note_installation(name)
    except CatalogError as error:
        text = f"{name!r} was replaced, but `lwasr models rollback` will need its name: {error}"
        warnings.warn(text, CatalogWarning, stacklevel=5)


def _warn_of_another_default(before: str | None, folder: Path) -> None:
    now = _default_name()
    if before not in (None, now):
        found = "there is no default model now" if now is None else f"the default model is now {now!r}"
        warnings.warn(f"{found}, before it was {before!r}: remove {folder} to undo this", CatalogWarning, stacklevel=4)
