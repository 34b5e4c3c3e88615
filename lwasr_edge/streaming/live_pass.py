"""The live pass: small windows over the newest audio, whose tokens are shown at once and revised as audio follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lwasr_edge.chunking import Chunking
    from lwasr_edge.model import Model
    from lwasr_edge.streaming.recent_audio import RecentAudio
    from lwasr_edge.words import TimedToken


class LivePass:
    """Windows of one stream. A window ends at the newest frame; its last frames are the right context of the others.

    Tokens before the right context are committed and are not revised by later windows; those in it are provisional.

    Args:
        model: shared between streams.
        chunking: hop and right context.
    """

    def __init__(self, model: Model, chunking: Chunking) -> None:
        self._model = model
        self._chunking = chunking
        self.start(0)

    def start(self, frame: int) -> None:
        """Forget all audio before ``frame``, as if the recording began there."""
        self._state = self._model.initial_state()
        self._next_frame = frame
        self._committed: list[TimedToken] = []
        self._provisional: list[TimedToken] = []

    def stop(self) -> None:
        """Drop the state while nobody speaks."""
        self._state = self._model.initial_state()

    @property
    def next_frame(self) -> int:
        """The first frame of the next window."""
        return self._next_frame

    def tokens(self, first_frame: int) -> list[TimedToken]:
        """Committed and provisional tokens from a frame on."""
        return [token for token in (*self._committed, *self._provisional) if token.frame >= first_frame]

    def run(self, audio: RecentAudio, end_frame: int) -> None:
        """Run the window that ends at ``end_frame``, and commit what has all of its right context."""
        right_context = self._chunking.look_ahead_frames
        n_frames = end_frame - self._next_frame
        if n_frames <= right_context:
            return self.peek(audio, end_frame)
        result = self._model.run_chunk(audio.frames(self._next_frame, end_frame), self._state, look_ahead=right_context)
        tokens = result.timed_tokens(self._next_frame)
        # Not before run_chunk has returned: if Ctrl-C interrupts it, the same window is run again.
        self._next_frame += result.committed_frames
        self._state = result.state
        self._committed += [token for token in tokens if token.frame < self._next_frame]
        self._provisional = [token for token in tokens if token.frame >= self._next_frame]
        return None

    def peek(self, audio: RecentAudio, end_frame: int) -> None:
        """Run the window that ends at ``end_frame`` without committing anything."""
        if end_frame > self._next_frame:
            result = self._model.run_chunk(audio.frames(self._next_frame, end_frame), self._state)
            self._provisional = result.timed_tokens(self._next_frame)

    def forget(self, before_frame: int) -> None:
        """Drop the committed tokens before a frame."""
        self._committed = [token for token in self._committed if token.frame >= before_frame]
