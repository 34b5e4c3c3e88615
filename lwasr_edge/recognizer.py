"""The way in: a Recognizer transcribes recordings and opens streams."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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

Progress = Callable[[float, float], None]  # seconds done, seconds in all


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording."""

    words: tuple[Word, ...]
    duration_s: float
    model: str  # name of the model that heard it
    alternatives: tuple[Alternative, ...] = ()  # the likeliest first; with phrases, a beam or a language model only

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
        model: a name from `lwasr models list`, the path of a model file or of its directory, or None for the default.
        threads: processor threads for one recording or stream; None for all cores.
        chunk_ms: how much sound a stream gives the model at a time, unless the stream asks for something else.
        phrases: what may be said: a list of commands, or a `PhraseList`.
        beam: search for the likeliest texts: a number of hypotheses, or a `BeamSearch`. Phrases in mode "one" are all
            scored without a search, and take the number of alternatives from it alone.
        lm: weigh words by an n-gram: the path of an ARPA file, or a `LanguageModel`.

    Without the last three, text is decoded greedily inside the model file, which costs next to nothing. With one of
    them, every utterance is decoded a second time when it is over.

    Raises:
        ModelNotFoundError, ModelVersionError, ModelError: see `Model`.
        OptionError: impossible `threads`, `chunk_ms`, `phrases` or `beam`; a phrase that the model cannot write.
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
        """A recogniser with the same model in memory that decodes otherwise, as when a menu changes.

        Args:
            phrases, beam, lm: as for the class; what is left out is not inherited.
        """
        return self.with_decoder(self._make_decoder(phrases, beam, lm))

    def with_decoder(self, decoder: Decoder | None) -> Recognizer:
        """A recogniser with the same model in memory and a decoder of one's own; None for greedy decoding alone."""
        other = copy.copy(self)
        other._decoder = decoder
        return other

    @property
    def info(self) -> ModelInfo:
        """What the model file says of itself."""
        return self._model.info

    def transcribe(
        self,
        source: AudioSource,
        sample_rate: int | None = None,
        *,
        chunk_ms: float | None = None,
        look_ahead_ms: float | None = None,
        progress: Progress | None = None,
    ) -> Transcript:
        """Transcribe a recording of any length, in memory that does not grow with it.

        What comes through a pipe is first kept in a temporary file. A model for whole recordings takes all at once.

        Args:
            source: path, bytes of an audio file, binary file object, array, or (array, sample_rate).
            sample_rate: Hz, for an array.
            chunk_ms: give the model so much at a time; the words are then those of a stream with this chunk. The
                default is the largest chunk worth using.
            look_ahead_ms: as for `stream`; without `chunk_ms`, more by default.
            progress: called after each block with the seconds done and the seconds in all; once, at the end, with a
                model for whole recordings.

        Raises:
            AudioError: the audio cannot be used (AudioFileNotFoundError, AudioFormatError among them).
            OptionError: impossible `chunk_ms` or `look_ahead_ms`.
        """
        if not self.info.streaming:
            for name, value in (("chunk_ms", chunk_ms), ("look_ahead_ms", look_ahead_ms or None)):
                if value is not None:
                    raise OptionError(f"the model {self.info.name!r} takes whole recordings only: leave {name} out")
            transcript = self._transcribe_at_once(source, sample_rate)
            if progress is not None:
                progress(transcript.duration_s, transcript.duration_s)
            return transcript
        if chunk_ms is None:
            chunking = Chunking.for_files(self.info, look_ahead_ms, can_look_ahead=self._model.can_look_ahead)
        else:
            chunking = self._chunking(chunk_ms, look_ahead_ms)
        with AudioReader(source, sample_rate) as audio:
            stream = self._file_stream(audio.sample_rate, chunking)
            finals: list[Final] = []
            for block in audio.blocks():
                finals += _finals(stream.accept(block))
                if progress is not None:
                    progress(stream.time_s, audio.seconds_in_all())
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
            sample_rate: Hz of the samples that will come; any rate is resampled.
            chunk_ms: how much sound the model hears at a time, a multiple of its frame (`info.frame_ms`). Small: words
                come sooner. Large: fewer errors, less work. None takes the Recognizer's.
            look_ahead_ms: how much of the chunk's end is context only, heard again at the beginning of the next chunk.
                More: fewer errors, more work; words come no later than a chunk after they were spoken, whatever it is.
                None: 320 ms, at most half of the chunk, where the model can look ahead.
            endpoint: when an utterance is over; None for only at `flush`.

        Raises:
            StreamError: the model takes whole recordings only.
            AudioError, OptionError: impossible settings.
        """
        if not self.info.streaming:
            raise StreamError(f"the model {self.info.name!r} takes whole recordings only: use transcribe()")
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
        """Listen to a microphone: iterate over the result for events.

        Args:
            device: index or part of the name, as `lwasr listen --list-devices` prints them; None for the default.
            chunk_ms, look_ahead_ms: as for `stream`.
            endpoint: as for `stream`.

        Raises:
            MissingExtraError: sounddevice or PortAudio is not installed.
            AudioDeviceError: the device cannot be opened.
        """
        from lwasr_edge.microphone.listener import Listener

        def open_stream(rate: int) -> Stream:
            return self.stream(rate, chunk_ms=chunk_ms, look_ahead_ms=look_ahead_ms, endpoint=endpoint)

        return Listener(open_stream, device)

    def _transcribe_at_once(self, source: AudioSource, sample_rate: int | None) -> Transcript:
        """For a model without state: the whole recording is its one chunk."""
        waveform = load_audio(source, sample_rate, self.info.sample_rate)
        chunk_frames = -(-(len(waveform) + self.info.flush_samples) // self.info.samples_per_frame)
        stream = self._file_stream(self.info.sample_rate, Chunking(chunk_frames))
        finals = _finals([*stream.accept(waveform), *stream.flush()])
        return self._transcript(finals, stream.time_s)

    def _file_stream(self, sample_rate: int, chunking: Chunking) -> Stream:
        """Greedy decoding needs no end-points, and then nothing is final before the flush. Decoders take utterances."""
        endpoint = None if self._decoder is None else EndpointRules()
        return Stream(
            self._model,
            sample_rate=sample_rate,
            chunking=chunking,
            endpoint=endpoint,
            decoder=self._decoder,
        )

    def _transcript(self, finals: list[Final], duration_s: float) -> Transcript:
        words = tuple(word for final in finals for word in final.words)
        return Transcript(words, duration_s, self.info.name, _joined_alternatives(finals))

    def _make_decoder(
        self,
        phrases: Sequence[str] | PhraseList | None,
        beam: int | BeamSearch | None,
        lm: str | os.PathLike[str] | LanguageModel | None,
    ) -> Decoder | None:
        if phrases is None and beam is None and lm is None:
            return None
        from lwasr_edge.decoding.decoder import make_decoder  # greedy decoding does not even load it

        return make_decoder(self.info, phrases, beam, lm)

    def _chunking(self, chunk_ms: float, look_ahead_ms: float | None) -> Chunking:
        return Chunking.from_ms(self.info.frame_ms, chunk_ms, look_ahead_ms, can_look_ahead=self._model.can_look_ahead)


def _finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def _joined_alternatives(finals: list[Final]) -> tuple[Alternative, ...]:
    """The likeliest combinations of what was said in each utterance: scores add up, confidences multiply."""
    nbest = max((len(final.alternatives) for final in finals), default=0)
    joined: list[Alternative] = []
    for final in finals:
        if not joined:
            joined = list(final.alternatives)
            continue
        pairs = [(before, after) for before in joined for after in final.alternatives]
        joined = [
            replace(
                before,
                text=" ".join(text for text in (before.text, after.text) if text),
                score=before.score + after.score,
                confidence=before.confidence * after.confidence,
            )
            for before, after in sorted(pairs, key=lambda pair: -pair[0].confidence * pair[1].confidence)[:nbest]
        ]
    return tuple(joined)
