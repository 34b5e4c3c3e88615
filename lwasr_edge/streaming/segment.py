"""The current segment of speech: decoded with full context while audio comes, and its words at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lwasr_edge.streaming.full_pass import Decoded, FullPass, joined, split
from lwasr_edge.streaming.second_pass import SecondPass
from lwasr_edge.streaming.word_ends import extended_to_sound
from lwasr_edge.words import Word, build_words, join_words

if TYPE_CHECKING:
    from lwasr_edge.chunking import Chunking
    from lwasr_edge.decoding.alternatives import Alternative
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.model import Model
    from lwasr_edge.streaming.recent_audio import RecentAudio
    from lwasr_edge.words import TimedToken


@dataclass(frozen=True)
class SegmentText:
    """What was said in a segment."""

    words: tuple[Word, ...]
    span_s: tuple[float, float] | None  # start and end of the speech; None without speech
    alternatives: tuple[Alternative, ...] = ()  # most likely first; only with a decoder
    greedy_text: str | None = None  # only with a decoder: the text without it


class _Draft(NamedTuple):
    """The end of the segment, decoded before it is certain that the segment ends there."""

    decoded: Decoded
    text: SegmentText | None  # None: not needed yet


class Segment:
    """One segment after another: `open`, `advance` as audio comes, then `finish`.

    Args:
        model: shared between streams.
        chunking: of the full-context pass; None for whole segments in one call.
        decoder: of the second pass; None for greedy decoding.
        may_end: whether a pause may end a segment, so that a draft needs its text. Otherwise segments have no limit,
            and the text of an hour is not made again in every pause.
    """

    def __init__(
        self, model: Model, chunking: Chunking | None, decoder: Decoder | None, *, may_end: bool = True
    ) -> None:
        self._info = model.info
        self._may_end = may_end
        self._second = None if decoder is None else SecondPass(model.info, decoder)
        self._pass = FullPass(model, chunking, with_log_probs=decoder is not None)
        self._first_frame: int | None = None
        self._done = Decoded([], [], 0)
        self._draft: _Draft | None = None

    @property
    def is_open(self) -> bool:
        """Whether a segment has begun and not ended."""
        return self._first_frame is not None

    @property
    def first_frame(self) -> int:
        """The first frame of an open segment."""
        assert self._first_frame is not None
        return self._first_frame

    @property
    def needs_from(self) -> int:
        """The first frame whose samples are still needed by an open segment."""
        return self._pass.next_frame

    @property
    def done(self) -> list[TimedToken]:
        """Tokens that will not change."""
        return self._done.tokens

    @property
    def drafted(self) -> list[TimedToken]:
        """Tokens after `done` that were decoded with all audio so far, but may change if speech goes on."""
        return self._draft.decoded.tokens if self._draft else []

    @property
    def end_frame(self) -> int:
        """One after the frames of `done` and `drafted`."""
        return self._draft.decoded.end_frame if self._draft else self._done.end_frame

    def open(self, frame: int) -> None:
        """Begin a segment in ``frame``, with no memory of earlier ones."""
        self._pass.start(frame)
        self._begin(frame)

    def close(self) -> None:
        """End the segment without its words."""
        self._first_frame = None
        self._done = Decoded([], [], self._done.end_frame)
        self._draft = None
        self._pass.stop()

    def advance(self, audio: RecentAudio, end_frame: int) -> None:
        """Decode what is complete up to ``end_frame``."""
        while (decoded := self._pass.advance(audio, end_frame)) is not None:
            self._done.tokens.extend(decoded.tokens)
            self._done.log_probs.extend(decoded.log_probs)
            self._done = self._done._replace(end_frame=decoded.end_frame)
            if self._second is not None:
                self._done = self._second.take(self._done)
            self._draft = None

    def draft(self, audio: RecentAudio, end_frame: int) -> None:
        """Decode up to ``end_frame`` as if the segment ended there; a `finish` there then takes no time."""
        rest = self._pass.rest(audio, end_frame)
        text = self._text_with(rest, audio, end_frame) if self._may_end else None
        self._draft = _Draft(rest if text is None else rest._replace(log_probs=[]), text)

    def finish(self, audio: RecentAudio, end_frame: int) -> SegmentText:
        """End the segment in ``end_frame``."""
        draft = self._draft
        if draft is None or draft.decoded.end_frame != end_frame:
            draft = _Draft(self._pass.rest(audio, end_frame), None)
        text = draft.text or self._text_with(draft.decoded, audio, end_frame)
        self.close()
        return text

    def cut(self, audio: RecentAudio, cut_frame: int, end_frame: int) -> SegmentText:
        """End the segment inside speech: the next one begins in ``cut_frame`` with the context of this one.

        Args:
            audio: up to ``end_frame`` at least, which is right context.
            cut_frame: the first frame of the next segment.
            end_frame: newest audio, plus one.
        """
        decoded = joined(self._done, self._pass.commit(audio, cut_frame, end_frame))
        first_frame = self.first_frame if self._second is None else self._second.first_frame
        before, after = split(decoded, first_frame, cut_frame)
        text = self._text(before, audio, cut_frame)
        self._begin(cut_frame)
        self._done = after
        return text

    def _begin(self, frame: int) -> None:
        self._first_frame = frame
        self._done = Decoded([], [], frame)
        self._draft = None
        if self._second is not None:
            self._second.start(frame)

    def _text_with(self, rest: Decoded, audio: RecentAudio, end_frame: int) -> SegmentText:
        return self._text(joined(self._done, rest), audio, end_frame)

    def _text(self, decoded: Decoded, audio: RecentAudio, end_frame: int) -> SegmentText:
        words: Sequence[Word] = build_words(self._info, decoded.tokens)
        words = extended_to_sound(words, audio.levels, self._info, end_frame)
        if self._second is None or not decoded.log_probs:
            return SegmentText(words, _span_s(words))
        found = self._second.text(decoded)
        decided = extended_to_sound(found.words, audio.levels, self._info, end_frame)
        return SegmentText(decided, _span_s(decided or words), found.alternatives, join_words(words))


def _span_s(words: Sequence[Word]) -> tuple[float, float] | None:
    return (words[0].start_s, words[-1].end_s) if words else None
