"""A recording of any length: cut at pauses, each segment decoded with full context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.audio.samples import StreamResampler
from lwasr_edge.streaming.pauses import AT_ONCE, find_segments
from lwasr_edge.streaming.recent_audio import LEVELS_PER_FRAME, RecentAudio
from lwasr_edge.streaming.segment import Segment, SegmentText

if TYPE_CHECKING:
    from lwasr_edge.chunking import Chunking
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.model import Model


class RecordingTranscriber:
    """Blocks of one recording in, the text of its segments out, in constant memory.

    Args:
        model: the model.
        sample_rate: Hz of the blocks.
        chunking: of a model call; None for one call a segment.
        decoder: of the second pass; None for greedy decoding.
    """

    def __init__(self, model: Model, sample_rate: int, chunking: Chunking | None, decoder: Decoder | None) -> None:
        self._info = model.info
        self._resampler = StreamResampler(sample_rate, model.info.sample_rate)
        self._audio = RecentAudio(model.info.samples_per_frame)
        self._segment = Segment(model, chunking, decoder)
        self._from = 0  # first frame that is in no segment yet

    def accept(self, samples: np.ndarray) -> list[SegmentText]:
        """Add (n,) float32 samples; return the segments that are complete."""
        self._audio.append(self._resampler.process(samples))
        texts: list[SegmentText] = []
        while self._audio.end_frame - self._from >= AT_ONCE // LEVELS_PER_FRAME:
            texts += self._decode(self._from + AT_ONCE // LEVELS_PER_FRAME, is_last=False)
        return texts

    def finish(self) -> list[SegmentText]:
        """End the recording; return the remaining segments."""
        self._audio.append(self._resampler.flush())
        samples_per_frame, n_flush = self._info.samples_per_frame, self._info.flush_samples
        padding = n_flush + -(self._audio.incomplete_samples + n_flush) % samples_per_frame
        self._audio.append(np.zeros(padding, np.float32))
        texts: list[SegmentText] = []
        while self._audio.end_frame - self._from > AT_ONCE // LEVELS_PER_FRAME:
            texts += self._decode(self._from + AT_ONCE // LEVELS_PER_FRAME, is_last=False)
        return texts + self._decode(self._audio.end_frame, is_last=True)

    def _decode(self, end_frame: int, *, is_last: bool) -> list[SegmentText]:
        first_level = self._from * LEVELS_PER_FRAME
        levels = self._audio.levels.between(first_level, end_frame * LEVELS_PER_FRAME)
        cut = find_segments(levels, is_last=is_last)
        texts = []
        for first, end in cut.segments:
            begin, stop = (first_level + first) // LEVELS_PER_FRAME, -(-(first_level + end) // LEVELS_PER_FRAME)
            self._segment.open(begin)
            self._segment.advance(self._audio, stop)
            texts.append(self._segment.finish(self._audio, stop))
        self._from += cut.used // LEVELS_PER_FRAME
        self._audio.discard(self._from)
        self._audio.levels.discard(self._from)
        return [text for text in texts if text.words or text.alternatives]
