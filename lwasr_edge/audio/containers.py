"""Headers of uncompressed recordings: WAV, RF64, W64, AU, AIFF and CAF.

A recorder writes the header first and corrects its sizes at the end. If it was killed, or cannot seek, the sizes are
wrong although the samples are there. `read_layout` finds them; `Layout.repaired_header` gives libsndfile a header with
the right sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lwasr_edge.audio.remainder import classify_remainder

PLACEHOLDER_BYTES = 0x7F000000  # sizes from here are what programs write to a pipe: SoX 0x7F000000, others -1
MAX_HEADER_BYTES = 1 << 20  # searched for the chunks of a damaged header
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of every GUID but RIFF's, after the four letters
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # per sample, by encoding


@dataclass(frozen=True)
class Chunk:
    """A chunk of a file: its four letters, where its content begins, and its declared size in bytes."""

    name: bytes
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Where the samples of a recording are.

    Attributes:
        family: RIFF, RIFX, RF64, W64, AU, AIFF or CAF.
        form: the chunk that describes the samples, as in the file; for AU the header.
        bytes_per_s: of the samples; 0 if unknown.
        data_start, data_end: bytes of the file with samples.
        declared: bytes of samples according to the header; None for "up to the end of the file".
        is_irregular: libsndfile needs `repaired_header` to find the samples.
        note: what is behind the samples and was not read; empty if nothing of importance.
        following: where another recording of the same family begins; 0 if there is none.
    """

    family: str
    form: bytes
    bytes_per_s: float
    data_start: int
    data_end: int
    declared: int | None
    is_irregular: bool
    note: str = ""
    following: int = 0

    @property
    def missing_bytes(self) -> int:
        """Bytes that the header declares and the file does not have."""
        return max(0, (self.declared or 0) - (self.data_end - self.data_start))

    @property
    def extra_s(self) -> float:
        """Seconds of samples that the header does not declare."""
        if self.declared is None or not self.bytes_per_s:
            return 0.0
        return max(0, self.data_end - self.data_start - self.declared) / self.bytes_per_s

    def repaired_header(self) -> bytes:
        """A header for the samples from `data_start` to `data_end`, which follow it."""
        size = self.data_end - self.data_start
        if self.family == "AU":
            return self.form[:8] + struct.pack(">I", min(size, 0xFFFFFFFF)) + self.form[12:24]
        if self.family == "CAF":
            desc = b"caff\0\1\0\0desc" + struct.pack(">q", len(self.form)) + self.form
            return desc + b"data" + struct.pack(">q", size + 4) + bytes(4)
        if self.family == "AIFF":
            kind = b"AIFF" if len(self.form) <= 18 else b"AIFC"
            width = max(1, struct.unpack(">h", self.form[:2])[0] * -(-struct.unpack(">h", self.form[6:8])[0] // 8))
            common = self.form[:2] + struct.pack(">I", min(size // width, 0xFFFFFFFF)) + self.form[6:]
            body = kind + b"COMM" + struct.pack(">I", len(common)) + common + bytes(len(common) % 2)
            body += b"SSND" + struct.pack(">III", min(size + 8, 0xFFFFFFFF), 0, 0)
            return b"FORM" + struct.pack(">I", min(len(body) + size, 0xFFFFFFFF)) + body
        return _riff_header("RIFX" if self.family == "RIFX" else "RIFF", self.form, size)


def read_layout(file: BinaryIO, start: int, end: int) -> Layout | None:
    """The layout of the recording that begins at byte `start`; None for another format, or a header beyond repair."""
    file.seek(start)
    head = file.read(64)
    try:
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return _read_riff(file, start, end, head)
        if head[:16] == _W64_RIFF:
            return _read_w64(file, start, end)
        if head[:4] == b".snd":
            return _read_au(file, start, end, head)
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _read_aiff(file, start, end)
        if head[:4] == b"caff":
            return _read_caf(file, start, end)
    except struct.error:  # the file ends inside its header
        pass
    return None


def _read_riff(file: BinaryIO, start: int, end: int, head: bytes) -> Layout | None:
    order = ">" if head[:4] == b"RIFX" else "<"
    chunks = list(_chunks(file, start + 12, end, order + "I"))
    is_irregular = any((chunk.start - start) % 2 for chunk in chunks)  # libsndfile wants even positions
    found = {chunk.name: chunk for chunk in reversed(chunks)}
    if b"fmt " not in found or b"data" not in found:
        found, is_irregular = _search(file, start, end, order), True
    if b"fmt " not in found or b"data" not in found:
        return None
    form, data = found[b"fmt "], found[b"data"]
    body = _content(file, form, 4096)
    repaired, bytes_per_s = _repaired_format(body, order)
    declared: int | None = data.size
    family = head[:4].decode().replace("BW64", "RF64")
    if family == "RF64" and b"ds64" in found and data.size == 0xFFFFFFFF:
        declared = struct.unpack("<Q", _content(file, found[b"ds64"], 16)[8:16])[0]
    elif data.size >= PLACEHOLDER_BYTES and data.start + data.size > end:
        declared = None
    is_irregular = is_irregular or repaired != body
    return _with_end(file, end, family, repaired, bytes_per_s, data.start, declared, is_irregular, order + "I")


def _read_w64(file: BinaryIO, start: int, end: int) -> Layout | None:
    found: dict[bytes, Chunk] = {}
    position = start + 40
    while position + 24 <= end and b"data" not in found:
        file.seek(position)
        guid, size = struct.unpack("<16sQ", file.read(24))
        if guid[4:] != _W64_TAIL or size < 24:
            return None
        found[guid[:4]] = Chunk(guid[:4], position + 24, size - 24)
        position += -(-size // 8) * 8
    if b"fmt " not in found or b"data" not in found:
        return None
    body = _content(file, found[b"fmt "], 4096)
    form, bytes_per_s = _repaired_format(body, "<")
    data = found[b"data"]
    declared = None if data.size >= 1 << 62 else data.size
    file.seek(start + 16)
    total = struct.unpack("<Q", file.read(8))[0]
    is_sure = 0 < data.size <= total and data.start + data.size <= start + total < end
    return _with_end(file, end, "W64", form, bytes_per_s, data.start, declared, False, "<I", is_sure)


def _read_au(file: BinaryIO, start: int, end: int, head: bytes) -> Layout | None:
    offset, size, encoding, rate, channels = struct.unpack(">5I", head[4:24])
    offset = max(24, offset)  # less is damage: the fields before take 24 bytes
    if offset > MAX_HEADER_BYTES or start + offset > end:
        return None
    declared = None if size >= PLACEHOLDER_BYTES and offset + size > end - start else size
    bytes_per_s = _AU_BYTES.get(encoding, 0) * rate * channels
    form = head[:4] + struct.pack(">I", 24) + head[8:24]
    return _with_end(file, end, "AU", form, bytes_per_s, start + offset, declared, False, ">I")


def _read_aiff(file: BinaryIO, start: int, end: int) -> Layout | None:
    found = {chunk.name: chunk for chunk in _chunks(file, start + 12, end, ">I", last=b"")}
    if b"COMM" not in found or b"SSND" not in found:
        return None
    form, data = _content(file, found[b"COMM"], 4096), found[b"SSND"]
    channels, _, bits = struct.unpack(">hIh", form[:8])
    is_plain = len(form) <= 18 or form[18:22] in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64")
    exponent, mantissa = struct.unpack(">HQ", form[8:18])
    rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63) if exponent & 0x7FFF < 16383 + 32 else 0.0
    file.seek(data.start)
    data_start = data.start + 8 + struct.unpack(">I", file.read(4))[0]
    if not is_plain or data_start > end:
        return None
    declared = None if data.size >= PLACEHOLDER_BYTES and data.start + data.size > end else max(0, data.size - 8)
    bytes_per_s = channels * -(-bits // 8) * rate
    return _with_end(file, end, "AIFF", form, bytes_per_s, data_start, declared, False, ">I")


def _read_caf(file: BinaryIO, start: int, end: int) -> Layout | None:
    found = {chunk.name: chunk for chunk in _chunks(file, start + 8, end, ">q", last=b"data", padding=0)}
    if b"desc" not in found or b"data" not in found:
        return None
    form, data = _content(file, found[b"desc"], 32), found[b"data"]
    rate, coding, _, packet_bytes, packet_frames = struct.unpack(">d4s3I", form[:24])
    if coding not in (b"lpcm", b"ulaw", b"alaw"):
        return None
    declared = None if data.size < 4 else data.size - 4
    bytes_per_s = packet_bytes * rate / max(1, packet_frames)
    is_cut = data.start + data.size > end  # refused by libsndfile
    return _with_end(file, end, "CAF", form, bytes_per_s, data.start + 4, declared, is_cut, ">q")


def _with_end(
    file: BinaryIO,
    end: int,
    family: str,
    form: bytes,
    bytes_per_s: float,
    data_start: int,
    declared: int | None,
    is_irregular: bool,
    size_format: str,
    is_sure: bool = False,
) -> Layout:
    """The layout, with the end of the samples: the declared one, or the end of the file where the header is wrong.

    `is_sure` stands for a header of 64 bits, which cannot overflow, and whose sizes agree.
    """
    data_end, note, following = end, "", 0
    if declared is not None and data_start + declared < end:
        rest = data_start + declared
        kind, following = ("chunks", 0)
        if not _is_chain(file, rest, end, size_format) and not _is_chain(file, rest + rest % 2, end, size_format):
            kind, following = classify_remainder(file, data_start, rest, end, bytes_per_s)
        kind = "not audio" if kind == "samples" and is_sure else kind
        if kind == "samples":
            is_irregular = True
        else:
            data_end = rest
            note = kind if kind not in ("chunks", "padding") and not following else ""
            is_irregular = is_irregular or (family == "W64" and kind != "chunks")
    return Layout(family, form, bytes_per_s, data_start, data_end, declared, is_irregular, note, following)


def _chunks(
    file: BinaryIO, position: int, end: int, size_format: str, last: bytes = b"data", padding: int = 1
) -> Iterator[Chunk]:
    """The chunks from `position` up to the one named `last`; stops where no chunk begins."""
    width = struct.calcsize(size_format)
    while position + 4 + width <= end:
        file.seek(position)
        head = file.read(4 + width)
        name, size = head[:4], struct.unpack(size_format, head[4:])[0]
        if not _is_name(name):
            return
        chunk = Chunk(name, position + 4 + width, size)
        yield chunk
        if name == last or size < 0:
            return
        position = chunk.start + size
        if padding and size % 2 and position < end:
            file.seek(position)
            following = file.read(5)
            # Some writers leave out the padding byte after a chunk of odd size.
            position += 1 if _is_name(following[1:5]) or not _is_name(following[:4]) else 0


def _is_chain(file: BinaryIO, position: int, end: int, size_format: str) -> bool:
    """Whether chunks fill the file from `position` to its end."""
    reached = position
    for chunk in _chunks(file, position, end, size_format, last=b""):
        if chunk.name in (b"RIFF", b"RIFX", b"RF64", b"FORM"):  # another recording
            return False
        reached = chunk.start + chunk.size
    return position < reached <= end + 1 and end - reached <= 8


def _search(file: BinaryIO, start: int, end: int, order: str) -> dict[bytes, Chunk]:
    """The format and data chunks of a header whose other chunks have wrong sizes."""
    file.seek(start)
    head = file.read(min(MAX_HEADER_BYTES, end - start))
    found = {}
    position = 12
    for name in (b"ds64", b"fmt ", b"data"):
        at = head.find(name, position)
        if 0 <= at <= len(head) - 8:
            size = struct.unpack(order + "I", head[at + 4 : at + 8])[0]
            found[name] = Chunk(name, start + at + 8, size)
            position = at + 8
    return found


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _content(file: BinaryIO, chunk: Chunk, limit: int) -> bytes:
    file.seek(chunk.start)
    return file.read(max(0, min(chunk.size, limit)))


def _repaired_format(body: bytes, order: str) -> tuple[bytes, float]:
    """The format chunk of a WAV file with consistent widths, and its bytes per second."""
    tag, channels, rate, bytes_per_s, align, bits = struct.unpack(order + "HHIIHH", body[:16])
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack(order + "H", body[24:26])[0]
    if tag not in (_PCM, _FLOAT) or not channels or not rate:
        return body, float(bytes_per_s)
    bits = bits or 8 * align // channels
    width = -(-bits // 8) if bits else 0
    if align == channels * width or (align > channels * width and align % channels == 0 and align <= 8 * channels):
        width = align // channels  # samples may be stored in more bytes than they need
    else:
        align = channels * width
    fixed = struct.pack(order + "HHIIHH", *struct.unpack(order + "HH", body[:4]), rate, rate * align, align, bits)
    return (fixed if align else body[:16]) + body[16:], float(rate * align)


def _riff_header(name: str, form: bytes, size: int) -> bytes:
    """RIFF up to the first sample; RF64 where 32 bits do not hold the size."""
    order = ">" if name == "RIFX" else "<"
    chunk = b"fmt " + struct.pack(order + "I", len(form)) + form + bytes(len(form) % 2)
    length = 4 + len(chunk) + 8 + size
    if length <= 0xFFFFFFFE:
        outer, inner = struct.pack(order + "I", length), struct.pack(order + "I", size)
        return name.encode() + outer + b"WAVE" + chunk + b"data" + inner
    sizes = b"ds64" + struct.pack("<IQQQI", 28, length + 36, size, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + chunk + b"data\xff\xff\xff\xff"
