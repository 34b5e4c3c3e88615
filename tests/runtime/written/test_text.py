"""Written text: marks and capitals by the packaged tagger, times, words that keep their spelling, acronyms."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lwasr_edge import Final, Transcript, Word
from lwasr_edge.errors import ModelError
from lwasr_edge.written.tagger import WEIGHTS, Tagger, packaged_tagger
from lwasr_edge.written.tags import choose_marks
from lwasr_edge.written.text import write, write_text


def timed(text: str, pause_after: int = -1, pause_s: float = 2.0) -> tuple[Word, ...]:
    """Words of 0.3 s with 0.1 s between them, and a pause after one of them."""
    words = []
    at = 0.0
    for index, word in enumerate(text.split(" ")):
        words.append(Word(word, at, at + 0.3, 0.9 if index else 0.4))
        at += 0.4 + (pause_s if index == pause_after else 0.0)
    return tuple(words)


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        (
            "hello my name is john and i live in new york what is your name",
            "Hello, my name is John and I live in New York. What is your name?",
        ),
        (
            "the meeting is on the third of may at seven thirty p m can you come",
            "The meeting is on the 3rd of May at 7:30 pm. Can you come?",
        ),
        ("mister darcy was not at home", "Mr. Darcy was not at home."),
        ("i have one", "I have one."),
        ("the b b c said that it will rain on monday", "The BBC said that it will rain on Monday."),
        ("where do you live", "Where do you live?"),
    ],
)
def test_sentences(spoken: str, written: str) -> None:
    assert write_text(spoken) == written


def test_every_recognised_word_is_in_one_written_word_with_its_times() -> None:
    words = timed("we meet at seven thirty p m on the third of may twenty twenty six")
    written = write(words)
    assert tuple(word for one in written for word in one.words) == words
    clock = next(one for one in written if one.text == "7:30")
    assert (clock.start_s, clock.end_s) == (words[3].start_s, words[4].end_s)
    assert [word.text for word in clock.words] == ["seven", "thirty"]
    assert clock.confidence == 0.9
    assert written[0].text == "We"
    assert written[0].confidence == 0.4


def test_finals_and_transcripts_are_written_and_their_text_stays() -> None:
    words = timed("it costs five dollars")
    final = Final(words, 0.0, 2.0, "endpoint")
    transcript = Transcript(words, 2.0, "tiny")
    assert final.text == transcript.text == "it costs five dollars"
    assert final.written == transcript.written == "It costs $5."
    assert transcript.written_words is transcript.written_words  # computed once
    assert transcript == Transcript(words, 2.0, "tiny")
    assert "written" not in transcript.to_dict()
    described = transcript.to_dict(written=True)
    assert described["written"] == "It costs $5."
    assert described["written_words"][-1] == {
        **{"text": "$5.", "start_s": words[2].start_s, "end_s": words[3].end_s, "confidence": 0.9, "n_words": 2}
    }


def test_words_in_a_spelling_of_their_own_keep_it() -> None:
    written = [one.text.rstrip(",") for one in write(timed("turn on Café 21 McLight one"))]
    assert written[2:5] == ["Café", "21", "McLight"]
    assert write_text("LIGHTS ON") == "LIGHTS ON."


@pytest.mark.parametrize("text", ["", " ", "'", "a", "i", "e b i t d a", "p o w e l l s", "\0", "ß \ud800 日本", "one"])
def test_odd_text(text: str) -> None:
    words = [Word(word, 0.0, 0.0, 0.0) for word in text.split()]
    assert sum(len(one.words) for one in write(words)) == len(words)


def test_letters_are_joined_to_acronyms() -> None:
    assert "IBM" in write_text("she works for i b m in london")
    assert "EBITDA" in write_text("adjusted e b i t d a margin was twenty percent")


def test_a_long_pause_ends_a_sentence() -> None:
    without = np.log(np.array([[0.6, 0.2, 0.15, 0.05], [0.1, 0.1, 0.7, 0.1]], np.float32))
    assert choose_marks(without, [0.1])[0] == 0
    assert choose_marks(without, [1.5])[0] == 2
    likely = np.log(np.array([[0.3, 0.1, 0.5, 0.1], [0.1, 0.1, 0.7, 0.1]], np.float32))
    assert [choose_marks(likely, pauses)[0] for pauses in (None, [0.4], [0.0])] == [2, 2, 0]
    assert choose_marks(without[:0]) == []


def test_blocks_give_the_tags_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = packaged_tagger()
    words = ("well i think that it was a good year for us and we will see what comes next " * 20).split()
    whole = tagger.log_probs(words)
    monkeypatch.setattr("lwasr_edge.written.tagger.BLOCK_WORDS", 37)
    blocks = tagger.log_probs(words)
    assert np.allclose(whole[0], blocks[0], atol=1e-4)
    assert np.allclose(whole[1], blocks[1], atol=1e-4)


def test_the_time_is_proportional_to_the_words() -> None:
    def seconds(n: int) -> float:
        text = ("we sold twenty five of them in march and i think that was good " * n)[: 64 * n]
        began = time.process_time()
        write_text(text)
        return time.process_time() - began

    seconds(1)
    assert min(seconds(160) for _ in range(3)) < 8 * min(seconds(40) for _ in range(3)) + 0.02


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size <= 2_000_000


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "other"])
def test_damaged_weights_are_refused(damage: str, tmp_path) -> None:
    path = tmp_path / "tagger.npz"
    if damage == "cut":
        path.write_bytes(WEIGHTS.read_bytes()[:100_000])
    elif damage == "pickle":
        np.savez(path, header=np.array([{"format_version": 1}], object))
    elif damage == "other":
        np.savez(path, header=np.frombuffer(b'{"format_version": 9}', np.uint8))
    else:
        path.write_bytes(b"" if damage == "empty" else b"no weights")
    with pytest.raises(ModelError, match="must be a file of lwasr-train written, got .*: make it again"):
        Tagger.load(path)
