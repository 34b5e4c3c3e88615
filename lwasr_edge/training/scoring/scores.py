"""Word and character error rates: of a set, of each speaker, and where the errors are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from lwasr_edge.training.data.manifest import Utterance
from lwasr_edge.wer import align_words, normalize_text


@dataclass(frozen=True)
class Score:
    """Errors of a set of hypotheses against their references."""

    wer: float  # fraction
    cer: float  # fraction
    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        """Words substituted, deleted and inserted."""
        return self.substitutions + self.deletions + self.insertions

    def __str__(self) -> str:
        counts = f"{self.substitutions} sub, {self.deletions} del, {self.insertions} ins of {self.words} words"
        return f"WER {100 * self.wer:.2f} %  CER {100 * self.cer:.2f} %  ({counts})"


def score(references: Iterable[str], hypotheses: Iterable[str]) -> Score:
    """Score by jiwer after `normalize_text` on both sides.

    Where nothing was said (an empty reference), every word of the hypothesis is an insertion. Rates are errors over
    words, and over characters, of the references; with no words at all, over one.
    """
    pairs = [(normalize_text(said), normalize_text(heard)) for said, heard in zip(references, hypotheses, strict=True)]
    spoken = [pair for pair in pairs if pair[0]]
    invented = [heard for said, heard in pairs if not said]
    substitutions = deletions = insertions = words = characters = wrong_characters = 0
    if spoken:
        said, heard = map(list, zip(*spoken, strict=True))
        by_word, by_character = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
        substitutions, deletions, insertions = by_word.substitutions, by_word.deletions, by_word.insertions
        words = by_word.hits + by_word.substitutions + by_word.deletions
        characters = by_character.hits + by_character.substitutions + by_character.deletions
        wrong_characters = by_character.substitutions + by_character.deletions + by_character.insertions
    insertions += sum(len(heard.split()) for heard in invented)
    wrong_characters += sum(map(len, invented))
    wer = (substitutions + deletions + insertions) / max(1, words)
    return Score(wer, wrong_characters / max(1, characters), substitutions, deletions, insertions, words)


def by_speaker(utterances: Iterable[Utterance], texts: Iterable[str]) -> dict[str, Score]:
    """The score of each speaker, the highest WER first."""
    said: defaultdict[str, list[str]] = defaultdict(list)
    heard: defaultdict[str, list[str]] = defaultdict(list)
    for utterance, text in zip(utterances, texts, strict=True):
        said[utterance.speaker].append(utterance.text)
        heard[utterance.speaker].append(text)
    scores = {speaker: score(said[speaker], heard[speaker]) for speaker in said}
    return dict(sorted(scores.items(), key=lambda item: -item[1].wer))


def speaker_table(scores: dict[str, Score]) -> str:
    """A line for each speaker."""
    names = {speaker: speaker or "(unnamed)" for speaker in scores}
    width = max(7, *map(len, names.values()))
    lines = [f"  {'speaker':{width}}   WER %   CER %   words    sub    del    ins"]
    for speaker, one in scores.items():
        counts = f"{one.words:7} {one.substitutions:6} {one.deletions:6} {one.insertions:6}"
        lines.append(f"  {names[speaker]:{width}} {100 * one.wer:7.2f} {100 * one.cer:7.2f} {counts}")
    return "\n".join(lines)


def worst(utterances: Iterable[Utterance], texts: Iterable[str], count: int) -> list[tuple[Utterance, Score, str]]:
    """The utterances with most errors, most first, with their scores and hypotheses; those without are left out."""
    scored = [(one, score([one.text], [text]), text) for one, text in zip(utterances, texts, strict=True)]
    wrong = [item for item in scored if item[1].errors]
    return sorted(wrong, key=lambda item: (-item[1].errors, -item[1].wer))[:count]


def aligned(reference: str, hypothesis: str) -> str:
    """Two lines, word below word; *** where one side has none, capitals where the other differs."""
    said, heard = normalize_text(reference).split(), normalize_text(hypothesis).split()
    above, below = [], []
    for i, j in align_words(said, heard):
        first, second = "***" if i is None else said[i], "***" if j is None else heard[j]
        if first != second:
            first, second = first.upper(), second.upper()
        width = max(len(first), len(second))
        above.append(first.ljust(width))
        below.append(second.ljust(width))
    return f"    said:  {' '.join(above).rstrip()}\n    heard: {' '.join(below).rstrip()}"
