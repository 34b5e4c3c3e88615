"""What a file is: the recording that its first bytes stand for, one behind other bytes, or no recording at all."""

from __future__ import annotations

import re
from typing import BinaryIO

from lwasr_edge.audio.containers import read_layout
from lwasr_edge.audio.flac import FlacFrame, FlacParts, find_flac_frame
from lwasr_edge.audio.mp3 import find_frames, is_run, skip_tags
from lwasr_edge.audio.mp3_parts import Mp3Parts
from lwasr_edge.audio.parts import OggParts, Parts, PlainParts

MAX_JUNK_BYTES = 1 << 22  # searched before the first recording
_SCAN_BYTES = 65_536
_BEGINNING = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02|FORM....AIF[FC]|caff\x00\x01",
    re.DOTALL,
)
_KINDS = {
    b"%PDF": "a PDF document",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"{": "JSON text",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}


def find_parts(file: BinaryIO, start: int, end: int) -> Parts:
    """The kind of parts that the first bytes of a file stand for."""
    position = skip_tags(file, start)
    if read_layout(file, position, end) is not None:
        return PlainParts(file, position, end)
    file.seek(position)
    head = file.read(4)
    if head == b"fLaC":
        return FlacParts(file, position, end)
    if head == b"OggS":
        return OggParts(file, position, end)
    if is_run(file, position, end):
        return Mp3Parts(file, start, end)
    return Parts(file, start, end)


def search_parts(file: BinaryIO, start: int, end: int) -> Parts | None:
    """The first recording behind bytes that are none; None if there is none in the first 4 MB."""
    stop = min(end, start + MAX_JUNK_BYTES)
    frames = find_frames(file, start, end, limit=MAX_JUNK_BYTES)
    position = start
    while position < (stop if frames < 0 else min(stop, frames)):
        file.seek(position)
        match = _BEGINNING.search(file.read(_SCAN_BYTES + 64))
        if match and start < position + match.start() and (frames < 0 or position + match.start() < frames):
            return find_parts(file, position + match.start(), end)
        position += _SCAN_BYTES
    if frames >= 0:
        return Mp3Parts(file, start, end)
    if isinstance(find_flac_frame(file, start, stop), FlacFrame):
        return FlacParts(file, start, end)
    return None


def not_audio(name: str, file: BinaryIO, start: int, reason: str) -> str:
    """The message for a file that no decoder accepts.

    Args:
        name: of the file.
        file: is read from byte `start`.
        start: first byte of the supposed recording.
        reason: of the decoder.
    """
    file.seek(start)
    head = file.read(1024)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<body")) or b"<html" in text:
        return f"{name} must be audio, got an HTML page: download the recording itself"
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return f"{name} must be audio, got {kind}: name a recording"
    if head and not any(head):
        reason = "it begins with zeros"
    return (
        f"{name} must be WAV, FLAC, OGG, Opus, MP3 or AIFF, got another format ({reason}): "
        "pass samples without a header as an array, np.frombuffer(data, np.int16), and a sample_rate"
    )
