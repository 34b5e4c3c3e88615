"""Where recordings come from: paths, bytes and file objects, as files that can be read and sought in."""

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
    """What soundfile needs of a file object, with a seek that never raises.

    A damaged header makes libsndfile seek to impossible places. soundfile would print the traceback of such a seek on
    stderr and go on; here the place stays as it is, and libsndfile finds the damage by itself.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        """`start`, `end`: the bytes of the file that are to be seen."""
        self._file = file
        self._start = start
        self._end = end

    def read(self, size: int) -> bytes:
        """Read on; empty at the end."""
        return self._file.read(max(0, min(size, self._end - self._file.tell())))

    def tell(self) -> int:
        """Bytes from the start."""
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Move if that is possible."""
        place = offset + {os.SEEK_SET: self._start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}[whence]
        if place >= self._start:
            with contextlib.suppress(OSError, ValueError):
                self._file.seek(place)


def name_and_file(source: Any) -> tuple[str, BinaryIO]:
    """A name for messages, and a seekable file that stands where the recording begins."""
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the given bytes", _checked("the given bytes", io.BytesIO(source), 0)
    if isinstance(source, io.TextIOBase):
        raise AudioError(f"{getattr(source, 'name', 'the file object')} is open as text: open it with mode 'rb'")
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the file object"))
        if getattr(source, "seekable", lambda: False)():
            return name, _checked(name, source, source.tell())
        return name, _spooled(name, source)
    raise AudioError(
        "audio is expected as a path, bytes, a binary file object, an array with sample_rate, or (array, sample_rate); "
        f"came {type(source).__name__}"
    )


def _checked(name: str, file: BinaryIO, start: int) -> BinaryIO:
    """The file, at its start, if there is anything."""
    file.seek(start)
    if not file.read(1):
        raise AudioError(f"{name} holds no audio: 0 bytes (a file object is read from where it stands: seek(0)?)")
    file.seek(start)
    return file


def _spooled(name: str, pipe: BinaryIO) -> BinaryIO:
    """All that comes out of a pipe, in a temporary file: decoders go back and forth, and it may be hours."""
    with contextlib.ExitStack() as closed_on_error:
        try:
            file = closed_on_error.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(pipe, file)
        except OSError as error:
            raise AudioError(
                f"{name} cannot be read, or not be kept in a temporary file ({error.strerror or error}): is the disk "
                "full? TMPDIR names another place"
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
        raise AudioError(f"{path} is a directory; an audio file is expected")
    try:
        if stat.S_ISREG(status.st_mode):
            if status.st_size == 0:
                raise AudioError(f"{path} holds no audio: 0 bytes")
            return path, Path(path).open("rb")
        with Path(path).open("rb") as pipe:
            return path, _spooled(path, pipe)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error
