"""The entry point: a Recognizer transcribes recordings and opens streams.

From samples to words: `Recognizer.transcribe` (here) reads blocks with `AudioReader` (audio/reader.py) and gives them
to `RecordingTranscriber` (streaming/recording.py), which cuts them at pauses and gives each `Segment`
(streaming/segment.py) to `Model.run_chunk` (model.py), which calls onnxruntime's `session.run`. `Stream.accept`
(stream.py) gives its samples to `SpeechTracker` (streaming/speech_tracker.py), which makes events of them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lwasr_edge.audio.reader import AudioReader
from lwasr_edge.chunking import STREAM_HOP_MS, Chunking
from lwasr_edge.errors import OptionError, StreamError
from lwasr_edge.events import FinalText
from lwasr_edge.hub.catalog import find_model
from lwasr_edge.hub.model_file import free_unused_memory
from lwasr_edge.model import Model
from lwasr_edge.streaming.recording import RecordingTranscriber
from lwasr_edge.utterance import EndpointRules
from lwasr_edge.words import Word

if TYPE_CHECKING:
    from lwasr_edge.audio.reader import AudioSource
    from lwasr_edge.decoding.alternatives import Alternative
    from lwasr_edge.decoding.beam import BeamSearch
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.decoding.language_model import LanguageModel, Source
    from lwasr_edge.decoding.phrases import PhraseList
    from lwasr_edge.microphone.listener import Listener
    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.stream import Stream
    from lwasr_edge.streaming.segment import SegmentText

Progress = Callable[[float, float], object]  # seconds done, seconds in total; False stops


@dataclass(frozen=True)
class Transcript(FinalText):
    """The recognised text of one recording."""

    words: tuple[Word, ...]
    duration_s: float
    model: str  # name of the model
    alternatives: tuple[Alternative, ...] = ()  # most likely first; only with phrases, a beam or an own lm

    def to_dict(self, *, written: bool = False) -> dict[str, Any]:
        """For JSON: text, duration_s, model, words, and alternatives if there are any.

        Args:
            written: also "written", the text as people write it, and "written_words" with the number of recognised
                words that each one stands for.
        """
        described: dict[str, Any] = {
            "text": self.text,
            "duration_s": self.duration_s,
            "model": self.model,
            "words": [asdict(word) for word in self.words],
        }
        if written:
            described["written"] = self.written
            described["written_words"] = [word.to_dict() for word in self.written_words]
        if self.alternatives:
            described["alternatives"] = [asdict(alternative) for alternative in self.alternatives]
        return described


class Recognizer:
    """Speech to text with one model. Load it once; use it from any number of threads.

        with Recognizer() as recognizer:
            print(recognizer.transcribe("a.wav").text)

    It may be passed to other processes: pickled, it is the path of the model and the options, and opens the file again.

    Args:
        model: a name from `lwasr models list`, the path of a model file or of its folder, or None for the default. A
            string is a path if it has a separator or ends in .onnx or .onnx.gz; see `find_model`.
        threads: CPU threads for one recording or stream; None or 0 for all cores.
        hop_ms: default of streams; see `stream`.
        phrases: phrases to recognise or to prefer: a list of commands, or a `PhraseList`.
        beam: search for the most likely texts: a number of hypotheses, or a `BeamSearch`. Phrases in mode "one" are all
            scored without a search; of the `BeamSearch` only the number of alternatives is used.
        lm: n-gram language model: "general", the model of the package; the path of an ARPA or .lm file; a list of
            these, which are interpolated; a `LanguageModel` with weights; or None.

    Greedy decoding is inside the model file. With one of the last three, every utterance is decoded a second time at
    its end. "general" is the default and is used where the model file has weights for it (`info.decoding`), but not
    with phrases in modes "one" and "sequence"; `lm=None` without the other two leaves greedy decoding alone.

    Raises:
        ModelNotFoundError, ModelVersionError, ModelError: see `Model`.
        OptionError: invalid `threads`, `hop_ms`, `phrases` or `beam`; a phrase that the model's pieces cannot spell.
        LanguageModelError: no such file, or one that is not a language model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = 1,
        hop_ms: float = STREAM_HOP_MS,
        phrases: Sequence[str] | PhraseList | None = None,
        beam: int | BeamSearch | None = None,
        lm: LanguageModel | Source | Sequence[Source] | None = "general",
    ) -> None:
        self._open_model: Model | None = Model(find_model(model), threads=threads)
        self._hop_ms = hop_ms
        if self.info.streaming:
            self._chunking(hop_ms, None)
        self._decoder = self._make_decoder(phrases, beam, lm)

    def with_decoding(
        self,
        *,
        phrases: Sequence[str] | PhraseList | None = None,
        beam: int | BeamSearch | None = None,
        lm: LanguageModel | Source | Sequence[Source] | None = "general",
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

    def close(self) -> None:
        """Release the model; its memory is free when no stream and no other Recognizer shares it.

        Calls after that raise StreamError; streams that are open go on.
        """
        self._open_model = self._decoder = None
        free_unused_memory()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> Recognizer:
        return copy.copy(self)  # model and decoder are immutable

    def transcribe(
        self,
        source: AudioSource,
        sample_rate: int | None = None,
        *,
        chunk_ms: float | None = None,
        channel: int | None = None,
        progress: Progress | None = None,
        on_segment: Callable[[tuple[Word, ...]], object] | None = None,
    ) -> Transcript:
        """Transcribe a recording of any length in constant memory.

        It is cut at its pauses, and each part is decoded with full context: all parts are independent of each other. A
        pipe is first copied to a temporary file.

        Args:
            source: path, bytes of an audio file, binary file object, `soundfile.SoundFile`, array, or
                (array, sample_rate).
            sample_rate: Hz, for an array.
            chunk_ms: audio of one model call, a multiple of the model's frame; smaller values need less memory and are
                less accurate. None for the largest value that improves accuracy.
            channel: the channel to transcribe, from 1, where each has its own speaker; None for the mean of all, or
                the loudest where channels of opposite phase cancel.
            progress: called after each block with the seconds done and the seconds in total; if it returns False, the
                transcript is that of the audio so far.
            on_segment: called with the words of each part when it is decoded.

        Raises:
            AudioError: the audio cannot be used (also AudioFileNotFoundError, AudioFormatError).
            OptionError: invalid `chunk_ms`.
        """
        chunking = self._file_chunking(chunk_ms)
        with AudioReader(source, sample_rate, channel=channel) as audio:
            recording = RecordingTranscriber(self._model, audio.sample_rate, chunking, self._decoder)
            texts: list[SegmentText] = []
            n_samples = 0

            def add(found: list[SegmentText]) -> None:
                texts.extend(found)
                if on_segment is not None:
                    for text in found:
                        on_segment(text.words)

            for block in audio.blocks():
                add(recording.accept(block))
                n_samples += len(block)
                done_s = n_samples / audio.sample_rate
                if progress is not None and progress(done_s, audio.estimated_duration_s()) is False:
                    break
            add(recording.finish())
        return self._transcript(texts, n_samples / audio.sample_rate)

    def stream(
        self,
        sample_rate: int = 16_000,
        *,
        hop_ms: float | None = None,
        right_context_ms: float | None = None,
        endpoint: EndpointRules | None = EndpointRules(),  # noqa: B008 - immutable
    ) -> Stream:
        """Open a stream.

        Args:
            sample_rate: Hz of the samples; any rate is resampled.
            hop_ms: how often the newest audio is recognised, a multiple of the model's frame (`info.frame_ms`). Smaller
                values show words sooner and use more CPU. None for the Recognizer's.
            right_context_ms: later audio that a word needs to become stable, a multiple of the frame. Words are shown
                before; larger values revise fewer of them and use more CPU. The final text does not depend on it. None
                for 640 ms; 0 where the model cannot look ahead.
            endpoint: when an utterance is over; None for only at `flush`.

        Raises:
            StreamError: the model does not stream.
            AudioError, OptionError: invalid options.
        """
        if not self.info.streaming:
            raise StreamError(f"the model {self.info.name!r} does not stream: use transcribe()")
        from lwasr_edge.stream import Stream  # not loaded for files

        chunking = self._chunking(self._hop_ms if hop_ms is None else hop_ms, right_context_ms)
        self._model.warm_up(chunking.chunk_frames)
        return Stream(
            self._model,
            sample_rate=sample_rate,
            chunking=chunking,
            endpoint=endpoint,
            decoder=self._decoder,
        )

    def listen(
        self,
        device: int | str | None = None,
        *,
        hop_ms: float | None = None,
        right_context_ms: float | None = None,
        endpoint: EndpointRules | None = EndpointRules(),  # noqa: B008 - immutable
    ) -> Listener:
        """Open a microphone; iterate over the result for events.

        Args:
            device: index or part of the name, see `lwasr listen --list-devices`; None for the default.
            hop_ms, right_context_ms: as for `stream`.
            endpoint: as for `stream`.

        Raises:
            MissingExtraError: sounddevice or PortAudio is not installed.
            AudioDeviceError: no such device, or it cannot be opened.
        """
        from lwasr_edge.microphone.listener import Listener

        open_stream = partial(self.stream, hop_ms=hop_ms, right_context_ms=right_context_ms, endpoint=endpoint)
        return Listener(open_stream, device)

    @property
    def _model(self) -> Model:
        if self._open_model is None:
            raise StreamError("the recognizer is closed: make another with Recognizer()")
        return self._open_model

    def _transcript(self, texts: list[SegmentText], duration_s: float) -> Transcript:
        words = tuple(word.clamped(duration_s) for text in texts for word in text.words)
        if self._decoder is None:
            return Transcript(words, duration_s, self.info.name)
        from lwasr_edge.decoding.alternatives import join_alternatives

        return Transcript(words, duration_s, self.info.name, join_alternatives([text.alternatives for text in texts]))

    def _make_decoder(
        self,
        phrases: Sequence[str] | PhraseList | None,
        beam: int | BeamSearch | None,
        lm: LanguageModel | Source | Sequence[Source] | None,
    ) -> Decoder | None:
        is_unused = lm is None or (isinstance(lm, str) and lm == "general" and not self.info.has_general_lm)
        if phrases is None and beam is None and is_unused:
            return None
        from lwasr_edge.decoding.decoder import make_decoder  # not loaded for greedy decoding

        return make_decoder(self.info, phrases, beam, lm)

    def _chunking(self, hop_ms: float, right_context_ms: float | None) -> Chunking:
        frame_ms, most = self.info.frame_ms, self.info.max_chunk_frames
        chunking = Chunking.of_stream(frame_ms, hop_ms, right_context_ms, can_look_ahead=self._model.can_look_ahead)
        if chunking.chunk_frames > most:
            raise OptionError(
                f"hop_ms and right_context_ms must be at most {most * frame_ms:g} together with the model "
                f"{self.info.name!r}, got {chunking.chunk_frames * frame_ms:g}"
            )
        return chunking

    def _file_chunking(self, chunk_ms: float | None) -> Chunking | None:
        if self.info.streaming:
            return Chunking.for_files(self.info, chunk_ms, can_look_ahead=self._model.can_look_ahead)
        if chunk_ms is not None:
            raise OptionError(
                f"chunk_ms must be None with the model {self.info.name!r}, which has no state, got {chunk_ms!r}"
            )
        return None
