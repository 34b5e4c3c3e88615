"""The entry point: a Recognizer transcribes recordings and opens streams.

From samples to words: `Recognizer.transcribe` (here) reads blocks with `AudioReader` (audio/reader.py), gives them to
`Stream.accept` (stream.py), which calls `Model.run_chunk` (model.py), which calls onnxruntime's `session.run`;
`UtteranceTracker` (utterance.py) makes words and events of the tokens.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lwasr_edge.audio.reader import AudioReader, load_audio
from lwasr_edge.chunking import STREAM_CHUNK_MS, Chunking
from lwasr_edge.errors import OptionError, StreamError
from lwasr_edge.events import Event, Final
from lwasr_edge.hub.catalog import find_model
from lwasr_edge.model import Model
from lwasr_edge.stream import Stream
from lwasr_edge.utterance import EndpointRules
from lwasr_edge.words import Word, join_words

if TYPE_CHECKING:
    from lwasr_edge.audio.reader import AudioSource
    from lwasr_edge.decoding.beam import BeamSearch
    from lwasr_edge.decoding.decoder import Alternative, Decoder
    from lwasr_edge.decoding.language_model import LanguageModel
    from lwasr_edge.decoding.phrases import PhraseList
    from lwasr_edge.microphone.listener import Listener
    from lwasr_edge.model_info import ModelInfo

Progress = Callable[[float, float], None]  # seconds done, seconds in total


@dataclass(frozen=True)
class Transcript:
    """The recognised text of one recording."""

    words: tuple[Word, ...]
    duration_s: float
    model: str  # name of the model
    alternatives: tuple[Alternative, ...] = ()  # most likely first; only with phrases, a beam or a language model

    @property
    def text(self) -> str:
        """All words, separated by spaces; empty for silence."""
        return join_words(self.words)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: text, duration_s, model, words, and alternatives if there are any."""
        described: dict[str, Any] = {
            "text": self.text,
            "duration_s": self.duration_s,
            "model": self.model,
            "words": [asdict(word) for word in self.words],
        }
        if self.alternatives:
            described["alternatives"] = [asdict(alternative) for alternative in self.alternatives]
        return described


class Recognizer:
    """Speech to text with one model. Load it once; use it from any number of threads.

    Args:
        model: a name from `lwasr models list`, the path of a model file or of its folder, or None for the default. A
            string is a path if it has a separator or ends in .onnx or .onnx.gz; see `find_model`.
        threads: CPU threads for one recording or stream; None for all cores.
        chunk_ms: default chunk of streams; see `stream`.
        phrases: phrases to recognise or to prefer: a list of commands, or a `PhraseList`.
        beam: search for the most likely texts: a number of hypotheses, or a `BeamSearch`. Phrases in mode "one" are all
            scored without a search; of the `BeamSearch` only the number of alternatives is used.
        lm: n-gram language model: the path of an ARPA file, or a `LanguageModel`.

    Without the last three, decoding is greedy, inside the model file, at almost no cost. With one of them, every
    utterance is decoded a second time at its end.

    Raises:
        ModelNotFoundError, ModelVersionError, ModelError: see `Model`.
        OptionError: invalid `threads`, `chunk_ms`, `phrases` or `beam`; a phrase that the model's pieces cannot spell.
        LanguageModelError: no such ARPA file, or a malformed one.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = 1,
        chunk_ms: float = STREAM_CHUNK_MS,
        phrases: Sequence[str] | PhraseList | None = None,
        beam: int | BeamSearch | None = None,
        lm: str | os.PathLike[str] | LanguageModel | None = None,
    ) -> None:
        self._model = Model(find_model(model), threads=threads)
        self._chunk_ms = chunk_ms
        if self.info.streaming:
            self._chunking(chunk_ms, None)
        self._decoder = self._make_decoder(phrases, beam, lm)

    def with_decoding(
        self,
        *,
        phrases: Sequence[str] | PhraseList | None = None,
        beam: int | BeamSearch | None = None,
        lm: str | os.PathLike[str] | LanguageModel | None = None,
    ) -> Recognizer:
        """Return a Recognizer with other decoding options that shares this one's model in memory.

        Args:
            phrases, beam, lm: as for the class; omitted ones are not inherited.
        """
        return self.with_decoder(self._make_decoder(phrases, beam, lm))

    def with_decoder(self, decoder: Decoder | None) -> Recognizer:
        """Return a Recognizer with a custom decoder that shares this one's model; None for greedy decoding alone."""
        other = copy.copy(self)
        other._decoder = decoder
        return other

    @property
    def info(self) -> ModelInfo:
        """The metadata of the model file."""
        return self._model.info

    def transcribe(
        self,
        source: AudioSource,
        sample_rate: int | None = None,
        *,
        chunk_ms: float | None = None,
        look_ahead_ms: float | None = None,
        channel: int | None = None,
        progress: Progress | None = None,
    ) -> Transcript:
        """Transcribe a recording of any length in constant memory.

        A pipe is first copied to a temporary file. A model without streaming processes the recording in one chunk, in
        memory that grows with it.

        Args:
            source: path, bytes of an audio file, binary file object, `soundfile.SoundFile`, array, or
                (array, sample_rate).
            sample_rate: Hz, for an array.
            chunk_ms: chunk length in milliseconds; the words are then those of a stream with this chunk. None for the
                largest chunk that improves accuracy.
            look_ahead_ms: as for `stream`, but 640 ms by default if `chunk_ms` is None.
            channel: the channel to transcribe, from 1, where each has its own speaker; None for the mean of all, or
                the loudest where channels of opposite phase cancel.
            progress: called after each block with the seconds done and the seconds in total; with a model without
                streaming, once at the end.

        Raises:
            AudioError: the audio cannot be used (also AudioFileNotFoundError, AudioFormatError).
            OptionError: invalid `chunk_ms` or `look_ahead_ms`.
        """
        if not self.info.streaming:
            for name, value in (("chunk_ms", chunk_ms), ("look_ahead_ms", look_ahead_ms or None)):
                if value is not None:
                    raise OptionError(
                        f"{name} must be None with the model {self.info.name!r}, which does not stream, got {value!r}"
                    )
            return self._transcribe_full_context(source, sample_rate, channel, progress)
        if chunk_ms is None:
            chunking = Chunking.for_files(self.info, look_ahead_ms, can_look_ahead=self._model.can_look_ahead)
        else:
            chunking = self._chunking(chunk_ms, look_ahead_ms)
        with AudioReader(source, sample_rate, channel=channel) as audio:
            stream = self._file_stream(audio.sample_rate, chunking)
            finals: list[Final] = []
            for block in audio.blocks():
                finals += _finals(stream.accept(block))
                if progress is not None:
                    progress(stream.time_s, audio.estimated_duration_s())
        return self._transcript([*finals, *_finals(stream.flush())], stream.time_s)

    def stream(
        self,
        sample_rate: int = 16_000,
        *,
        chunk_ms: float | None = None,
        look_ahead_ms: float | None = None,
        endpoint: EndpointRules | None = EndpointRules(),  # noqa: B008 - immutable
    ) -> Stream:
        """Open a stream.

        Args:
            sample_rate: Hz of the samples; any rate is resampled.
            chunk_ms: audio of one model call, a multiple of the model's frame (`info.frame_ms`). Small values give
                words sooner; large values are more accurate and use less CPU. None for the Recognizer's.
            look_ahead_ms: end of each chunk that is right context only and begins the next chunk. Larger values are
                more accurate and use more CPU; words come at most one chunk after they were spoken, whatever the value.
                None for 320 ms, at most half of the chunk; 0 where the model cannot look ahead.
            endpoint: when an utterance is over; None for only at `flush`.

        Raises:
            StreamError: the model does not stream.
            AudioError, OptionError: invalid options.
        """
        if not self.info.streaming:
            raise StreamError(f"the model {self.info.name!r} does not stream: use transcribe()")
        return Stream(
            self._model,
            sample_rate=sample_rate,
            chunking=self._chunking(self._chunk_ms if chunk_ms is None else chunk_ms, look_ahead_ms),
            endpoint=endpoint,
            decoder=self._decoder,
        )

    def listen(
        self,
        device: int | str | None = None,
        *,
        chunk_ms: float | None = None,
        look_ahead_ms: float | None = None,
        endpoint: EndpointRules | None = EndpointRules(),  # noqa: B008 - immutable
    ) -> Listener:
        """Open a microphone; iterate over the result for events.

        Args:
            device: index or part of the name, see `lwasr listen --list-devices`; None for the default.
            chunk_ms, look_ahead_ms: as for `stream`.
            endpoint: as for `stream`.

        Raises:
            MissingExtraError: sounddevice or PortAudio is not installed.
            AudioDeviceError: no such device, or it cannot be opened.
        """
        from lwasr_edge.microphone.listener import Listener

        open_stream = partial(self.stream, chunk_ms=chunk_ms, look_ahead_ms=look_ahead_ms, endpoint=endpoint)
        return Listener(open_stream, device)

    def _transcribe_full_context(
        self, source: AudioSource, sample_rate: int | None, channel: int | None, progress: Progress | None
    ) -> Transcript:
        """Transcribe with a model without state: the recording is its one chunk."""
        waveform = load_audio(source, sample_rate, self.info.sample_rate, channel=channel)
        chunk_frames = -(-(len(waveform) + self.info.flush_samples) // self.info.samples_per_frame)
        stream = self._file_stream(self.info.sample_rate, Chunking(chunk_frames))
        finals = _finals([*stream.accept(waveform), *stream.flush()])
        if progress is not None:
            progress(stream.time_s, stream.time_s)
        return self._transcript(finals, stream.time_s)

    def _file_stream(self, sample_rate: int, chunking: Chunking) -> Stream:
        """A stream without endpoints, as greedy decoding needs none; other decoders work on utterances."""
        endpoint = None if self._decoder is None else EndpointRules()
        return Stream(self._model, sample_rate=sample_rate, chunking=chunking, endpoint=endpoint, decoder=self._decoder)

    def _transcript(self, finals: list[Final], duration_s: float) -> Transcript:
        words = tuple(word for final in finals for word in final.words)
        if self._decoder is None:
            return Transcript(words, duration_s, self.info.name)
        from lwasr_edge.decoding.decoder import join_alternatives

        return Transcript(words, duration_s, self.info.name, join_alternatives([f.alternatives for f in finals]))

    def _make_decoder(
        self,
        phrases: Sequence[str] | PhraseList | None,
        beam: int | BeamSearch | None,
        lm: str | os.PathLike[str] | LanguageModel | None,
    ) -> Decoder | None:
        if phrases is None and beam is None and lm is None:
            return None
        from lwasr_edge.decoding.decoder import make_decoder  # not loaded for greedy decoding

        return make_decoder(self.info, phrases, beam, lm)

    def _chunking(self, chunk_ms: float, look_ahead_ms: float | None) -> Chunking:
        return Chunking.from_ms(self.info.frame_ms, chunk_ms, look_ahead_ms, can_look_ahead=self._model.can_look_ahead)


def _finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]
