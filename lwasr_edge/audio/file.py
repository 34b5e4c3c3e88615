"""Decode an audio file with libsndfile, from start to end, and detect truncation and damage."""

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

_UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 for a FLAC stream of unknown length
_UNKNOWN_BYTES = 0x7F000000  # written to pipes: SoX 0x7F000000 (AIFF), 0x7FFFF000 (WAV); others -1

_MAY_BE_CHAINED = ("MP3", "OGG")  # formats whose streams may be concatenated in one file
_SELF_CONTAINED = (*_MAY_BE_CHAINED, "FLAC")  # only audio follows the first audio


class RecordingFile:
    """An open audio file (path, bytes or binary file object), decoded block by block.

    Concatenated MP3 and Ogg streams are read to the end; libsndfile alone stops after the first.

    Attributes:
        name: for messages.
        sample_rate: Hz.
        declared_samples: per channel, from the header or estimated by libsndfile; 0 if unknown.

    Raises:
        AudioError, AudioFileNotFoundError: there is no such file, or it is empty.
        AudioFormatError: it is not audio, or in an unknown format.
    """

    def __init__(self, source: Any) -> None:
        self.name, self._file = name_and_file(source)
        self._is_ours = self._file is not source
        self._origin = self._start = self._file.tell()
        self._file.seek(0, os.SEEK_END)
        self._size = self._file.tell()
        self._expected = 0  # declared samples of the streams read; decoded samples where none are declared
        try:
            self._sound = self._open_first(source)
        except BaseException:
            self._close_file()
            raise
        self.sample_rate = self._sound.samplerate
        self.declared_samples = self._sound.frames if self._sound.frames < _UNKNOWN_FRAMES else 0

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n up to `size`, until the end or the first damage.

        Raises:
            AudioFormatError: nothing can be decoded.
        """
        import soundfile

        is_damaged = False
        is_first = True
        while is_first or (not is_damaged and self._open_next()):
            declared, count = self._declared(), 0
            try:
                # No block crosses the declared end: what follows may not be decodable, and the block would be lost.
                while len(block := self._sound.read(_block_size(size, declared - count), "float32", always_2d=True)):
                    count += len(block)
                    yield block
            except soundfile.SoundFileError as error:
                if is_first and count == 0:
                    reason = decoder_reason(error)
                    raise AudioFormatError(f"{self.name} cannot be decoded ({reason}): the file is damaged") from error
                is_damaged = True
            self._expected += max(declared, count)
            is_first = False

    def fault(self, count: int) -> str:
        """What is wrong with the file after `blocks` gave `count` samples; empty if nothing is."""
        missing = self._expected - count
        read_s = count / self.sample_rate
        if missing > 0.1 * self.sample_rate and missing > 0.01 * self._expected:  # some lengths are estimates
            return (
                f"is truncated or damaged: {read_s:.2f} of {self._expected / self.sample_rate:.2f} s could be decoded"
            )
        if self._bytes_left():
            return (
                f"cannot be decoded after {read_s:.2f} s, at byte {self._file.tell()} of {self._size}: the rest is "
                "damaged, not audio, or of another sample rate"
            )
        return ""

    def estimated_duration_s(self, count: int) -> float:
        """Duration of the file: declared, or estimated from the bytes that `count` samples took."""
        declared = self._declared()
        used = self._file.tell() - self._origin
        if used and (declared == 0 or self._start > self._origin):
            declared = round(count * (self._size - self._origin) / used)
        return max(declared, count) / self.sample_rate

    def close(self) -> None:
        """Close the file, unless the caller opened it."""
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
                # Some formats are recognised by the name alone; not every name is valid text.
                return _sequential(os.fsencode(source) if os.name == "posix" else os.fspath(source))
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile, for a .raw file
            raise AudioFormatError(
                f"{self.name} must be WAV, FLAC, OGG, Opus, MP3 or AIFF, got another format ({decoder_reason(error)}): "
                "pass samples without a header as an array, np.frombuffer(data, np.int16), and a sample_rate"
            ) from error

    def _open_at(self, start: int) -> soundfile.SoundFile:
        self._counts_frames = _counts_frames(self._file, start)
        self._end = _end_of_stream(self._file, start, self._size)
        self._file.seek(start)
        return _sequential(SafeFile(self._file, start, self._end))

    def _open_next(self) -> bool:
        """Open the stream after the current one, if there is one of the same sample rate."""
        import soundfile

        if self._sound.format not in _MAY_BE_CHAINED or not (self._end < self._size or self._bytes_left()):
            return False
        position = self._file.tell()
        start = self._end if self._end < self._size else position
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
        self._file.seek(position)
        return False

    def _declared(self) -> int:
        """Samples declared by the header of the current stream; 0 if unknown."""
        frames = self._sound.frames
        if frames >= _UNKNOWN_FRAMES or (self._sound.format == "MP3" and not self._counts_frames):
            return 0
        return max(frames, declared_samples(self._sound))

    def _bytes_left(self) -> bool:
        """Whether more follows the current stream than a player's tags."""
        position = self._file.tell()
        is_known = self._sound.format in _SELF_CONTAINED and position > self._start
        return is_known and self._size - position > max(1024, 0.01 * self._size)


def _block_size(size: int, declared: int) -> int:
    return min(size, declared) if declared > 0 else size


def _sequential(file: Any) -> soundfile.SoundFile:
    import soundfile

    class SequentialFile(soundfile.SoundFile):
        """Without soundfile's seek to the current position after each read, which makes MP3 decoders drop samples."""

        def seekable(self) -> bool:
            return False

    return SequentialFile(file)


def _counts_frames(file: BinaryIO, start: int) -> bool:
    """Whether the first frame of an MP3 has the frame count. If not, libsndfile may estimate thrice the length."""
    file.seek(start)
    head = file.read(10)
    if head.startswith(b"ID3"):
        start += 10 + sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(reversed(head[6:10])))
    file.seek(start)
    first_frame = file.read(192)
    return b"Xing" in first_frame or b"Info" in first_frame


def _end_of_stream(file: BinaryIO, start: int, size: int) -> int:
    """End of the stream that begins at byte `start` of a file of `size` bytes; for other formats than Ogg, `size`.

    libsndfile takes the length of an Ogg stream from the last page of the file, even if that belongs to another stream.
    """
    position, is_header = start, True
    while True:
        file.seek(position)
        page = file.read(27 + 255)  # version, flags and so on; the number of segments; the length of each (RFC 3533)
        if not page.startswith(b"OggS") or len(page) < 27:
            return size  # the end, another format, or damage, after which the decoder may find more pages
        is_first_page = bool(page[5] & 2)
        if is_first_page and not is_header:
            return position
        is_header = is_first_page
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])


def declared_samples(file: soundfile.SoundFile) -> int:
    """Samples declared by the header of a truncated WAV or AIFF file, for which libsndfile uses the file's size.

    Returns 0 for other files, and for the placeholder length that programs write to a pipe.
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
    """The decoder's message, to be put in brackets."""
    return getattr(error, "error_string", str(error)).strip().rstrip(".")
