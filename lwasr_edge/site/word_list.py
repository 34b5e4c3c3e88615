"""The site's word list: its strength is chosen on some recordings, its effect is measured on the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.decoding.phrases import MAX_BYTES, PhraseList
from lwasr_edge.errors import OptionError
from lwasr_edge.files import read_regular, split_lines
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.site.recognise import Measured, Progress, model_letters, recognise_all
from lwasr_edge.site.texts import decode_text
from lwasr_edge.wer import align_words

STRENGTHS = (0.5, 1.0, 2.0, 3.5)  # nats per word
DEFAULT_STRENGTH = 2.0
MIN_TO_CHOOSE = 9  # recordings; with fewer the default strength is used
CHOOSING_EVERY = 3  # one recording of three chooses


@dataclass(frozen=True)
class PhraseRecall:
    """How often one phrase of the list was said, and recognised without and with the list."""

    phrase: str  # as in the list
    said: int
    before: int
    after: int
    false_alarms: int  # recognised with the list where it was not said


@dataclass(frozen=True)
class ListTrial:
    """The effect of a list."""

    strength: float
    chosen_on: tuple[str, ...]  # names of the recordings; empty with the default strength
    by_speaker: bool  # whether the two groups have no speaker in common
    before: tuple[Measured, ...]  # recordings that did not choose, without the list
    after: tuple[Measured, ...]  # the same with the list
    phrases: tuple[PhraseRecall, ...]
    left_out: tuple[str, ...]  # phrases that the model cannot write


def read_list(path: Path) -> PhraseList:
    """Read a word list in any common encoding; otherwise as `PhraseList.read`.

    Raises:
        OptionError: see `PhraseList.read`.
    """
    try:
        text, _ = decode_text(read_regular(path, MAX_BYTES))
    except OSError as error:
        raise OptionError(f"the word list {path} cannot be read: {error.strerror}") from error
    return PhraseList.parse(split_lines(text), str(path))


def speakable(phrases: PhraseList, letters: Collection[str], language: str) -> tuple[PhraseList | None, list[str]]:
    """The phrases that the model can write, None if there are none, and the others."""
    spoken = phrases.spoken(letters, language)
    bad = [phrase for phrase, words in spoken.items() if not words or set(words) - set(letters) - {" "}]
    good = {phrase: phrases.weights[phrase.lower()] for phrase in spoken if phrase not in set(bad)}
    return (PhraseList(good, mode="bias") if good else None), bad


def try_list(
    phrases: PhraseList,
    left_out: Sequence[str],
    measured: Sequence[Measured],
    recognizer: Recognizer,
    lm: str | None,
    progress: Progress | None = None,
) -> ListTrial:
    """Choose the strength on a third of the recordings, and measure the list on the others.

    Args:
        phrases: in mode "bias".
        left_out: phrases that were left out.
        measured: recordings with texts, recognised without the list.
        recognizer: without the list.
        lm: as for `Recognizer`.
        progress: see `recognise_all`.
    """
    choosing, reported, by_speaker = split(measured)
    strength = DEFAULT_STRENGTH
    if choosing:
        errors = {}
        for candidate in STRENGTHS:
            with_list = _with_list(recognizer, phrases, candidate, lm)
            errors[candidate] = sum(item.errors for item in recognise_all(choosing, with_list, progress)[0])
        strength = min(STRENGTHS, key=lambda one: (errors[one], abs(one - DEFAULT_STRENGTH)))
    after, _ = recognise_all(reported, _with_list(recognizer, phrases, strength, lm), progress)
    spoken = phrases.spoken(model_letters(recognizer), recognizer.info.language)
    return ListTrial(
        strength,
        tuple(item.sample.name for item in choosing),
        by_speaker,
        tuple(reported),
        tuple(after),
        phrase_recalls(spoken, reported, after),
        tuple(left_out),
    )


def split(measured: Sequence[Measured]) -> tuple[list[Measured], list[Measured], bool]:
    """Recordings that choose, those that are reported, and whether no speaker is in both.

    With three known speakers or more, every third speaker chooses; else every third recording. The order is that of
    the names, so that the same folder is always divided in the same way.
    """
    if len(measured) < MIN_TO_CHOOSE:
        return [], list(measured), False
    ordered = sorted(measured, key=lambda item: item.sample.name)
    speakers = sorted({item.sample.speaker for item in ordered})
    by_speaker = len(speakers) >= CHOOSING_EVERY and "" not in speakers
    chosen = set(speakers[CHOOSING_EVERY - 1 :: CHOOSING_EVERY])
    marks = [
        item.sample.speaker in chosen if by_speaker else number % CHOOSING_EVERY == CHOOSING_EVERY - 1
        for number, item in enumerate(ordered)
    ]
    choosing = [item for item, mark in zip(ordered, marks, strict=True) if mark]
    reported = [item for item, mark in zip(ordered, marks, strict=True) if not mark]
    return choosing, reported, by_speaker


def phrase_recalls(
    spoken: dict[str, str], before: Sequence[Measured], after: Sequence[Measured]
) -> tuple[PhraseRecall, ...]:
    """How often each phrase was said and recognised, the most missed first.

    Args:
        spoken: the words of each phrase.
        before, after: the same recordings without and with the list.
    """
    counts = {phrase: [0, 0, 0, 0] for phrase in spoken}
    first_words: dict[str, list[tuple[str, list[str]]]] = {}
    for phrase, words in spoken.items():
        if words:
            first_words.setdefault(words.split()[0], []).append((phrase, words.split()))
    for one, other in zip(before, after, strict=True):
        right = [right_words(item) for item in (one, other)]
        for start, phrase, length in _occurrences(one.reference_words, first_words):
            counts[phrase][0] += 1
            for column in (0, 1):
                counts[phrase][1 + column] += set(range(start, start + length)) <= right[column]
        said = {phrase for _, phrase, _ in _occurrences(one.reference_words, first_words)}
        for _, phrase, _ in _occurrences(other.recognised.split(), first_words):
            counts[phrase][3] += phrase not in said
    recalls = [PhraseRecall(phrase, *values) for phrase, values in counts.items()]
    return tuple(sorted(recalls, key=lambda one: (one.after - one.said, one.before - one.said, one.phrase)))


def _occurrences(
    words: Sequence[str], first_words: dict[str, list[tuple[str, list[str]]]]
) -> list[tuple[int, str, int]]:
    """Start, phrase and number of words of each phrase in a text."""
    return [
        (start, phrase, len(wanted))
        for start, word in enumerate(words)
        for phrase, wanted in first_words.get(word, ())
        if list(words[start : start + len(wanted)]) == wanted
    ]


def right_words(item: Measured) -> set[int]:
    """Indices of the reference words that were recognised."""
    reference, recognised = item.reference_words, item.recognised.split()
    pairs = align_words(reference, recognised)
    return {i for i, j in pairs if i is not None and j is not None and reference[i] == recognised[j]}


def _with_list(recognizer: Recognizer, phrases: PhraseList, strength: float, lm: str | None) -> Recognizer:
    return recognizer.with_decoding(phrases=PhraseList(phrases.phrases, mode="bias", bonus=strength), lm=lm)
