"""A recording as libsndfile decodes it, from its beginning to its end, and what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lwasr_edge.audio.source import SafeFile, name_and_file
from lwasr_edge.errors import AudioFormatError

if TYPE_CHECKING:
    import numpy as np
    import soundfile

_UNKNOWN_FRAMES = 2**62  # libsndfile's word for a FLAC stream of unknown length is 2**63 - 1
_UNKNOWN_BYTES = 0x7F000000  # what programs write into a pipe: SoX 0x7F000000 (AIFF), 0x7FFFF000 (WAV); others -1

_MAY_BE_CHAINED = ("MP3", "OGG")  # formats in which several recordings, end to end, are one file
_SELF_CONTAINED = (*_MAY_BE_CHAINED, "FLAC")  # nothing but sound follows the first sound


class RecordingFile:
    """A path, bytes or a binary file object, opened; its sound block by block, to the end of the file.

    libsndfile stops where the first of several recordings ends; here the next one goes on.

    Attributes:
        name: for messages.
        sample_rate: Hz.
        announced_samples: per channel, what the header announces, or libsndfile guesses; 0 if neither.

    Raises:
        AudioError, AudioFileNotFoundError: there is no such file, or nothing in it.
        AudioFormatError: it is no recording.
    """

    def __init__(self, source: Any) -> None:
        self.name, self._file = name_and_file(source)
        self._is_ours = self._file is not source
        self._origin = self._start = self._file.tell()
        self._file.seek(0, os.SEEK_END)
        self._size = self._file.tell()
        self._expected = 0  # samples announced by what was read, and those that came where nothing was announced
        try:
            self._sound = self._open_first(source)
        except BaseException:
            self._close_file()
            raise
        self.sample_rate = self._sound.samplerate
        self.announced_samples = self._sound.frames if self._sound.frames < _UNKNOWN_FRAMES else 0

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n up to `size`; what cannot be decoded ends them.

        Raises:
            AudioFormatError: nothing can be decoded.
        """
        import soundfile

        is_damaged = False
        is_first = True
        while is_first or (not is_damaged and self._open_next()):
            announced, count = self._announced(), 0
            try:
                # No block reaches over the announced end: what follows may not be decodable, and would spoil it.
                while len(block := self._sound.read(_step(size, announced - count), "float32", always_2d=True)):
                    count += len(block)
                    yield block
            except soundfile.SoundFileError as error:
                if is_first and count == 0:
                    reason = decoder_reason(error)
                    raise AudioFormatError(f"{self.name} cannot be decoded ({reason}): is it damaged?") from error
                is_damaged = True
            self._expected += max(announced, count)
            is_first = False

    def fault(self, count: int) -> str:
        """What is wrong with a file of which `blocks` gave so many samples; empty if all of it is there."""
        missing = self._expected - count
        heard_s = count / self.sample_rate
        if missing > 0.1 * self.sample_rate and missing > 0.01 * self._expected:  # some lengths are estimates
            return (
                f"ends early: {heard_s:.2f} s of the announced {self._expected / self.sample_rate:.2f} s are there; "
                "the rest is missing or damaged"
            )
        if self._bytes_left():
            return (
                f"goes on after {heard_s:.2f} s with what cannot be decoded: the first {self._file.tell()} of "
                f"{self._size} bytes were used; the rest is damaged, no audio, or of another sample rate"
            )
        return ""

    def seconds_in_all(self, count: int) -> float:
        """How long the file is, after `count` samples: as announced, else guessed from the bytes they took."""
        announced = self._announced()
        used = self._file.tell() - self._origin
        if used and (announced == 0 or self._start > self._origin):
            announced = round(count * (self._size - self._origin) / used)
        return max(announced, count) / self.sample_rate

    def close(self) -> None:
        """Close the file, unless it was given open."""
        self._sound.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._is_ours:
            self._file.close()

    def _open_first(self, source: Any) -> soundfile.SoundFile:
        import soundfile

        try:
            try:
                return self._open_at(self._start)
            except soundfile.SoundFileError:
                if not isinstance(source, (str, os.PathLike)) or not Path(source).is_file():
                    raise
                self._file.seek(self._start)
                # Some formats are known by the name alone; not every name is valid text.
                return _sequential(os.fsencode(source) if os.name == "posix" else os.fspath(source))
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile's word for a headless .raw file
            raise AudioFormatError(
                f"{self.name} is not a recording that can be read ({decoder_reason(error)}). WAV, FLAC, OGG, Opus, MP3 "
                "and AIFF are; samples without a header go in as an array: np.frombuffer(data, np.int16) and its "
                "sample_rate"
            ) from error

    def _open_at(self, start: int) -> soundfile.SoundFile:
        self._counts_frames = _counts_frames(self._file, start)
        self._end = _end_of_stream(self._file, start, self._size)
        self._file.seek(start)
        return _sequential(SafeFile(self._file, start, self._end))

    def _open_next(self) -> bool:
        """Go on with the recording behind the one that was read, if there is one that fits it."""
        import soundfile

        if self._sound.format not in _MAY_BE_CHAINED or not (self._end < self._size or self._bytes_left()):
            return False
        place = self._file.tell()
        start = self._end if self._end < self._size else place
        self._file.seek(start)
        if self._file.read(3) == b"TAG":  # ID3, version 1
            start += 128
        with contextlib.suppress(soundfile.SoundFileError):
            following = self._open_at(start)
            if following.samplerate == self.sample_rate:
                self._sound.close()
                self._sound, self._start = following, start
                return True
            following.close()
        self._file.seek(place)
        return False

    def _announced(self) -> int:
        """Samples that the header of the recording under way announces; 0 if it does not."""
        frames = self._sound.frames
        if frames >= _UNKNOWN_FRAMES or (self._sound.format == "MP3" and not self._counts_frames):
            return 0
        return max(frames, announced_samples(self._sound))

    def _bytes_left(self) -> bool:
        """Is there more behind the recording that was read than the tags of a player?"""
        place = self._file.tell()
        is_known = self._sound.format in _SELF_CONTAINED and place > self._start
        return is_known and self._size - place > max(1024, 0.01 * self._size)


def _step(size: int, announced: int) -> int:
    return min(size, announced) if announced > 0 else size


def _sequential(file: Any) -> soundfile.SoundFile:
    import soundfile

    class SequentialFile(soundfile.SoundFile):
        """After each read, soundfile seeks to where it already is, which makes MP3 decoders drop sound. Not here."""

        def seekable(self) -> bool:
            return False

    return SequentialFile(file)


def _counts_frames(file: BinaryIO, start: int) -> bool:
    """Does the first frame of an MP3 say how many follow? If not, libsndfile guesses, and may guess thrice as many."""
    file.seek(start)
    head = file.read(10)
    if head.startswith(b"ID3"):
        start += 10 + sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(reversed(head[6:10])))
    file.seek(start)
    first_frame = file.read(192)
    return b"Xing" in first_frame or b"Info" in first_frame


def _end_of_stream(file: BinaryIO, start: int, size: int) -> int:
    """Where the recording from `start` ends in a file of so many bytes; only pages of Ogg tell it beforehand.

    libsndfile takes the length of an Ogg recording from the last page of the file, whichever recording's it is.
    """
    place, is_header = start, True
    while True:
        file.seek(place)
        page = file.read(27 + 255)  # version, flags and so on; the number of segments; the length of each (RFC 3533)
        if not page.startswith(b"OggS") or len(page) < 27:
            return size  # the end, another format, or damage, behind which the decoder may find other pages
        is_first_page = bool(page[5] & 2)
        if is_first_page and not is_header:
            return place
        is_header = is_first_page
        place += 27 + page[26] + sum(page[27 : 27 + page[26]])


def announced_samples(file: soundfile.SoundFile) -> int:
    """What the header of a WAV or AIFF file announces; libsndfile quietly trusts the file's size instead.

    Returns 0 for other formats, and for the placeholder length that programs write into a pipe.
    """
    bytes_per_sample = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
    width = bytes_per_sample.get(file.subtype, 0) * file.channels
    for line in file.extra_info.splitlines():
        field, _, rest = line.partition(":")
        if field.strip() in ("data", "SSND") and "should be" in rest:
            size = int(rest.split()[0])
            return size // width if width and size < _UNKNOWN_BYTES else 0
    return 0


def decoder_reason(error: Exception) -> str:
    """The decoder's own words for an error, to be put in brackets."""
    return getattr(error, "error_string", str(error)).strip().rstrip(".")
