"""The full-context pass: a segment between two pauses, in chunks as large as the model can use. It decides the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lwasr_edge.chunking import Chunking

if TYPE_CHECKING:
    from lwasr_edge.model import ChunkResult, Model
    from lwasr_edge.streaming.recent_audio import RecentAudio
    from lwasr_edge.words import TimedToken


class Decoded(NamedTuple):
    """The result of T frames."""

    tokens: list[TimedToken]
    log_probs: list[np.ndarray]  # (t, V) float32 of each chunk, T frames together; empty if they were not asked for
    end_frame: int  # one after the last of the frames


class FullPass:
    """Chunks of one segment after another, for files and for the final text of streams.

    A segment begins with the state of a new recording: neither an earlier voice nor an earlier noise has any influence.

    Args:
        model: shared between streams.
        chunking: of a model call; None for whole segments, where the model has no state.
        with_log_probs: whether `Decoded.log_probs` are needed.
    """

    def __init__(self, model: Model, chunking: Chunking | None, *, with_log_probs: bool) -> None:
        self._model = model
        self._chunking = chunking
        self._with_log_probs = with_log_probs
        self.start(0)

    def start(self, frame: int) -> None:
        """Begin a segment."""
        self._state = self._model.initial_state()
        self._next_frame = frame

    def stop(self) -> None:
        """End a segment: its state is not needed any more."""
        self._state = self._model.initial_state()

    @property
    def next_frame(self) -> int:
        """The first frame that is not decoded yet."""
        return self._next_frame

    def advance(self, audio: RecentAudio, end_frame: int) -> Decoded | None:
        """Decode the next chunk, if it is complete with its right context before ``end_frame``."""
        if self._chunking is None or end_frame - self._next_frame < self._chunking.chunk_frames:
            return None
        return self.commit(audio, self._next_frame + self._chunking.hop_frames, end_frame)

    def rest(self, audio: RecentAudio, end_frame: int) -> Decoded:
        """Decode the frames up to ``end_frame`` without leaving them: later audio may still change them."""
        if end_frame <= self._next_frame:
            return Decoded([], [], self._next_frame)
        return self._decoded(self._run(audio, end_frame, 0), end_frame)

    def commit(self, audio: RecentAudio, cut_frame: int, end_frame: int) -> Decoded:
        """Decode the frames up to ``cut_frame``, with those up to ``end_frame`` as right context, and leave them."""
        if cut_frame <= self._next_frame:
            return Decoded([], [], self._next_frame)
        if self._chunking is None or not self._model.can_look_ahead:
            end_frame = cut_frame
        else:
            end_frame = max(cut_frame, min(end_frame, self._next_frame + self._chunking.chunk_frames))
        result = self._run(audio, end_frame, end_frame - cut_frame)
        decoded = self._decoded(result, cut_frame)
        self._next_frame, self._state = cut_frame, result.state
        return decoded

    def _run(self, audio: RecentAudio, end_frame: int, look_ahead: int) -> ChunkResult:
        return self._model.run_chunk(
            audio.frames(self._next_frame, end_frame),
            self._state,
            look_ahead=look_ahead,
            with_log_probs=self._with_log_probs,
        )

    def _decoded(self, result: ChunkResult, end_frame: int) -> Decoded:
        log_probs = [] if result.log_probs is None else [_kept(result.log_probs, result.committed_frames)]
        return Decoded(result.timed_tokens(self._next_frame, committed=True), log_probs, end_frame)


def _kept(log_probs: np.ndarray, n_frames: int) -> np.ndarray:
    """The first frames: a view only if it is most of the array, all of which it keeps in memory."""
    kept = log_probs[:n_frames]
    return kept if 2 * n_frames > len(log_probs) else kept.copy()


def joined(*parts: Decoded) -> Decoded:
    """Consecutive results as one."""
    return Decoded(
        [token for part in parts for token in part.tokens],
        [array for part in parts for array in part.log_probs],
        parts[-1].end_frame,
    )


def split(decoded: Decoded, first_frame: int, cut_frame: int) -> tuple[Decoded, Decoded]:
    """The results before and after ``cut_frame`` of frames that begin with ``first_frame``."""
    before = [token for token in decoded.tokens if token.frame < cut_frame]
    after = decoded.tokens[len(before) :]
    if not decoded.log_probs:
        return Decoded(before, [], cut_frame), Decoded(after, [], max(decoded.end_frame, cut_frame))
    log_probs = np.concatenate(decoded.log_probs)
    head, tail = np.split(log_probs, [cut_frame - first_frame])
    return Decoded(before, [head], cut_frame), Decoded(
        after, [tail] if len(tail) else [], max(decoded.end_frame, cut_frame)
    )
