"""Decode an audio file with libsndfile, from start to end, and detect truncation and damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lwasr_edge.audio.detect import find_parts, not_audio, search_parts
from lwasr_edge.audio.flac import FlacParts
from lwasr_edge.audio.mp3_parts import Mp3Parts
from lwasr_edge.audio.parts import OggParts, Parts, sequential, unless_tag
from lwasr_edge.errors import AudioFormatError

if TYPE_CHECKING:
    import numpy as np

_NAMED_FORMATS = (".gsm", ".vox")  # without a header: recognised by the name of the file alone


class RecordingFile:
    """An open audio file, decoded block by block.

    Joined recordings are read to the end, and so is what follows damage; libsndfile alone stops before either.

    Args:
        name: for messages.
        file: seekable, at the start of the recording.
        path: of the file, if it has one.
        is_ours: `close` closes the file.

    Attributes:
        sample_rate: Hz.
        channels: of the blocks; those of following recordings may have others.
        declared_samples: per channel, from the header; 0 if unknown.

    Raises:
        AudioFormatError: it is not audio, or in an unknown format.
    """

    def __init__(self, name: str, file: BinaryIO, path: str | None, *, is_ours: bool) -> None:
        self.name = name
        self._is_ours = is_ours
        self._file = file
        self._start = file.tell()
        file.seek(0, os.SEEK_END)
        self._size = file.tell()
        self._expected = 0.0  # samples that the finished parts should have had
        self._read = 0  # samples of the finished parts
        self._current = 0  # samples of the current part
        self._notes: list[str] = []
        self._parts = self._open_first(path)
        self.sample_rate: int = self._parts.sound.samplerate
        self.channels: int = self._parts.sound.channels
        self.declared_samples = self._parts.declared()

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n up to `size`, until the end.

        Raises:
            AudioFormatError: nothing can be decoded.
        """
        parts, reason = self._parts, ""
        while True:
            self._current, error = 0, None
            for block in self._blocks_of_part(size):
                if isinstance(block, Exception):
                    error = block
                    reason = reason or decoder_reason(error)
                else:
                    yield block
            # The note and the expected length belong to the part, so both are taken before the next is opened.
            expected, note = parts.expected(self._current), parts.note()
            self._read += self._current
            decoded, self._current = self._current, 0
            self._expected += expected
            if not parts.open_next(decoded, error is not None):
                break
            if note and note not in self._notes and not isinstance(parts, Mp3Parts):
                self._notes.append(note)
        if self._read == 0 and reason:
            raise AudioFormatError(f"{self.name} cannot be decoded ({reason}): the file is damaged")

    def _blocks_of_part(self, size: int) -> Iterator[np.ndarray | Exception]:
        """The blocks of the current part; then the error that ended it, if one did."""
        import soundfile

        parts, declared, position = self._parts, self._parts.declared(), 0
        skip = parts.skip
        parts.skip = 0
        try:
            # No block crosses the declared end: what follows may not be decodable, and the block would be lost.
            while len(block := parts.read(_block_size(size, declared - position))):
                position += len(block)
                block, skip = block[skip:], max(0, skip - len(block))
                self._current += len(block)
                if len(block):
                    yield block
        except soundfile.SoundFileError as error:
            yield error

    def fault(self, count: int) -> str:
        """What is wrong with the file after `blocks` gave `count` samples; empty if nothing is."""
        missing = self._expected - count
        read_s = count / self.sample_rate
        faults = [note for note in [*self._notes, self._parts.note()] if note]
        tolerance = 0.0 if self._parts.is_exact else min(0.01 * self._expected, self.sample_rate)
        if missing > max(min(0.1 * self.sample_rate, 0.05 * self._expected), tolerance):
            faults.append(
                f"is truncated or damaged: {read_s:.2f} of {self._expected / self.sample_rate:.2f} s could be decoded"
            )
        elif self._parts.unread_bytes():
            faults.append(
                f"cannot be decoded after {read_s:.2f} s, at byte {self._parts.position} of {self._size}: the rest is "
                "damaged, not audio, or of another sample rate"
            )
        return "; it ".join(dict.fromkeys(faults))

    def estimated_duration_s(self, count: int) -> float:
        """Duration of the file: declared, or estimated from the bytes that `count` samples took."""
        declared = self._parts.declared()
        used = self._parts.position - self._start
        if used > 0 and (declared == 0 or self._read):
            declared = round(count * (self._size - self._start) / used)
        return max(declared, count) / self.sample_rate

    def close(self) -> None:
        """Close the decoder, and the file unless the caller opened it."""
        self._parts.sound.close()
        if self._is_ours:
            self._file.close()

    def _open_first(self, path: str | None) -> Parts:
        import soundfile

        try:
            parts = find_parts(self._file, self._start, self._size)
            try:
                parts.open_first()
                if type(parts) is Parts and parts.sound.format in ("MP3", "OGG", "FLAC"):
                    kinds = {"MP3": Mp3Parts, "OGG": OggParts, "FLAC": FlacParts}
                    other = kinds[parts.sound.format](self._file, self._start, self._size)
                    parts.sound.close()
                    other.open_first()
                    return other
                return parts
            except soundfile.SoundFileError:
                if path is not None and Path(path).suffix.lower() in _NAMED_FORMATS:
                    parts = Parts(self._file, self._start, self._size)
                    parts.sound = sequential(os.fsencode(path) if os.name == "posix" else path)
                    return parts
                found = search_parts(self._file, self._start, self._size)
                if found is None:
                    raise
                found.open_first()
                if unless_tag(found.start - self._start, self._size):
                    self._notes.append(f"begins with {found.start - self._start} bytes that are not audio")
                return found
        except (soundfile.SoundFileError, TypeError, AssertionError) as error:  # TypeError: soundfile, for a .raw file
            raise AudioFormatError(not_audio(self.name, self._file, self._start, decoder_reason(error))) from error


def _block_size(size: int, declared: int) -> int:
    return min(size, declared) if declared > 0 else size


def decoder_reason(error: Any) -> str:
    """The decoder's message, to be put in brackets."""
    return getattr(error, "error_string", str(error)).strip().rstrip(".")
