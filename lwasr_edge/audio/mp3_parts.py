"""The parts of an MP3 file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lwasr_edge.audio.mp3 import FrameFile, find_frames, parse_frame, skip_tags
from lwasr_edge.audio.parts import Parts, quiet_stderr, unless_tag

if TYPE_CHECKING:
    import numpy as np


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
        """The declared samples or, where there are more, those of all frames."""
        frames = self._frames
        left_out = 4 * frames.first.samples if frames.has_count else 0  # the count itself, and what pads the recording
        return max(decoded, self.declared(), frames.samples - left_out)

    def note(self) -> str:
        """Bytes that are not frames."""
        skipped = self._skipped + self._frames.skipped
        if skipped > max(min(1024, 0.1 * self._end), 0.01 * self._end):
            return f"is damaged: {skipped} of {self._end - self._start} bytes are not MP3 frames and were left out"
        return ""

    def unread_bytes(self) -> int:
        """Bytes behind the last frame that are frames all the same, or more than a player's tags take."""
        frames = self._frames
        start = skip_tags(self._file, frames.position)
        self._file.seek(start)
        frame = parse_frame(self._file.read(4))
        if frame is not None and frame.is_like(frames.first) and frame.size < self._end - start:
            return self._end - start
        return unless_tag(self._end - start, self._end)

    @property
    def position(self) -> int:
        """Byte behind the last frame."""
        return self._frames.position
