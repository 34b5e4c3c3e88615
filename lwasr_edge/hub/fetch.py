"""Fetch a model from a directory or a URL into the user's models: checked, resumable, all or nothing."""

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

Progress = Callable[[str, int, int], None]  # file, bytes there, bytes in all


def fetch_model(source: str | os.PathLike[str], *, sha256: str | None = None, progress: Progress | None = None) -> Path:
    """Copy a model into the user's models.

    Files are gathered in a hidden directory, checked against the card, and moved into place at the very end. After an
    interruption the next call goes on with what is already there.

    Args:
        source: a directory with a card.json, or the http(s) address of one.
        sha256: what the model file must have, in hexadecimal, known from elsewhere: the card's own sums guard against
            accidents, not against whoever wrote the card.
        progress: called while bytes arrive.

    Returns:
        The model's directory.

    Raises:
        CatalogError: the source cannot be read, or the disk not written.
        ChecksumError: a file is not what the card, or `sha256`, says.
    """
    origin = _Address(str(source)) if "://" in str(source) else _Directory(Path(source))
    card_bytes = origin.read_card()
    card = parse_card(card_bytes, f"{source}/{CARD_NAME}")
    if sha256 is not None and sha256.lower() != card.model_file.sha256:
        raise ChecksumError(
            f"the model file was expected to have the SHA-256 {sha256.lower()}; the card at {source} says "
            f"{card.model_file.sha256}: nothing was fetched"
        )
    root = user_models_dir()
    gathering = root / f".{card.name}.partial"
    try:
        gathering.mkdir(parents=True, exist_ok=True)
        for file in card.files:
            _fetch_file(origin, file, gathering / file.path, progress)
        write_bytes(gathering / CARD_NAME, card_bytes)
        return _move_into_place(gathering, root / card.name)
    except OSError as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"the model {card.name!r} cannot be stored in {root}: {error.strerror or error}") from error


class _Directory:
    """A model in a local directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.parent if directory.name == CARD_NAME else directory

    def read_card(self) -> bytes:
        read_card(self._directory / CARD_NAME)  # for its messages
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
            raise CatalogError(f"a model is fetched from a directory or an http(s) address; came {url!r}")
        self._base = url.removesuffix(CARD_NAME).rstrip("/")

    def read_card(self) -> bytes:
        response, _ = self.open(CARD_NAME, 0)
        with response:
            data = _read(response, MAX_CARD_BYTES + 1)
        if len(data) > MAX_CARD_BYTES:
            raise CatalogError(f"{self._base}/{CARD_NAME} is over {MAX_CARD_BYTES} bytes: not a model card")
        return data

    def open(self, path: str, first_byte: int) -> tuple[BinaryIO, int]:
        """Return the open response and the byte it starts at: 0 if the server cannot resume."""
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
    """Bring one file to `target`, going on with the part that is there; from the start, if that part was another's."""
    if target.is_file() and _is_whole(target, file):
        return
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    for first_byte in dict.fromkeys((have if have < file.size else 0, 0)):
        count = _copy(origin, file, part, first_byte, progress)
        if count < file.size:
            raise CatalogError(
                f"{file.path} broke off after {count} of {file.size} bytes: run the command again to resume"
            )
        if _is_whole(part, file):
            part.replace(target)
            return
        part.unlink()
    raise ChecksumError(f"{file.path} is not the file that the card describes (size or SHA-256): it was deleted")


def _copy(origin: _Directory | _Address, file: CardFile, part: Path, first_byte: int, progress: Progress | None) -> int:
    """Copy from `first_byte` on; return the size reached, at most a block over what the card says."""
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


def _is_whole(path: Path, file: CardFile) -> bool:
    return path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _read(source: BinaryIO, size: int) -> bytes:
    try:
        return source.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise CatalogError(f"the connection broke ({error}): run the command again to resume") from error


def _move_into_place(gathering: Path, target: Path) -> Path:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    gathering.replace(target)
    shutil.rmtree(old, ignore_errors=True)
    return target
