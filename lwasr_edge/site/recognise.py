"""Recognise the recordings of a folder and count their errors; put aside those that cannot measure anything."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lwasr_edge.decoding.spelling import text_pieces
from lwasr_edge.errors import AudioError, AudioWarning
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.site.folder import Sample
from lwasr_edge.site.remark import Refused, Remark
from lwasr_edge.site.sound import MAX_S, MUCH_CLIPPING, MUCH_READ, Sound, measure_sound
from lwasr_edge.site.texts import SpokenText, spoken_text
from lwasr_edge.wer import align_words
from lwasr_edge.words import WORD_START

if TYPE_CHECKING:
    from lwasr_edge.audio.reader import AudioSource

MIN_WORDS = 4  # of a text and of what was recognised, to say that they do not belong together
MIN_WORDS_ALONE = 6  # the same, where the text is that of no other recording: short ones may be an accent
SHARED_WORDS = 0.1  # of the text
# Letters that match. Of 759 wrong texts, three quarters have less; the least of 500 right texts of learners of English,
# recognised by en-tiny 0.5.2, is 0.29 (speechocean-test).
SIMILAR = 0.26
MIN_SNR_DB = 10.0  # with more noise, what was recognised means little
SWAPPED = 0.6  # share of another recording's text that is recognised
TOO_QUIET_DB = -60.0

Progress = Callable[[float, float], object]


@dataclass(frozen=True)
class Measured:
    """A recording that can be used."""

    sample: Sample
    sound: Sound
    text: SpokenText | None  # None without a transcript
    recognised: str = ""

    @property
    def reference_words(self) -> list[str]:
        """Words of the text as they are spoken."""
        return self.text.spoken.split() if self.text is not None else []

    @property
    def errors(self) -> int:
        """Wrong, missing and added words."""
        return count_errors(self.reference_words, self.recognised.split())


def count_errors(reference: Sequence[str], recognised: Sequence[str]) -> int:
    """Substitutions, deletions and insertions."""
    pairs = align_words(reference, recognised)
    return sum(i is None or j is None or reference[i] != recognised[j] for i, j in pairs)


def model_letters(recognizer: Recognizer) -> set[str]:
    """The characters that the model can write."""
    info = recognizer.info
    return set("".join(text_pieces(info.vocabulary, info.blank_id).values())) - {WORD_START}


def measure_samples(samples: Iterable[Sample], recognizer: Recognizer) -> tuple[list[Measured], list[Refused]]:
    """Read each recording and its text; nothing is recognised yet.

    Returns:
        The recordings that can be used, and the others with the reason.
    """
    letters, language = model_letters(recognizer), recognizer.info.language
    kept: list[Measured] = []
    refused: list[Refused] = []
    names: dict[str, str] = {}  # of the recordings by their digest
    for sample in sorted(
        samples, key=lambda one: one.text is None
    ):  # of two that are alike, the one with a text is kept
        try:
            sound = measure_sound(sample.audio())
        except AudioError as error:
            why = str(error).removeprefix(f"{sample.path} ").partition(": pass ")[0]  # the rest is for programmers
            refused.append(Refused(sample.name, Remark("unreadable", {"why": why})))
            continue
        text = None if sample.text is None else spoken_text(sample.text, letters, language)
        fault = _fault(sound, text)
        if fault is None and (first := names.setdefault(sound.digest, sample.name)) != sample.name:
            fault = Remark("duplicate", {"file": first})
        if fault is None:
            kept.append(Measured(sample, sound, text))
        else:
            refused.append(Refused(sample.name, fault))
    return kept, refused


def _fault(sound: Sound, text: SpokenText | None) -> Remark | None:
    if text is not None and not text.written:
        return Remark("empty_text")
    if text is not None and text.unspeakable:
        return Remark("unspeakable", {"characters": " ".join(text.unspeakable[:20])})
    if text is not None and not text.spoken:
        return Remark("nothing_spoken")
    if text is not None and sound.duration_s > MAX_S:
        return Remark("too_long", {"minutes": round(MAX_S / 60)})
    if text is not None and sound.readable < MUCH_READ:
        return Remark("cut_off", {"percent": round(100 * sound.readable)})
    if sound.has_sound and sound.level_db < TOO_QUIET_DB:
        return Remark("too_quiet", {"db": round(-sound.level_db)})
    if sound.clipped > MUCH_CLIPPING:
        return Remark("clipped", {"percent": round(100 * sound.clipped)})
    return None


def recognise_all(
    measured: Sequence[Measured], recognizer: Recognizer, progress: Progress | None = None
) -> tuple[list[Measured], float]:
    """Recognise recordings.

    Returns:
        The same recordings with what was recognised, and the seconds that it took.
    """
    total_s = sum(item.sound.duration_s for item in measured)
    done_s = spent_s = 0.0
    recognised = []
    for item in measured:
        began_at = time.perf_counter()
        text = transcribed(item.sample.audio(), recognizer)
        spent_s += time.perf_counter() - began_at
        recognised.append(replace(item, recognised=text))
        done_s += item.sound.duration_s
        if progress is not None:
            progress(done_s, total_s)
    return recognised, spent_s


def transcribed(source: AudioSource, recognizer: Recognizer) -> str:
    """The words of a recording in lower case; damage was reported when it was measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        return recognizer.transcribe(source).text.lower()


def without_wrong_texts(measured: Sequence[Measured]) -> tuple[list[Measured], list[Refused]]:
    """Put aside recordings without speech, and those whose text is evidently of something else."""
    kept: list[Measured] = []
    refused: list[Refused] = []
    for item in measured:
        if not item.recognised and not item.sound.has_sound and item.text is not None:
            refused.append(Refused(item.sample.name, Remark("no_speech")))
        elif item.text is not None and (fault := _wrong_text(item, measured)) is not None:
            refused.append(Refused(item.sample.name, fault))
        else:
            kept.append(item)
    return kept, refused


def _wrong_text(item: Measured, others: Sequence[Measured]) -> Remark | None:
    """The remark if a text and what was recognised have almost nothing in common.

    Few words in common are not enough: so it is with noise and strong accents too, which must count. The letters must
    differ as well, or the words be those of another recording.
    """
    reference, recognised = item.reference_words, item.recognised.split()
    if len(recognised) < MIN_WORDS or _shared(reference, recognised) > SHARED_WORDS:
        return None
    for other in others:
        words = other.reference_words
        if other is not item and len(words) >= MIN_WORDS and _shared(words, recognised) >= SWAPPED:
            return Remark("text_of_other", {"file": other.sample.name})
    letters, found = " ".join(reference)[:1000], item.recognised[:1000]
    alike = 1 - count_errors(letters, found) / max(len(letters), len(found))
    if len(reference) >= MIN_WORDS_ALONE and alike < SIMILAR and item.sound.snr_db > MIN_SNR_DB:
        return Remark("wrong_text")
    return None


def _shared(reference: Sequence[str], recognised: Sequence[str]) -> float:
    """Share of the reference words that were recognised in order."""
    pairs = align_words(reference, recognised)
    right = sum(i is not None and j is not None and reference[i] == recognised[j] for i, j in pairs)
    return right / max(1, len(reference))
