"""Transcripts as files: text, JSON, SubRip (.srt), WebVTT (.vtt), and a table of words (.tsv)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwasr_edge.cli.streams import json_text
from lwasr_edge.words import Word, join_words

if TYPE_CHECKING:
    from lwasr_edge.decoding.alternatives import Alternative
    from lwasr_edge.recognizer import Transcript

MAX_LINE_CHARACTERS = 42  # as subtitle style guides recommend
MAX_CUE_LINES = 2
MAX_CUE_S = 6.0
MIN_CUE_S = 1.0  # shorter cues are extended, up to the next one
CUE_PAUSE_S = 0.8  # a pause this long starts a new cue


@dataclass(frozen=True)
class Cue:
    """One subtitle: up to two lines, shown from `start_s` to `end_s`."""

    lines: tuple[str, ...]
    start_s: float
    end_s: float


def make_cues(words: Iterable[Word]) -> list[Cue]:
    """Group words into subtitles that fit on the screen; cues do not overlap."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and _fits(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    cues = []
    for i, group in enumerate(groups):
        next_start_s = groups[i + 1][0].start_s if i + 1 < len(groups) else float("inf")
        end_s = min(max(group[-1].end_s, group[0].start_s + MIN_CUE_S), max(next_start_s, group[-1].end_s))
        cues.append(Cue(tuple(_wrap(join_words(group))), group[0].start_s, end_s))
    return cues


def _fits(group: list[Word], word: Word) -> bool:
    return (
        word.start_s - group[-1].end_s < CUE_PAUSE_S
        and word.end_s - group[0].start_s <= MAX_CUE_S
        and len(_wrap(join_words([*group, word]))) <= MAX_CUE_LINES
    )


def _wrap(text: str) -> list[str]:
    """Break text into lines at spaces; a word longer than a line gets its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= MAX_LINE_CHARACTERS:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def shown_words(transcript: Transcript, *, written: bool) -> tuple[Word, ...]:
    """The words as people write them, or as they were recognised."""
    return transcript.written_words if written else transcript.words


def to_srt(transcript: Transcript, *, written: bool = False) -> str:
    """SubRip: numbered cues, comma before the milliseconds."""
    return "".join(
        f"{number}\n{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}\n" + "\n".join(cue.lines) + "\n\n"
        for number, cue in enumerate(make_cues(shown_words(transcript, written=written)), 1)
    )


def to_vtt(transcript: Transcript, *, written: bool = False) -> str:
    """WebVTT: a header, then cues; `&`, `<` and `>` are escaped."""
    cues = "".join(
        f"{clock(cue.start_s, '.')} --> {clock(cue.end_s, '.')}\n" + escape("\n".join(cue.lines)) + "\n\n"
        for cue in make_cues(shown_words(transcript, written=written))
    )
    return "WEBVTT\n\n" + cues


def to_text(transcript: Transcript, *, written: bool = False) -> str:
    """The text and a line feed."""
    return (transcript.written if written else transcript.text) + "\n"


def alternatives_to_text(alternatives: Iterable[Alternative]) -> str:
    """One indented line per alternative with its confidence, the most probable first."""
    return "".join(f"    {one.confidence:.2f}  {one.text or '(none of the phrases)'}\n" for one in alternatives)


def to_json(transcript: Transcript, file: str | None = None, *, written: bool = False) -> str:
    """One JSON object on one line: the `file`, if given for stdout, and the fields of `Transcript.to_dict`."""
    named = {} if file is None else {"file": file}
    return json_text(rounded({**named, **transcript.to_dict(written=written)}), for_stdout=file is not None) + "\n"


def to_words(transcript: Transcript, *, written: bool = False) -> str:
    """One line per word: start, end, confidence and text, separated by tabs."""
    return "".join(
        f"{word.start_s:.3f}\t{word.end_s:.3f}\t{word.confidence:.3f}\t{word.text}\n"
        for word in shown_words(transcript, written=written)
    )


@dataclass(frozen=True)
class OutputFormat:
    """One way to write a transcript."""

    suffix: str
    write: Callable[..., str]  # (transcript, *, written=False)


FORMATS = {
    "text": OutputFormat(".txt", to_text),
    "json": OutputFormat(".json", to_json),
    "srt": OutputFormat(".srt", to_srt),
    "vtt": OutputFormat(".vtt", to_vtt),
    "words": OutputFormat(".tsv", to_words),
}


def rounded(value: object) -> object:
    """A JSON value with floats rounded to 4 decimals: 0.1 ms, and more than the accuracy of a confidence."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def clock(seconds: float, decimal_mark: str) -> str:
    """A time of a subtitle: hours, minutes, seconds and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{decimal_mark}{milliseconds % 1000:03d}"


def escape(text: str) -> str:
    """Text for WebVTT."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
