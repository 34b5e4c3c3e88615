"""Phrases as people write them, and results in their spelling."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from conftest import speak

from lwasr_edge import Final, OptionError, PhraseList, Recognizer, Word
from lwasr_edge.decoding.numbers import cardinal, ordinal, spoken_number
from lwasr_edge.decoding.spoken import Respelling, respelled_words, spoken_words

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def spoken(phrase: str, letters: str = LETTERS, language: str = "en") -> str:
    return " ".join(word for _, words in spoken_words(phrase, letters, language) for word in words)


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("Turn the lights on!", "turn the lights on"),
        ("Stop. Now, please?", "stop now please"),
        ("don\u2019t \u2018stop\u2019 it\u2019s", "don't stop it's"),
        ("dogs\u2019 beds", "dogs' beds"),
        ("Caf\u00e9 na\u00efve cafe\u0301", "cafe naive cafe"),
        ("Stra\u00dfe \u00c6ther \u0141\u00f3d\u017a \u0130zmir", "strasse aether lodz izmir"),
        ("Wi-Fi wi\u2011fi living\u2013room", "wi fi wi fi living room"),
        ("Tom & Jerry, R&B", "tom and jerry r and b"),
        ("light.kitchen_ceiling on/off", "light kitchen ceiling on off"),
        ("Light 2", "light two"),
        ("TV2 and H2O", "tv two and h two o"),
        ("Room 101, 21", "room one hundred one twenty one"),
        ("the 1st 2nd 3rd 20th 21st", "the first second third twentieth twenty first"),
        ("1,000 2.5 007", "one thousand two point five zero zero seven"),
        (
            "1990 2024 2005 1905 1800",
            "nineteen ninety twenty twenty four two thousand five nineteen oh five eighteen hundred",
        ),
        ("10:30 10:05", "ten thirty ten oh five"),
        ("50% 20\u00b0C 21\u2103", "fifty percent twenty degrees c twenty one degrees c"),
        ("$5 \u00a31 #3", "five dollars one pound number three"),
        ("-5 a-5", "minus five a five"),
        ("\u0662", "two"),
        ("m\u00b2", "m two"),
        ("\U0001f4a1 Lamp \u2728", "lamp"),
        ("Kids' Room (left)", "kids' room left"),
        ("  two   words\t", "two words"),
        ("Ground + first @ home", "ground plus first at home"),
    ],
)
def test_what_is_spoken(phrase: str, words: str) -> None:
    assert spoken(phrase) == words
    assert spoken(words) == words


def test_what_the_model_can_spell_is_kept() -> None:
    assert spoken("Caf\u00e9 2 & 3", LETTERS + "\u00e92&") == "caf\u00e9 2 & three"
    assert spoken("don't o'clock", LETTERS.replace("'", "")) == "dont oclock"
    assert spoken("3 Sachen & mehr", LETTERS, "de") == "3 sachen mehr"  # numbers are English, and refused elsewhere
    assert spoken("\u5ba2\u5385 lamp") == "\u5ba2\u5385 lamp"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (12, "twelve"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (1001, "one thousand one"),
        (2_000_319, "two million three hundred nineteen"),
        (
            10**12 - 1,
            "nine hundred ninety nine billion nine hundred ninety nine million nine hundred ninety nine thousand "
            "nine hundred ninety nine",
        ),
    ],
)
def test_cardinals(number: int, words: str) -> None:
    assert " ".join(cardinal(number)) == words


def test_every_number_has_words_of_its_own() -> None:
    texts = [" ".join(cardinal(number)) for number in range(12_000)]
    assert len(set(texts)) == 12_000
    assert len({" ".join(ordinal(number)) for number in range(12_000)}) == 12_000
    assert [" ".join(ordinal(n)) for n in (5, 8, 9, 12, 30, 100)] == (
        ["fifth", "eighth", "ninth", "twelfth", "thirtieth", "one hundredth"]
    )
    assert spoken_number("1" * 13) == ["one"] * 13


def test_the_spoken_forms_can_be_seen() -> None:
    phrases = PhraseList({"Light 2": 1.0, "stop": 2.0})
    assert phrases.spoken(LETTERS) == {"Light 2": "light two", "stop": "stop"}
    assert phrases.weights == {"light 2": 1.0, "stop": 2.0}


def test_results_have_the_users_spelling(recognizer: Recognizer) -> None:
    commands = recognizer.with_decoding(phrases=["Two, 1!", "3", "14"])
    samples = speak(0.2, "\u2581two", 0.1, "\u2581one", 1.2, "\u2581four", 0.04, "teen", 1.2)
    events = commands.stream().accept(samples)
    first, second = (event for event in events if isinstance(event, Final))
    assert (first.text, first.heard, first.alternatives[0].text) == ("Two, 1!", "two one", "Two, 1!")
    assert [word.text for word in first.words] == ["Two,", "1!"]
    assert (second.text, second.heard) == ("14", "fourteen")
    assert commands.transcribe(samples, 16_000).text == "Two, 1! 14"
    plain = recognizer.with_decoding(phrases=["two one", "fourteen"]).transcribe(samples, 16_000)
    assert [(word.start_s, word.end_s) for word in commands.transcribe(samples, 16_000).words] == [
        (word.start_s, word.end_s) for word in plain.words
    ]


def test_sequences_are_divided_into_phrases(recognizer: Recognizer) -> None:
    digits = recognizer.with_decoding(phrases=PhraseList(["1", "2", "Two one", "14"], "sequence"))
    transcript = digits.transcribe(
        speak(0.2, "\u2581one", 0.1, "\u2581two", 0.1, "\u2581two", 0.1, "\u2581one"), 16_000
    )
    assert transcript.text == transcript.alternatives[0].text == "1 2 Two one"


def test_a_bias_leaves_the_text_as_it_is_spoken(recognizer: Recognizer) -> None:
    biased = recognizer.with_decoding(phrases=PhraseList(["Two 1"], "bias"))
    assert biased.transcribe(speak(0.2, "\u2581two", 0.1, "\u2581one", 0.2), 16_000).text == "two one"


def test_a_number_of_several_words_is_one_word() -> None:
    words = [Word("light", 0.0, 0.5, 0.9), Word("twenty", 0.5, 1.0, 0.4), Word("one", 1.0, 1.5, 0.9)]
    merged = respelled_words(words, (("Light", 1), ("21", 2)))
    assert [(word.text, word.start_s, word.end_s) for word in merged] == [("Light", 0.0, 0.5), ("21", 0.5, 1.5)]
    assert [word.confidence for word in merged] == pytest.approx([0.9, 0.6])
    assert respelled_words(words, (("Light", 1),)) == words


def test_texts_that_are_none_of_the_phrases_are_not_respelled() -> None:
    respelling = Respelling({"two": (("2", 1),), "two one": (("21", 2),)}, in_sequence=True)
    assert [respelling.text(text) for text in ("two", "two one two", "one", "")] == ["2", "21 2", "one", ""]
    assert respelling.spelling("two one") == (("21", 2),)


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        (["one", "!!!"], "at least one word that is spoken, got '!!!': leave it out"),
        (["\u5ba2"], "model's characters, got '\u5ba2' with '\u5ba2'"),
        (["one " * 400], "at most 100 words and 1000 characters"),
    ],
)
def test_phrases_that_cannot_be_spoken(recognizer: Recognizer, phrases: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        recognizer.with_decoding(phrases=phrases)


def test_a_list_of_entities_in_a_file(recognizer: Recognizer, model_path: Path, tmp_path: Path) -> None:
    from lwasr_edge.cli import main

    names = ["One & 2", "Three \u2013 4!", "Fourteen\u2019s", "14-3"]
    (tmp_path / "entities.txt").write_text("\n".join(names), encoding="utf-8")
    with pytest.raises(OptionError, match="characters, got 'one and two' with 'a', 'd'"):  # a model of few letters
        recognizer.with_decoding(phrases=PhraseList.read(tmp_path / "entities.txt"))
    (tmp_path / "entities.txt").write_text("\n".join(names[1:]), encoding="utf-8")
    soundfile.write(tmp_path / "a.wav", speak(0.2, "\u2581three", 0.1, "\u2581four", 0.2), 16_000)
    command = ["transcribe", str(tmp_path / "a.wav"), "--model", str(model_path), "-o", str(tmp_path / "a.txt")]
    assert main([*command, "--phrases", str(tmp_path / "entities.txt")]) == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Three \u2013 4!\n"
