"""MPEG audio frames: find them, skip what is between them, and give a decoder an uninterrupted sequence of frames.

libmpg123 gives up where more than 1024 bytes are not frames, and after damage it drops the rest of a file. Here every
frame header is read first (ISO 11172-3, 13818-3), so that the decoder never sees anything but frames.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import BinaryIO

_BITRATES = {  # kbit/s by version (MPEG 1; 2 and 2.5) and layer
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BITRATES[2, 3] = _BITRATES[2, 2]
_RATES_HZ = (44100, 48000, 32000)
_SYNC = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]")  # layers II and III: I is not in use
_SCAN_BYTES = 65_536
_CHECKED_FRAMES = 3  # in a row, before bytes after damage are taken for frames
_WINDOW_BYTES = 65_536  # that a decoder may go back, or forward to look for the second frame


@dataclass(frozen=True)
class Frame:
    """One frame header: version (1, 2 or 2.5), layer, Hz, channels, and the frame's size in bytes and samples."""

    version: float
    layer: int
    sample_rate: int
    channels: int
    size: int
    samples: int

    def is_like(self, other: Frame) -> bool:
        """Whether both can belong to one stream."""
        return (self.version, self.layer, self.sample_rate) == (other.version, other.layer, other.sample_rate)


def parse_frame(head: bytes) -> Frame | None:
    """The frame whose header is these four bytes; None if they are none, or of the free format."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version = {0: 2.5, 2: 2.0, 3: 1.0}.get(head[1] >> 3 & 3)
    layer = 4 - (head[1] >> 1 & 3)
    bitrate_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version is None or layer == 4 or bitrate_index in (0, 15) or rate_index == 3 or head[3] & 3 == 2:
        return None
    bitrate = 1000 * _BITRATES[1 if version == 1 else 2, layer][bitrate_index]
    sample_rate = int(_RATES_HZ[rate_index] // version) if version != 2.5 else _RATES_HZ[rate_index] // 4
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 1 else 1152
    if layer == 1:
        size = (12 * bitrate // sample_rate + padding) * 4
    else:
        size = samples // 8 * bitrate // sample_rate + padding
    return Frame(version, layer, sample_rate, 1 if head[3] >> 6 == 3 else 2, size, samples)


def skip_tags(file: BinaryIO, position: int) -> int:
    """The position after ID3, APE and Lyrics tags that begin at `position`."""
    while True:
        file.seek(position)
        head = file.read(32)
        if head.startswith(b"ID3") and len(head) >= 10:
            length = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(reversed(head[6:10])))
            position += 10 + length + (10 if head[5] & 0x10 else 0)
        elif head.startswith(b"TAG"):
            position += 128
        elif head.startswith(b"APETAGEX") and len(head) >= 24:
            # The size counts the items and the footer; a tag may have a header as well.
            position += int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0)
        else:
            return position


def find_frames(file: BinaryIO, start: int, end: int, like: Frame | None = None, limit: int | None = None) -> int:
    """The position from `start` of several frames in a row; -1 if there are none.

    Args:
        file: to search.
        start, end: part of the file to search.
        like: the frames must fit to this one.
        limit: bytes to search.
    """
    position = start
    stop = end if limit is None else min(end, start + limit)
    while position < stop:
        file.seek(position)
        data = file.read(min(_SCAN_BYTES, stop - position))
        if not data:
            return -1
        for match in _SYNC.finditer(data):
            at = match.start()
            if (at > len(data) - 4 or parse_frame(data[at : at + 4])) and is_run(file, position + at, end, like):
                return position + at
        position += max(1, len(data) - 2)
    return -1


def is_run(file: BinaryIO, position: int, end: int, like: Frame | None = None) -> bool:
    """Whether several frames of one stream begin here, or fewer that reach the end of the file."""
    for number in range(_CHECKED_FRAMES):
        file.seek(position)
        frame = parse_frame(file.read(4))
        if frame is None or (like is not None and not frame.is_like(like)):
            return False
        like = frame
        position += frame.size
        if position >= end - 4:
            return number > 0 and position <= end + 4
    return True


class FrameFile:
    """The frames of one stream as a file for libsndfile: what is not a frame is left out.

    The stream ends before a frame of another sample rate, and before one that begins the next of two concatenated
    recordings. A decoder may go back by `_WINDOW_BYTES`.

    Attributes:
        first: the first frame.
        position: byte of the file up to which frames were taken.
        samples: of the frames taken.
        skipped: bytes between frames that were left out.
        is_at_end: no more frames of this stream follow.
        has_count: the first frame holds the number of frames.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._end = end
        self.position = self.start = start
        self.samples = 0
        self.skipped = 0
        self.is_at_end = False
        file.seek(start)
        first = parse_frame(head := file.read(256))
        if first is None:
            raise ValueError("no frame")
        self.first = first
        self.has_count = _has_tag(head)
        # libsndfile expects no more samples than the size allows, and looks for tags at its end: far from the frames.
        self._length = end - start + (1 << 20) if self.has_count else 4 * (end - start) + (1 << 30)
        self._buffer = bytearray()  # the last frames taken
        self._base = 0  # bytes of frames before the buffer
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes of frames; zeros far away, where a decoder looks for tags."""
        reached = self._base + len(self._buffer)
        if not self._base <= self._offset <= reached + _WINDOW_BYTES:
            data = bytes(size)
        else:
            while reached < self._offset + size and self._take_frame():
                reached = self._base + len(self._buffer)
            at = self._offset - self._base
            data = bytes(self._buffer[at : at + size])
            if at > 2 * _WINDOW_BYTES:
                del self._buffer[: at - _WINDOW_BYTES]
                self._base += at - _WINDOW_BYTES
        self._offset += len(data)
        return data

    def tell(self) -> int:
        """Position in the sequence of frames."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Move; the end is declared far away."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._length}[whence]
        self._offset = max(0, base + offset)

    def _take_frame(self) -> bool:
        """Read the next frame; False at the end of the stream."""
        if self.is_at_end or not self._move_to_frame():
            self.is_at_end = True
            return False
        frame, data = self._frame_at(self.position)
        if frame is None or len(data) < frame.size or (self.position > self.start and _has_tag(data)):
            self.is_at_end = True
            return False
        if self.position == self.start:
            data = self._with_length(data)
        self.position += frame.size
        self.samples += frame.samples
        self._buffer += data
        return True

    def _with_length(self, frame: bytes) -> bytes:
        """A first frame that holds the size of the stream, with the size that `seek` declares: libmpg123 compares."""
        at = max(frame[:192].find(b"Xing"), frame[:192].find(b"Info"))
        if at < 0 or not frame[at + 7] & 2:
            return frame
        at += 12 if frame[at + 7] & 1 else 8
        return frame[:at] + min(self._length, 0xFFFFFFFF).to_bytes(4, "big") + frame[at + 4 :]

    def _move_to_frame(self) -> bool:
        """Move `position` to the next frame of this stream; False if there is none."""
        frame, _ = self._frame_at(self.position)
        if frame is not None:
            end = self.position + frame.size
            following, _ = self._frame_at(end)
            if following is not None or end >= self._end or skip_tags(self._file, end) != end:
                return True
            # Damage follows, or the size of this frame is wrong: then other frames begin inside it.
            found = find_frames(self._file, self.position + 4, self._end, self.first)
            if found < 0 or found >= end:
                return True
            self.skipped += found - self.position
            self.position = found
            return True
        position = skip_tags(self._file, self.position)
        if position >= self._end:
            self.position = self._end
            return False
        if position > self.position and self._frame_at(position)[0] is not None:
            self.position = position
            return True
        found = find_frames(self._file, position, self._end, self.first)
        if found < 0 or find_frames(self._file, position, found) >= 0:  # another stream comes first
            return False
        self.skipped += found - position
        self.position = found
        return True

    def _frame_at(self, position: int) -> tuple[Frame | None, bytes]:
        """The frame of this stream at a position, with its bytes."""
        self._file.seek(position)
        head = self._file.read(4)
        frame = parse_frame(head)
        if frame is None or not frame.is_like(self.first):
            return None, b""
        return frame, head + self._file.read(min(frame.size, self._end - position) - 4)


def _has_tag(frame: bytes) -> bool:
    """Whether a frame holds the number of frames instead of sound (Xing, Info)."""
    at = max(frame[:192].find(b"Xing"), frame[:192].find(b"Info"))
    return at >= 0 and len(frame) >= at + 12 and bool(frame[at + 7] & 1) and any(frame[at + 8 : at + 12])
