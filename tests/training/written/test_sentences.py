"""Sentences as written to words and tags."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from lwasr_edge.errors import OptionError
from lwasr_edge.training.written.sentences import emphasised, read_lines, share_of, spellings, tag_line
from lwasr_edge.written.tagger import LOWER
from lwasr_edge.written.tags import MARKS


def shown(line: str, ordinary: frozenset[str] = frozenset()) -> str | None:
    """Words with "^" for a capital and the mark; "*" where the capitals are ambiguous."""
    tagged = tag_line(line, ordinary)
    if tagged is None:
        return None
    signs = {-1: "*", 0: "", 1: "^", 2: "^^"}
    return " ".join(
        word + signs[case] + MARKS[mark]
        for word, case, mark in zip(tagged.words, tagged.cases, tagged.marks, strict=True)
    )


@pytest.mark.parametrize(
    ("line", "tagged"),
    [
        ("'What, is it you? Poor Ann!' said the Queen.", "what^, is it you? poor^ ann^, said the queen^."),
        (
            "It cost $5.20 at 3:45pm; he left\u2014alone.",
            "it^ cost five point two zero dollars at three forty five pm, he left alone.",
        ),
        (
            "Mr. Smith of the U.S. met NATO's EPS team at 08:00PM.",
            "mister^ smith^ of the u^ s^ met nato's^ e^ p^ s^ team at eight pm.",
        ),
        ("She paid $5 million, 10% more.", "she^ paid five million dollars, ten percent more."),
        ("What would HE say? I don't know...", "what^ would he* say? i^ don't know."),
        ("The iPhone and the caf\u00e9.", "the^ iphone* and the cafe."),
        ("The chorus-singer (a tenor) sang.", "the^ chorus singer a tenor sang."),
        ("She came , saw , and won .", "she^ came, saw, and won."),
        ("no end", None),
        ("When he had gone away Mr.", None),
        ("", None),
        ("...", None),
        ("?!", None),
    ],
)
def test_lines(line: str, tagged: str | None) -> None:
    assert shown(line, frozenset(["he"])) == tagged


def test_words_in_capitals_that_are_ordinary_words() -> None:
    assert emphasised(["he HE he he he NATO", "he"]) == {"he"}


def test_words_with_capitals_inside() -> None:
    sentences = [sentence for _ in range(3) if (sentence := tag_line("McDonald met John and YouTube."))]
    assert spellings(iter(sentences)) == {"mcdonald": "McDonald", "youtube": "YouTube"}
    assert sentences[0].cases[1] == LOWER


def test_lines_are_divided_by_their_letters() -> None:
    assert share_of("Hello, world!") == share_of("hello world")
    assert sum(share_of(f"line {number}") < 0.5 for number in range(400)) == pytest.approx(200, abs=40)


def test_files_plain_and_compressed(tmp_path: Path) -> None:
    text = "One.\nTwo\u2028still two.\n"
    for name, pack in (("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.xz", lzma.compress)):
        (tmp_path / name).write_bytes(pack(text.encode()))
        assert read_lines(tmp_path / name) == ["One.", "Two\u2028still two."]
    (tmp_path / "b.xz").write_bytes(b"no archive")
    for name in ("b.xz", "missing.txt"):
        with pytest.raises(OptionError, match="must be text in UTF-8, plain, .gz or .xz, got .*: name another"):
            read_lines(tmp_path / name)
