"""One sentence: good enough, try the word list, collect more, or adapt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lwasr_edge.site.intervals import Rate, difference
from lwasr_edge.site.remark import Remark
from lwasr_edge.site.word_list import ListTrial

MIN_WORDS = 100  # of all texts, for a figure that means anything
MIN_RECORDINGS = 10
HALF_WIDTH = 5.0  # errors in a hundred words: the precision that is asked for
ADAPT_MINUTES = 15.0  # of recordings with texts, for `lwasr-train adapt`
MAX_MORE_MINUTES = 60.0


def list_gain(trial: ListTrial) -> tuple[float, float]:
    """95 % interval of the errors in a hundred words that the list adds; below 0 it helps."""
    words = [len(item.reference_words) for item in trial.before]
    return difference([item.errors for item in trial.before], [item.errors for item in trial.after], words)


def verdict(rate: Rate | None, minutes: float, target: float, trial: ListTrial | None) -> Remark:
    """What to do next.

    Args:
        rate: of all recordings without the list; None without texts.
        minutes: of the recordings with texts.
        target: errors in a hundred words that are good enough.
        trial: of the word list; None without one.
    """
    if rate is None:
        return Remark("verdict_no_texts")
    shown: dict[str, Any] = {"rate": round(rate.per_hundred, 1), "low": round(rate.low, 1), "high": round(rate.high, 1)}
    shown["target"] = f"{target:g}"
    half = (rate.high - rate.low) / 2
    is_small = rate.words < MIN_WORDS or rate.recordings < MIN_RECORDINGS
    is_decided = rate.high <= target or rate.low > target
    if is_small or (not is_decided and half > HALF_WIDTH):
        return Remark("verdict_collect", {**shown, "minutes": more_minutes(rate, minutes, target)})
    if rate.per_hundred <= target:
        return Remark("verdict_good", shown)
    if trial is None:
        return Remark("verdict_try_list", shown)
    after = 100 * sum(item.errors for item in trial.after) / max(1, sum(len(i.reference_words) for i in trial.after))
    shown["after"] = round(after, 1)
    if list_gain(trial)[1] < 0 and after <= target:
        return Remark("verdict_use_list", shown)
    helps = "_with_list" if list_gain(trial)[1] < 0 else ""
    if minutes < ADAPT_MINUTES:
        return Remark(f"verdict_collect_to_adapt{helps}", {**shown, "minutes": math.ceil(ADAPT_MINUTES - minutes)})
    return Remark(f"verdict_adapt{helps}", shown)


def more_minutes(rate: Rate, minutes: float, target: float) -> int:
    """Minutes of speech to collect until the interval is narrow enough: its width falls with the root of the speech."""
    half = max((rate.high - rate.low) / 2, 0.1)
    wanted = max(HALF_WIDTH, abs(rate.per_hundred - target))
    factor = max((half / wanted) ** 2, MIN_WORDS / max(1, rate.words), MIN_RECORDINGS / max(1, rate.recordings))
    return max(1, math.ceil(min(MAX_MORE_MINUTES, minutes * (factor - 1))))


def missed_words(pairs: Sequence[tuple[list[str], set[int]]], count: int = 20) -> list[tuple[str, int, int]]:
    """The words that are missed most often.

    Args:
        pairs: reference words of each recording, and the indices of those that were recognised.
        count: of words to return.

    Returns:
        Word, times said, times missed.
    """
    said: dict[str, int] = {}
    missed: dict[str, int] = {}
    for words, right in pairs:
        for index, word in enumerate(words):
            said[word] = said.get(word, 0) + 1
            missed[word] = missed.get(word, 0) + (index not in right)
    worst = sorted((word for word in said if missed[word]), key=lambda word: (-missed[word], said[word], word))
    return [(word, said[word], missed[word]) for word in worst[:count]]
