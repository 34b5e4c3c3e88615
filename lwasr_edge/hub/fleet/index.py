"""The index of a folder of models for many devices: one JSON file, signed, with every release and its share of devices.

    {"signed": {"format": 1, "serial": 1795870000, "created": "2026-11-28T12:00:00+00:00", "releases": [
       {"name": "place", "version": "2", "path": "place/v2-1f3a9c2b", "share": 0.1,
        "card": {"path": "card.json", "sha256": "...", "bytes": 900},
        "files": [{"path": "model.int8.onnx.gz", "sha256": "...", "bytes": 7000000}]}]},
     "key": "0123456789abcdef", "signature": "base64"}

Releases are in the order of preference: a device takes the first of a name that is for it. What is signed is the value
of "signed", written by `signed_bytes`; a reader uses nothing else of the file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lwasr_edge.errors import CatalogError
from lwasr_edge.hub.address import Source
from lwasr_edge.hub.card import CARD_NAME, MAX_FILES, MAX_PATH, PLAIN_NAME, CardFile, card_file, check_paths
from lwasr_edge.hub.fleet.signing import PublicKey, SecretKey
from lwasr_edge.validate import number, shown, whole_number

INDEX_NAME = "index.json"
MAX_INDEX_BYTES = 1 << 20
MAX_RELEASES = 500
MAX_TEXT = 100  # characters of a version and of a time
FORMAT = 1


@dataclass(frozen=True)
class Release:
    """One version of a model in the folder."""

    name: str
    version: str
    path: str  # of its folder, relative to the index
    share: float  # of the devices, 0..1
    card: CardFile
    files: tuple[CardFile, ...]  # as the card lists them

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.card.size + sum(file.size for file in self.files)


@dataclass(frozen=True)
class Index:
    """All releases, the preferred ones first."""

    serial: int  # larger in each later index of the same key
    created: str  # ISO 8601, UTC
    releases: tuple[Release, ...]
    key_id: str = ""  # of the key whose signature was checked; "" without a check

    def names(self) -> list[str]:
        """Names of the models, each once."""
        return list(dict.fromkeys(release.name for release in self.releases))


def signed_bytes(signed: Any) -> bytes:
    """The bytes that are signed: ASCII, sorted keys, no blanks."""
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def write_index(index: Index, key: SecretKey) -> bytes:
    """The signed file of an index."""
    releases = [{**asdict(release), **_files_of(release)} for release in index.releases]
    signed = {"format": FORMAT, "serial": index.serial, "created": index.created, "releases": releases}
    signature = base64.b64encode(key.sign(signed_bytes(signed))).decode()
    return json.dumps({"signed": signed, "key": key.public.id, "signature": signature}, indent=1).encode() + b"\n"


def _files_of(release: Release) -> dict[str, Any]:
    def entry(file: CardFile) -> dict[str, Any]:
        return {"path": file.path, "sha256": file.sha256, "bytes": file.size}

    return {"card": entry(release.card), "files": [entry(file) for file in release.files]}


def read_index(source: Source, keys: Sequence[PublicKey] | None) -> Index:
    """Read the index of a folder or address, and check its signature.

    Args:
        source: where the index is.
        keys: one of which must have signed it; None to check no signature, for display alone.

    Raises:
        CatalogError: it cannot be read, is no index, or is not signed by one of the keys.
        MissingExtraError: PyNaCl is not installed.
    """
    where = f"{source.origin}/{INDEX_NAME}"
    return parse_index(source.read(INDEX_NAME, MAX_INDEX_BYTES), where, keys)


def parse_index(data: bytes, source: str, keys: Sequence[PublicKey] | None) -> Index:
    """Read an index from bytes; `source` is for messages. See `read_index`."""
    try:
        envelope = json.loads(data)
        message = signed_bytes(envelope["signed"])
        signer = None if keys is None else _signer(envelope, message, source, keys)
        # The bytes whose signature was checked are read again: nothing else of the file is used.
        return _index(json.loads(message), "" if signer is None else signer.id)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CatalogError(f"{source} must be an index of models, got other content: {reason}") from None


def _signer(envelope: dict[str, Any], message: bytes, source: str, keys: Sequence[PublicKey]) -> PublicKey:
    ids = " or ".join(key.id for key in keys)
    if not envelope.get("signature"):
        raise CatalogError(f"{source} must be signed by the key {ids}, got no signature: nothing was used of it")
    try:
        signature = base64.b64decode(envelope["signature"], validate=True)
    except (ValueError, TypeError, binascii.Error):
        signature = b""
    for key in keys:
        if key.has_signed(message, signature):
            return key
    named = shown(envelope.get("key"))
    raise CatalogError(
        f"{source} must be signed by the key {ids}, got another signature (of {named}): nothing was used of it"
    )


def _index(signed: dict[str, Any], key_id: str) -> Index:
    if signed["format"] != FORMAT:
        raise ValueError(f"format must be {FORMAT}, got {shown(signed['format'])}: pip install --upgrade lwasr-edge")
    releases = signed["releases"]
    if not isinstance(releases, list) or len(releases) > MAX_RELEASES:
        raise ValueError(f"releases must be a list of at most {MAX_RELEASES}, got {shown(releases)}")
    found = tuple(_release(entry) for entry in releases)
    if len({(release.name, release.version) for release in found}) < len(found):
        raise ValueError("each name and version must be there once, got one twice")
    serial = whole_number("serial", signed["serial"], 0, 1 << 53)
    return Index(serial, _short("created", signed["created"]), found, key_id)


def _release(entry: dict[str, Any]) -> Release:
    name, path = _short("name", entry["name"]), _short("path", entry["path"], MAX_PATH)
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"name must be of letters, digits, '.', '_' and '-', got {shown(name)}")
    if not all(map(PLAIN_NAME.fullmatch, path.split("/"))):
        raise ValueError(f"path must be inside the folder of the index, got {shown(path)}")
    files = entry["files"]
    if not isinstance(files, list) or not 0 < len(files) <= MAX_FILES:
        raise ValueError(f"files must be a list of 1 to {MAX_FILES}, got {shown(files)}")
    listed = tuple(card_file(file) for file in files)
    check_paths(listed, f"{name} {entry['version']!s:.100}")
    card = card_file(entry["card"])
    if card.path != CARD_NAME:
        raise ValueError(f"card must be {CARD_NAME}, got {shown(card.path)}")
    share = number("share", entry["share"], 0.0, 1.0)
    return Release(name, _short("version", entry["version"]), path, share, card, listed)


def _short(name: str, value: Any, limit: int = MAX_TEXT) -> str:
    """A printable string."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise TypeError(f"{name} must be a printable string of at most {limit} characters, got {shown(value)}")
    return value
