"""Recordings of phones and browsers (M4A, AAC, WebM, AMR and others), decoded by an ffmpeg program.

libsndfile has no decoder for them. A program that most boards have or can install beats another dependency of 30 MB.
It gets no shell, no standard input, local files alone and the one demuxer that the first bytes stand for, so that a
playlist cannot make it open anything else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from lwasr_edge.errors import AudioFormatError

_AU_HEADER_BYTES = 24
_DEMUXERS: tuple[tuple[int, bytes, str], ...] = (  # position, bytes there, ffmpeg's name
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"#!AMR", "amr"),
    (0, bytes.fromhex("3026b2758e66cf11"), "asf"),
    (0, b"ADIF", "aac"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"FLV\1", "flv"),
    (0, b"RIFF", "wav"),
    (0, b"OggS", "ogg"),
    (0, b"FORM", "aiff"),
    (0, b"caff", "caf"),
)
_NAMES = {"mov": "MP4 or M4A", "matroska": "WebM or Matroska", "asf": "WMA", "wv": "WavPack"}
_LIBSNDFILE_TAGS = (0, 1, 2, 3, 6, 7, 0x11, 0x14, 0x31, 0x40, 0x55, 0xFFFE)  # codecs of WAV that it knows
_LIBSNDFILE_FIRST = ("wav", "ogg", "aiff", "caf")  # containers for which libsndfile knows most codecs


def demuxer_of(file: BinaryIO, start: int, *, is_refused: bool) -> str:
    """ffmpeg's name of the format that begins at byte `start`; empty if it is none for ffmpeg.

    Args:
        file: to look at; its position is kept.
        start: of the recording.
        is_refused: libsndfile could not open it, so that containers which it reads count as well.
    """
    position = file.tell()
    file.seek(start)
    head = file.read(24)
    if head.startswith(b"ID3"):
        file.seek(start + 10 + sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(reversed(head[6:10]))))
        head = file.read(24)
    file.seek(position)
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ADTS: the layer bits are 0, unlike MP3's
        return "aac"
    if head[:4] == b"RIFF" and (head[12:16] != b"fmt " or int.from_bytes(head[20:22], "little") in _LIBSNDFILE_TAGS):
        return ""  # damaged: ffmpeg reads no more of it
    for at, magic, name in _DEMUXERS:
        if head[at : at + len(magic)] == magic:
            return name if is_refused or name not in _LIBSNDFILE_FIRST else ""
    return ""


class FfmpegRecording:
    """A recording that ffmpeg decodes while it is read; the interface of `RecordingFile`.

    Args:
        name: for messages.
        file: seekable, at the start of the recording; copied to a temporary file if it has no `path`.
        path: of the file, if it has one.
        demuxer: see `demuxer_of`.
        is_ours: `close` closes the file.

    Raises:
        AudioFormatError: there is no ffmpeg, or it cannot decode the file.
    """

    def __init__(self, name: str, file: BinaryIO, path: str | None, demuxer: str, *, is_ours: bool) -> None:
        self.name = name
        self.declared_samples = 0
        self._stack = contextlib.ExitStack()
        program = shutil.which("ffmpeg")
        if program is None:
            shown = path or "X.m4a"
            raise AudioFormatError(
                f"{name} must be WAV, FLAC, OGG, Opus, MP3 or AIFF where no ffmpeg is on the PATH, got "
                f"{_NAMES.get(demuxer, demuxer.upper())}: install ffmpeg, or run "
                f"ffmpeg -i {shown} -ar 16000 -ac 1 {Path(shown).with_suffix('.wav')} elsewhere"
            )
        with contextlib.ExitStack() as closed_on_error:
            if path is None:
                copy = closed_on_error.enter_context(tempfile.NamedTemporaryFile())
                shutil.copyfileobj(file, copy)
                copy.flush()
                path = copy.name
            self._errors: IO[bytes] = closed_on_error.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                [
                    *(program, "-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1"),
                    *("-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", f"file:{Path(path).absolute()}"),
                    *("-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "-"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
            closed_on_error.callback(self._kill)
            self._read_header()
            self._stack = closed_on_error.pop_all()
        if is_ours:
            self._stack.callback(file.close)

    def _read_header(self) -> None:
        assert self._process.stdout is not None
        head = self._process.stdout.read(_AU_HEADER_BYTES)
        if len(head) < _AU_HEADER_BYTES:
            self._process.wait()
            raise AudioFormatError(
                f"{self.name} cannot be decoded by ffmpeg ({self._last_error() or 'no audio'}): the file is damaged, "
                "or has no sound"
            )
        offset, _, _, self.sample_rate, self.channels = struct.unpack(">5I", head[4:])
        self._process.stdout.read(offset - _AU_HEADER_BYTES)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n up to `size`, until the end."""
        assert self._process.stdout is not None
        frame_bytes = 4 * self.channels
        while len(data := self._process.stdout.read(size * frame_bytes)) >= frame_bytes:
            samples = np.frombuffer(data[: len(data) // frame_bytes * frame_bytes], ">f4").astype(np.float32)
            yield samples.reshape(-1, self.channels)
        self._process.wait()

    def fault(self, count: int) -> str:
        """What ffmpeg reported after `count` samples; empty if nothing."""
        reported = self._last_error()
        if not reported and not self._process.returncode:
            return ""
        return f"is truncated or damaged: ffmpeg read {count / self.sample_rate:.2f} s ({reported or 'it failed'})"

    def estimated_duration_s(self, count: int) -> float:
        """Duration so far: ffmpeg gives no length of a stream."""
        return count / self.sample_rate

    def close(self) -> None:
        """End ffmpeg and delete the temporary file."""
        self._stack.close()

    def _kill(self) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()

    def _last_error(self) -> str:
        """The last line that ffmpeg wrote, without the address of its object."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].rpartition("] ")[2].strip()[:200] if lines else ""
