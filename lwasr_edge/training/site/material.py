"""What a site's folder has to train on: recordings with texts, speech without texts, and noise; and what is held out.

The recordings are read by `lwasr_edge.site`, as `lwasr site check` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lwasr_edge.errors import OptionError
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.site.folder import read_folder
from lwasr_edge.site.recognise import Measured, measure_samples, recognise_all, without_wrong_texts
from lwasr_edge.site.remark import Refused
from lwasr_edge.site.word_list import split
from lwasr_edge.training.data.manifest import Utterance

HELD_OUT_S = 900.0  # s of recordings with texts; more are trained on
MIN_HELD_OUT = 3  # recordings with texts
DEV_EVERY = 6  # one recording of six chooses when training ends
MAX_DEV = 40  # recordings
PIECE_S = 10.0  # s, of recordings without text
MIN_PIECE_S = 1.0
SHARED_S = 0.1  # that two parts of a recording may have in common: tools round
SPOKEN_WORDS_PER_S = 0.5  # recordings without text with fewer words are noise
MAX_NOISE_S = 2 * 3600.0  # s; 230 MB

Progress = Callable[[float, float], object]


@dataclass
class Material:
    """The recordings of a site; every one is in one list."""

    train: list[Measured] = field(default_factory=list)  # with texts
    dev: list[Measured] = field(default_factory=list)  # with texts, to choose when training ends
    held_out: list[Measured] = field(default_factory=list)  # with texts, to compare before and after; never trained on
    by_speaker: bool = False  # no speaker of `held_out` is trained on
    speech: list[Utterance] = field(default_factory=list)  # pieces of recordings without text
    noise: list[Utterance] = field(default_factory=list)  # pieces
    held_out_noise: list[Utterance] = field(default_factory=list)  # pieces, for the test in noise
    refused: list[Refused] = field(default_factory=list)

    @property
    def is_noise_only(self) -> bool:
        """Whether there are no texts to learn from: the model is compared in the site's noise."""
        return not self.train

    def minutes(self, kind: str) -> float:
        """Minutes of a list."""
        items = getattr(self, kind)
        return sum(i.sound.duration_s if isinstance(i, Measured) else i.duration_s for i in items) / 60


def read_material(
    folder: Path,
    recognizer: Recognizer,
    noise: Path | None = None,
    test: Path | None = None,
    progress: Progress | None = None,
) -> Material:
    """Read a folder, recognise its recordings with the model before adaptation, and divide them.

    Args:
        folder: see `lwasr_edge.site.folder.read_folder`.
        recognizer: of the model before adaptation.
        noise: a folder of noise besides that in `folder`; its texts are not read.
        test: a folder of recordings with texts to hold out, instead of a part of `folder`.
        progress: called with the seconds recognised and those in total.

    Raises:
        OptionError: no such folder, or too few recordings.
    """
    listing = read_folder(folder)
    measured, refused = measure_samples(listing.samples, recognizer)
    tests, refused_tests = ([], []) if test is None else measure_samples(read_folder(test).samples, recognizer)
    tests = [item for item in tests if item.text is not None]
    recognised, _ = recognise_all([*measured, *tests], recognizer, progress)
    kept, wrong = without_wrong_texts(recognised[: len(measured)])
    tests, wrong_tests = without_wrong_texts(recognised[len(measured) :])
    material = Material(refused=[*listing.refused, *refused, *wrong, *refused_tests, *wrong_tests])
    held_out = {item.sound.digest for item in tests}
    texts = [item for item in kept if item.text is not None and item.sound.digest not in held_out]
    _divide(material, texts, tests)
    loud = [item for item in kept if item.text is None]
    spoken = [item for item in loud if _is_speech(item)]
    material.speech = [piece for item in spoken for piece in pieces(item)]
    quiet = [item for item in loud if item not in spoken]
    if noise is not None:
        samples = [replace(sample, text=None) for sample in read_folder(noise).samples]
        more, bad = measure_samples(samples, recognizer)
        quiet += more
        material.refused += bad
    _divide_noise(material, quiet)
    if not material.train and not material.noise:
        raise OptionError(
            f"{folder} must have {2 * MIN_HELD_OUT} recordings with texts or more, or noise of the site, got "
            f"{len(texts)} with texts: write beside them what is said, or record the site without speech"
        )
    return material


def _divide(material: Material, texts: Sequence[Measured], tests: Sequence[Measured]) -> None:
    """Hold out every third speaker or recording, up to `HELD_OUT_S`, then one recording of `DEV_EVERY`."""
    rest = sorted(texts, key=lambda item: item.sample.name)
    if tests:
        material.held_out = list(tests)
        speakers = {item.sample.speaker for item in tests}
        material.by_speaker = "" not in speakers and not speakers & {item.sample.speaker for item in texts}
    elif len(texts) >= 2 * MIN_HELD_OUT:
        chosen, reported, material.by_speaker = split(texts)
        chosen = chosen or reported[::3]
        held_s, names = 0.0, set()
        speaker = ""
        for item in sorted(chosen, key=lambda one: (one.sample.speaker, one.sample.name)):
            if held_s >= HELD_OUT_S and not (material.by_speaker and item.sample.speaker == speaker):
                break
            held_s, speaker = held_s + item.sound.duration_s, item.sample.speaker
            names.add(item.sample.name)
        material.held_out = [item for item in rest if item.sample.name in names]
        rest = [item for item in rest if item.sample.name not in names and not _overlaps(item, material.held_out)]
    else:
        return
    if len(rest) < MIN_HELD_OUT:
        return
    every = max(DEV_EVERY, len(rest) // MAX_DEV)
    material.dev = rest[::every]
    material.train = [item for number, item in enumerate(rest) if number % every]


def _divide_noise(material: Material, recordings: Sequence[Measured]) -> None:
    """Every third recording of noise is for the test; of fewer than six, the last third of each."""
    for number, item in enumerate(sorted(recordings, key=lambda one: one.sample.name)):
        found = pieces(item)
        last = len(found) - len(found) // 3
        if len(recordings) >= 6:
            last = 0 if number % 3 == 2 else len(found)
        material.noise += found[:last]
        material.held_out_noise += found[last:]
    if not material.held_out_noise and len(material.noise) > 1:
        material.held_out_noise = [material.noise.pop()]
    kept_s = 0.0
    for number, piece in enumerate(material.noise):
        kept_s += piece.duration_s
        if kept_s > MAX_NOISE_S:
            material.noise = material.noise[:number]
            break


def _is_speech(item: Measured) -> bool:
    words = len(item.recognised.split())
    return item.sound.has_sound and words >= max(2.0, SPOKEN_WORDS_PER_S * item.sound.duration_s)


def pieces(item: Measured) -> list[Utterance]:
    """A recording as utterances of at most `PIECE_S`; an end shorter than `MIN_PIECE_S` is left out."""
    total_s, name, first_s = item.sound.duration_s, item.sample.name, _start_s(item) or 0.0
    if total_s <= PIECE_S:
        return [utterance(item)] if total_s >= MIN_PIECE_S else []
    count = int(total_s // PIECE_S) + (total_s % PIECE_S >= MIN_PIECE_S)
    starts = [number * PIECE_S for number in range(count)]
    return [
        Utterance(f"{name}@{start:g}", item.sample.path, min(PIECE_S, total_s - start), offset_s=first_s + start)
        for start in starts
    ]


def utterance(item: Measured) -> Utterance:
    """A recording with text as an utterance of training."""
    text = "" if item.text is None else item.text.spoken
    sample, duration_s = item.sample, item.sound.duration_s
    return Utterance(sample.name, sample.path, duration_s, text, sample.speaker, offset_s=_start_s(item))


def _start_s(item: Measured) -> float | None:
    """Where a part begins in its recording; None for a full recording."""
    return None if item.sample.part is None else item.sample.part.start_s


def _overlaps(item: Measured, others: Sequence[Measured]) -> bool:
    """Whether a part has sound of one of the other parts of its recording."""

    def span(one: Measured) -> tuple[float, float]:
        start_s = _start_s(one) or 0.0
        return start_s, start_s + one.sound.duration_s

    start_s, end_s = span(item)
    parts = [span(one) for one in others if one.sample.path == item.sample.path]
    return any(min(end_s, other_end_s) - max(start_s, other_s) > SHARED_S for other_s, other_end_s in parts)
