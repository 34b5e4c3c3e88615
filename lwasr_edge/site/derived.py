"""Reports that were written outside a folder of recordings: the folder remembers them for `lwasr site erase`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from lwasr_edge.files import open_regular, read_regular, write_file

DERIVED_FILE = ".lwasr-site.json"
MAX_BYTES = 1 << 20
MAX_REPORTS = 1000
HEAD_BYTES = 1000
MARKS = (b'<meta name="generator" content="lwasr site check">', b'"made_by": "lwasr site check"')


def remember_report(folder: Path, report: Path) -> None:
    """Write the path of a report into the folder, unless the report is inside it.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = report.parent.resolve() / report.name
    if path.is_relative_to(folder.resolve()):
        return
    known = known_reports(folder)
    if path not in known:
        text = json.dumps({"reports": [str(one) for one in [*known, path][-MAX_REPORTS:]]}, indent=1)
        write_file(folder / DERIVED_FILE, text + "\n")


def known_reports(folder: Path) -> list[Path]:
    """Paths of reports that the folder remembers; none if its file is damaged."""
    with suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
        value = json.loads(read_regular(folder / DERIVED_FILE, MAX_BYTES))
        return [Path(one) for one in value["reports"] if isinstance(one, str) and Path(one).is_absolute()]
    return []


def is_report(path: Path) -> bool:
    """Whether a file is a report of `lwasr site check`, and no link."""
    try:
        if path.is_symlink():
            return False
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return any(mark in head for mark in MARKS)
