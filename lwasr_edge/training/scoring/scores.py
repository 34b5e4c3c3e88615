"""Word and character error rates of a set and of its speakers, and the utterances with the most errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from lwasr_edge.training.data.manifest import Utterance
from lwasr_edge.wer import align_words, normalize_text


@dataclass(frozen=True)
class Score:
    """Errors of hypotheses compared with their reference texts."""

    wer: float  # fraction
    cer: float  # fraction
    substitutions: int  # words, as the next three
    deletions: int
    insertions: int
    words: int  # in the reference texts

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    def __str__(self) -> str:
        counts = f"{self.substitutions} sub, {self.deletions} del, {self.insertions} ins of {self.words} words"
        return f"WER {100 * self.wer:.2f} %  CER {100 * self.cer:.2f} %  ({counts})"


def score(references: Iterable[str], hypotheses: Iterable[str]) -> Score:
    """Score hypotheses by jiwer, after `normalize_text` on both sides.

    With an empty reference text, every word of the hypothesis is an insertion. Rates are errors over words, and over
    characters, of the reference texts; over 1 if these have none.

    Raises:
        ValueError: the two differ in number.
    """
    # Not `lwasr_edge.wer.word_errors`: the total is the same, but of several best alignments, jiwer can choose one with
    # other substitutions, deletions and insertions, and all results so far are jiwer's.
    pairs = [(normalize_text(one), normalize_text(other)) for one, other in zip(references, hypotheses, strict=True)]
    spoken = [pair for pair in pairs if pair[0]]
    inserted = [hypothesis for reference, hypothesis in pairs if not reference]
    substitutions = deletions = insertions = words = characters = wrong_characters = 0
    if spoken:
        texts, found = map(list, zip(*spoken, strict=True))
        by_word, by_character = jiwer.process_words(texts, found), jiwer.process_characters(texts, found)
        substitutions, deletions, insertions = by_word.substitutions, by_word.deletions, by_word.insertions
        words = by_word.hits + by_word.substitutions + by_word.deletions
        characters = by_character.hits + by_character.substitutions + by_character.deletions
        wrong_characters = by_character.substitutions + by_character.deletions + by_character.insertions
    insertions += sum(len(hypothesis.split()) for hypothesis in inserted)
    wrong_characters += sum(map(len, inserted))
    wer = (substitutions + deletions + insertions) / max(1, words)
    return Score(wer, wrong_characters / max(1, characters), substitutions, deletions, insertions, words)


def by_speaker(utterances: Iterable[Utterance], texts: Iterable[str]) -> dict[str, Score]:
    """The score of each speaker, highest WER first.

    Args:
        utterances: with reference texts.
        texts: the hypotheses, in the same order.
    """
    references: defaultdict[str, list[str]] = defaultdict(list)
    hypotheses: defaultdict[str, list[str]] = defaultdict(list)
    for utterance, text in zip(utterances, texts, strict=True):
        references[utterance.speaker].append(utterance.text)
        hypotheses[utterance.speaker].append(text)
    scores = {speaker: score(references[speaker], hypotheses[speaker]) for speaker in references}
    return dict(sorted(scores.items(), key=lambda item: -item[1].wer))


def speaker_table(scores: dict[str, Score]) -> str:
    """A table with a line for each speaker."""
    names = {speaker: speaker or "(unnamed)" for speaker in scores}
    width = max(7, *map(len, names.values()))
    lines = [f"  {'speaker':{width}}   WER %   CER %   words    sub    del    ins"]
    for speaker, one in scores.items():
        counts = f"{one.words:7} {one.substitutions:6} {one.deletions:6} {one.insertions:6}"
        lines.append(f"  {names[speaker]:{width}} {100 * one.wer:7.2f} {100 * one.cer:7.2f} {counts}")
    return "\n".join(lines)


def worst(utterances: Iterable[Utterance], texts: Iterable[str], count: int) -> list[tuple[Utterance, Score, str]]:
    """The utterances with the most errors, with scores and hypotheses, in falling order; those without are left out."""
    scored = [(one, score([one.text], [text]), text) for one, text in zip(utterances, texts, strict=True)]
    wrong = [item for item in scored if item[1].errors]
    return sorted(wrong, key=lambda item: (-item[1].errors, -item[1].wer))[:count]


def aligned(reference: str, hypothesis: str) -> str:
    """Two lines of aligned words; *** marks a missing word, capitals mark errors."""
    words, others = normalize_text(reference).split(), normalize_text(hypothesis).split()
    above, below = [], []
    for i, j in align_words(words, others):
        first, second = "***" if i is None else words[i], "***" if j is None else others[j]
        if first != second:
            first, second = first.upper(), second.upper()
        width = max(len(first), len(second))
        above.append(first.ljust(width))
        below.append(second.ljust(width))
    return f"    reference:  {' '.join(above).rstrip()}\n    hypothesis: {' '.join(below).rstrip()}"
