"""The recordings of a benchmark: the user's own, or the packaged one.

The packaged recording is synthetic speech by flite (from Debian), made by

    flite -voice rms -t "TEXT_OF_CLIP" -o speech.wav    # then to FLAC, 16 kHz, mono
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.bench.manifest import read_manifest_lines
from lwasr_edge.errors import AudioFileNotFoundError, ManifestError, OptionError
from lwasr_edge.files import is_pipe_or_device
from lwasr_edge.hub.packaged import packaged_path
from lwasr_edge.wer import normalize_text

CLIP = packaged_path("bench/speech.flac")
CLIP_S = 5.2
TEXT_OF_CLIP = "she opened the window and listened to the rain falling on the roof of the old house"
SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}


@dataclass(frozen=True)
class Recording:
    """One recording; `text` is its reference transcript, None if there is none."""

    path: str
    text: str | None


@dataclass(frozen=True)
class Recordings:
    """The recordings of one benchmark."""

    source: str  # for the report: "built-in", a folder or a manifest
    items: tuple[Recording, ...]

    @property
    def has_texts(self) -> bool:
        """Whether the word error rate can be measured."""
        return all(item.text is not None for item in self.items)


def built_in() -> Recordings:
    """The packaged recording. It has no WER: one sentence of one voice does not measure accuracy."""
    return Recordings("built-in", (Recording(str(CLIP), None),))


def from_folder(folder: Path, limit: int | None) -> Recordings:
    """All recordings of a folder and its sub-folders, sorted by name; or one file.

    Raises:
        AudioFileNotFoundError: there are none.
    """
    if folder.is_file():
        return Recordings(str(folder), (Recording(str(folder), None),))
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        expected = ", ".join(sorted(SUFFIXES))
        raise AudioFileNotFoundError(f"{folder}: no recordings ({expected}) found: name another folder")
    return Recordings(str(folder), tuple(Recording(str(path), None) for path in paths[:limit]))


def from_manifest(manifest: Path, limit: int | None) -> Recordings:
    """The recordings of a JSONL manifest; every line needs `audio_filepath` and `text`.

    Raises:
        ManifestError: no such file, a line that is not such an entry or is a segment, no lines, or no words in them.
    """
    entries = read_manifest_lines(manifest, required=("audio_filepath", "text"))
    for number, entry in enumerate(entries, 1):
        if entry.offset_s is not None:
            raise ManifestError(
                f"{manifest}, entry {number}: recording must be a full file, got a segment (offset): cut it out first, "
                "or measure its WER with `lwasr-train evaluate`"
            )
        if number <= (limit or number) and is_pipe_or_device(entry.path):
            raise ManifestError(f"{manifest}, entry {number}: recording must be a file, got a pipe or a device")
    items = tuple(Recording(str(entry.path), entry.text) for entry in entries[:limit])
    if not any(normalize_text(item.text or "") for item in items):
        raise ManifestError(f"{manifest}: texts must have words to count errors, got none: use --audio instead")
    return Recordings(str(manifest), items)


def choose(audio: Path | None, manifest: Path | None, limit: int | None) -> Recordings:
    """The recordings that the options choose.

    Raises:
        OptionError: both a folder and a manifest.
        AudioFileNotFoundError, ManifestError: see above.
    """
    if audio is not None and manifest is not None:
        raise OptionError("--audio and --manifest exclude each other: leave one out")
    if manifest is not None:
        return from_manifest(manifest, limit)
    return built_in() if audio is None else from_folder(audio, limit)
