"""The general language model by default: in files and streams, where the model file has weights for it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import tiny_model
from conftest import speak
from speech import default_recognizer, shared_utterances

from lwasr_edge import EndpointRules, Final, LanguageModel, ModelError, Partial, PhraseList, Recognizer
from lwasr_edge.cli import main
from lwasr_edge.decoding.beam import PrefixBeamSearch
from lwasr_edge.decoding.decoder import BeamDecoder
from lwasr_edge.decoding.language_model import WordScorer
from lwasr_edge.decoding.ngram import NGram
from lwasr_edge.files import sha256_of
from lwasr_edge.hub.model_metadata import write_decoding
from lwasr_edge.model_info import DecodingSettings, ModelInfo
from lwasr_edge.wer import word_errors

SETTINGS = DecodingSettings(0.4, 0.5, 3.0, 1.0)
ONE_TWO = ("\u2581one", 0.2, "\u2581two", 0.2)
FOUR, TEEN, S = "\u2581four", "teen", "s"
# After "four", "s" is a little louder than "teen": greedy decoding gives "fours", a rare word.
UNSURE = speak(0.2, FOUR, 0.04, S, 0.3) + np.float32(0.97) * speak(0.2 + 0.12 + 0.04, TEEN, 0.3)


@pytest.fixture(scope="module")
def tuned_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with weights for the general language model."""
    path = tmp_path_factory.mktemp("model") / "tuned.onnx"
    onnx.save(tiny_model.build_model(name="tuned", decoding=dataclasses.asdict(SETTINGS)), path)
    return path


@pytest.fixture(scope="module")
def tuned(tuned_path: Path) -> Recognizer:
    return Recognizer(tuned_path)


def test_it_is_the_default_where_the_model_has_weights(tuned: Recognizer, recognizer: Recognizer) -> None:
    assert tuned.transcribe(UNSURE, 16_000).text == "fourteen"
    assert tuned.transcribe(UNSURE, 16_000).alternatives == ()
    assert tuned.with_decoding().transcribe(UNSURE, 16_000).text == "fourteen"
    assert tuned.with_decoding(lm="general").transcribe(UNSURE, 16_000).text == "fourteen"
    assert tuned.with_decoding(lm=None).transcribe(UNSURE, 16_000).text == "fours"
    assert recognizer.transcribe(UNSURE, 16_000).text == "fours"
    assert recognizer.with_decoding(lm=LanguageModel("general", weight=0.4)).transcribe(UNSURE, 16_000).text == (
        "fourteen"
    )


def test_other_languages_have_none(tmp_path: Path) -> None:
    for language, text in (("de", "fours"), ("en-GB", "fourteen")):
        path = tmp_path / f"{language}.onnx"
        onnx.save(tiny_model.build_model(language=language, decoding=dataclasses.asdict(SETTINGS)), path)
        assert Recognizer(path).transcribe(UNSURE, 16_000).text == text


def test_it_can_be_pickled_and_shared_by_threads(tuned: Recognizer) -> None:
    again = pickle.loads(pickle.dumps(tuned))
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: again.transcribe(UNSURE, 16_000).text, range(12)))
    assert set(texts) == {"fourteen"}


def test_streams_and_files_have_one_text(tuned: Recognizer) -> None:
    with tuned.stream() as stream:
        samples = np.concatenate([speak(0.3, *ONE_TWO), UNSURE, np.zeros(32_000, np.float32)])
        events = [e for i in range(0, len(samples), 1_600) for e in stream.accept(samples[i : i + 1_600])]
        events += stream.flush()
    (final,) = [event for event in events if isinstance(event, Final)]
    assert (final.text, final.heard, final.alternatives) == ("one two four", "one two fours", ())
    shown = [event for event in events if isinstance(event, Partial)]
    assert any(event.stable_text for event in shown)  # as with greedy decoding
    assert {event.text for event in shown} <= {"one", "one two", "one two four", "one two fours"}
    words = tuned.transcribe(samples, 16_000).words
    assert [(word.text, word.start_s) for word in words] == [(word.text, word.start_s) for word in final.words]


def test_audio_without_tokens_is_not_decoded(tuned: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(PrefixBeamSearch, "search", lambda *args, **kwargs: calls.append(args))
    noise = np.random.default_rng(0).normal(0, 0.01, 48_000).astype(np.float32)
    assert tuned.transcribe(noise, 16_000).text == ""
    assert tuned.transcribe(np.zeros(48_000, np.float32), 16_000).text == ""
    assert calls == []


def test_long_utterances_are_decoded_in_parts(tuned: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last part, for which a stream's final has to wait, does not grow with the utterance."""
    rng = np.random.default_rng(0)
    words = [tiny_model.PIECES[index] for index in rng.integers(0, 4, 350)]
    pauses = rng.uniform(0.08, 0.2, len(words)).tolist()
    samples = speak(*(item for pair in zip(words, pauses, strict=True) for item in pair))
    assert len(samples) > 80 * 16_000
    lengths: list[int] = []
    once = BeamDecoder.decode_part

    def watched(self: BeamDecoder, log_probs: np.ndarray, state: object, *, is_end: bool) -> object:
        lengths.append(len(log_probs))
        return once(self, log_probs, state, is_end=is_end)

    monkeypatch.setattr(BeamDecoder, "decode_part", watched)
    with tuned.stream(endpoint=None) as stream:
        for start in range(0, len(samples), 16_000):
            stream.accept(samples[start : start + 16_000])
            assert sum(len(one) for one in stream._tracker._segment._done.log_probs) < 450  # 18 s
        (final,) = [event for event in stream.flush() if isinstance(event, Final)]
    assert final.text == " ".join(word[1:] for word in words)
    assert len(lengths) > 5
    assert max(lengths) < 450
    starts = [word.start_s for word in final.words]
    assert starts == sorted(starts)
    expected = np.cumsum([0, *(0.12 + pause for pause in pauses)])[:-1]
    assert np.abs(np.array(starts) - expected).max() < 0.05


def test_utterances_of_a_limited_length(tuned: Recognizer) -> None:
    samples = speak(*(item for word in tiny_model.PIECES[:4] * 40 for item in (word, 0.1)))
    with tuned.stream(endpoint=EndpointRules(max_utterance_s=9)) as stream:
        events = [e for i in range(0, len(samples), 8_000) for e in stream.accept(samples[i : i + 8_000])]
        finals = [event for event in events + stream.flush() if isinstance(event, Final)]
    assert len(finals) > 3
    assert " ".join(final.text for final in finals).split() == ["one", "two", "three", "four"] * 40


def test_confidences_are_mapped(tuned_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "mapped.onnx"
    path.write_bytes(tuned_path.read_bytes())
    write_decoding(path, dataclasses.replace(SETTINGS, confidence=((0.0, 0.1), (1.0, 0.6))))
    mapped = Recognizer(path)
    raw = Recognizer(tuned_path).transcribe(UNSURE, 16_000).words[0].confidence
    assert mapped.transcribe(UNSURE, 16_000).words[0].confidence == pytest.approx(0.1 + 0.5 * raw)
    assert mapped.with_decoding(lm=None).transcribe(speak(0.2, FOUR, 0.2), 16_000).words[0].confidence > 0.9


@pytest.mark.parametrize("compress", [True, False])
def test_writing_settings_keeps_the_graph(tuned_path: Path, model_path: Path, tmp_path: Path, compress: bool) -> None:
    path = tmp_path / ("model.onnx.gz" if compress else "model.onnx")
    before = model_path.read_bytes()
    path.write_bytes(gzip.compress(before) if compress else before)
    write_decoding(path, SETTINGS)
    data = gzip.decompress(path.read_bytes()) if compress else path.read_bytes()
    one, other = onnx.load_from_string(before), onnx.load_from_string(data)
    assert one.graph.SerializeToString() == other.graph.SerializeToString()
    assert Recognizer(path).info.decoding == SETTINGS
    assert [entry.key for entry in one.metadata_props] == [entry.key for entry in other.metadata_props]
    described = {"file": {"path": path.name, "bytes": 1, "sha256": ""}, "format": 2, "model": {}, "inputs": [1]}
    (tmp_path / "model.json").write_text(json.dumps(described))  # of the export
    write_decoding(path, dataclasses.replace(SETTINGS, weight=0.9))  # again: replaced
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["file"] == {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    assert (described["model"]["decoding"]["weight"], described["inputs"]) == (0.9, [1])
    assert Recognizer(path).info.decoding == dataclasses.replace(SETTINGS, weight=0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -1}, "decoding's weight must be a finite number >= 0"),
        ({"blank_penalty": "much"}, "decoding's blank_penalty must be a finite number"),
        ({"confidence": [[0.5, 0.5]]}, "confidence must be none or 2 to 32 ascending pairs"),
        ({"confidence": [[0.5, 0.5], [0.4, 0.6]]}, "confidence must be none or 2 to 32 ascending pairs"),
        ({"confidence": [[0, 0.5], [1, 2]]}, "confidence must be none or 2 to 32 ascending pairs"),
        ({"confidence": [[0, 0]] * 40}, "confidence must be none or 2 to 32 ascending pairs"),
        ({"confidence": {"a": 1}}, "confidence must be none or 2 to 32 ascending pairs"),
    ],
)
def test_invalid_settings(changes: dict[str, object], message: str) -> None:
    described = {**dataclasses.asdict(SETTINGS), "unknown": 1, **changes}
    with pytest.raises(ModelError, match=message):
        DecodingSettings.from_json(described)
    info = {**tiny_model.INFO, "decoding": described}
    with pytest.raises(ModelError, match=message):
        ModelInfo.from_metadata({"lwasr.contract": "2", "lwasr.model": json.dumps(info)})


def test_settings_that_are_no_object() -> None:
    for described, message in (([], "must be a JSON object"), ({"weight": 1}, "is incomplete")):
        with pytest.raises(ModelError, match=message):
            DecodingSettings.from_json(described)


def test_the_command_line(tuned_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav, settings, model = tmp_path / "a.wav", tmp_path / "decoding.json", tmp_path / "model.onnx"
    soundfile.write(wav, UNSURE, 16_000)
    command = ["transcribe", "--model", str(model), str(wav)]
    onnx.save(tiny_model.build_model(), model)
    assert main(command) == 0
    settings.write_text(json.dumps(dataclasses.asdict(SETTINGS)))
    assert main(["lm", "apply", str(settings), str(model)]) == 0
    assert main(command) == 0
    assert main([*command, "--no-lm"]) == 0
    assert main([*command, "--lm", "general", "--lm", "general", "--lm-mix", "0.9,0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["fours", f"{model}: written", "fourteen", "fours", "fourteen"]
    assert main(["info", str(model)]) == 0
    assert "weight 0.4, word_bonus 0.5, unknown_letter_cost 3.0, blank_penalty 1.0" in capsys.readouterr().out
    assert main([*command, "--lm-mix", "1"]) == 2
    settings.write_text("{")
    assert main(["lm", "apply", str(settings), str(model)]) == 2
    assert "must be JSON" in capsys.readouterr().err


def test_words_of_phrases_are_known() -> None:
    ngram = NGram(1, {("one",): (-1.0, 0.0), ("</s>",): (-1.0, 0.0), ("<unk>",): (-3.0, 0.0)})
    pieces = {0: "\u2581one", 1: "\u2581zorb", 2: "lax", 3: "\u2581zo", 4: "rb"}
    options = LanguageModel(ngram, weight=0.5, word_bonus=0.0, unknown_letter_cost=4.0)
    for known, cost in (((), 0.5 * 4.0 * 5), (("zorblax",), 0.0)):
        scorer = WordScorer(options, pieces, known)
        for spelling in ((1, 2), (3, 4, 2)):  # in any spelling
            state = scorer.start()
            for token in spelling:
                state = scorer.extend(state, token)
                assert scorer.bonus(state) <= 0.0
            unknown = 0.5 * -3.0 * np.log(10) + 0.5 * -1.0 * np.log(10)
            assert scorer.final_bonus(state) == pytest.approx(unknown - cost)


def test_phrases(tuned: Recognizer) -> None:
    biased = tuned.with_decoding(phrases=PhraseList(["fours"], "bias", bonus=6.0))
    assert biased.transcribe(UNSURE, 16_000).text == "fours"
    commands = tuned.with_decoding(phrases=["fours", "fourteen"])  # without the language model
    assert {one.text for one in commands.transcribe(UNSURE, 16_000).alternatives} >= {"fours", "fourteen"}


@pytest.mark.real_speech
@pytest.mark.parametrize("corpus", ["librispeech-dev", "commonvoice-dev"])
def test_fewer_errors_on_real_speech(corpus: str) -> None:
    recognizer = default_recognizer()
    if recognizer.info.decoding is None:
        pytest.skip("the default model has no weights for the general language model")
    greedy = recognizer.with_decoding(lm=None)
    utterances = shared_utterances(20, corpus)
    texts = [utterance.text for utterance in utterances]
    found, expected = (
        [one.transcribe(utterance.samples(), 16_000).text for utterance in utterances] for one in (recognizer, greedy)
    )
    assert word_errors(texts, found).wer < 0.95 * word_errors(texts, expected).wer
