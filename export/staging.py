"""Where an export is built: a hidden folder beside its target, cleared even after the program was killed."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARK = "lwasr-export.lock"  # a file in the folder, locked for as long as the program that made it lives


@contextlib.contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """Make a folder on the disk of ``target`` and remove it afterwards, with what earlier exports had to leave there.

    Args:
        target: the file or folder that is to be written; its parent exists.

    Raises:
        OSError: no space, no permission.
    """
    clear_leftovers(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        unlocked = Path(folder, f"{MARK}.new")
        with unlocked.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.replace(unlocked, Path(folder, MARK))  # nobody sees the mark without its lock
            yield Path(folder)


def clear_leftovers(target: Path) -> None:
    """Remove the folders of exports to ``target`` that were killed.

    Only folders with our mark count, and of these only those whose lock is free: the system frees it when a program
    dies, in whatever way. Folders of exports that still run, and of anybody else, stay.
    """
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if folder.is_symlink() or not (folder / MARK).is_file():
            continue
        with contextlib.suppress(OSError), (folder / MARK).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
            shutil.rmtree(folder)
