"""Remove recordings, texts, consents and reports of a folder. Links are never followed.

A file that is not known stays, and is listed: this removes what the project's commands read or wrote.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lwasr_edge.errors import OptionError
from lwasr_edge.site.consent import CONSENT_FILE
from lwasr_edge.site.derived import DERIVED_FILE, is_report, known_reports
from lwasr_edge.site.folder import AUDIO_SUFFIXES, TEXT_SUFFIXES, Files
from lwasr_edge.validate import printable

REPORT, TEXT, TABLE, STATE, RECORDING, LINK, CONSENT = (
    "report",
    "text",
    "table of texts",
    "training state",
    "recording",
    "link to a recording",
    "consent or note",
)
ORDER = (REPORT, TEXT, TABLE, STATE, RECORDING, LINK, CONSENT)  # a text without its recording would not be recognised
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
KALDI_FILES = ("wav.scp", "text", "utt2spk", "spk2utt", "segments", "utt2dur")
STATE_FILES = ("state.pt", "state.previous.pt", "state.next.pt")
# What `files.atomic_file` leaves of a recording or text when it is killed.
_UNFINISHED = re.compile(r"\..+\.(?:wav|txt|json|html)\.[0-9a-f]{8}\.tmp")


@dataclass
class Erasure:
    """What would be removed from a folder."""

    root: Path
    names: dict[str, str] = field(default_factory=dict)  # path relative to the folder -> kind
    outside: list[Path] = field(default_factory=list)  # reports elsewhere

    @property
    def count(self) -> int:
        """Files to remove."""
        return len(self.names) + len(self.outside)

    def by_kind(self) -> dict[str, list[str]]:
        """Names of what is removed, in the order of removal."""
        kinds = {kind: sorted(name for name, one in self.names.items() if one == kind) for kind in ORDER}
        kinds[REPORT] += [str(path) for path in self.outside]
        return kinds

    def remaining(self) -> list[str]:
        """Files and links of the folder that are not to be removed."""
        return sorted(name for name, _ in _walk(self.root) if name not in self.names)

    def left(self) -> list[str]:
        """What should have been removed and is still there."""
        present = [name for name in self.names if os.path.lexists(self.root / name)]
        return present + [str(path) for path in self.outside if os.path.lexists(path)]


def plan_erasure(root: Path) -> Erasure:
    """Find what to remove.

    Raises:
        OptionError: no such folder, a link to one, the root of the disk, or the user's home.
    """
    if root.is_symlink() or not root.is_dir():
        got = "a link" if root.is_symlink() else "no folder"
        raise OptionError(f"FOLDER must be a folder, got {got}: {printable(str(root))}")
    if root.resolve() in (Path.home().resolve(), *Path.home().resolve().parents):
        raise OptionError(f"FOLDER must be a folder of recordings, got {root.resolve()}, which has all that you own")
    plan = Erasure(root)
    names = dict(_walk(root))
    stems = {_stem(name) for name in names if PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES}
    for name, mode in names.items():
        kind = _kind(root, name, mode, names, stems)
        if kind is not None:
            plan.names[name] = kind
    plan.outside = [
        path for path in known_reports(root) if is_report(path) and not path.is_relative_to(root.absolute())
    ]
    return plan


def _kind(root: Path, name: str, mode: int, names: dict[str, int], stems: set[str]) -> str | None:
    """What a file is; None for one that stays."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if stat.S_ISLNK(mode):
        return LINK if suffix in AUDIO_SUFFIXES else None
    if name in (CONSENT_FILE, DERIVED_FILE):
        return CONSENT
    if suffix in AUDIO_SUFFIXES or _UNFINISHED.fullmatch(path.name):
        return RECORDING
    if not stat.S_ISREG(mode):
        return None
    if path.name in STATE_FILES:
        return STATE
    if suffix in TEXT_SUFFIXES and (_stem(name) in stems or str(path.with_suffix("")).lower() in stems):
        return TEXT
    if suffix in (".html", ".htm", ".json") and is_report(root / name):
        return REPORT
    if path.name in KALDI_FILES and str(path.with_name("wav.scp")) in names:
        return TABLE
    return TABLE if suffix in TABLE_SUFFIXES and _is_table(root, name) else None


def _is_table(root: Path, name: str) -> bool:
    """Whether a table names recordings, as `lwasr site check` reads it, whether or not they are still there."""
    from lwasr_edge.site.tables.read import is_table

    with suppress(OSError, csv.Error):
        return is_table(root / name, Files(root, {}))
    return False


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")).lower()


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    """Path relative to the folder and mode of each file and link; sub-folders that are links are links."""
    for folder, folders, names, descriptor in os.fwalk(root, follow_symlinks=False):
        base = Path(folder).relative_to(root)
        for name in [*names, *folders]:
            with suppress(OSError):
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode):
                    yield (base / name).as_posix(), mode


def erase(plan: Erasure) -> list[str]:
    """Remove what the plan lists, then the folders that are empty.

    Folders are opened one inside the other without following links, so that one which is exchanged for a link
    meanwhile is not entered.

    Returns:
        What could not be removed, with the reason.
    """
    faults = []
    for path in plan.outside:
        try:
            if is_report(path):
                path.unlink()
        except OSError as error:
            faults.append(f"{path}: {error.strerror}")
    for kind in ORDER:
        wanted = {name for name, one in plan.names.items() if one == kind}
        for folder, _, names, descriptor in os.fwalk(plan.root, follow_symlinks=False) if wanted else ():
            base = Path(folder).relative_to(plan.root)
            for name in [*names, *_links(descriptor)]:
                inside = (base / name).as_posix()
                if inside in wanted:
                    wanted.discard(inside)
                    try:
                        os.unlink(name, dir_fd=descriptor)
                    except OSError as error:
                        faults.append(f"{inside}: {error.strerror}")
    for _, folders, _, descriptor in os.fwalk(plan.root, topdown=False, follow_symlinks=False):
        for name in folders:
            with suppress(OSError):  # not empty, or a link
                os.rmdir(name, dir_fd=descriptor)
    return faults


def _links(descriptor: int) -> list[str]:
    """Links to folders, which `os.fwalk` counts as folders."""
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries if entry.is_symlink() and entry.is_dir()]
