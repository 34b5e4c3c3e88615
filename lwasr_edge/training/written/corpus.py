"""The texts of `lwasr-train written`, divided by line, and a copy in numbers that a resumed run reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lwasr_edge.errors import CheckpointError
from lwasr_edge.training.written.batches import Encoded, Vocabulary
from lwasr_edge.training.written.sentences import Tagged, emphasised, read_lines, share_of, spellings, tag_line

TUNING, MEASURING = 0.015, 0.03  # shares of the lines of each file


@dataclass
class Corpus:
    """One file, divided by line."""

    name: str
    train: list[Encoded] = field(default_factory=list)
    tuning: list[Tagged] = field(default_factory=list)
    measuring: list[Tagged] = field(default_factory=list)


@dataclass
class Texts:
    """All files."""

    corpora: list[Corpus]
    held_out: list[Corpus]
    vocabulary: list[str]
    spellings: dict[str, str]  # words with capitals inside


def read_texts(texts: list[Path], held_out: list[Path], copy: Path) -> Texts:
    """Read the files, or their copy if it is of the same files.

    Args:
        texts: of which a part is held out by line.
        held_out: for measuring alone.
        copy: written for the next run.

    Raises:
        OptionError: a text cannot be read.
        CheckpointError: the copy is damaged.
    """
    key = [[path.name, path.stat().st_size] for path in (*texts, *held_out) if path.is_file()]
    if copy.is_file():
        try:
            state = torch.load(copy, weights_only=True)
            if state["key"] == key:
                return _from_state(state)
        except Exception as error:  # of torch, zipfile or pickle, depending on the damage
            raise CheckpointError(f"{copy} must be a copy of the texts, got {error!r}: remove it") from error
    vocabulary, written = Vocabulary(), dict[str, str]()
    found = Texts(
        [_read(path, vocabulary, written) for path in texts],
        [_read(path, Vocabulary(), {}, is_held_out=True) for path in held_out],
        list(vocabulary.numbers),
        written,
    )
    torch.save({"key": key, **_state(found)}, copy)
    return found


def _read(path: Path, vocabulary: Vocabulary, written: dict[str, str], *, is_held_out: bool = False) -> Corpus:
    """Read a file; the training part adds to the vocabulary and to the words with capitals inside."""
    lines = read_lines(path)
    ordinary = emphasised(lines)
    corpus = Corpus(path.name.partition(".")[0])
    learned: list[Tagged] = []
    for line in lines:
        sentence = tag_line(line, ordinary)
        share = share_of(line)
        if sentence is None:
            continue
        if is_held_out or TUNING <= share < TUNING + MEASURING:
            corpus.measuring.append(sentence)
        elif share < TUNING:
            corpus.tuning.append(sentence)
        else:
            learned.append(sentence)
            corpus.train.append(vocabulary.encode(sentence))
    written.update(spellings(iter(learned)))
    return corpus


def _state(texts: Texts) -> dict[str, Any]:
    return {
        "vocabulary": texts.vocabulary,
        "spellings": texts.spellings,
        "corpora": [_corpus_state(corpus) for corpus in texts.corpora],
        "held_out": [_corpus_state(corpus) for corpus in texts.held_out],
    }


def _corpus_state(corpus: Corpus) -> dict[str, Any]:
    empty = [Encoded(np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(0, np.int8))]
    train = corpus.train or empty
    return {
        "name": corpus.name,
        "lengths": [len(one.word_ids) for one in train],
        "word_ids": torch.from_numpy(np.concatenate([one.word_ids for one in train])),
        "marks": torch.from_numpy(np.concatenate([one.marks for one in train])),
        "cases": torch.from_numpy(np.concatenate([one.cases for one in train])),
        "tuning": [[one.words, one.marks, one.cases] for one in corpus.tuning],
        "measuring": [[one.words, one.marks, one.cases] for one in corpus.measuring],
    }


def _from_state(state: dict[str, Any]) -> Texts:
    def corpus(saved: dict[str, Any]) -> Corpus:
        ends = np.cumsum(saved["lengths"])[:-1]
        parts = [np.split(saved[name].numpy(), ends) for name in ("word_ids", "marks", "cases")]
        train = [Encoded(*one) for one in zip(*parts, strict=True) if len(one[0])]
        tuning, measuring = ([Tagged(*one) for one in saved[name]] for name in ("tuning", "measuring"))
        return Corpus(saved["name"], train, tuning, measuring)

    return Texts(
        [corpus(one) for one in state["corpora"]],
        [corpus(one) for one in state["held_out"]],
        state["vocabulary"],
        state["spellings"],
    )
