"""Choose the decoder of a recording: libsndfile, ffmpeg, or the caller's own open SoundFile."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from lwasr_edge.audio.ffmpeg import FfmpegRecording, demuxer_of
from lwasr_edge.audio.file import RecordingFile
from lwasr_edge.audio.source import name_and_file
from lwasr_edge.errors import AudioFormatError

if TYPE_CHECKING:
    import numpy as np
    import soundfile


class Recording(Protocol):
    """An open recording.

    Attributes:
        name: for messages.
        sample_rate: Hz.
        channels: of the blocks.
        declared_samples: per channel; 0 if unknown.
    """

    name: str
    sample_rate: int
    channels: int
    declared_samples: int

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n up to `size`."""

    def fault(self, count: int) -> str:
        """What is wrong with the recording after `blocks` gave `count` samples; empty if nothing is."""

    def estimated_duration_s(self, count: int) -> float:
        """Duration, declared or estimated after `count` samples."""

    def close(self) -> None:
        """Close what was opened."""


class OpenSoundFile:
    """A `soundfile.SoundFile` of the caller, read from its position and left open."""

    def __init__(self, sound: soundfile.SoundFile) -> None:
        self.name = str(sound.name)
        self.sample_rate: int = sound.samplerate
        self.channels: int = sound.channels
        self.declared_samples: int = max(0, sound.frames - (sound.tell() if sound.seekable() else 0))
        self._sound = sound

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n up to `size`."""
        while len(block := self._sound.read(size, "float32", always_2d=True)):
            yield block

    def fault(self, count: int) -> str:
        """Missing samples."""
        missing = self.declared_samples - count
        if missing <= 0.1 * self.sample_rate or self.declared_samples >= 1 << 62:
            return ""
        total_s = self.declared_samples / self.sample_rate
        return f"is truncated or damaged: {count / self.sample_rate:.2f} of {total_s:.2f} s could be decoded"

    def estimated_duration_s(self, count: int) -> float:
        """The declared duration."""
        return max(self.declared_samples, count) / self.sample_rate

    def close(self) -> None:
        """Leave the file open."""


def open_recording(source: Any) -> Recording:
    """Open a path, bytes, binary file object or SoundFile.

    Raises:
        AudioError, AudioFileNotFoundError: there is no such file, or it is empty.
        AudioFormatError: it is not audio, or in an unknown format.
    """
    soundfile_module = sys.modules.get("soundfile")
    sound_file = getattr(soundfile_module, "SoundFile", None)  # not there while another thread imports the module
    if sound_file is not None and isinstance(source, sound_file):
        return OpenSoundFile(source)
    name, file = name_and_file(source)
    path = (
        os.fsdecode(source) if isinstance(source, (str, os.PathLike)) and Path(os.fsdecode(source)).is_file() else None
    )
    with contextlib.ExitStack() as closed_on_error:
        if file is not source:
            closed_on_error.enter_context(file)
        recording = _decoder(name, file, path, is_ours=file is not source)
        closed_on_error.pop_all()
    return recording


def _decoder(name: str, file: BinaryIO, path: str | None, *, is_ours: bool) -> Recording:
    start = file.tell()
    demuxer = demuxer_of(file, start, is_refused=False)
    if demuxer:
        return FfmpegRecording(name, file, path, demuxer, is_ours=is_ours)
    try:
        return RecordingFile(name, file, path, is_ours=is_ours)
    except AudioFormatError:
        file.seek(start)
        demuxer = demuxer_of(file, start, is_refused=True)
        if not demuxer:
            raise
        with contextlib.suppress(AudioFormatError):
            return FfmpegRecording(name, file, path, demuxer, is_ours=is_ours)
        raise
