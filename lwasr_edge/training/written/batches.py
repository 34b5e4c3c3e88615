"""Running text for the tagger: sentences of one file joined to sequences, some of which begin or end inside one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lwasr_edge.training.written.sentences import IGNORED, Tagged
from lwasr_edge.written.tagger import LOWER

LENGTHS = (12, 24, 48, 96)  # words of a sequence; a batch has sequences of one length
BATCH_WORDS = 6144
CUT_START = 0.15  # share of sequences that begin inside a sentence, as an utterance after a pause
CUT_END = 0.4  # share of those which the next sentence does not fit that are filled with a part of it
FILLERS = frozenset(("uh", "um", "er", "ah", "mm", "hmm"))
DROPPED_FILLERS = 0.5  # share of sequences without them: some recognisers leave them out


@dataclass(frozen=True)
class Encoded:
    """One sentence of T words."""

    word_ids: np.ndarray  # (T,) int32
    marks: np.ndarray  # (T,) int8
    cases: np.ndarray  # (T,) int8


@dataclass(frozen=True)
class Batch:
    """B sequences of at most T words."""

    word_ids: Tensor  # (B, T) int64; -1 after the end
    marks: Tensor  # (B, T) int64; -1 after the end, and where they are ambiguous
    cases: Tensor  # (B, T) int64; likewise


class Vocabulary:
    """Words by number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def encode(self, sentence: Tagged) -> Encoded:
        """The sentence in numbers; new words are added."""
        word_ids = [self.numbers.setdefault(word, len(self.numbers)) for word in sentence.words]
        return Encoded(
            np.array(word_ids, np.int32), np.array(sentence.marks, np.int8), np.array(sentence.cases, np.int8)
        )


def joined(sentences: Sequence[Encoded]) -> Encoded:
    """Several sentences as one."""
    return Encoded(
        np.concatenate([one.word_ids for one in sentences]),
        np.concatenate([one.marks for one in sentences]),
        np.concatenate([one.cases for one in sentences]),
    )


def part(sentence: Encoded, start: int, end: int | None = None) -> Encoded:
    """Words `start` to `end` of a sentence."""
    return Encoded(sentence.word_ids[start:end], sentence.marks[start:end], sentence.cases[start:end])


def without(sentence: Encoded, left_out: np.ndarray) -> Encoded:
    """A sentence without some words; the mark of a word that is left out is too, unless it ends the sentence.

    Args:
        sentence: of T words.
        left_out: numbers of words.
    """
    keep = ~np.isin(sentence.word_ids, left_out)
    if keep.all() or not keep.any():
        return sentence
    marks, cases = sentence.marks.copy(), sentence.cases.copy()
    kept = np.flatnonzero(keep)
    marks[kept[-1]] = max(marks[kept[-1]], marks[-1])
    cases[kept[0]] = max(cases[kept[0]], cases[0])
    return Encoded(sentence.word_ids[keep], marks[keep], cases[keep])


def sequences(sentences: Sequence[Encoded], length: int, rng: random.Random, fillers: np.ndarray) -> Iterator[Encoded]:
    """Join shuffled sentences to sequences of at most `length` words."""
    order = list(range(len(sentences)))
    rng.shuffle(order)
    current: list[Encoded] = []
    size, is_plain = 0, False
    for index in order:
        sentence = sentences[index]
        if not current:
            is_plain = rng.random() < DROPPED_FILLERS
            if rng.random() < CUT_START and len(sentence.word_ids) > 3:
                sentence = part(sentence, rng.randrange(1, len(sentence.word_ids) - 1))
                cases = sentence.cases.copy()  # an utterance begins with a capital, whatever the tagger says
                cases[0] = IGNORED if cases[0] == LOWER else cases[0]
                sentence = Encoded(sentence.word_ids, sentence.marks, cases)
        if is_plain:
            sentence = without(sentence, fillers)
        if size + len(sentence.word_ids) > length:
            if not current or rng.random() < CUT_END:
                current.append(part(sentence, 0, length - size))
            yield joined(current)
            current, size = [], 0
            continue
        current.append(sentence)
        size += len(sentence.word_ids)
        if length == LENGTHS[0] and rng.random() < 0.7:  # single sentences, as many utterances are
            yield joined(current)
            current, size = [], 0
    if current:
        yield joined(current)


def padded(items: Sequence[Encoded]) -> Batch:
    """Sequences as one batch."""
    length = max(len(one.word_ids) for one in items)
    arrays = np.full((3, len(items), length), -1, np.int64)
    for row, one in enumerate(items):
        arrays[:, row, : len(one.word_ids)] = (one.word_ids, one.marks, one.cases)
    return Batch(*torch.from_numpy(arrays))


def batches(corpora: Sequence[tuple[Sequence[Encoded], float]], fillers: np.ndarray, seed: int) -> Iterator[Batch]:
    """One epoch of shuffled batches.

    Args:
        corpora: the sentences of each file, and the share of them that an epoch uses.
        fillers: numbers of words that are left out of half of the sequences.
        seed: of the epoch.
    """
    rng = random.Random(seed)
    by_length: dict[int, list[Encoded]] = {length: [] for length in LENGTHS}
    for sentences, share in corpora:
        chosen = rng.sample(range(len(sentences)), round(share * len(sentences)))
        for number, length in enumerate(LENGTHS):
            some = [sentences[index] for index in chosen[number :: len(LENGTHS)]]
            by_length[length] += sequences(some, length, rng, fillers)
    plan: list[tuple[int, int, int]] = []
    for length, items in by_length.items():
        rng.shuffle(items)
        n_rows = BATCH_WORDS // length
        plan += [(length, start, start + n_rows) for start in range(0, len(items), n_rows)]
    rng.shuffle(plan)
    for length, start, end in plan:
        yield padded(by_length[length][start:end])
