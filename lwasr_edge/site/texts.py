"""Text files as people have them, in any common encoding; texts in the words that are spoken, with every change."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.decoding.spoken import spoken_words
from lwasr_edge.files import read_regular

MAX_TEXT_BYTES = 1 << 20  # of the text of one recording
MAX_TEXT = 20_000  # characters
_TAGS = re.compile(r"\[[^\[\]]{0,100}\]|<[^<>]{0,100}>")  # [noise], <unk>: of transcribers, not spoken
_KANA = re.compile("[\u3040-\u30ff]")


@dataclass(frozen=True)
class SpokenText:
    """A reference text in the words that are spoken."""

    written: str  # with single spaces
    spoken: str
    unspeakable: str  # characters that the model cannot write; "" if there are none

    @property
    def is_changed(self) -> bool:
        """Whether more than capitals and punctuation changed."""
        return re.sub(r"[^\w\s']+", "", self.written.lower()).split() != self.spoken.split()


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> tuple[str, str]:
    """Read a text file in UTF-8, UTF-16, Shift-JIS or Latin-1.

    Returns:
        The text without a byte order mark and with line feeds, and the name of the encoding.

    Raises:
        OSError: no regular file, or more than `max_bytes`.
    """
    return decode_text(read_regular(path, max_bytes))


def decode_text(data: bytes) -> tuple[str, str]:
    """The text and its encoding, see `read_text`; bytes that mean nothing become U+FFFD."""
    encoding = _encoding(data)
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding.removesuffix("-sig")


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    sample = data[:4096]
    for zeros, name in ((sample[1::2], "utf-16-le"), (sample[::2], "utf-16-be")):
        if len(sample) > 1 and zeros.count(0) > 0.4 * len(zeros):
            return name
    for name in ("utf-8-sig", "cp932", "cp1252"):
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        if name != "cp932" or _KANA.search(text):  # any bytes may be Shift-JIS; its texts have kana
            return name
    return "latin-1"


def spoken_text(written: str, letters: Collection[str], language: str) -> SpokenText:
    """A text in the words that are spoken.

    Args:
        written: by a person, with digits, capitals and punctuation.
        letters: the characters of the model's pieces.
        language: code of the model's language.
    """
    words = spoken_words(_TAGS.sub(" ", written), letters, language)
    spoken = " ".join(word for _, group in words for word in group)
    unspeakable = "".join(dict.fromkeys(letter for letter in spoken if letter not in letters and letter != " "))
    return SpokenText(" ".join(written.split()), spoken, unspeakable)
