"""What follows the declared samples of an uncompressed recording: more samples, padding, or something else."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

_SAMPLE_BYTES = 32_768  # of each side, to compare what they are
_RECORDINGS = {b"RIFF": True, b"RIFX": True, b"RF64": True, b"riff": False, b"fLaC": False, b"OggS": False}
_OTHERS = (b"ID3", b"FORM", b"caff", b".snd", b"\xff\xfb", b"\xff\xf3", b"TAG", b"APETAGEX", b"LYRICS")


def classify_remainder(file: BinaryIO, start: int, rest: int, end: int, bytes_per_s: float) -> tuple[str, int]:
    """What the bytes from `rest` to `end` are, after samples from `start` to `rest`.

    Returns:
        ("samples", 0): samples, so that the declared size is wrong; ("padding", 0): nothing of importance; otherwise
        words for a warning, and the start of another recording of the same kind, or 0.
    """
    file.seek(rest)
    head = file.read(_SAMPLE_BYTES)
    declared = rest - start
    for shift in (0, 1):  # chunks are padded to an even size
        name = head[shift : shift + 4]
        if name in _RECORDINGS:
            return "another recording", rest + shift if _RECORDINGS[name] else 0
        if name.startswith(_OTHERS):
            return ("padding", 0) if name.startswith((b"TAG", b"LYRI", b"APET")) else ("another recording or a tag", 0)
    file.seek(max(rest, end - _SAMPLE_BYTES))
    tail = file.read(_SAMPLE_BYTES)
    if declared and not any(head) and not any(tail):
        return "padding", 0
    if declared and end - rest < 64:
        return "padding", 0
    if _is_text(head):
        return "text", 0
    if declared >= 1024 and bytes_per_s and _is_noise(head):
        file.seek(start)
        if not _is_noise(file.read(min(_SAMPLE_BYTES, declared))):
            return "not audio", 0
    return "samples", 0


def _is_text(data: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in data[:1024])


def _is_noise(data: bytes) -> bool:
    """Whether 16-bit samples of the data are as loud and as unrelated as compressed data is."""
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float64)
    if len(samples) < 256:
        return False
    power = float(np.mean(samples**2))
    return power > 5000.0**2 and float(np.mean(np.diff(samples) ** 2)) > 1.4 * power
