"""Find the settings of decoding with a language model on development recordings.

The posteriors are computed once. Settings are chosen by coordinate descent on every second recording; the other half
gives the figures that are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.bench.recordings import from_manifest
from lwasr_edge.decoding.alignment import greedy_tokens
from lwasr_edge.decoding.beam import BeamSearch
from lwasr_edge.decoding.decoder import BeamDecoder, Decoded
from lwasr_edge.decoding.language_model import LanguageModel, Source
from lwasr_edge.errors import OptionError
from lwasr_edge.lm.calibration import Bin, expected_error, fit_map, reliability, right_words
from lwasr_edge.model_info import DecodingSettings, ModelInfo
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.wer import normalize_text, word_errors
from lwasr_edge.words import Word, build_words, join_words

Show = Callable[[str], None]
GRID = {  # values in the order in which they are tried
    "weight": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6),
    "blank_penalty": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
    "unknown_letter_cost": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    "word_bonus": (-0.5, 0.0, 0.5, 1.0, 1.5),
}
BEGIN = DecodingSettings(weight=0.3, word_bonus=0.5, unknown_letter_cost=3.0, blank_penalty=1.5)
MAX_ROUNDS = 2


@dataclass(frozen=True)
class Posteriors:
    """One recording."""

    reference: str
    segments: tuple[np.ndarray, ...]  # (T, V) float16 log posteriors


@dataclass(frozen=True)
class SetResult:
    """Figures of the half of a set on which nothing was chosen."""

    name: str
    words: int
    greedy_wer: float  # 0..1
    wer: float
    raw_error: float  # expected calibration error of the posteriors of the words
    error: float  # of the mapped confidences
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Tuned:
    """The settings and what they bring."""

    settings: DecodingSettings
    sets: tuple[SetResult, ...]


class _Keep:
    """A decoder that keeps what it gets."""

    def __init__(self) -> None:
        self.segments: list[np.ndarray] = []

    def decode(self, log_probs: np.ndarray) -> Decoded:
        self.segments.append(log_probs.astype(np.float16))
        return Decoded([], (), None)


def read_posteriors(model: Path, manifest: Path, limit: int, show: Show) -> list[Posteriors]:
    """Run the model once over recordings.

    Args:
        model: the model file.
        manifest: recordings with transcripts.
        limit: of them, evenly spaced; each second of audio takes 0.05 MB.
        show: called with what is being done.
    """
    items = from_manifest(manifest, None).items
    if len(items) > limit:
        items = tuple(items[index] for index in evenly_spaced(len(items), limit, "down").tolist())
    found = []
    recognizer = Recognizer(model, lm=None)
    for number, item in enumerate(items, 1):
        show(f"{manifest.stem}: recording {number} of {len(items)}")
        keep = _Keep()
        recognizer.with_decoder(keep).transcribe(item.path)
        found.append(Posteriors(normalize_text(item.text or ""), tuple(keep.segments)))
    return found


def tune(model: Path, manifests: Sequence[Path], lm: Source | Sequence[Source], limit: int, show: Show) -> Tuned:
    """Find the settings with the lowest word error rate, in the mean of the sets, and the map of the confidence.

    Args:
        model: the model file.
        manifests: development sets: speech that neither the model nor the language model was trained on.
        lm: the language model.
        limit: recordings of each set.
        show: called with what is being done.

    Raises:
        ModelError, ManifestError, LanguageModelError: a file that cannot be used.
        OptionError: a set with fewer than 4 recordings.
    """
    info = Recognizer(model, lm=None).info
    return tune_on(info, {path.stem: read_posteriors(model, path, limit, show) for path in manifests}, lm, show)


def tune_on(info: ModelInfo, sets: dict[str, list[Posteriors]], lm: Source | Sequence[Source], show: Show) -> Tuned:
    """As `tune`, with the posteriors of each set."""
    for name, items in sets.items():
        if len(items) < 4:
            raise OptionError(f"a development set must have 4 recordings or more, got {len(items)} in {name}: add some")
    loaded = LanguageModel(lm).load()
    chosen_on = [items[::2] for items in sets.values()]

    def mean_wer(settings: DecodingSettings) -> float:
        rates = [_wer(items, decoded(info, settings, loaded, items)) for items in chosen_on]
        return sum(rates) / len(rates)

    settings, best = BEGIN, mean_wer(BEGIN)
    for _ in range(MAX_ROUNDS):
        before = settings
        for name, values in GRID.items():
            for value in values:
                changed = replace(settings, **{name: value})  # type: ignore[arg-type]
                if getattr(settings, name) != value and (rate := mean_wer(changed)) < best:
                    settings, best = changed, rate
                show(f"{name} {value:g}: best {100 * best:.2f} %")
        if settings == before:
            break
    words = [_judged(items, decoded(info, settings, loaded, items)) for items in chosen_on]
    settings = replace(settings, confidence=fit_map(*(np.concatenate(one) for one in zip(*words, strict=True))))
    results = [_result(name, items[1::2], info, settings, loaded) for name, items in sets.items()]
    return Tuned(settings, tuple(results))


def decoded(info: ModelInfo, settings: DecodingSettings, lm: Source, items: Sequence[Posteriors]) -> list[list[Word]]:
    """The words of recordings; their confidence is not mapped."""
    weights = {name: getattr(settings, name) for name in GRID}
    decoder = BeamDecoder(info, None, BeamSearch(), LanguageModel(lm, **weights), corrects_greedy=True)
    found = []
    for item in items:
        words: list[Word] = []
        for segment in item.segments:
            log_probs = segment.astype(np.float32)
            if greedy_tokens(log_probs, info.blank_id):
                words += build_words(info, decoder.decode(log_probs).tokens)
        found.append(words)
    return found


def mapped(confidences: np.ndarray, settings: DecodingSettings) -> np.ndarray:
    """Confidences by the map of the settings."""
    if not settings.confidence:
        return confidences
    points = np.array(settings.confidence)
    return np.interp(confidences, points[:, 0], points[:, 1])


def _wer(items: Sequence[Posteriors], words: list[list[Word]]) -> float:
    return word_errors([item.reference for item in items], [join_words(one) for one in words]).wer


def _judged(items: Sequence[Posteriors], words: list[list[Word]]) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of every word, and whether it is right."""
    confidences = [word.confidence for one in words for word in one]
    right = [
        value
        for item, one in zip(items, words, strict=True)
        for value in right_words(item.reference.split(), [word.text for word in one])
    ]
    return np.array(confidences), np.array(right, bool)


def _result(
    name: str, items: Sequence[Posteriors], info: ModelInfo, settings: DecodingSettings, lm: Source
) -> SetResult:
    words = decoded(info, settings, lm, items)
    confidences, right = _judged(items, words)
    bins = reliability(mapped(confidences, settings), right)
    by_greedy = [
        [
            word
            for segment in item.segments
            for word in build_words(info, greedy_tokens(segment.astype(np.float32), info.blank_id))
        ]
        for item in items
    ]
    greedy = word_errors([item.reference for item in items], [join_words(one) for one in by_greedy])
    return SetResult(
        name,
        greedy.words,
        greedy.wer,
        _wer(items, words),
        expected_error(reliability(confidences, right)),
        expected_error(bins),
        tuple(bins),
    )
