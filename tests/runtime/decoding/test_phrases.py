"""Phrases, beams and language models in recordings, streams and the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import speak

from lwasr_edge import (
    BeamSearch,
    EndpointRules,
    Event,
    Final,
    LanguageModel,
    LanguageModelError,
    OptionError,
    Partial,
    PhraseList,
    Recognizer,
)
from lwasr_edge.cli import main
from lwasr_edge.model import Model

FOURTEEN = (0.3, "\u2581four", 0.04, "teen", 0.3)
OTHER = (0.3, "\u2581two", 0.1, "\u2581one", 0.1, "\u2581three", 0.1, "\u2581two", 0.3)
COMMANDS = ["fourteen", "one fourteen", "four", "three threes"]


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


@pytest.fixture(scope="module")
def commands(recognizer: Recognizer) -> Recognizer:
    return recognizer.with_decoding(phrases=COMMANDS)


@pytest.mark.parametrize("phrase", COMMANDS)
def test_a_phrase_is_recognised(commands: Recognizer, phrase: str) -> None:
    transcript = commands.transcribe(speak(0.2, *pieces_of(phrase), 0.2), 16_000)
    assert transcript.text == phrase
    assert transcript.words[0].confidence > 0.9
    assert transcript.words[0].confidence == transcript.alternatives[0].confidence
    assert transcript.alternatives[0].text == phrase
    assert sum(alternative.confidence for alternative in transcript.alternatives) == pytest.approx(1.0, abs=1e-3)


def pieces_of(text: str) -> list[str | float]:
    """Pieces of the tiny model with gaps between."""
    parts: list[str | float] = []
    for word in text.split():
        for ending in ("teen", "s"):
            if word.endswith(ending) and word != ending:
                parts += ["\u2581" + word.removesuffix(ending), 0.08, ending, 0.08]
                break
        else:
            parts += ["\u2581" + word, 0.08]
    return parts


def test_times_are_those_of_greedy_decoding(recognizer: Recognizer, commands: Recognizer) -> None:
    samples = speak(0.3, *pieces_of("one fourteen"), 0.3)
    greedy, found = recognizer.transcribe(samples, 16_000), commands.transcribe(samples, 16_000)
    assert [(w.text, w.start_s, w.end_s) for w in found.words] == [(w.text, w.start_s, w.end_s) for w in greedy.words]


def test_none_of_these(commands: Recognizer) -> None:
    transcript = commands.transcribe(speak(*OTHER), 16_000)
    assert (transcript.text, transcript.words) == ("", ())
    assert transcript.alternatives[0].text == ""
    assert transcript.alternatives[0].confidence > 0.9
    (final,) = finals(commands.stream().accept(speak(*OTHER, 1.0)))
    assert (final.text, final.reason, final.heard) == ("", "endpoint", "two one three two")
    assert final.alternatives[0].confidence > 0.9


def test_a_threshold_decides(recognizer: Recognizer) -> None:
    for min_confidence, expected in ((0.0, True), (1.0, False)):
        phrases = PhraseList(COMMANDS, min_confidence=min_confidence)
        text = recognizer.with_decoding(phrases=phrases).transcribe(speak(0.2, *pieces_of("four"), 0.2), 16_000).text
        assert (text == "four") is expected


def test_a_weight_decides_between_like_phrases(recognizer: Recognizer) -> None:
    samples = speak(0.2, "\u2581four", 0.2)
    mixed = samples + 0.98 * speak(0.2, "\u2581one", 0.2)
    for weights, expected in (({"four": 1.0, "one": 1e-6}, "four"), ({"four": 1e-6, "one": 1.0}, "one")):
        decoder = recognizer.with_decoding(phrases=PhraseList(weights, min_confidence=0.0))
        assert decoder.transcribe(mixed, 16_000).text == expected


def test_silence_is_no_phrase(commands: Recognizer) -> None:
    assert commands.transcribe(np.zeros(32_000, np.float32), 16_000).text == ""
    stream = commands.stream()
    assert stream.accept(np.zeros(160_000, np.float32)) + stream.flush() == []


@pytest.mark.parametrize("chunk_ms", [40, 320, 640])
@pytest.mark.parametrize("options", [{"phrases": COMMANDS}, {"beam": 4}, {"phrases": PhraseList(COMMANDS, "bias")}])
def test_a_stream_gives_what_a_recording_gives(recognizer: Recognizer, chunk_ms: int, options: dict) -> None:
    decoder = recognizer.with_decoding(**options)
    samples = speak(0.2, *pieces_of("one fourteen"), 1.3, *pieces_of("four"), 1.2, *OTHER, 0.9, *pieces_of("fourteen"))
    transcript = decoder.transcribe(samples, 16_000)
    for block in (80, 1000, len(samples)):
        stream = decoder.stream(hop_ms=chunk_ms)
        events = [e for start in range(0, len(samples), block) for e in stream.accept(samples[start : start + block])]
        found = finals(events + stream.flush())
        words = [word for final in found for word in final.words]
        assert [(w.text, w.start_s) for w in words] == [(w.text, w.start_s) for w in transcript.words]
        assert [w.end_s for w in words] == pytest.approx([w.end_s for w in transcript.words], abs=0.041)
        assert [final.heard for final in found] == ["one fourteen", "four", "two one three two", "fourteen"]
        texts = ["one fourteen", "four", "" if options.get("phrases") == COMMANDS else "two one three two", "fourteen"]
        assert [final.text for final in found] == texts
        assert transcript.text == " ".join(filter(None, texts))
        assert [final.reason for final in found] == ["endpoint", "endpoint", "endpoint", "flush"]


def test_utterances_of_one_chunk_and_of_cut_length(recognizer: Recognizer) -> None:
    decoder = recognizer.with_decoding(beam=4)
    text = "one two three four fourteen threes one two"
    samples = speak(0.2, *pieces_of(text), 1.5, *pieces_of("four"), 0.2)
    for chunk_ms in (40, 10_000):
        rules = EndpointRules(max_utterance_s=0.7)
        stream, greedy = decoder.stream(hop_ms=chunk_ms, endpoint=rules), recognizer.stream(endpoint=rules)
        found, expected = ([f.text for f in finals(s.accept(samples) + s.flush())] for s in (stream, greedy))
        assert found == expected
        assert len(found) > 3


def test_partials_have_no_stable_words_with_a_decoder(recognizer: Recognizer, commands: Recognizer) -> None:
    samples = speak(*OTHER)
    partials, plain = (
        [e for e in r.stream().accept(samples) if isinstance(e, Partial)] for r in (commands, recognizer)
    )
    assert [event.text for event in partials] == [event.text for event in plain]
    assert all(event.stable_text == "" for event in partials)
    assert any(event.stable_text for event in plain)


def test_memory_of_a_silent_stream_is_bounded(commands: Recognizer) -> None:
    stream = commands.stream()
    for _ in range(20):
        stream.accept(np.zeros(16_000, np.float32))
    audio = stream._tracker._audio
    assert audio.end_frame - audio.first_frame <= 150  # 6 s
    (final,) = finals(stream.accept(speak(*FOURTEEN, 1.0)))
    assert final.text == "fourteen"
    assert final.start_s == pytest.approx(20.3, abs=0.03)


def test_reset_forgets(commands: Recognizer) -> None:
    stream = commands.stream()
    stream.accept(speak(0.2, *pieces_of("one")))
    stream.reset()
    (final,) = finals(stream.accept(speak(*FOURTEEN)) + stream.flush())
    assert (final.text, final.heard) == ("fourteen", "fourteen")


def test_greedy_decoding_asks_for_no_posteriors(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    step: Callable = Model.run_chunk

    def watched(
        self: Model, waveform: np.ndarray, state: dict, *, look_ahead: int = 0, with_log_probs: bool = False
    ) -> object:
        asked.append(with_log_probs)
        return step(self, waveform, state, look_ahead=look_ahead, with_log_probs=with_log_probs)

    monkeypatch.setattr(Model, "run_chunk", watched)
    recognizer.transcribe(speak(*OTHER), 16_000)
    recognizer.stream().accept(speak(*OTHER, 1.0))
    assert set(asked) == {False}
    recognizer.with_decoding(beam=2).stream().accept(speak(*OTHER, 1.0))
    assert True in asked


def test_sequences(recognizer: Recognizer) -> None:
    decoder = recognizer.with_decoding(phrases=PhraseList(["one", "two", "fourteen"], "sequence"))
    assert (
        decoder.transcribe(speak(0.2, *pieces_of("two fourteen one one"), 0.2), 16_000).text == "two fourteen one one"
    )
    rejected = decoder.transcribe(speak(0.2, *pieces_of("two three threes three"), 0.2), 16_000)
    assert (rejected.text, rejected.alternatives[0].text) == ("", "")


def test_a_penalty_of_the_blank_rejects_no_sequences(recognizer: Recognizer, tmp_path: Path) -> None:
    """What is said is compared with "none of these" under the same penalty, as the settings of a model have one."""
    arpa = tmp_path / "lm.arpa"
    arpa.write_text("\\data\\\nngram 1=3\n\\1-grams:\n-0.4 two\n-0.4 one\n-1 </s>\n\\end\\\n")
    phrases = PhraseList(["one", "two"], "sequence")
    audio = speak(0.5, *pieces_of("one two"), 2.0)
    confidences = []
    for penalty in (0.0, 2.0):
        lm = LanguageModel(arpa, weight=0.1, blank_penalty=penalty)
        found = recognizer.with_decoding(phrases=phrases, lm=lm).transcribe(audio, 16_000)
        assert found.text == "one two"
        confidences.append(found.alternatives[0].confidence)
    assert confidences[1] == pytest.approx(confidences[0], abs=0.02)


def test_nbest(recognizer: Recognizer) -> None:
    decoder = recognizer.with_decoding(beam=BeamSearch(width=8, nbest=3))
    mixed = speak(0.2, "\u2581four", 0.2) + 0.9 * speak(0.2, "\u2581one", 0.2)
    alternatives = decoder.transcribe(mixed, 16_000).alternatives
    assert (alternatives[0].text, len(alternatives)) == ("four", 3)
    assert {alternative.text for alternative in alternatives} == {"four", "four one", "one four"}
    scores = [alternative.score for alternative in alternatives]
    assert scores == sorted(scores, reverse=True)
    two = decoder.transcribe(np.concatenate([mixed, np.zeros(16_000, np.float32), mixed]), 16_000).alternatives
    assert (two[0].text, len(two)) == ("four four", 3)
    assert two[0].score == pytest.approx(2 * alternatives[0].score, rel=0.03)


def test_a_language_model_in_a_recording(recognizer: Recognizer, tmp_path: Path) -> None:
    arpa = tmp_path / "lm.arpa"
    arpa.write_text("\\data\\\nngram 1=3\n\\1-grams:\n-9 four\n-0.1 one\n-1 </s>\n\\end\\\n")
    mixed = speak(0.2, "\u2581four", 0.2) + 0.98 * speak(0.2, "\u2581one", 0.2)
    assert recognizer.with_decoding(beam=8).transcribe(mixed, 16_000).text == "four"
    assert recognizer.with_decoding(lm=LanguageModel(arpa, weight=1.0)).transcribe(mixed, 16_000).text == "one"
    with pytest.raises(LanguageModelError, match="does not exist"):
        recognizer.with_decoding(lm=tmp_path / "other.arpa")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phrases": []}, "at least one"),
        ({"phrases": "lights on"}, "a list of at least one"),
        ({"phrases": ["one", " "]}, "at least one word, got ' '"),
        ({"phrases": ["one", 2]}, "a phrase must be a string of at least one word, got 2"),
        ({"phrases": {"one": "2"}}, "the weight of 'one' must be a finite number > 0, got '2'"),
        ({"phrases": 5}, "a list of at least one, got 5"),
        ({"lm": 5}, "must be the path of an ARPA file or an NGram, got 5"),
        ({"phrases": ["one", "lights on"]}, "got 'lights on' with 'g', 'i', 'l'"),
        ({"phrases": ["one"], "lm": "lm.arpa"}, "mode 'one'"),
        ({"phrases": ["one"], "beam": 8}, "beam must be None .*mode 'one'"),
        (
            {"phrases": ["one"], "beam": BeamSearch(min_posterior=0.1)},
            r"BeamSearch\(nbest=...\) with phrases in mode 'one'",
        ),
        ({"beam": 0}, "width"),
        ({"beam": 10**20}, "the beam's width must be at most 10000, got 100000000000000000000"),
    ],
)
def test_invalid_decoding_options(recognizer: Recognizer, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        recognizer.with_decoding(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "some"}, "mode"),
        ({"min_confidence": 1.5}, "min_confidence"),
        ({"bonus": float("nan")}, "bonus"),
        ({"phrases": {"one": 0.0}}, "weight of 'one'"),
    ],
)
def test_invalid_phrase_lists(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PhraseList(**{"phrases": ["one"], **options})


def test_phrases_that_can_be_read_once(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("Lights  on\nstop\n")
    with path.open() as file:
        assert PhraseList(file).weights == {"lights on": 1.0, "stop": 1.0}
    assert PhraseList(word for word in ("one", "two")).weights == {"one": 1.0, "two": 1.0}
    with pytest.raises(OptionError, match="at least one, got none"):
        PhraseList(word for word in ())


def test_reading_phrases(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("\ufeff# commands\n Lights  ON \n\nlights off\t2.5 # often\n", encoding="utf-8")
    assert PhraseList.read(path).weights == {"lights on": 1.0, "lights off": 2.5}
    path.write_text("one\ntwo\tmuch\n")
    with pytest.raises(OptionError, match=r"line 2: the weight after the tab must be a positive number, got 'much'"):
        PhraseList.read(path)
    path.write_text("# nothing\n")
    with pytest.raises(OptionError, match="must have one phrase per line, got none"):
        PhraseList.read(path)
    with pytest.raises(OptionError, match="cannot be read"):
        PhraseList.read(tmp_path / "none.txt")


@pytest.mark.parametrize("weight", ["nan", "inf", "0", "-1", "1e999"])
def test_weights_in_a_file_are_checked_with_their_line(tmp_path: Path, weight: str) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text(f"one\ntwo\t{weight}\n")
    with pytest.raises(OptionError, match=rf"line 2: the weight .* got '{weight}'"):
        PhraseList.read(path)


def test_phrase_files_are_split_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes("lights\u2028on\r\nlights\u0085off\x0c\t2\r\n".encode())
    assert PhraseList.read(path).weights == {"lights on": 1.0, "lights off": 2.0}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"caf\xe9\n", b"\x1f\x8b\x08\0"])
def test_phrase_files_that_are_not_text(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes(data)
    with pytest.raises(OptionError, match="cannot be read"):
        PhraseList.read(path)


def test_numpy_numbers_are_options_too() -> None:
    phrases = PhraseList({"one": np.float32(2)}, min_confidence=np.float64(0.25), bonus=np.int64(3))
    assert (phrases.weights, phrases.min_confidence, phrases.bonus) == ({"one": 2.0}, 0.25, 3.0)
    beam = BeamSearch(np.int64(4), np.int32(2), np.float64(0.5))
    assert beam == BeamSearch(4, 2, 0.5)
    assert [type(value) for value in (beam.width, beam.nbest, beam.min_posterior)] == [int, int, float]
    assert LanguageModel("lm.arpa", np.float32(0.5), np.int64(1), np.float64(2)) == LanguageModel("lm.arpa", 0.5, 1, 2)
    for wrong in (np.bool_(True), np.float64("nan"), np.array([1])):
        with pytest.raises(OptionError, match="min_confidence must be a finite number"):
            PhraseList(["one"], min_confidence=wrong)


def test_the_command_line(model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phrases, wav = tmp_path / "phrases.txt", tmp_path / "a.wav"
    phrases.write_text("fourteen\nthree\n")
    soundfile.write(wav, speak(*FOURTEEN), 16_000)
    command = ["transcribe", str(wav), "--model", str(model_path)]
    assert main([*command, "--phrases", str(phrases)]) == 0
    assert capsys.readouterr().out == "fourteen\n"
    assert main([*command, "--phrases", str(phrases), "--min-confidence", "1"]) == 0
    assert capsys.readouterr().out == "\n"
    assert main([*command, "--nbest", "2", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["alternatives"][0]["text"] == described["text"] == "fourteen"
    assert len(described["alternatives"]) == 2
    assert main([*command, "--phrases", str(phrases), "--nbest", "2"]) == 0
    best, *alternatives = capsys.readouterr().out.splitlines()
    assert best == "fourteen"
    assert [line[:4] + line[10:] for line in alternatives] == ["    fourteen", "    (none of the phrases)"]
    assert 0.9 < float(alternatives[0].split()[0]) <= 1.0
    assert main(["transcribe", str(wav), *command[1:], "--nbest", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [f"{wav}: fourteen", f"{wav}:     1.00  fourteen"]
    for options in (["--phrase-mode", "bias"], ["--lm-weight", "1"], ["--phrases", str(tmp_path / "none")]):
        assert main([*command, *options]) == 2
    assert "got none: add it" in capsys.readouterr().err
    for options, message in (
        (["--phrases", str(phrases), "--beam", "8"], "--beam needs another phrase mode, got one"),
        (["--phrases", str(phrases), "--phrase-bonus", "1"], "--phrase-bonus needs --phrase-mode bias, got one"),
        (
            ["--phrases", str(phrases), "--phrase-mode", "bias", "--min-confidence", "1"],
            "--min-confidence needs another phrase mode, got bias",
        ),
        (["--nbest", "2", "--srt"], "--nbest needs text or --json output, got --srt"),
    ):
        assert main([*command, *options]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one " * 101, "a phrase must have at most 100 words and 1000 characters"),
        ("a" * 1001, "a phrase must have at most 100 words and 1000 characters"),
        ("one\t" + "9" * 5000 + "x", "line 1: the weight after the tab must be a positive number"),
    ],
)
def test_phrases_that_are_too_long(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "phrases.txt").write_text(text + "\n")
    with pytest.raises(OptionError, match=message) as raised:
        PhraseList.read(tmp_path / "phrases.txt")
    assert len(str(raised.value)) < 400


def test_phrase_files_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "phrases.txt")
    with pytest.raises(OptionError, match="must be a regular file, got a pipe"):
        PhraseList.read(tmp_path / "phrases.txt")
    monkeypatch.setattr("lwasr_edge.decoding.phrases.MAX_BYTES", 10)
    (tmp_path / "long.txt").write_text("one two three\n")
    with pytest.raises(OptionError, match="must have at most 10 bytes"):
        PhraseList.read(tmp_path / "long.txt")


def test_phrases_of_too_many_letters_together(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwasr_edge.decoding.spelling.MAX_NODES", 8)
    recognizer.with_decoding(phrases=["one", "ones"])
    with pytest.raises(OptionError, match="must have at most 8 letters together, got more: use fewer"):
        recognizer.with_decoding(phrases=["one", "two three"])
