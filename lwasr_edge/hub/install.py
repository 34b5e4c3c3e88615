"""The user's models folder on disk: staging folders, locks, and the atomic replacement of a version."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from lwasr_edge.hub.card import PART_SUFFIX
from lwasr_edge.hub.catalog import OLD_SUFFIX

if sys.platform != "win32":
    import fcntl

PARTIAL_SUFFIX = ".partial"
PREVIOUS_SUFFIX = ".previous"
LOCK_SUFFIX = ".lock"
PRIVATE = re.compile(rf"\..+\.[0-9a-f]{{8}}\{PARTIAL_SUFFIX}")
PARTIAL_AGE_S = 7 * 86_400.0  # an interrupted fetch can be resumed for a week


@contextlib.contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `root` for the files of a model, which no other process uses at the same time.

    It keeps what an interrupted fetch has copied, so that the next one resumes. While another process uses it, there is
    a private one, which is removed at the end.

    Raises:
        OSError: no space, no permission.
    """
    root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(root)
    folder = root / f".{name}{PARTIAL_SUFFIX}"
    lock = try_lock(folder)
    is_private = lock is None
    if is_private:
        folder = root / f".{name}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}"
        lock = try_lock(folder)
    try:
        folder.mkdir(exist_ok=True)
        yield folder
    finally:
        if is_private:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # there is nothing to resume
        unlock(lock)


def remove_leftovers(root: Path) -> None:
    """Remove the staging folders of killed fetches: private ones, and those that are a week old."""
    for folder in [*root.glob(f".*{PARTIAL_SUFFIX}")]:
        with contextlib.suppress(OSError):
            is_old = time.time() - folder.stat().st_mtime > PARTIAL_AGE_S
            if (is_old or PRIVATE.fullmatch(folder.name)) and (lock := try_lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                unlock(lock)
    for path in [*root.glob(f".*{PARTIAL_SUFFIX}{LOCK_SUFFIX}")]:
        folder = path.with_name(path.name.removesuffix(LOCK_SUFFIX))
        if not folder.exists():
            unlock(try_lock(folder))


def keep_only(folder: Path, paths: Iterable[str]) -> None:
    """Remove files of `folder` that are not among `paths` or parts of them: they are of another version."""
    wanted = {PurePosixPath(path + suffix) for path in paths for suffix in ("", PART_SUFFIX)}
    folders = {parent for path in wanted for parent in path.parents}
    for path in sorted(folder.rglob("*"), reverse=True):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_dir() and not path.is_symlink():
            if inside not in folders:
                shutil.rmtree(path)
        elif inside not in wanted or path.is_symlink():
            path.unlink()


def replace_folder(staging: Path, target: Path, *, keep: bool = False) -> None:
    """Move `staging` to `target`; a process that is killed leaves the old or the new version there.

    Args:
        staging: a complete version.
        target: where the present version is, if there is one.
        keep: keep the version that is replaced, for `exchange_with_previous`; else it is removed.

    Raises:
        OSError: no permission.
    """
    old = target.with_name(f".{target.name}{OLD_SUFFIX}")
    for folder in (staging, *(path for path in staging.rglob("*") if path.is_dir())):
        sync_folder(folder)  # the names of the files before the name of their folder
    if not os.path.lexists(target):
        with contextlib.suppress(OSError):  # another fetch may have been faster
            staging.rename(target)
            sync_folder(target.parent)
    if staging.exists():
        if _exchange(staging, target):
            sync_folder(target.parent)
            _put_away(staging, target, keep=keep)
        else:  # between the two renames, `catalog.installed_models` finds the old version under its hidden name
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            staging.rename(target)
            _put_away(old, target, keep=keep)
    shutil.rmtree(old, ignore_errors=True)


def previous_folder(target: Path) -> Path:
    """Where the version before is kept, if there is one; hidden from `catalog.installed_models`."""
    return target.with_name(f".{target.name}{PREVIOUS_SUFFIX}")


def exchange_with_previous(target: Path) -> None:
    """Exchange a model with the version before; a process that is killed leaves one of the two there.

    Raises:
        OSError: there is none, or no permission.
    """
    previous, old = previous_folder(target), target.with_name(f".{target.name}{OLD_SUFFIX}")
    if not _exchange(previous, target):
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        previous.rename(target)
        old.rename(previous)
    sync_folder(target.parent)


def remove_model_folder(target: Path) -> None:
    """Remove a model and the version before; it is there, or gone, at any moment.

    Raises:
        OSError: no permission.
    """
    shutil.rmtree(target.with_name(f".{target.name}{OLD_SUFFIX}"), ignore_errors=True)
    for folder in (previous_folder(target), target):
        if os.path.lexists(folder):  # a killed removal is completed by `remove_leftovers`
            leftover = target.with_name(f".{target.name}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}")
            folder.rename(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
    sync_folder(target.parent)


def _put_away(folder: Path, target: Path, *, keep: bool) -> None:
    """Make a replaced version the one before, or remove it."""
    previous = previous_folder(target)
    if keep:
        if not previous.exists():
            folder.rename(previous)
            return
        if not _exchange(folder, previous):
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
            return
    shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until renames in a folder are on the disk."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def try_lock(folder: Path) -> IO[bytes] | None:
    """Lock the file beside a staging folder until it is closed; None while another process has the lock.

    The system closes it when the process ends for any reason.
    """
    if sys.platform == "win32":
        return None
    path = folder.with_name(folder.name + LOCK_SUFFIX)
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:  # its last owner has removed it in the meantime: this lock is of no file
            pass
        except OSError:
            file.close()
            return None
        file.close()


def unlock(lock: IO[bytes] | None) -> None:
    if lock is not None:
        with contextlib.suppress(OSError):
            Path(lock.name).unlink()
        lock.close()
