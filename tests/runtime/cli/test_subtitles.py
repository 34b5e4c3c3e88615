"""Subtitles and other files, to the character."""

from __future__ import annotations

import itertools
import json

from lwasr_edge import Transcript, Word
from lwasr_edge.cli.subtitles import make_cues, to_json, to_srt, to_text, to_vtt, to_words


def transcript(*words: Word) -> Transcript:
    return Transcript(words, 4000.0, "tiny")


HELLO = Word("hello", 0.5, 0.9, 0.95)
THERE = Word("there", 1.0, 1.5, 0.875)
LATER = Word("later", 3661.0015, 3661.5, 0.5)


def test_srt() -> None:
    assert to_srt(transcript(HELLO, THERE, LATER)) == (
        "1\n00:00:00,500 --> 00:00:01,500\nhello there\n\n2\n01:01:01,002 --> 01:01:02,002\nlater\n\n"
    )


def test_vtt_escapes() -> None:
    assert to_vtt(transcript(HELLO, Word("<b>&", 1.0, 1.5, 0.9))) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nhello &lt;b&gt;&amp;\n\n"
    )


def test_silence() -> None:
    silence = transcript()
    assert (to_text(silence), to_srt(silence), to_vtt(silence), to_words(silence)) == ("\n", "", "WEBVTT\n\n", "")
    assert json.loads(to_json(silence)) == {"text": "", "duration_s": 4000.0, "model": "tiny", "words": []}


def test_json_is_one_line_and_keeps_letters() -> None:
    line = to_json(transcript(Word("caf\u00e9", 0.12345678, 1.0, 0.99999)), file="a.wav")
    assert line.count("\n") == 1
    assert "caf\u00e9" in line
    described = json.loads(line)
    assert described["file"] == "a.wav"
    assert described["words"] == [{"text": "caf\u00e9", "start_s": 0.1235, "end_s": 1.0, "confidence": 1.0}]


def test_word_table() -> None:
    assert to_words(transcript(HELLO, THERE)) == "0.500\t0.900\t0.950\thello\n1.000\t1.500\t0.875\tthere\n"


def test_cues_fit_the_screen_and_do_not_overlap() -> None:
    words = [Word("wonderful" if i % 3 else "a", i * 0.3, i * 0.3 + 0.3, 0.9) for i in range(100)]
    cues = make_cues(words)
    assert " ".join(line for cue in cues for line in cue.lines) == " ".join(word.text for word in words)
    assert all(len(line) <= 42 for cue in cues for line in cue.lines)
    assert all(len(cue.lines) <= 2 and cue.end_s - cue.start_s <= 6.0 + 1e-9 for cue in cues)
    assert all(cue.end_s <= following.start_s for cue, following in itertools.pairwise(cues))


def test_a_pause_starts_a_cue_and_a_short_cue_stays_for_a_second() -> None:
    cues = make_cues([Word("yes", 1.0, 1.2, 0.9), Word("no", 2.1, 2.2, 0.9), Word("so", 10.0, 10.1, 0.9)])
    assert [(cue.lines, cue.start_s, cue.end_s) for cue in cues] == [
        (("yes",), 1.0, 2.0),
        (("no",), 2.1, 3.1),
        (("so",), 10.0, 11.0),
    ]


def test_a_short_cue_gives_way_to_the_next() -> None:
    first, second = make_cues([Word("yes", 1.0, 1.05, 0.9), Word("no", 1.9, 2.2, 0.9)])
    assert first.end_s == second.start_s == 1.9


def test_a_word_longer_than_a_line() -> None:
    long = "x" * 60
    (cue,) = make_cues([Word(long, 0.0, 1.0, 0.9), Word("y", 1.0, 1.2, 0.9)])
    assert cue.lines == (long, "y")
