"""Why bytes are not a recording: what they are instead, and what to do."""

from __future__ import annotations

from typing import BinaryIO

_KINDS = {
    b"%PDF": "a PDF document",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"{": "JSON text",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}


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
