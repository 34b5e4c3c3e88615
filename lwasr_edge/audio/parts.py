"""The parts of a file that libsndfile decodes one after the other: joined recordings, and what follows damage."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, BinaryIO

from lwasr_edge.audio.containers import read_layout
from lwasr_edge.audio.flac import STREAMINFO_BYTES, FlacFrame, find_flac_frame, fixed_block_samples, stream_info
from lwasr_edge.audio.mp3 import FrameFile, find_frames, is_run, parse_frame, skip_tags
from lwasr_edge.audio.ogg import end_of_stream
from lwasr_edge.audio.quiet import quiet_stderr
from lwasr_edge.audio.source import SafeFile

if TYPE_CHECKING:
    import numpy as np
    import soundfile

UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 for a FLAC stream of unknown length
MAX_JUNK_BYTES = 1 << 22  # searched before the first recording
MAX_READ_AHEAD_BYTES = 65_536  # of libFLAC and libsndfile
_BEGINNING = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02|FORM....AIF[FC]|caff\x00\x01",
    re.DOTALL,
)


class Parts:
    """A file that libsndfile decodes in one go, as every format without a class of its own.

    Attributes:
        sound: the open decoder of the current part.
        skip: samples at its start that belong to the part before.
        position: byte of the file up to which it was read, for messages.
    """

    sound: soundfile.SoundFile
    is_exact = False  # headers tell the number of samples exactly

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
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
        return self.sound.read(size, "float32", always_2d=True)

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
        following = read_layout(self._file, start, self._end) if start else None
        if following is None:
            return False
        kept = self._layout
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
        """Bytes of a following recording that has another sample rate."""
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
        self._stream_end = end_of_stream(self._file, self._start, self._end)
        self.sound = self._opened(SafeFile(self._file, self._start, self._stream_end))

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open the stream that begins where the current one ends."""
        position = self._file.tell()
        if self._stream_end >= self._end and not self.unread_bytes():
            return False
        start = self._stream_end if self._stream_end < self._end else position
        end = end_of_stream(self._file, start, self._end)
        following = SafeFile(self._file, start, end)
        if start > self._stream_start and self._replace(following, self.sound.samplerate):
            self._stream_start, self._stream_end = start, end
            return True
        self._file.seek(position)
        return False

    def unread_bytes(self) -> int:
        """Bytes behind the last stream, except for a player's tags."""
        return unless_tag(self._end - self._file.tell(), self._end)


class Mp3Parts(Parts):
    """MPEG audio: one part for each sequence of frames that fit together."""

    def open_first(self) -> None:
        """Open the first frames, wherever they begin."""
        self._skipped = 0
        position = self._next_frames(self._start)
        if position < 0:
            import soundfile

            raise soundfile.SoundFileError("no MP3 frames were found")
        self._skipped = position - skip_tags(self._file, self._start)
        self._frames = FrameFile(self._file, position, self._end)
        self.sound = self._opened(self._frames)

    def _next_frames(self, start: int) -> int:
        position = skip_tags(self._file, start)
        self._file.seek(position)
        frame = parse_frame(self._file.read(4))
        if frame is not None and position > self._start:
            return position
        return find_frames(self._file, position, self._end)

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open the frames after the current sequence: another recording, or what follows damage."""
        before = self._frames
        start = before.position
        while 0 <= (position := self._next_frames(start)) < self._end:
            following = FrameFile(self._file, position, self._end)
            self._skipped += before.skipped + position - skip_tags(self._file, before.position)
            before.skipped = 0
            if following.first.sample_rate == before.first.sample_rate and self._replace(
                following, self.sound.samplerate
            ):
                self._frames = following
                return True
            start = find_frames(self._file, position + 4, self._end, before.first)
            if start < 0:
                break
            before.position = max(position, before.position)
            self._skipped += start - position
        return False

    def read(self, size: int) -> np.ndarray:
        """Decode up to `size` samples, without the notes of libmpg123."""
        with quiet_stderr():
            return super().read(size)

    def declared(self) -> int:
        """Samples by the first frame, if it holds their number; libsndfile's own estimate may be thrice the length."""
        return super().declared() if self._frames.has_count else 0

    def expected(self, decoded: int) -> float:
        """The declared samples, or those of all frames."""
        if declared := self.declared():
            return max(declared, decoded)
        return max(decoded, self._frames.samples - 4 * self._frames.first.samples)  # what decoders leave out

    def note(self) -> str:
        """Bytes that are not frames."""
        skipped = self._skipped + self._frames.skipped
        if skipped > max(1024, 0.01 * self._end):
            return f"is damaged: {skipped} of {self._end - self._start} bytes are not MP3 frames and were left out"
        return ""

    def unread_bytes(self) -> int:
        """Bytes behind the last frame, except for tags."""
        return unless_tag(self._end - skip_tags(self._file, self._frames.position), self._end)

    @property
    def position(self) -> int:
        """Byte behind the last frame."""
        return self._frames.position


class FlacParts(Parts):
    """A FLAC stream; behind damage, a new decoder begins with the next intact frame."""

    is_exact = True

    def open_first(self) -> None:
        """Open the stream, or the first frame where its head is missing."""
        self._rest = 0
        self._begin_stream(self._start)
        if self._head:
            super().open_first()
            self._total = self._uncounted = self.declared()
            return
        found = find_flac_frame(self._file, self._start, self._end)
        if not isinstance(found, FlacFrame) or not found.sample_rate or not found.bits:
            import soundfile

            raise soundfile.SoundFileError("no FLAC frames were found")
        self._next_sample = found.first_sample(0)
        self.sound = self._opened(self._from_frame(found))

    def _begin_stream(self, start: int) -> None:
        self._file.seek(start)
        head = self._file.read(STREAMINFO_BYTES)
        self._head = head if head.startswith(b"fLaC") else b""
        self._part_start = start
        self._next_sample = 0  # first sample that was not decoded
        self._gap = 0  # samples between the parts
        self._total = self._uncounted = 0  # samples by the head; those not yet in `expected`

    def _from_frame(self, frame: FlacFrame) -> SafeFile:
        self._part_start = frame.position
        return SafeFile(self._file, frame.position, self._end, prefix=stream_info(frame, self._head))

    def open_next(self, decoded: int, is_damaged: bool) -> bool:
        """Open the first intact frame that was not decoded, or the next stream."""
        self._next_sample += decoded
        reached = self._file.tell()
        position = max(self._part_start + 1, reached - MAX_READ_AHEAD_BYTES)
        while (found := find_flac_frame(self._file, position, self._end)) is not None:
            if isinstance(found, int):
                position = found + 4
                if self._replace(SafeFile(self._file, found, self._end), self.sound.samplerate):
                    self._begin_stream(found)
                    self._total = self._uncounted = self.declared()
                    return True
                break
            position = found.position + 1
            if self._resume_at(found):
                return True
        self._rest = unless_tag(self._end - reached, self._end)
        return False

    def _resume_at(self, frame: FlacFrame) -> bool:
        first = frame.first_sample(fixed_block_samples(self._head))
        is_ours = frame.sample_rate in (0, self.sound.samplerate) and frame.channels == self.sound.channels
        if not is_ours or first + frame.block_samples <= self._next_sample:
            return False
        before = self._part_start
        if not self._replace(self._from_frame(frame), self.sound.samplerate):
            self._part_start = before
            return False
        self.skip = max(0, self._next_sample - first)
        self._gap = max(0, first - self._next_sample)
        self._next_sample += self._gap
        return True

    def expected(self, decoded: int) -> float:
        """Samples by the head of the stream, counted once; without it also those that the frames' numbers skip."""
        if not self._total:
            return decoded + self._gap
        expected, self._uncounted = self._uncounted, 0
        return expected

    def unread_bytes(self) -> int:
        """Bytes behind the last decoded frame, except for tags."""
        return self._rest


def unless_tag(size: int, file_size: int) -> int:
    """`size`, or 0 if it is no more than a player's tags take."""
    return size if size > max(1024, 0.01 * file_size) else 0


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
    position = start
    while position < min(end, start + MAX_JUNK_BYTES):
        file.seek(position)
        data = file.read(MAX_READ_AHEAD_BYTES + 64)
        match = _BEGINNING.search(data)
        if match and position + match.start() > start:
            return find_parts(file, position + match.start(), end)
        position += MAX_READ_AHEAD_BYTES
    if find_frames(file, start, end, limit=MAX_JUNK_BYTES) >= 0:
        return Mp3Parts(file, start, end)
    if isinstance(find_flac_frame(file, start, min(end, start + MAX_JUNK_BYTES)), FlacFrame):
        return FlacParts(file, start, end)
    return None


def sequential(file: Any) -> soundfile.SoundFile:
    """A SoundFile without soundfile's seek to the current position after each read: MP3 decoders drop samples at it."""
    import soundfile

    class SequentialFile(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return SequentialFile(file)


