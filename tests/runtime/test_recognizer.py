"""Recognizer: recordings of every kind, the same words as a stream."""

from __future__ import annotations

import io
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import tiny_model
from conftest import speak

from lwasr_edge import (
    AudioError,
    Final,
    LwasrError,
    ModelNotFoundError,
    OptionError,
    Recognizer,
    StreamError,
    Transcript,
    Word,
)

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.06)
TEXT = "one fourteen two threes"


def test_words_times_and_confidence(recognizer: Recognizer) -> None:
    transcript = recognizer.transcribe(speak(*SENTENCE), 16000)
    assert transcript.text == TEXT
    assert transcript.model == "tiny"
    assert transcript.duration_s == 2.78
    assert [word.text for word in transcript.words] == TEXT.split()
    first = transcript.words[0]
    assert first.start_s == 0.2975
    assert first.end_s == pytest.approx(0.42, abs=0.011)  # of the tone: its last piece ends earlier
    assert 0.99 < first.confidence <= 1.0


@pytest.mark.parametrize(
    ("form", "subtype", "sample_rate"),
    [
        ("WAV", "PCM_16", 16000),
        ("FLAC", None, 44100),
        ("OGG", "OPUS", 48000),
        ("OGG", "VORBIS", 22050),
        ("MP3", None, 44100),
    ],
)
def test_formats_and_rates(recognizer: Recognizer, tmp_path: Path, form: str, subtype: str, sample_rate: int) -> None:
    path = tmp_path / f"a.{form.lower()}"
    mono = speak(*SENTENCE, sample_rate=sample_rate)
    soundfile.write(path, np.stack([mono, mono], axis=1), sample_rate, format=form, subtype=subtype)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        transcript = recognizer.transcribe(source)
        assert transcript.text == TEXT
        assert transcript.duration_s == pytest.approx(2.78, abs=0.06)


@pytest.mark.parametrize("chunk_ms", [40, 160, 640, 1280, 10_000])
def test_the_size_of_a_call_does_not_change_the_words_of_a_model_without_context(
    recognizer: Recognizer, chunk_ms: int
) -> None:
    samples = speak(*SENTENCE, sample_rate=22050)
    words = recognizer.transcribe(samples, 22050).words
    assert recognizer.transcribe(samples, 22050, chunk_ms=chunk_ms).words == words


def test_a_stream_gives_the_words_of_the_recording(recognizer: Recognizer) -> None:
    samples = speak(*SENTENCE, sample_rate=22050)
    words = recognizer.transcribe(samples, 22050).words
    stream = recognizer.stream(22050)
    finals = [event for event in [*stream.accept(samples), *stream.flush()] if isinstance(event, Final)]
    assert [(w.text, w.start_s) for f in finals for w in f.words] == [(w.text, w.start_s) for w in words]


@pytest.mark.parametrize("pause_s", [0.2, 0.31, 2.0, 30.0])
def test_recordings_are_cut_at_pauses_and_times_go_on(recognizer: Recognizer, pause_s: float) -> None:
    sentence = ("\u2581one", 0.1, "\u2581two")  # 0.34 s
    samples = speak(*(item for _ in range(int(60 / (0.34 + pause_s)) + 2) for item in (pause_s, *sentence)))
    transcript = recognizer.transcribe(samples, 16000)
    assert {word.text for word in transcript.words[::2]} == {"one"}
    assert {word.text for word in transcript.words[1::2]} == {"two"}
    starts = [word.start_s for word in transcript.words[::2]]
    expected = [pause_s + number * (0.34 + pause_s) for number in range(len(starts))]
    assert len(transcript.words) == 2 * (int(60 / (0.34 + pause_s)) + 2)
    assert starts == pytest.approx(expected, abs=0.045)


def test_a_minute_without_a_pause_is_cut_too(recognizer: Recognizer) -> None:
    samples = speak(*("\u2581one", 0.08, "\u2581two", 0.08) * 150)
    assert recognizer.transcribe(samples, 16000).text == " ".join(["one two"] * 150)
    offline = recognizer.transcribe(np.tile(speak("\u2581one"), 600), 16000)  # one tone: nothing to cut at
    assert offline.words


def test_a_long_file_crosses_chunks(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(speak("\u2581one", 0.1, "\u2581two", 0.13), 200), 16000)  # 94 s, chunks of 10 s
    assert recognizer.transcribe(path).text == " ".join(["one two"] * 200)


@pytest.mark.slow
def test_an_hour_in_bounded_memory(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    minute = np.tile(speak("\u2581one", 0.2, "\u2581two", 1.56), 30)
    with soundfile.SoundFile(path, "w", 16000, 1) as file:
        for _ in range(60):
            file.write(minute)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    transcript = recognizer.transcribe(path)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert transcript.duration_s == 3600.0
    assert transcript.text == " ".join(["one two"] * 1800)
    assert grown_mb < 40  # the samples alone would be 230 MB


def test_silence_has_no_words(recognizer: Recognizer) -> None:
    assert recognizer.transcribe(np.zeros(50_000, np.int16), 16000) == Transcript((), 3.125, "tiny")


@pytest.mark.parametrize("n_samples", [1, 399, 640])
def test_very_short_recordings(recognizer: Recognizer, n_samples: int) -> None:
    assert recognizer.transcribe(np.zeros(n_samples, np.float32), 16000).text == ""


def test_bad_audio_is_refused_and_the_recognizer_still_works(recognizer: Recognizer, tmp_path: Path) -> None:
    for source in (tmp_path / "no.wav", b"", b"junk" * 100, (np.full(9, np.nan), 16000), (np.zeros(0), 16000), None):
        with pytest.raises(AudioError):
            recognizer.transcribe(source)
    with pytest.raises(AudioError, match="pass sample_rate=16000"):
        recognizer.transcribe(np.zeros(16000, np.float32))
    assert recognizer.transcribe(speak(*SENTENCE), 16000).text == TEXT


def test_progress_is_reported(recognizer: Recognizer) -> None:
    reported = []
    recognizer.transcribe(
        np.zeros(48000, np.float32), 48000, progress=lambda done, total: reported.append((done, total))
    )
    assert [total for _, total in reported] == [1.0] * len(reported)
    assert reported[-1] == (1.0, 1.0)
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})


def test_transcript_as_dict() -> None:
    transcript = Transcript((Word("one", 0.5, 0.75, 0.9),), 1.0, "tiny")
    assert transcript.to_dict() == {
        "text": "one",
        "duration_s": 1.0,
        "model": "tiny",
        "words": [{"text": "one", "start_s": 0.5, "end_s": 0.75, "confidence": 0.9}],
    }


def test_the_default_model(default_model: Path) -> None:
    assert Recognizer().transcribe(speak(*SENTENCE), 16000).text == TEXT
    assert Recognizer("tiny").info.name == "tiny"
    assert Recognizer(default_model).info.name == "tiny"
    assert Recognizer(str(default_model / "model.onnx")).info.name == "tiny"


def test_no_model(lwasr_home: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no installed model is the default"):
        Recognizer()
    with pytest.raises(ModelNotFoundError, match=r"one of the installed models \(none\), got 'no-such'"):
        Recognizer("no-such")


@pytest.mark.parametrize(("option", "value"), [("threads", -1), ("hop_ms", 50)])
def test_invalid_options(model_path: Path, option: str, value: int) -> None:
    with pytest.raises(OptionError, match=option):
        Recognizer(model_path, **{option: value})


def test_the_recognizers_hop_is_its_streams(model_path: Path) -> None:
    recognizer = Recognizer(model_path, hop_ms=160)
    assert recognizer.stream().hop_ms == 160
    assert recognizer.stream(hop_ms=320).hop_ms == 320


def test_numpy_numbers_are_options_too(model_path: Path) -> None:
    recognizer = Recognizer(model_path, threads=np.int64(1), hop_ms=np.int64(640), beam=np.int64(4))
    samples = speak(*SENTENCE)
    transcript = recognizer.transcribe(samples, np.float64(16000), chunk_ms=np.float32(320))
    assert transcript.text == TEXT
    stream = recognizer.stream(np.int64(16000), hop_ms=np.float64(160), right_context_ms=np.float64(0))
    assert (stream.hop_ms, stream.sample_rate) == (160, 16000)
    stream.skip(np.int64(160))
    assert stream.time_s == 0.01
    for options in ({"threads": np.float64(1)}, {"threads": np.bool_(True)}, {"hop_ms": np.array([640])}):
        with pytest.raises(OptionError):
            Recognizer(model_path, **options)


def test_threads_do_not_change_the_words(model_path: Path) -> None:
    assert Recognizer(model_path, threads=None).transcribe(speak(*SENTENCE), 16000).text == TEXT


def test_a_model_without_streaming(offline_model_path: Path) -> None:
    recognizer = Recognizer(offline_model_path)
    samples = np.tile(speak(*SENTENCE, sample_rate=44100), 10)  # 28 s: more than the largest chunk of a streaming model
    transcript = recognizer.transcribe(samples, 44100)
    assert transcript.text == " ".join([TEXT] * 10)
    assert transcript.duration_s == pytest.approx(27.8)
    with pytest.raises(StreamError, match="'tiny-offline' does not stream: use transcribe"):
        recognizer.stream()
    with pytest.raises(OptionError, match="chunk_ms must be None with the model 'tiny-offline'"):
        recognizer.transcribe(samples, 44100, chunk_ms=640)


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "newer.onnx"
    onnx.save(tiny_model.build_model(contract="7"), path)
    for model in (path, tmp_path / "none.onnx", "none", tmp_path):
        with pytest.raises(LwasrError):
            Recognizer(model)
