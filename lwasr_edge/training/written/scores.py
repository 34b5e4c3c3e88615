"""Precision, recall and F1 of marks and capitals on running text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lwasr_edge.training.written.sentences import Tagged
from lwasr_edge.written.tagger import COMMA, FULL_STOP, LOWER, QUESTION, Tagger
from lwasr_edge.written.tags import choose_cases, choose_marks

TEXT_WORDS = 100  # of the texts that sentences are joined to, about
COMMA_BIASES = tuple(step / 4 for step in range(-3, 5))  # nats
END_BIASES = tuple(step / 4 for step in range(-3, 4))


@dataclass
class Count:
    """Found, wanted, and both."""

    correct: int = 0
    found: int = 0
    wanted: int = 0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Count two sets of positions, (T,) bool each."""
        self.correct += int((found & wanted).sum())
        self.found += int(found.sum())
        self.wanted += int(wanted.sum())

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1; 0 if there is nothing."""
        return 2 * self.correct / max(1, self.found + self.wanted)

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        precision, recall = self.correct / max(1, self.found), self.correct / max(1, self.wanted)
        return {"f1": round(self.f1, 4), "precision": round(precision, 4), "recall": round(recall, 4), "n": self.wanted}


def texts(sentences: Sequence[Tagged], seed: int = 0, n_words: int = TEXT_WORDS) -> list[Tagged]:
    """Join sentences, in shuffled order, to texts of `n_words` words or little more; 1 leaves each by itself."""
    order = list(sentences)
    random.Random(seed).shuffle(order)
    joined = [Tagged()]
    for sentence in order:
        if len(joined[-1].words) >= n_words:
            joined.append(Tagged())
        joined[-1].words += sentence.words
        joined[-1].marks += sentence.marks
        joined[-1].cases += sentence.cases
    return joined


def score(tagger: Tagger, joined: Sequence[Tagged]) -> dict[str, Count]:
    """Score a tagger: "ends" (full stops and question marks, each where the other is wrong), "question", "comma" and
    "capital" (of the first letter; words whose capitals are ambiguous are not counted)."""
    counts = {name: Count() for name in ("ends", "question", "comma", "capital")}
    for text in joined:
        mark_log_probs, case_log_probs = tagger.log_probs(text.words)
        marks = choose_marks(mark_log_probs)
        cases = np.array(choose_cases(text.words, marks, case_log_probs, mark_log_probs))
        found, wanted = np.array(marks), np.array(text.marks)
        for mark in (FULL_STOP, QUESTION):
            counts["ends"].add(found == mark, wanted == mark)
        counts["question"].add(found == QUESTION, wanted == QUESTION)
        counts["comma"].add(found == COMMA, wanted == COMMA)
        is_clear = np.array(text.cases) >= 0
        counts["capital"].add((cases != LOWER) & is_clear, (np.array(text.cases) > LOWER) & is_clear)
    return counts


def best_bias(tagger: Tagger, corpora: Sequence[Sequence[Tagged]]) -> list[float]:
    """The bias of the marks' log-probabilities with the highest F1 of ends and commas, averaged over corpora.

    The last word of a text has the mark of `choose_marks`, whatever the bias, and is not counted.

    Args:
        tagger: without a bias.
        corpora: texts of each.
    """
    log_probs = [[(tagger.log_probs(text.words)[0], np.array(text.marks)) for text in corpus] for corpus in corpora]

    def mean_f1(comma: float, end: float) -> float:
        total = 0.0
        for corpus in log_probs:
            counts = Count(), Count()
            for scores, wanted in corpus:
                found = (scores[:-1] + np.array([0.0, comma, end, end], np.float32)).argmax(axis=1)
                for mark in (FULL_STOP, QUESTION):
                    counts[0].add(found == mark, wanted[:-1] == mark)
                counts[1].add(found == COMMA, wanted[:-1] == COMMA)
            total += counts[0].f1 + counts[1].f1
        return total

    comma, end = max(((c, e) for c in COMMA_BIASES for e in END_BIASES), key=lambda pair: mean_f1(*pair))
    return [0.0, comma, end, end]
