"""Install a model from a folder or a URL: verified, resumable, and atomic."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lwasr_edge.errors import CatalogError, ChecksumError
from lwasr_edge.files import sha256_of, sync, write_bytes
from lwasr_edge.hub.catalog import CARD_NAME, CardFile, parse_card, read_card, user_models_dir

MAX_CARD_BYTES = 1 << 20
TIMEOUT_S = 30.0
BLOCK_BYTES = 1 << 16

Progress = Callable[[str, int, int], None]  # file, bytes copied, bytes in total


def fetch_model(source: str | os.PathLike[str], *, sha256: str | None = None, progress: Progress | None = None) -> Path:
    """Copy a model into the user's models.

    Files are copied to a hidden staging folder, verified against the card, and moved into place at the end. After an
    interruption the next call resumes.

    Args:
        source: a folder with a card.json, or its http(s) address.
        sha256: expected of the model file, in hexadecimal, from a trusted source: the checksums in the card protect
            against damage, not against the card's author.
        progress: called while bytes arrive.

    Returns:
        The model's folder.

    Raises:
        CatalogError: the source cannot be read, or the disk cannot be written.
        ChecksumError: a file has another SHA-256 than the card or `sha256`.
    """
    origin = _Address(str(source)) if "://" in str(source) else _Directory(Path(source))
    card_bytes = origin.read_card()
    card = parse_card(card_bytes, f"{source}/{CARD_NAME}")
    if sha256 is not None and sha256.lower() != card.model_file.sha256:
        raise ChecksumError(
            f"SHA-256 of the model file must be {sha256.lower()}, got {card.model_file.sha256} in the card: "
            f"nothing was fetched from {source}"
        )
    root = user_models_dir()
    staging = root / f".{card.name}.partial"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        for file in card.files:
            _fetch_file(origin, file, staging / file.path, progress)
        write_bytes(staging / CARD_NAME, card_bytes)
        return _move_into_place(staging, root / card.name)
    except OSError as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"the model {card.name!r} cannot be stored in {root}: {error.strerror or error}") from error


class _Directory:
    """A model in a local folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.parent if directory.name == CARD_NAME else directory

    def read_card(self) -> bytes:
        read_card(self._directory / CARD_NAME)  # raises CatalogError with the path
        return (self._directory / CARD_NAME).read_bytes()

    def open(self, path: str, first_byte: int) -> tuple[BinaryIO, int]:
        try:
            file = (self._directory / path).open("rb")
        except OSError as error:
            raise CatalogError(f"{self._directory / path} cannot be read: {error.strerror}") from error
        file.seek(first_byte)
        return file, first_byte


class _Address:
    """A model at an http(s) address."""

    def __init__(self, url: str) -> None:
        scheme = urllib.parse.urlsplit(url).scheme.lower()
        if scheme not in ("http", "https"):
            raise CatalogError(f"source must be a folder or an http(s) address, got {url!r}")
        self._base = url.removesuffix(CARD_NAME).rstrip("/")

    def read_card(self) -> bytes:
        response, _ = self.open(CARD_NAME, 0)
        with response:
            data = _read(response, MAX_CARD_BYTES + 1)
        if len(data) > MAX_CARD_BYTES:
            raise CatalogError(
                f"{self._base}/{CARD_NAME} is larger than {MAX_CARD_BYTES} bytes: it is not a model card"
            )
        return data

    def open(self, path: str, first_byte: int) -> tuple[BinaryIO, int]:
        """Return the open response and its first byte: 0 if the server cannot resume."""
        url = f"{self._base}/{urllib.parse.quote(path)}"
        headers = {"User-Agent": "lwasr-edge"} | ({"Range": f"bytes={first_byte}-"} if first_byte else {})
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise CatalogError(f"{url}: the server answered {error.code} {error.reason}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CatalogError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error
        return response, first_byte if response.status == 206 else 0


def _fetch_file(origin: _Directory | _Address, file: CardFile, target: Path, progress: Progress | None) -> None:
    """Copy one file to `target`, resuming a partial copy; from the start if that was of another file."""
    if target.is_file() and _is_complete(target, file):
        return
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
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


def _copy(origin: _Directory | _Address, file: CardFile, part: Path, first_byte: int, progress: Progress | None) -> int:
    """Copy from `first_byte` on; return the size of the copy, at most one block more than in the card."""
    source, start = origin.open(file.path, first_byte)
    with source, part.open("r+b" if start else "wb") as sink:
        sink.seek(start)
        while sink.tell() <= file.size and (block := _read(source, BLOCK_BYTES)):
            sink.write(block)
            if progress is not None:
                progress(file.path, sink.tell(), file.size)
        sink.truncate()
        sync(sink)
        return sink.tell()


def _is_complete(path: Path, file: CardFile) -> bool:
    return path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _read(source: BinaryIO, size: int) -> bytes:
    try:
        return source.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise CatalogError(f"the connection was lost ({error}): run the command again to resume") from error


def _move_into_place(staging: Path, target: Path) -> Path:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    staging.replace(target)
    shutil.rmtree(old, ignore_errors=True)
    return target
