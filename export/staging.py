"""The staging folder of an export: hidden, beside its target, and removed even if the program was killed."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MARK = "lwasr-export.lock"  # a file in the folder, locked while the program that made it runs


def lock(file: IO[bytes]) -> None:
    """Lock a file until it is closed; the system closes it when the program ends for any reason.

    Raises:
        OSError: another open file has the lock.
    """
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Make a folder on the disk of ``target`` and remove it afterwards, and those that killed exports left.

    Args:
        target: the file or folder to be written; its parent exists.

    Raises:
        OSError: no space, no permission.
    """
    remove_leftovers(target)
    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder,
        create_mark(Path(folder)),
    ):
        yield Path(folder)


def create_mark(folder: Path) -> IO[bytes]:
    """Create the mark in ``folder`` and return it, open and locked."""
    if sys.platform == "win32":  # an open file can be neither renamed nor removed: it needs no lock until it has one
        file = (folder / MARK).open("wb")
        lock(file)
        return file
    unlocked = folder / f"{MARK}.new"
    file = unlocked.open("wb")
    lock(file)
    os.replace(unlocked, folder / MARK)  # other programs never see the mark without its lock
    return file


def remove_leftovers(target: Path) -> None:
    """Remove the staging folders of killed exports to ``target``.

    These are folders with our mark whose lock is free. Folders of running exports and of other programs stay.
    """
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if folder.is_symlink() or not (folder / MARK).is_file():
            continue
        with contextlib.suppress(OSError):  # the lock is taken: its export is running
            with (folder / MARK).open("rb+") as file:
                lock(file)
            shutil.rmtree(folder)
