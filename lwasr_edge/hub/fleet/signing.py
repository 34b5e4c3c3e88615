"""Ed25519 signatures with PyNaCl (libsodium), and their key files: one line of a name and 32 bytes in base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.errors import CatalogError, MissingExtraError
from lwasr_edge.files import read_regular, sync
from lwasr_edge.validate import shown

SECRET, PUBLIC = "lwasr-secret-key", "lwasr-public-key"
PUBLIC_SUFFIX = ".pub"
MAX_KEY_BYTES = 1000
KEY_BYTES = 32
DOMAIN = b"lwasr-edge index 1\n"  # before each message: a signature of something else is none of an index


@dataclass(frozen=True)
class PublicKey:
    """What a device needs to check signatures; it is no secret."""

    data: bytes  # 32 bytes

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.data).hexdigest()[:16]

    @property
    def line(self) -> str:
        """The line of its file."""
        return f"{PUBLIC} {base64.b64encode(self.data).decode()}"

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether a signature is that of the message by the secret key.

        Raises:
            MissingExtraError: PyNaCl is not installed.
        """
        nacl = _nacl()
        try:
            nacl.signing.VerifyKey(self.data).verify(DOMAIN + message, signature)
        except (nacl.exceptions.CryptoError, ValueError, TypeError):
            return False
        return True


@dataclass(frozen=True)
class SecretKey:
    """What signs; it stays with the person who publishes."""

    seed: bytes  # 32 bytes

    @property
    def public(self) -> PublicKey:
        """The key for the devices."""
        return PublicKey(bytes(_nacl().signing.SigningKey(self.seed).verify_key))

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        return bytes(_nacl().signing.SigningKey(self.seed).sign(DOMAIN + message).signature)


def make_keys(path: Path) -> PublicKey:
    """Make a pair of keys: the secret one in `path`, which only its owner may read, the public one in `path`.pub.

    Raises:
        CatalogError: one of the files exists, or cannot be written.
        MissingExtraError: PyNaCl is not installed.
    """
    secret = SecretKey(os.urandom(KEY_BYTES))
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for target in (path, public_path):
        if os.path.lexists(target):
            raise CatalogError(f"{target} must not exist, got a file: name another, as a lost key cannot be remade")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{SECRET} {base64.b64encode(secret.seed).decode()}\n".encode())
            sync(file)
        public_path.write_text(secret.public.line + "\n", encoding="ascii")
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
    return secret.public


def read_secret(path: Path) -> SecretKey:
    """Read the secret key of a file.

    Raises:
        CatalogError: it cannot be read, or is something else.
    """
    return SecretKey(_parse(_read(path), SECRET, f"{path}"))


def read_public(key: str) -> PublicKey:
    """Read a public key: its line, the base64 of it, or a file with the line.

    Raises:
        CatalogError: it is something else, or the file cannot be read.
    """
    words = key.split()
    if len(words) == 1 and len(words[0]) == 44 and words[0].endswith("="):
        return PublicKey(_parse(f"{PUBLIC} {words[0]}", PUBLIC, "the public key"))
    if words[:1] in ([PUBLIC], [SECRET]):
        return PublicKey(_parse(key, PUBLIC, "the public key"))
    return PublicKey(_parse(_read(Path(key)), PUBLIC, key))


def _read(path: Path) -> str:
    try:
        return read_regular(path, MAX_KEY_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise CatalogError(f"the key {path} cannot be read: {error.strerror}") from error


def _parse(text: str, kind: str, source: str) -> bytes:
    words = text.split()
    other = PUBLIC if kind == SECRET else SECRET
    if words[:1] == [other]:  # its bytes are not shown
        remedy = f"name the file {'without' if kind == SECRET else 'with'} {PUBLIC_SUFFIX}"
        raise CatalogError(f"{source} must be a {kind}, got a {other}: {remedy}")
    try:
        if len(words) != 2 or words[0] != kind:
            raise ValueError
        data = base64.b64decode(words[1], validate=True)
        if len(data) != KEY_BYTES:
            raise ValueError
    except (ValueError, binascii.Error):
        raise CatalogError(
            f"{shown(source)} must be a {kind} of `lwasr models keygen`, got other content: name its file"
        ) from None
    return data


def _nacl() -> Any:
    try:
        import nacl.exceptions
        import nacl.signing
    except ImportError as error:
        raise MissingExtraError("signed models need PyNaCl: pip install '.[fleet]'") from error
    return nacl
