"""Paths, bytes and file objects as seekable files."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from lwasr_edge.errors import AudioError, AudioFileNotFoundError


class SafeFile:
    """The part of a file object from byte `start` to `end`, after `prefix`, for soundfile; its seek never raises.

    A damaged header makes libsndfile seek to impossible offsets. soundfile would print the traceback of such a seek on
    stderr and go on; here the position stays unchanged, and libsndfile detects the damage itself.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, prefix: bytes = b"") -> None:
        self._file = file
        self._start = start
        self._end = max(start, end)
        self._prefix = prefix
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; empty at the end."""
        data = self._prefix[self._offset : self._offset + size]
        if len(data) < size:
            position = self._start + self._offset + len(data) - len(self._prefix)
            if position < self._end:
                self._file.seek(position)
                data += self._file.read(min(size - len(data), self._end - position))
        self._offset += len(data)
        return data

    def tell(self) -> int:
        """Position, in bytes from the start of the prefix."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Move, if the position exists."""
        length = len(self._prefix) + self._end - self._start
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: length}[whence]
        if 0 <= position < 1 << 62:
            self._offset = position


def name_and_file(source: Any) -> tuple[str, BinaryIO]:
    """A name for messages, and a seekable file at the start of the recording; raises AudioError."""
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the given bytes", _checked("the given bytes", io.BytesIO(source), 0)
    if isinstance(source, io.TextIOBase):
        raise AudioError(
            f"{getattr(source, 'name', 'the file object')} must be binary, got text: open it with mode 'rb'"
        )
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the file object"))
        if getattr(source, "seekable", lambda: False)():
            return name, _checked(name, source, source.tell())
        return name, _spooled(name, source)
    raise AudioError(
        "audio must be a path, bytes, a binary file object, an array with sample_rate, or (array, sample_rate), "
        f"got {type(source).__name__}"
    )


def _checked(name: str, file: BinaryIO, start: int) -> BinaryIO:
    """The file at byte `start`, if it is not empty."""
    file.seek(start)
    if not file.read(1):
        raise AudioError(f"{name} holds no audio: 0 bytes (call seek(0) if the file object was read before)")
    file.seek(start)
    return file


def _spooled(name: str, pipe: BinaryIO) -> BinaryIO:
    """Copy a pipe to a temporary file: decoders need to seek, and it may be hours long."""
    with contextlib.ExitStack() as closed_on_error:
        try:
            file = closed_on_error.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(pipe, file)
        except OSError as error:
            raise AudioError(
                f"{name} cannot be read or copied to a temporary file ({error.strerror or error}): if the disk is "
                "full, set TMPDIR to a folder on another"
            ) from error
        _checked(name, file, 0)
        closed_on_error.pop_all()
        return file


def _open_path(path: str | bytes) -> tuple[str, BinaryIO]:
    path = os.fsdecode(path)
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise AudioFileNotFoundError(f"no such audio file: {path}") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"audio must be a file, got the folder {path}")
    try:
        if stat.S_ISREG(status.st_mode):
            if status.st_size == 0:
                raise AudioError(f"{path} holds no audio: 0 bytes")
            return path, Path(path).open("rb")
        with Path(path).open("rb") as pipe:
            return path, _spooled(path, pipe)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error
