"""FLAC frames: where decoding can go on behind damage (RFC 9639, section 9.1).

libFLAC decodes nothing behind a damaged place once libsndfile has reported the error. A frame header holds the number
of its first sample and a checksum, so the next intact frame can be found and decoded by a new decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from lwasr_edge.audio.parts import Parts, unless_tag
from lwasr_edge.audio.source import SafeFile

STREAMINFO_BYTES = 42  # "fLaC", the header of the first metadata block, and the block
_SYNC = re.compile(rb"\xff[\xf8\xf9]|fLaC[\x00\x80]\x00\x00\x22")
_SCAN_BYTES = 65_536
_READ_AHEAD_BYTES = 65_536  # of libFLAC and libsndfile, at most
_HEAD_BYTES = 1 << 22  # in which the first frame is looked for
_HEADER_BYTES = 16  # of a frame, at most
_SMALLEST_FRAME_BYTES = 9
_RATES_HZ = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_BLOCKS = (0, 192, *(576 << i for i in range(4)), 0, 0, *(256 << i for i in range(8)))
_BITS = (0, 8, 12, 0, 16, 20, 24, 32)


@dataclass(frozen=True)
class FlacFrame:
    """One frame header. `position` is its first byte in the file; `first_sample` counts from the stream's start."""

    position: int
    sample_rate: int  # 0 for the stream's
    channels: int
    bits: int  # 0 for the stream's
    block_samples: int
    number: int
    is_variable: bool

    def first_sample(self, fixed_block: int) -> int:
        """Index of the first sample; `fixed_block` is the block size of streams that number their frames."""
        return self.number if self.is_variable else self.number * (fixed_block or self.block_samples)


def find_flac_frame(file: BinaryIO, start: int, end: int) -> FlacFrame | int | None:
    """The next frame header with a right checksum from byte `start`; the position of a new "fLaC"; None at the end."""
    position = start
    while position < end:
        file.seek(position)
        data = file.read(min(_SCAN_BYTES, end - position))
        is_last = position + len(data) >= end
        for match in _SYNC.finditer(data):
            at = match.start()
            if at > len(data) - _HEADER_BYTES and not is_last:
                break
            if data[at] == 0x66:
                return position + at
            frame = _parse_header(data[at : at + _HEADER_BYTES], position + at)
            if frame is not None:
                return frame
        if is_last or not data:
            return None
        position += max(1, len(data) - _HEADER_BYTES)
    return None


def stream_info(frame: FlacFrame, original: bytes) -> bytes:
    """The head of a FLAC file that begins with `frame`: that of the file with unknown length, or one of its own."""
    if len(original) == STREAMINFO_BYTES and original.startswith(b"fLaC") and original[4] & 0x7F == 0:
        body = bytearray(original[8:])
        body[13] &= 0xF0  # the low 36 bits of these bytes are the total samples
        body[14:18] = bytes(4)
        body[18:34] = bytes(16)  # the checksum of all samples
    else:
        packed = (frame.sample_rate << 44) | ((frame.channels - 1) << 41) | ((frame.bits - 1) << 36)
        smallest = 16 if frame.is_variable else frame.block_samples
        largest = 65535 if frame.is_variable else frame.block_samples
        body = bytearray(smallest.to_bytes(2, "big") + largest.to_bytes(2, "big") + bytes(6))
        body += packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + bytes(body)


def fixed_block_samples(original: bytes) -> int:
    """The block size of a stream that numbers its frames, from the head of the file; 0 if unknown."""
    if not original.startswith(b"fLaC") or len(original) < 12:
        return 0
    smallest, largest = int.from_bytes(original[8:10], "big"), int.from_bytes(original[10:12], "big")
    return largest if smallest == largest else 0


def _parse_header(data: bytes, position: int) -> FlacFrame | None:
    if len(data) < 6 or data[3] & 1:
        return None
    block_code, rate_code = data[2] >> 4, data[2] & 15
    channel_code, bits_code = data[3] >> 4, data[3] >> 1 & 7
    if block_code == 0 or rate_code == 15 or channel_code > 10 or bits_code == 3:
        return None
    number, at = _coded_number(data, 4)
    if number < 0:
        return None
    block = _BLOCKS[block_code]
    if block_code in (6, 7):
        block = int.from_bytes(data[at : at + block_code - 5], "big") + 1
        at += block_code - 5
    rate = _RATES_HZ[rate_code] if rate_code < 12 else 0
    if rate_code >= 12:
        width = 1 if rate_code == 12 else 2
        rate = int.from_bytes(data[at : at + width], "big") * {12: 1000, 13: 1, 14: 10}[rate_code]
        at += width
    if at >= len(data) or _crc8(data[:at]) != data[at]:
        return None
    channels = channel_code + 1 if channel_code < 8 else 2
    return FlacFrame(position, rate, channels, _BITS[bits_code], block, number, bool(data[1] & 1))


def _coded_number(data: bytes, at: int) -> tuple[int, int]:
    """A number in the extended UTF-8 of FLAC and the index behind it; -1 if it is none."""
    first = data[at]
    length = 8 - (first ^ 0xFF).bit_length()  # ones before the first zero
    if length == 1 or length > 7:
        return -1, at
    if length == 0:
        return first, at + 1
    number = first & ((1 << (7 - length)) - 1) if length < 7 else 0
    following = data[at + 1 : at + length]
    if len(following) < length - 1 or any(byte & 0xC0 != 0x80 for byte in following):
        return -1, at
    for byte in following:
        number = number << 6 | byte & 0x3F
    return number, at + length


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


class FlacParts(Parts):
    """A FLAC stream; behind damage, a new decoder begins with the next intact frame."""

    is_exact = True
    _head: bytes  # of the stream, up to its first metadata block; empty if it is missing or wrong

    def open_first(self) -> None:
        """Open the stream, or the first frame where its head is missing."""
        self._rest = 0
        self._ends_damaged = False
        self._begin_stream(self._start)
        found = find_flac_frame(self._file, self._start + len(self._head), min(self._end, self._start + _HEAD_BYTES))
        head_rate = int.from_bytes(self._head[18:21], "big") >> 4
        # A rate that the frames contradict is damage: samples would be read too fast or too slowly.
        if self._head and not (isinstance(found, FlacFrame) and found.bits and found.sample_rate not in (0, head_rate)):
            super().open_first()
            self._total = self.declared()
            return
        self._head = b""
        if not isinstance(found, FlacFrame) or not found.sample_rate or not found.bits:
            import soundfile

            raise soundfile.SoundFileError("no FLAC frames were found")
        self._block_samples = 0 if found.is_variable else found.block_samples
        self._next_sample = self._counted = found.first_sample(0)
        self._total = self._last_sample(found)
        self.sound = self._opened(self._from_frame(found))

    def _last_sample(self, first: FlacFrame) -> int:
        """Index behind the last sample by the last frame header, as there is no head; libFLAC skips damage silently."""
        last = first
        position = max(first.position, self._end - 2 * _SCAN_BYTES)
        while isinstance(found := find_flac_frame(self._file, position, self._end), FlacFrame):
            is_ours = (found.sample_rate, found.channels) == (first.sample_rate, first.channels)
            frames = (found.position - first.position) // _SMALLEST_FRAME_BYTES
            is_later = 0 < found.number - first.number <= frames * (found.block_samples if first.is_variable else 1)
            if is_ours and is_later and found.is_variable == first.is_variable:
                last = found
            position = found.position + 1
        return last.first_sample(self._block_samples) + last.block_samples

    def _begin_stream(self, start: int) -> None:
        self._file.seek(start)
        head = self._file.read(STREAMINFO_BYTES)
        self._head = head if head.startswith(b"fLaC") else b""
        self._block_samples = fixed_block_samples(self._head)  # of all frames but the last
        self._part_start, self._part_number = start, -1
        self._next_sample = 0  # first sample that was not decoded
        self._total = 0  # samples by the head; 0 if unknown
        self._counted = 0  # samples that `expected` has counted

    def _from_frame(self, frame: FlacFrame) -> SafeFile:
        self._part_start, self._part_number = frame.position, frame.number
        return SafeFile(self._file, frame.position, self._end, prefix=stream_info(frame, self._head))

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open the first intact frame that was not decoded, or the next stream."""
        self._next_sample += decoded
        reached = self._file.tell()
        position = max(self._part_start + 1, reached - _READ_AHEAD_BYTES)
        highest, other = self._part_number, None  # of the frames before; what may begin a stream without its head
        while (found := find_flac_frame(self._file, position, self._end)) is not None:
            if isinstance(found, int):
                position = found + 4
                if self._replace(SafeFile(self._file, found, self._end), self.sound.samplerate):
                    self._begin_stream(found)
                    self._total = self.declared()
                    return True
                break
            position = found.position + 1
            if self._resume_at(found):
                return True
            if self._is_ours(found):
                step = other.block_samples if other is not None and other.is_variable else 1
                if other is not None and found.number == other.number + step and self._begin_at(other):
                    return True
                other = found if found.number < highest or found.position >= reached else None
                highest = max(highest, found.number)
        self._rest = unless_tag(self._end - reached, self._end)
        self._ends_damaged = is_damaged
        return False

    def note(self) -> str:
        """Damage at the end, where no number of samples tells how much is missing."""
        return "ends with damaged frames, which were left out" if self._ends_damaged and not self._total else ""

    def _is_ours(self, frame: FlacFrame) -> bool:
        return frame.sample_rate in (0, self.sound.samplerate) and frame.channels == self.sound.channels

    def _open_at(self, frame: FlacFrame) -> bool:
        before = self._part_start, self._part_number
        if self._replace(self._from_frame(frame), self.sound.samplerate):
            return True
        self._part_start, self._part_number = before
        return False

    def _begin_at(self, frame: FlacFrame) -> bool:
        """Open a stream of the same kind without its head."""
        if not self._open_at(frame):
            return False
        self._next_sample = self._counted = frame.first_sample(self._block_samples)
        self._total = self._last_sample(frame)
        return True

    def _resume_at(self, frame: FlacFrame) -> bool:
        first = frame.first_sample(self._block_samples)
        if not self._is_ours(frame) or first + frame.block_samples <= self._next_sample:
            return False
        if not self._open_at(frame):
            return False
        self.skip = max(0, self._next_sample - first)
        self._next_sample = max(first, self._next_sample)
        return True

    def expected(self, decoded: int) -> float:
        """Samples by the head of the stream and the frames' numbers that no part before has counted."""
        reached = max(self._total, self._next_sample + decoded)
        counted, self._counted = self._counted, reached
        return reached - counted

    def unread_bytes(self) -> int:
        """Bytes behind the last decoded frame, except for tags."""
        return self._rest
