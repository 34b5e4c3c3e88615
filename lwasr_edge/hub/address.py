"""Where models come from: a folder, or an http(s) address with requests that end and that do not leave https."""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from lwasr_edge.errors import CatalogError
from lwasr_edge.files import open_regular, read_regular
from lwasr_edge.hub.card import CARD_NAME, MAX_CARD_BYTES

TIMEOUT_S = 30.0  # for one read
MIN_BYTES_PER_S = 1_000  # over each `TIMEOUT_S`, also of headers: a server could send a byte a second for ever
BLOCK_BYTES = 1 << 16


class Directory:
    """A local folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.parent if directory.name == CARD_NAME else directory
        self.origin = str(self._directory.resolve())
        self.siblings = str(self._directory.resolve().parent)

    def folder(self, path: str) -> Directory:
        """A folder inside."""
        return Directory(self._directory / path)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The bytes of a file; raises CatalogError if it cannot be read, is no regular file, or is larger."""
        try:
            return read_regular(self._directory / name, max_bytes)
        except OSError as error:
            raise CatalogError(f"{self._directory / name} cannot be read: {error.strerror}") from error

    def read_card(self) -> bytes:
        """The bytes of the card, see `read`."""
        return self.read(CARD_NAME, MAX_CARD_BYTES)

    def open(self, path: str, first_byte: int) -> tuple[BinaryIO, int]:
        """Return the open file and its first byte; raises CatalogError if it cannot be read."""
        try:
            file = open_regular(self._directory / path)
        except OSError as error:
            raise CatalogError(f"{self._directory / path} cannot be read: {error.strerror}") from error
        file.seek(first_byte)
        return file, first_byte


class Address:
    """A folder on a server.

    Raises:
        CatalogError: not an http(s) address.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError as error:
            raise CatalogError(f"source must be a folder or an http(s) address, got {url!r}: {error}") from None
        if parts.scheme.lower() not in ("http", "https"):
            raise CatalogError(f"source must be a folder or an http(s) address, got {url!r}")
        self._base = url.removesuffix(CARD_NAME).rstrip("/")
        path = urllib.parse.urlsplit(self._base).path
        server = f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2].lower()}"  # without a password
        self.origin = f"{server}{path}"
        self.siblings = f"{server}{path.rpartition('/')[0]}"

    def folder(self, path: str) -> Address:
        """A folder inside."""
        return Address(f"{self._base}/{urllib.parse.quote(path)}")

    def read(self, name: str, max_bytes: int) -> bytes:
        """The bytes of a file.

        Raises:
            CatalogError: it cannot be read, or is larger.
        """
        response, _ = self.open(name, 0)
        data = b""
        with response:
            while len(data) <= max_bytes and (block := read_block(response)):
                data += block
        if len(data) > max_bytes:
            kind = "a model card" if name == CARD_NAME else "an index of models"
            raise CatalogError(f"{self._base}/{name} is larger than {max_bytes} bytes: it is not {kind}")
        return data

    def read_card(self) -> bytes:
        """The bytes of the card, see `read`."""
        return self.read(CARD_NAME, MAX_CARD_BYTES)

    def open(self, path: str, first_byte: int) -> tuple[BinaryIO, int]:
        """Return the open response and its first byte: 0 if the server cannot resume.

        Raises:
            CatalogError: there is no such file, no connection, or a redirect that must not be followed.
        """
        url = f"{self._base}/{urllib.parse.quote(path)}"
        headers = {"User-Agent": "lwasr-edge"} | ({"Range": f"bytes={first_byte}-"} if first_byte else {})
        try:
            response = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            where = "" if error.url in (None, url) else f" (redirected to {error.url})"
            raise CatalogError(f"{url}: the server answered {error.code} {error.reason}{where}") from error
        except CatalogError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CatalogError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error
        return response, first_byte if response.status == 206 else 0


Source = Directory | Address


def open_source(source: str) -> Source:
    """A folder, or an http(s) address.

    Raises:
        CatalogError: an address of another kind.
    """
    return Address(source) if "://" in source else Directory(Path(source))


def read_block(source: BinaryIO) -> bytes:
    """The next bytes, as soon as there are some; b"" at the end.

    Raises:
        CatalogError: the connection was lost, or is too slow.
    """
    try:
        return source.read1(BLOCK_BYTES)  # type: ignore[attr-defined]  # of files and of responses
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CatalogError(f"the connection was lost ({error}): run the command again to resume") from error


class _PacedReader(io.RawIOBase):
    """A socket's bytes; slower than `MIN_BYTES_PER_S`, it raises TimeoutError."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._waited_s = 0.0
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began_at = time.monotonic()
        count = self._raw.readinto(buffer)
        self._waited_s += time.monotonic() - began_at
        self._received += count or 0
        if self._waited_s >= TIMEOUT_S:
            if self._received < MIN_BYTES_PER_S * self._waited_s:
                raise TimeoutError(f"{self._received} bytes in {self._waited_s:.0f} s: the server is too slow")
            self._waited_s, self._received = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_PacedReader(sock.makefile("rb", buffering=0)))


class _HTTPConnection(http.client.HTTPConnection):
    response_class = _PacedResponse


class _HTTPSConnection(http.client.HTTPSConnection):
    response_class = _PacedResponse


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, request)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, request)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = (urllib.parse.urlsplit(url).scheme.lower() for url in (req.full_url, newurl))
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise CatalogError(
                f"{req.full_url} must be answered over {before}, got a redirect to {newurl}: it was not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone: the usual one also follows redirects to ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _HTTPHandler(),
        _HTTPSHandler(),
        _RedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
