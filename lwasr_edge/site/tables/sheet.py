"""Spreadsheet exports (CSV, TSV): which column names the recordings, and which has what is said in them.

Known headers decide. Other tables are read by what is in their columns: names of recordings, and sentences.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from lwasr_edge.site.folder import AUDIO_SUFFIXES, Files, key_of
from lwasr_edge.site.remark import Refused, Remark
from lwasr_edge.site.tables.row import MAX_TABLE_BYTES, Row
from lwasr_edge.site.texts import read_text

SAMPLE_ROWS = 50  # that tell what a column has
SENTENCE_WORDS = 2.5  # words of a cell, on average: names, dates and remarks like "ok" have fewer
# Headers in lower case, without blanks, underscores and hyphens; of two, the first of this order is used.
# fmt: off
FILE_HEADERS = (
    "audiofilepath", "audiofilename", "audiofile", "audiopath", "filepath", "filename", "wavfile", "file",
    "path", "wav", "audio", "recording", "sound", "clip", "ファイル名", "ファイル", "音声ファイル",
    "音声", "録音", "name",
    "utteranceid", "uttid", "utt", "id", "utterance",
)
TEXT_HEADERS = (
    "transcript", "transcription", "transcripts", "text", "sentence", "reference", "spoken", "said",
    "utterancetext", "prompt", "words", "content", "書き起こし", "書起し", "テキスト", "文", "文章",
    "発話", "言葉", "内容",
)
SPEAKER_HEADERS = (
    "speakerid", "speaker", "spk", "clientid", "person", "talker", "voice", "who", "話者id", "話者", "名前",
    "sprecher", "locuteur", "locutor", "hablante",
)
# fmt: on


class Columns(NamedTuple):
    """Numbers of the columns, -1 for one that is missing."""

    file: int
    text: int
    speaker: int


def read_sheet(path: Path, files: Files) -> Iterator[Row | Refused | Remark]:
    """The rows of a table of recordings and texts; none of a table of something else.

    Raises:
        OSError, csv.Error: it cannot be read.
    """
    name, names = files.name(path), _names(files)
    rows = list(_rows(path, names))
    sample = [row for _, row in rows[:SAMPLE_ROWS]]
    known = _known(sample[0]) if sample else Columns(-1, -1, -1)
    columns = _found(sample, known, names) if sample else known
    if columns.file < 0 or columns.text < 0:
        if any(_is_recording(cell, names) for row in sample for cell in row):
            yield Remark("table_columns", {"file": name})
        return  # else a table of something else
    is_headed = known.file == columns.file or not _is_recording(_cell(sample[0], columns.file), names)
    if is_headed and columns[:2] != known[:2]:
        yield Remark("table_guessed", {"file": name, "file_column": columns.file + 1, "text_column": columns.text + 1})
    for number, row in rows[is_headed:]:
        file, said, who = (_cell(row, column) for column in columns)
        yield Row(file, said, who, f"{name}, row {number}")


def _rows(path: Path, names: Set[str]) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of the rows that have any."""
    text, _ = read_text(path, MAX_TABLE_BYTES)
    lines = text.replace("\0", "").split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.lower().startswith("sep=") and len(first) == 5:  # Excel's own first line
        delimiter = first[4]
        lines = lines[lines.index(first) + 1 :]
    else:
        delimiter = _delimiter([line for line in lines if line.strip()][:SAMPLE_ROWS])
    try:
        rows = _parsed(lines, delimiter)
        is_open = any("\n" in cell and _has_rows(cell, delimiter, names) for row in rows for cell in row)
    except csv.Error:  # a cell of more than 128 kB
        is_open = True
    if is_open:  # a quotation mark that nobody closed has swallowed rows
        rows = [[cell.strip('"') for cell in row] for row in _parsed(lines, delimiter, csv.QUOTE_NONE)]
    for number, row in enumerate(rows, 1):
        if any(cell.strip() for cell in row):
            yield number, row


def _parsed(lines: list[str], delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> list[list[str]]:
    return list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, quoting=quoting))


def _delimiter(lines: list[str]) -> str:
    """The character that divides most rows into as many cells, two or more; of equals, with recordings alone in one."""

    def fit(delimiter: str) -> tuple[float, int, int]:
        rows = _parsed(lines, delimiter)
        widths = Counter(len(row) for row in rows if len(row) > 1)
        alike = widths.most_common(1)[0][1] / len(rows) if widths else 0.0
        return alike, sum(map(_is_audio, (cell for row in rows for cell in row))), sum(map(len, rows))

    return max("\t;,|", key=fit)


def _has_rows(cell: str, delimiter: str, names: Set[str]) -> bool:
    """Whether there are rows of recordings in a cell."""
    return any(_is_recording(one, names) for line in cell.split("\n")[1:] for one in line.split(delimiter)[:-1])


def _known(header: list[str]) -> Columns:
    """The columns whose headers are known."""
    plain = ["".join(c for c in cell.lower() if c.isalnum()) for cell in header]
    file, text, speaker = (
        next((plain.index(name) for name in names if name in plain), -1)
        for names in (FILE_HEADERS, TEXT_HEADERS, SPEAKER_HEADERS)
    )
    if text < 0 and len(plain) > file >= 0 and "utterance" in plain and plain[file] != "utterance":
        text = plain.index("utterance")
    return Columns(file, text, speaker)


def _names(files: Files) -> frozenset[str]:
    """Names of the recordings with and without suffix, as `_file_of` gives them."""
    return frozenset(name for _, path in files.audio() for name in (key_of(path.name), key_of(path.stem)))


def _found(sample: list[list[str]], known: Columns, names: Set[str]) -> Columns:
    """The known columns, if there are recordings in them; else those that have recordings and sentences in them."""
    body = sample[1:] or sample

    def recordings(column: int) -> int:
        return sum(_is_recording(_cell(row, column), names) for row in body)

    def words(column: int) -> float:
        return sum(any(map(str.isalpha, word)) for row in body for word in _cell(row, column).split()) / len(body)

    width = max(map(len, sample))
    file = max(range(width), key=recordings)
    is_known = known.file >= 0 and (known.text >= 0 or width < 2)
    if 2 * recordings(file) < len(body) or (known.file >= 0 and recordings(known.file)):
        file = known.file
    if file < 0 or width < 2 or (is_known and file == known.file):
        return known if is_known else Columns(-1, -1, -1)
    others = [column for column in range(width) if column != file and column != known.speaker]
    text = known.text if known.text not in (-1, file) else max(others, key=words, default=-1)
    if text != known.text and words(text) < SENTENCE_WORDS:
        text = 1 if file == 0 and _is_audio(sample[0][0]) else -1  # no header: the file, its text, perhaps the speaker
    speaker = known.speaker
    if _is_audio(_cell(sample[0], file)) and width == 3:
        speaker = 3 - file - text
    return Columns(file, text, speaker if speaker != file else -1)


def _cell(row: list[str], column: int) -> str:
    return row[column] if 0 <= column < len(row) else ""


def _is_recording(cell: str, names: Set[str]) -> bool:
    return _is_audio(cell) or _file_of(cell).name in names


def _is_audio(cell: str) -> bool:
    return _file_of(cell).suffix in AUDIO_SUFFIXES


def _file_of(cell: str) -> PurePosixPath:
    return PurePosixPath(key_of(cell.strip().strip("\"'").replace("\\", "/")))
