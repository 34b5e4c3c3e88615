"""From the tagger's log-probabilities to one mark and one spelling of each word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lwasr_edge.written.tagger import COMMA, FULL_STOP, LOWER, NO_MARK, QUESTION, TITLE, UPPER, Tagger

MARKS = {NO_MARK: "", COMMA: ",", FULL_STOP: ".", QUESTION: "?"}
AFTER_QUESTION = 0.2  # probability of a capital from which a word after a question mark has one: "Where? said he."
MAX_ANSWER = 3  # words of an utterance that is always a sentence: "no" is an answer, not the beginning of one
LAST_END = 0.03  # probability of a sentence's end from which the last word of all has a full stop
# Sentences end at pauses, and rarely without one: nats for the end of a sentence by the pause before the next word, s.
# Half of them count for a comma, up to a limit. The text of the training has no pauses: these were chosen by eye, on
# recordings.
PAUSES_S, PAUSE_NATS = (0.0, 0.15, 0.3, 0.6, 1.2), (-2.0, -1.0, -0.25, 1.0, 3.5)
MAX_COMMA_NATS = 0.5
ALWAYS_CAPITAL = frozenset(
    ("i", "i'm", "i'll", "i've", "i'd", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
) | {"january", "february", "april", "june", "july", "august", "september", "october", "november", "december"}


def choose_marks(log_probs: np.ndarray, pauses_s: Sequence[float] | None = None) -> list[int]:
    """The mark after each word.

    Args:
        log_probs: (T, 4) of the marks.
        pauses_s: T - 1 pauses between the words, in seconds; None if they are not known.
    """
    if not len(log_probs):
        return []
    scores = log_probs.copy()
    if pauses_s is not None:
        bonus = np.interp([*pauses_s, PAUSES_S[2]], PAUSES_S, PAUSE_NATS).astype(np.float32)
        scores[:, FULL_STOP:] += bonus[:, None]
        scores[:, COMMA] += np.minimum(0.5 * bonus, MAX_COMMA_NATS)
    marks: list[int] = scores.argmax(axis=1).tolist()
    ends = np.exp(scores[-1] - np.logaddexp.reduce(scores[-1]))[FULL_STOP:]
    is_end = ends.sum() >= LAST_END or len(marks) <= MAX_ANSWER
    marks[-1] = FULL_STOP + int(ends.argmax()) if is_end else NO_MARK
    return marks


def choose_cases(
    words: Sequence[str], marks: Sequence[int], log_probs: np.ndarray, mark_log_probs: np.ndarray
) -> list[int]:
    """The capitals of each word: the first one, and those after the end of a sentence, have them.

    Elsewhere the probability of a capital is that under the condition that no sentence begins there:
    P(capital) = P(begins) + (1 - P(begins)) P(capital | does not begin).

    Args:
        words: T words in lower case.
        marks: T of `choose_marks`.
        log_probs: (T, 3) of the cases.
        mark_log_probs: (T, 4) of the marks.
    """
    cases: list[int] = log_probs.argmax(axis=1).tolist()
    begins = np.exp(mark_log_probs[:-1, FULL_STOP:]).sum(axis=1).clip(0.0, 0.999)
    capital = 1.0 - np.exp(log_probs[:, LOWER])
    inside = (capital[1:] - begins) / (1.0 - begins)
    for index, word in enumerate(words):
        before = marks[index - 1] if index else FULL_STOP
        is_first = before == FULL_STOP or (before == QUESTION and capital[index] > AFTER_QUESTION)
        if cases[index] == LOWER and (is_first or word in ALWAYS_CAPITAL):
            cases[index] = TITLE
        elif cases[index] == TITLE and not is_first and word not in ALWAYS_CAPITAL and inside[index - 1] < 0.5:
            cases[index] = LOWER
    return cases


def tag(tagger: Tagger, words: list[str], pauses_s: Sequence[float] | None = None) -> tuple[list[int], list[int]]:
    """Marks and cases of words in lower case; see `choose_marks`."""
    marks_log_probs, case_log_probs = tagger.log_probs(words)
    marks = choose_marks(marks_log_probs, pauses_s)
    for index in range(len(words) - 1):  # the letters of an acronym
        if len(words[index]) == 1 == len(words[index + 1]) and words[index + 1] not in "ai":
            marks[index] = NO_MARK
    return marks, choose_cases(words, marks, case_log_probs, marks_log_probs)


def spelled(word: str, case: int, spellings: dict[str, str]) -> str:
    """A word with its capitals.

    Args:
        word: in lower case.
        case: LOWER, TITLE or UPPER.
        spellings: words with capitals inside.
    """
    if case != LOWER and word in spellings:
        return spellings[word]
    if case == UPPER:
        head, apostrophe, tail = word.rpartition("'")
        return f"{head.upper()}'{tail}" if apostrophe and head else word.upper()
    return word[:1].upper() + word[1:] if case == TITLE else word
