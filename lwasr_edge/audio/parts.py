"""The parts of a file that libsndfile decodes one after the other: joined recordings, and what follows damage."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from lwasr_edge.audio.containers import read_layout
from lwasr_edge.audio.source import SafeFile

if TYPE_CHECKING:
    import numpy as np
    import soundfile

_MAX_DECODED = 4.0  # of full scale; lossy codecs exceed it a little
_PAGE_SCAN_BYTES = 65_536
UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 for a FLAC stream of unknown length
_NOTES = re.compile(rb"\[[^\n]*libmpg123/[^\n]*\n?|(?:Note|Warning|Error): [^\n]*\n?|\s+")
_capture = -1  # descriptor of a temporary file without a name


class Parts:
    """A file that libsndfile decodes in one go, as every format without a class of its own.

    Attributes:
        sound: the open decoder of the current part.
        skip: samples at its start that belong to the part before.
        start: first byte of the recording.
        position: byte of the file up to which it was read, for messages.
    """

    sound: soundfile.SoundFile
    is_exact = False  # headers tell the number of samples exactly

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = self.start = start
        self._end = end
        self.skip = 0

    def open_first(self) -> None:
        """Open the first part; raises soundfile.SoundFileError."""
        self.sound = self._opened(SafeFile(self._file, self._start, self._end))

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open the part after the current one, of which `decoded` samples were read; False if there is none."""
        return False

    def declared(self) -> int:
        """Samples of the current part by its header; 0 if unknown."""
        return self.sound.frames if self.sound.frames < UNKNOWN_FRAMES else 0

    def expected(self, decoded: int) -> float:
        """Samples that the current part should have given, of which `decoded` came."""
        return max(self.declared(), decoded)

    def note(self) -> str:
        """What is wrong beyond missing samples; empty if nothing is."""
        return ""

    def unread_bytes(self) -> int:
        """Bytes behind the last part that should have been audio."""
        return 0

    @property
    def position(self) -> int:
        """Byte of the file up to which the parts were read."""
        return self._file.tell()

    def read(self, size: int) -> np.ndarray:
        """Decode up to `size` samples: (n, channels) float32."""
        block = self.sound.read(size, "float32", always_2d=True)
        if self.sound.format in ("MP3", "OGG") and block.size and not abs(block).max() <= _MAX_DECODED:
            block = block.clip(-1, 1)  # what decoders make of damaged frames
            block[block != block] = 0
        return block

    def _opened(self, file: Any) -> soundfile.SoundFile:
        with quiet_stderr():
            return sequential(file)

    def _replace(self, file: Any, sample_rate: int) -> bool:
        """Make a decoder of `file` the current one, if it has the same sample rate."""
        import soundfile

        with contextlib.suppress(soundfile.SoundFileError):
            following = self._opened(file)
            if following.samplerate == sample_rate:
                self.sound.close()
                self.sound = following
                return True
            following.close()
        return False


class PlainParts(Parts):
    """Uncompressed samples behind a header (`containers`)."""

    is_exact = True

    def open_first(self) -> None:
        """Open the samples, with a repaired header if that of the file is wrong."""
        self._open(self._start)

    def _open(self, start: int) -> None:
        layout = read_layout(self._file, start, self._end)
        assert layout is not None
        self._layout = layout
        end = layout.following or self._end
        if layout.is_irregular:
            header = layout.repaired_header()
            self._part: Any = SafeFile(self._file, layout.data_start, layout.data_end, prefix=header)
        else:
            self._part = SafeFile(self._file, start, end)
        self.sound = self._opened(self._part)

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open a recording of the same kind that follows."""
        import soundfile

        start, before = self._layout.following, self.sound
        if not start:
            return False
        kept = self._layout
        if read_layout(self._file, start, self._end) is not None:
            with contextlib.suppress(soundfile.SoundFileError):
                self._open(start)
                if self.sound.samplerate == before.samplerate:
                    before.close()
                    return True
                self.sound.close()
        self.sound, self._layout = before, kept
        self._unread = self._end - start
        return False

    _unread = 0

    def unread_bytes(self) -> int:
        """Bytes of a following recording that is damaged or has another sample rate."""
        return self._unread

    def expected(self, decoded: int) -> float:
        """Decoded samples, and by their bytes those that the header declares and the file does not have."""
        size = self._layout.data_end - self._layout.data_start
        return decoded * (1 + self._layout.missing_bytes / size) if size else 0

    def note(self) -> str:
        """A header that declares less than there is, or what else follows."""
        layout = self._layout
        if layout.extra_s > 0.05:
            total_s = (layout.data_end - layout.data_start) / layout.bytes_per_s
            return (
                f"has a header that declares {(layout.declared or 0) / layout.bytes_per_s:.2f} of {total_s:.2f} s, as "
                "if the recorder was stopped before it could finish the file: all of it was read"
            )
        if layout.note:
            size = self._end - layout.data_end
            return f"is followed by {size} bytes that were not read: they are {layout.note}"
        return ""


class OggParts(Parts):
    """Ogg streams, one after the other."""

    def open_first(self) -> None:
        """Open the first stream."""
        self._stream_start = self._start
        self._stream_end, self._skipped = end_of_stream(self._file, self._start, self._end)
        self.sound = self._opened(SafeFile(self._file, self._start, self._stream_end))

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open the stream that begins where the current one ends."""
        position = self._file.tell()
        if self._stream_end >= self._end and not self.unread_bytes():
            return False
        start = self._stream_end if self._stream_end < self._end else position
        end, skipped = end_of_stream(self._file, start, self._end)
        following = SafeFile(self._file, start, end)
        if start > self._stream_start and self._replace(following, self.sound.samplerate):
            self._stream_start, self._stream_end = start, end
            self._skipped += skipped
            return True
        self._file.seek(position)
        return False

    def note(self) -> str:
        """Bytes that are no pages."""
        if unless_tag(self._skipped, self._end):
            return f"has {self._skipped} bytes that are damaged or no Ogg stream, which were left out"
        return ""

    def unread_bytes(self) -> int:
        """Bytes behind the last stream, except for a player's tags."""
        return unless_tag(self._end - self._file.tell(), self._end)


def unless_tag(size: int, file_size: int) -> int:
    """`size`, or 0 if it is no more than a player's tags take."""
    return size if size > max(1024, 0.01 * file_size) else 0


def sequential(file: Any) -> soundfile.SoundFile:
    """A SoundFile without soundfile's seek to the current position after each read: MP3 decoders drop samples at it."""
    import soundfile

    class SequentialFile(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return SequentialFile(file)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what libmpg123 writes to file descriptor 2 inside the context; other lines are written at its end.

    The descriptor belongs to the whole process, so nothing is done while other threads run: what they write, and the
    programs that they start, must reach the real stderr.
    """
    global _capture
    if threading.active_count() > 1:
        yield
        return
    try:
        if _capture < 0:
            descriptor, name = tempfile.mkstemp()
            os.unlink(name)
            _capture = descriptor
        if sys.stderr is not None:
            sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError):  # stderr is closed, or no folder for temporary files
        yield
        return
    try:
        os.dup2(_capture, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        if size := os.lseek(_capture, 0, os.SEEK_CUR):
            os.lseek(_capture, 0, os.SEEK_SET)
            rest = _NOTES.sub(b"", os.read(_capture, size))
            os.lseek(_capture, 0, os.SEEK_SET)
            os.ftruncate(_capture, 0)
            if rest:
                os.write(2, rest)


def next_page(file: BinaryIO, start: int, size: int) -> int:
    """The next Ogg page behind byte `start`; -1 if there is none."""
    while start < size:
        file.seek(start)
        data = file.read(_PAGE_SCAN_BYTES)
        if (at := data.find(b"OggS\0", 1)) > 0:
            return start + at
        if len(data) < _PAGE_SCAN_BYTES:
            break
        start += len(data) - 5
    return -1


def end_of_stream(file: BinaryIO, start: int, size: int) -> tuple[int, int]:
    """End of the Ogg stream that begins at byte `start` of a file of `size` bytes, and bytes in it that are no pages.

    libsndfile takes the length of an Ogg stream from the last page of the file, even if that belongs to another stream.
    """
    position, before, is_header, skipped = start, start, True, 0
    while position < size:
        file.seek(position)
        page = file.read(27 + 255)  # version, flags and so on; the number of segments; the length of each
        if not page.startswith(b"OggS") or len(page) < 27:
            following = next_page(file, before, size)  # behind damage, the decoder too goes on with the next page
            if following < 0:
                break
            skipped += following - (before if following < position else position)  # the page before may be cut
            before = position = following
            continue
        is_first_page = bool(page[5] & 2)
        if is_first_page and not is_header:
            return position, skipped
        is_header = is_first_page
        before = position
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return size, skipped
