"""Files: atomic writes, JSON lines and checksums, for every part of the package."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from lwasr_edge.errors import LwasrError, OutputError
from lwasr_edge.validate import shown

BLOCK_BYTES = 1 << 20
MAX_TEXT_BYTES = 1 << 30  # of a manifest or word list, which is read into memory
MAX_LINE = 1 << 20  # characters of a line of JSON
LEFTOVER_AGE_S = 86_400.0  # temporary files of killed programs are removed when they are older


def check_output(path: Path) -> None:
    """Refuse an output path that cannot be written, before the work whose result goes there.

    Raises:
        OutputError: it is a folder, its folder does not exist, or there is no permission to write.
    """
    if path.is_dir():
        raise OutputError(f"output must be a file, got the folder {path}: name a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist: create it first")
    if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}: choose another folder")


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`. Devices and pipes, such as /dev/stdout, are written in place.

    Raises:
        OutputError: the folder does not exist, or cannot be written to.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # there is nothing to replace
            path.write_text(text, encoding="utf-8")
        else:
            write_bytes(path, text.encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file atomically: readers see the old or the new file, also after a power cut.

    Raises:
        OSError: no space, no permission, no folder. The old file is unchanged, and no part of the new one is left.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a hidden file beside `path` that replaces it, synced to disk, when the block ends without an error.

    Raises:
        OSError: see `write_bytes`.
    """
    remove_leftovers(path)
    # Not tempfile: it makes files private, and reading the umask means setting it, for all threads.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            sync(file)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that programs left which were killed a day ago or longer."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > LEFTOVER_AGE_S:
                temporary.unlink()


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, which might never answer, or a device without end is refused.

    Raises:
        OSError: no such file, no permission, or another kind of file.
    """
    # O_NONBLOCK: opening a pipe must not wait for its writer. It has no effect on regular files.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise OSError(errno.EINVAL, f"no path: {error}", repr(path)) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it must be a regular file, got a pipe, socket or device", str(path))


def is_pipe_or_device(path: Path) -> bool:
    """Whether reading a path might never end; False if it does not exist."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: see `open_regular`; or it has more than `max_bytes`.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size <= max_bytes:
            data = file.read()
            if len(data) <= max_bytes:
                return data
    raise OSError(errno.EFBIG, f"it must have at most {max_bytes} bytes, got more", str(path))


def sync(file: IO[bytes]) -> None:
    """Wait until a file's bytes are on the disk: a power cut after a rename must not leave an empty file."""
    file.flush()
    os.fsync(file.fileno())


def split_lines(text: str) -> list[str]:
    """The lines of a text file, split at line feeds alone.

    `str.splitlines` also splits at U+2028, U+0085 and others, which may be inside a JSON string.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_text_lines(path: Path, error: type[LwasrError], max_bytes: int = MAX_TEXT_BYTES) -> list[str]:
    """The lines of a text file in UTF-8, with or without a byte order mark; raises `error` if it cannot be read."""
    try:
        return split_lines(read_regular(path, max_bytes).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as reason:
        raise error(
            f"{path} must be a text file in UTF-8, got {getattr(reason, 'strerror', None) or reason}"
        ) from reason


def read_json_lines(path: Path, report: Callable[[int, Exception], None] | None = None) -> Iterator[tuple[int, Any]]:
    """Yield the number of each line that is not blank, from 1, and its JSON value.

    Args:
        path: text in UTF-8, with or without a byte order mark.
        report: called with the number and the error of a line that is not JSON, which is then skipped; None raises.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        ValueError: a line is not JSON or longer than `MAX_LINE`, and `report` is None.
    """
    for number, line in enumerate(split_lines(read_regular(path, MAX_TEXT_BYTES).decode("utf-8-sig")), 1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"more than {MAX_LINE} characters")
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if report is None:
                raise ValueError(f"{path}, line {number}: line must be JSON, got {shown(line)} ({error})") from error
            report(number, error)
            continue
        yield number, value


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    import hashlib  # loads OpenSSL, 3 MB, which recognition does not need

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
