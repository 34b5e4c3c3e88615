"""What the models are made to hear: recordings of the user, or the one that the package brings.

The packaged recording is ours, spoken by flite (a synthesiser from Debian's packages) and made by

    flite -voice rms -t "TEXT_OF_CLIP" -o speech.wav    # then to FLAC, 16 kHz, mono
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.errors import AudioFileNotFoundError, ManifestError, OptionError
from lwasr_edge.wer import normalize_text

CLIP = Path(__file__).with_name("speech.flac")
CLIP_S = 5.2
TEXT_OF_CLIP = "she opened the window and listened to the rain falling on the roof of the old house"
SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}


@dataclass(frozen=True)
class Recording:
    """One recording; `text` is what is said in it, None if nobody knows."""

    path: str
    text: str | None


@dataclass(frozen=True)
class Recordings:
    """What one benchmark runs over."""

    source: str  # for people: "built-in", a folder or a manifest
    items: tuple[Recording, ...]

    @property
    def has_texts(self) -> bool:
        """Whether the word error rate can be measured."""
        return all(item.text is not None for item in self.items)


def built_in() -> Recordings:
    """The packaged recording. One voice and one sentence say nothing of a model's accuracy, so it has no WER."""
    return Recordings("built-in", (Recording(str(CLIP), None),))


def from_folder(folder: Path, limit: int | None) -> Recordings:
    """All recordings of a folder and those below it, in order of name.

    Raises:
        AudioFileNotFoundError: there is none.
    """
    if folder.is_file():
        return Recordings(str(folder), (Recording(str(folder), None),))
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        expected = ", ".join(sorted(SUFFIXES))
        raise AudioFileNotFoundError(f"{folder}: no recordings ({expected}) are there")
    return Recordings(str(folder), tuple(Recording(str(path), None) for path in paths[:limit]))


def from_manifest(manifest: Path, limit: int | None) -> Recordings:
    """The recordings of a JSONL manifest: `audio_filepath`, relative to it, and `text` in every line.

    Raises:
        ManifestError: no such file, a line that is not such an object, or no lines.
    """
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{manifest} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    items = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if entry.get("offset") is not None:
                raise ManifestError(
                    f"{manifest}, line {number}: a stretch of a recording (offset) was found, and whole recordings are "
                    "expected: cut it out first, or measure its error rate with `lwasr-train evaluate`"
                )
            items.append(Recording(str(manifest.parent / entry["audio_filepath"]), str(entry["text"])))
        except ManifestError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"{manifest}, line {number}: a JSON object with audio_filepath and text is expected ({error!r})"
            ) from None
    if not items:
        raise ManifestError(f"{manifest} is empty: a JSON object a line, with audio_filepath and text, is expected")
    if not any(normalize_text(item.text or "") for item in items[:limit]):
        raise ManifestError(f"{manifest}: no text has a word in it, so errors cannot be counted: use --audio")
    return Recordings(str(manifest), tuple(items[:limit]))


def choose(audio: Path | None, manifest: Path | None, limit: int | None) -> Recordings:
    """The recordings that the options ask for.

    Raises:
        OptionError: both a folder and a manifest.
        AudioFileNotFoundError, ManifestError: see above.
    """
    if audio is not None and manifest is not None:
        raise OptionError("--audio and --manifest exclude each other: a manifest names its recordings")
    if manifest is not None:
        return from_manifest(manifest, limit)
    return built_in() if audio is None else from_folder(audio, limit)
