"""Transcripts of the channels of one recording, one speaker each, merged by time: text, JSON, subtitles, words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lwasr_edge.cli.subtitles import CUE_PAUSE_S, Cue, clock, escape, make_cues, rounded, shown_words
from lwasr_edge.words import Word, join_words

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Transcript


def write_channels(
    form: str, transcripts: Sequence[Transcript], file: str | None = None, *, written: bool = False
) -> str:
    """The transcripts of channels 1, 2 and so on in one form.

    Args:
        form: text (a line per utterance: start, end, channel and text), json, srt, vtt or words.
        transcripts: in the order of the channels.
        file: named in JSON if given.
        written: words as people write them; in JSON, in addition.
    """
    if form == "json":
        channels = [{"channel": number, **one.to_dict(written=written)} for number, one in enumerate(transcripts, 1)]
        named = {} if file is None else {"file": file}
        return json.dumps(rounded({**named, "channels": channels}), ensure_ascii=False) + "\n"
    channels_words = [shown_words(one, written=written) for one in transcripts]
    if form == "words":
        words = sorted(
            ((word, number) for number, one in enumerate(channels_words, 1) for word in one),
            key=lambda pair: pair[0].start_s,
        )
        return "".join(
            f"{word.start_s:.3f}\t{word.end_s:.3f}\t{word.confidence:.3f}\t{word.text}\t{number}\n"
            for word, number in words
        )
    if form == "text":
        lines = [
            (group[0].start_s, f"{group[0].start_s:.2f}-{group[-1].end_s:.2f} channel {number}: {join_words(group)}\n")
            for number, one in enumerate(channels_words, 1)
            for group in _utterances(one)
        ]
        return "".join(line for _, line in sorted(lines))
    return _subtitles(form, channels_words)


def _subtitles(form: str, channels_words: Sequence[Sequence[Word]]) -> str:
    numbered = [(cue, number) for number, one in enumerate(channels_words, 1) for cue in make_cues(one)]
    numbered.sort(key=lambda pair: (pair[0].start_s, pair[1]))
    if form == "vtt":
        cues = [f"{_times(cue, '.')}\n<v Channel {number}>" + escape("\n".join(cue.lines)) for cue, number in numbered]
        return "WEBVTT\n\n" + "".join(f"{cue}\n\n" for cue in cues)
    return "".join(
        f"{index}\n{_times(cue, ',')}\nChannel {number}: " + "\n".join(cue.lines) + "\n\n"
        for index, (cue, number) in enumerate(numbered, 1)
    )


def _times(cue: Cue, decimal_mark: str) -> str:
    return f"{clock(cue.start_s, decimal_mark)} --> {clock(cue.end_s, decimal_mark)}"


def _utterances(words: Sequence[Word]) -> list[list[Word]]:
    """Words in groups that pauses separate."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and word.start_s - groups[-1][-1].end_s < CUE_PAUSE_S:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups
