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

from lwasr_edge.errors import ManifestError, OptionError
from lwasr_edge.site.consent import CONSENT_FILE, read_consents
from lwasr_edge.site.derived import DERIVED_FILE, is_report, known_reports
from lwasr_edge.site.folder import AUDIO_SUFFIXES, TEXT_SUFFIXES, Files, key_of
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
_UNFINISHED = re.compile(r"\..+\.(?:wav|txt|json|html?)\.[0-9a-f]{8}\.tmp", re.DOTALL | re.IGNORECASE)


@dataclass
class Erasure:
    """What would be removed from a folder."""

    root: Path
    names: dict[str, str] = field(default_factory=dict)  # path relative to the folder -> kind
    outside: list[Path] = field(default_factory=list)  # reports elsewhere
    unreadable: dict[str, str] = field(default_factory=dict)  # sub-folders and files that cannot be looked at, and why

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
        return sorted(name for name, _ in _walk(self.root, {}) if name not in self.names)

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
    names = dict(_walk(root, plan.unreadable))
    files = Files(root, {key_of(name): root / name for name, mode in names.items() if stat.S_ISREG(mode)})
    audio = {key_of(name) for name, _ in files.audio()}
    recordings = {name for key in audio for name in (key, _stem(key))}
    for name, mode in names.items():
        kind = _kind(name, mode, files, recordings)
        if kind is not None:
            plan.names[name] = kind
    remembered = [one for name in names if _name(name) == DERIVED_FILE for one in known_reports((root / name).parent)]
    plan.outside = [
        path for path in dict.fromkeys(remembered) if is_report(path) and not path.is_relative_to(root.resolve())
    ]
    return plan


def _kind(name: str, mode: int, files: Files, recordings: set[str]) -> str | None:
    """What a file is; None for one that stays.

    Args:
        name: relative to the folder.
        mode: of the file.
        files: of the folder.
        recordings: keys of the recordings, with and without suffix.
    """
    root = files.root
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if stat.S_ISLNK(mode):
        return LINK if suffix in AUDIO_SUFFIXES else None
    if path.name == DERIVED_FILE or name == CONSENT_FILE or (path.name == CONSENT_FILE and _is_consent(root / name)):
        return CONSENT
    if suffix in AUDIO_SUFFIXES or _UNFINISHED.fullmatch(path.name):
        return RECORDING
    if not stat.S_ISREG(mode):
        return None
    if path.name in STATE_FILES:
        return STATE
    if suffix in TEXT_SUFFIXES and _stem(key_of(name)) in recordings:  # a.txt or a.wav.txt
        return TEXT
    if suffix in (".html", ".htm", ".json") and is_report(root / name):
        return REPORT
    if path.name.lower() in KALDI_FILES and key_of(str(path.with_name("wav.scp"))) in files.paths:
        return TABLE
    return TABLE if suffix in TABLE_SUFFIXES and _is_table(root / name, files) else None


def _is_consent(path: Path) -> bool:
    with suppress(ManifestError, OptionError):
        return bool(read_consents(path.parent))
    return False


def _is_table(path: Path, files: Files) -> bool:
    """Whether a table names recordings, as `lwasr site check` reads it, whether or not they are still there."""
    from lwasr_edge.site.tables.read import is_table

    with suppress(OSError, csv.Error):
        return is_table(path, files)
    return False


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _name(name: str) -> str:
    return PurePosixPath(name).name


def _walk(root: Path, unreadable: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Path relative to the folder and mode of each file and link; sub-folders that are links are links.

    Args:
        root: the folder.
        unreadable: gets the sub-folders and files that cannot be looked at, and why.
    """
    for folder, folders, names, descriptor in os.fwalk(root, follow_symlinks=False):
        base = Path(folder).relative_to(root)
        for name in [*names, *folders]:
            inside = (base / name).as_posix()
            try:
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    os.close(os.open(name, os.O_RDONLY, dir_fd=descriptor))
                else:
                    yield inside, mode
            except FileNotFoundError:  # gone meanwhile
                pass
            except OSError as error:
                unreadable[inside] = error.strerror or str(error)


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
