"""Find the recordings of a folder and their texts: files beside them, tables, Kaldi and NeMo manifests.

Only files that the walk over the folder found are ever opened: a path in a table is looked up among them.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lwasr_edge.errors import ManifestError, OptionError
from lwasr_edge.site.consent import read_consents
from lwasr_edge.site.part import Part, read_part
from lwasr_edge.site.remark import Refused, Remark
from lwasr_edge.site.texts import MAX_TEXT, read_text
from lwasr_edge.validate import printable

if TYPE_CHECKING:
    from lwasr_edge.audio.reader import AudioSource

MAX_FILES = 100_000
AUDIO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".aac",
        ".aif",
        ".aifc",
        ".aiff",
        ".amr",
        ".au",
        ".caf",
        ".flac",
        ".m4a",
        ".mka",
        ".mov",
        ".mp3",
        ".mp4",
        ".oga",
        ".ogg",
        ".opus",
        ".rf64",
        ".snd",
        ".sph",
        ".w64",
        ".wav",
        ".webm",
        ".wma",
    ]
)
TEXT_SUFFIXES = (".txt", ".lab", ".trn")


@dataclass(frozen=True)
class Sample:
    """One recording of the folder, or a part of one; `text` is None without a transcript."""

    name: str  # path relative to the folder, with "/", and the times of a part
    path: Path
    text: str | None = None
    speaker: str = ""  # "" if unknown
    source: str = ""  # of the text: "a.txt", "words.csv, row 3"
    part: Part | None = None  # None for the full recording

    def audio(self) -> AudioSource:
        """What an `AudioReader` reads; raises AudioError if a part is not there."""
        return self.path if self.part is None else read_part(self.path, self.part)


@dataclass
class Listing:
    """What a folder has."""

    samples: list[Sample]
    refused: list[Refused]
    remarks: list[Remark] = field(default_factory=list)  # about the folder


@dataclass(frozen=True)
class Files:
    """The regular files of a folder by the key of their path relative to it, see `key_of`."""

    root: Path
    paths: dict[str, Path]

    def audio(self) -> Iterator[tuple[str, Path]]:
        """Name and path of each file whose suffix is that of audio."""
        for path in self.paths.values():
            if path.suffix.lower() in AUDIO_SUFFIXES:
                yield self.name(path), path

    def name(self, path: Path) -> str:
        """The path relative to the folder."""
        return path.relative_to(self.root).as_posix()


def key_of(name: str) -> str:
    """Of a path: without differences of capitals, and of accents that are letters of their own, as on a Mac."""
    return unicodedata.normalize("NFC", name).lower()


def walk_files(root: Path) -> tuple[Files, list[Refused]]:
    """The files of a folder and its sub-folders; links out of it, pipes and devices are refused, hidden files skipped.

    Raises:
        OptionError: no such folder, or too many files.
    """
    if not root.is_dir():
        raise OptionError(
            f"FOLDER must be a folder of recordings, got {printable(str(root))}: name the folder that they are in"
        )
    paths: dict[str, Path] = {}
    refused: list[Refused] = []
    real_root = root.resolve()

    def unreadable(error: OSError) -> None:
        inside = Path(error.filename).relative_to(root).as_posix()
        refused.append(Refused(f"{inside}/", Remark("folder_unreadable", {"why": error.strerror or str(error)})))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(folder, name).is_symlink():
                inside = Path(folder, name).relative_to(root).as_posix()
                refused.append(Refused(f"{inside}/", Remark("link_folder")))
        for name in sorted(names):
            path = Path(folder, name)
            inside = path.relative_to(root).as_posix()
            if name.startswith("."):  # also the ._x.wav of macOS
                continue
            if len(paths) >= MAX_FILES:
                raise OptionError(f"FOLDER must have at most {MAX_FILES} files, got more: name a sub-folder")
            if reason := _file_fault(path, real_root):
                if path.suffix.lower() in AUDIO_SUFFIXES:
                    refused.append(Refused(inside, Remark(reason)))
                continue
            first = paths.setdefault(key_of(inside), path)
            if first is not path and path.suffix.lower() in (*AUDIO_SUFFIXES, *TEXT_SUFFIXES):
                other = first.relative_to(root).as_posix()
                refused.append(Refused(inside, Remark("same_name", {"file": other})))
    return Files(root, paths), refused


def _file_fault(path: Path, real_root: Path) -> str:
    """Why a file must not be opened: a key of the table of strings; "" if it may."""
    try:
        mode = path.stat().st_mode
        is_inside = path.resolve().is_relative_to(real_root)
    except (OSError, RuntimeError):  # a link to nothing, or to itself
        return "broken_link"
    if not is_inside:
        return "link_outside"
    return "" if stat.S_ISREG(mode) else "no_file"


def read_folder(root: Path) -> Listing:
    """Find the recordings of a folder, or the parts of them that a table names, and their texts.

    Args:
        root: a folder; tables and manifests in it are read too.

    Raises:
        OptionError: no such folder, too many files, or no recordings.
    """
    from lwasr_edge.site.tables.read import read_tables

    files, refused = walk_files(root)
    speakers: dict[str, str] = {}
    rows, row_faults, remarks = read_tables(files)
    with suppress(ManifestError, OptionError):  # a damaged consent.json leaves the speakers unknown
        speakers = {consent.folder: consent.speaker for consent in read_consents(root)}
    samples: list[Sample] = []
    users: dict[str, str] = {}  # of a text beside: the recording that has it
    for name, path in files.audio():
        beside = _texts_beside(files, name)
        if name in rows.parts:
            samples += rows.parts[name]
            source = rows.parts[name][0].source
            refused += [
                Refused(files.name(one), Remark("two_texts", {"file": name, "other": source})) for one in beside
            ]
            continue
        sample = rows.full.get(name, Sample(name, path))
        if not sample.speaker:
            sample = replace(sample, speaker=speakers.get(PurePosixPath(name).parts[0], ""))
        found = _with_text_beside(sample, beside, files, refused) if beside else sample
        if found is None:
            continue
        first = users.setdefault(found.source, name) if beside else name
        if first == name:
            samples.append(found)
        else:  # a.wav and a.mp3 with one a.txt
            refused.append(Refused(name, Remark("same_take", {"file": first})))
    if not samples and not refused:
        raise OptionError(
            f"{printable(str(root))} must have recordings (.wav, .flac, .mp3, .m4a ...), got none: name another folder"
        )
    return Listing(samples, [*refused, *row_faults], remarks)


def _texts_beside(files: Files, name: str) -> list[Path]:
    """The text files of a recording, the one that is used first."""
    path = PurePosixPath(key_of(name))
    keys = [str(key) for suffix in TEXT_SUFFIXES for key in (path.with_suffix(suffix), f"{path}{suffix}")]
    return [files.paths[key] for key in dict.fromkeys(keys) if key in files.paths]


def _with_text_beside(sample: Sample, paths: list[Path], files: Files, refused: list[Refused]) -> Sample | None:
    """The recording with the text of the first file; texts of others, and of a table, are refused if they differ."""
    texts: dict[str, str] = {}  # by source
    for path in paths:
        name = files.name(path)
        try:
            text, _ = read_text(path)
        except OSError as error:
            refused.append(Refused(sample.name, Remark("text_unreadable", {"file": name, "why": str(error)})))
            return None
        texts[name] = " ".join(text.split())
        if len(texts[name]) > MAX_TEXT:
            refused.append(Refused(sample.name, Remark("text_too_long", {"file": name, "most": MAX_TEXT})))
            return None
    used = next(iter(texts))
    if sample.text is not None:
        texts[sample.source] = sample.text
    for source, text in texts.items():
        if text != texts[used]:
            refused.append(Refused(source, Remark("two_texts", {"file": sample.name, "other": used})))
    return replace(sample, text=texts[used], source=used)
