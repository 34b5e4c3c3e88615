"""`lwasr site check`: measure a model on a folder of recordings; the result as a report for JSON, text and HTML."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.bench.board import read_board
from lwasr_edge.decoding.phrases import PhraseList
from lwasr_edge.files import read_regular
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.site.consent import CONSENT_FILE, ended_retentions
from lwasr_edge.site.folder import read_folder
from lwasr_edge.site.intervals import Rate, error_rate
from lwasr_edge.site.recognise import (
    Measured,
    measure_samples,
    model_letters,
    recognise_all,
    without_wrong_texts,
)
from lwasr_edge.site.remark import Refused, Remark
from lwasr_edge.site.sound import sound_advice
from lwasr_edge.site.verdict import list_gain, missed_words, verdict
from lwasr_edge.site.word_list import ListTrial, right_words, speakable, try_list

MADE_BY = "lwasr site check"
FORMAT = 1
DEFAULT_TARGET = 10.0  # errors in a hundred words

Progress = Callable[[str, float, float], object]  # what is done, seconds done, seconds in total


@dataclass(frozen=True)
class Check:
    """The result."""

    folder: str
    model: str
    language: str  # of the model
    board: str
    created: str  # ISO 8601
    target: float
    with_lm: bool
    used: list[Measured]  # recognised without the list
    refused: list[Refused]
    remarks: list[Remark]
    rate: Rate | None  # None without texts
    rtf: float | None  # seconds of processing per second of audio
    trial: ListTrial | None
    verdict: Remark

    @property
    def with_text(self) -> list[Measured]:
        """Recordings whose errors are counted."""
        return [item for item in self.used if item.text is not None]

    @property
    def minutes(self) -> float:
        """Of the recordings with texts."""
        return sum(item.sound.duration_s for item in self.with_text) / 60

    def worst(self, count: int) -> list[Measured]:
        """The recordings with the most errors, at least one each."""
        wrong = [item for item in self.with_text if item.errors]
        return sorted(wrong, key=lambda item: (-item.errors, item.sample.name))[:count]


def check_folder(
    folder: Path,
    recognizer: Recognizer,
    *,
    phrases: PhraseList | None = None,
    lm: str | None = "general",
    target: float = DEFAULT_TARGET,
    progress: Progress | None = None,
) -> Check:
    """Measure a model on the recordings of a folder.

    Args:
        folder: see `read_folder`.
        recognizer: without phrases.
        phrases: the site's word list, to be measured too.
        lm: the language model that is used with the list.
        target: errors in a hundred words that are good enough.
        progress: called while recordings are recognised.

    Raises:
        OptionError: no such folder, or no recordings.
    """

    def shown(what: str) -> Callable[[float, float], object] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    listing = read_folder(folder)
    measured, refused = measure_samples(listing.samples, recognizer)
    texts = [item for item in measured if item.text is not None]
    others = [item for item in measured if item.text is None]
    recognised, spent_s = recognise_all(texts, recognizer, shown("recognising"))
    audio_s = sum(item.sound.duration_s for item in recognised)
    kept, wrong = without_wrong_texts(recognised)
    rate = error_rate([i.errors for i in kept], [len(i.reference_words) for i in kept]) if kept else None
    trial = None
    remarks = [*listing.remarks, *_folder_remarks(folder)]
    if phrases is not None:
        good, bad = speakable(phrases, model_letters(recognizer), recognizer.info.language)
        if good is None or not kept:
            remarks.append(Remark("list_unused"))
        else:
            trial = try_list(good, bad, kept, recognizer, lm, shown("with the word list"))
    result = verdict(rate, sum(item.sound.duration_s for item in kept) / 60, target, trial)
    return Check(
        folder=str(folder),
        model=recognizer.info.name,
        language=recognizer.info.language,
        board=read_board().name,
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        target=target,
        with_lm=lm is not None and recognizer.info.has_general_lm,
        used=sorted([*kept, *others], key=lambda item: item.sample.name),
        refused=sorted([*listing.refused, *refused, *wrong], key=lambda one: one.name),
        remarks=remarks,
        rate=rate,
        rtf=spent_s / audio_s if audio_s else None,
        trial=trial,
        verdict=result,
    )


def _folder_remarks(folder: Path) -> list[Remark]:
    over = set()
    for path in folder.rglob(CONSENT_FILE):
        with suppress(OSError, ValueError, RecursionError):
            over.update(ended_retentions(json.loads(read_regular(path, 1 << 20))))
    return [Remark("retention_over", {"date": until}) for until in sorted(over)]


def missed_in(check: Check, count: int = 20) -> list[tuple[str, int, int]]:
    """Word, times said and times missed, without the list; the most missed first."""
    return missed_words([(item.reference_words, right_words(item)) for item in check.with_text], count)


def to_dict(check: Check, say: Callable[[Remark], str], with_texts: bool = True) -> dict[str, Any]:
    """The report for JSON.

    Args:
        check: the result.
        say: gives the text of a remark.
        with_texts: also what was said and recognised.
    """
    report: dict[str, Any] = {
        "made_by": MADE_BY,
        "format": FORMAT,
        "created": check.created,
        "folder": check.folder,
        "model": check.model,
        "board": check.board,
        "general_language_model": check.with_lm,
        "verdict": {"kind": check.verdict.key.removeprefix("verdict_"), "text": say(check.verdict)},
        "target_per_hundred": check.target,
        "errors": None if check.rate is None else asdict(check.rate),
        "minutes_with_texts": round(check.minutes, 2),
        "rtf": None if check.rtf is None else round(check.rtf, 4),
        "remarks": [say(remark) for remark in check.remarks],
        "refused": [{"name": one.name, "reason": one.reason.key, "text": say(one.reason)} for one in check.refused],
        "recordings": [_recording(item, say, with_texts) for item in check.used],
    }
    if with_texts:
        report["missed_words"] = [
            {"word": word, "said": said, "missed": missed} for word, said, missed in missed_in(check)
        ]
    if check.trial is not None:
        report["word_list"] = _trial(check.trial)
    return report


def _recording(item: Measured, say: Callable[[Remark], str], with_texts: bool) -> dict[str, Any]:
    sound = item.sound
    described: dict[str, Any] = {
        "name": item.sample.name,
        "duration_s": round(sound.duration_s, 3),
        "sample_rate": sound.sample_rate,
        "level_db": round(sound.level_db, 1),
        "noise_db": round(sound.noise_db, 1),
        "snr_db": round(sound.snr_db, 1),
        "clipped": round(sound.clipped, 4),
        "advice": [say(remark) for remark in sound_advice(sound)],
    }
    if item.text is not None:
        described |= {"speaker": item.sample.speaker, "text_from": item.sample.source}
        described |= {"words": len(item.reference_words), "errors": item.errors}
        if with_texts:
            described |= {"written": item.text.written, "said": item.text.spoken, "recognised": item.recognised}
    return described


def _trial(trial: ListTrial) -> dict[str, Any]:
    words = [len(item.reference_words) for item in trial.before]
    low, high = list_gain(trial)
    return {
        "strength": trial.strength,
        "chosen_on": list(trial.chosen_on),
        "no_speaker_in_both": trial.by_speaker,
        "before": asdict(error_rate([item.errors for item in trial.before], words)),
        "after": asdict(error_rate([item.errors for item in trial.after], words)),
        "difference": {"low": low, "high": high},
        "phrases": [asdict(one) for one in trial.phrases],
        "left_out": list(trial.left_out),
    }
