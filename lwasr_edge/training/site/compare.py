"""Compare the model before and after adaptation, as it will be used, on recordings that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lwasr_edge.decoding.phrases import PhraseList
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.site.intervals import difference, error_rate
from lwasr_edge.site.recognise import Measured, count_errors, transcribed
from lwasr_edge.site.reports.adapted import Compared
from lwasr_edge.site.word_list import DEFAULT_STRENGTH
from lwasr_edge.training.data.corpus import Corpus, decode_corpus
from lwasr_edge.training.site.choice import GENERAL, NOISE, SITE
from lwasr_edge.training.site.general import General, in_noise
from lwasr_edge.training.site.material import Material

SITE_LIST = "site_list"
KEPT, BETTER, FORGOT = "kept", "better", "forgot"


@dataclass(frozen=True)
class Item:
    """A recording to recognise, and the words that are said in it."""

    read: Callable[[Recognizer], str]  # what a recogniser makes of it
    words: list[str]


def held_out_sets(material: Material, general: General | None) -> dict[str, list[Item]]:
    """The recordings to compare on, by name of the set."""
    sets = {}
    if material.held_out:
        sets[SITE] = [_site_item(item) for item in material.held_out]
    if general is not None:
        clean = decode_corpus(general.held_out, quiet=True)[0]
        sets[GENERAL] = _items(clean)
        if material.held_out_noise:
            sets[NOISE] = _items(in_noise(clean, decode_corpus(material.held_out_noise, quiet=True)[0]))
    return {name: items for name, items in sets.items() if any(item.words for item in items)}


def _site_item(item: Measured) -> Item:
    return Item(lambda recognizer: transcribed(item.sample.audio(), recognizer), item.reference_words)


def _items(corpus: Corpus) -> list[Item]:
    def reader(index: int) -> Callable[[Recognizer], str]:
        return lambda recognizer: recognizer.transcribe(corpus.waveform(index), 16_000).text.lower()

    return [Item(reader(i), one.text.lower().split()) for i, one in enumerate(corpus.utterances)]


def recognise(
    sets: dict[str, list[Item]],
    recognizer: Recognizer,
    phrases: PhraseList | None,
    progress: Callable[[float], object],
    known: dict[str, list[int]] | None = None,
) -> dict[str, list[int]]:
    """Errors of each recording of each set; those of the site with the word list too, if there is one.

    Args:
        sets: from `held_out_sets`.
        recognizer: without phrases.
        phrases: the site's word list.
        progress: called with the share that is done.
        known: errors of sets that need not be recognised again.
    """
    known = known or {}
    runs = [(name, items, recognizer) for name, items in sets.items() if name not in known]
    if phrases is not None and SITE in sets:
        listed = recognizer.with_decoding(phrases=PhraseList(phrases.phrases, mode="bias", bonus=DEFAULT_STRENGTH))
        runs.append((SITE_LIST, sets[SITE], listed))
    total = sum(len(items) for _, items, _ in runs)
    done = 0
    found = dict(known)
    for name, items, used in runs:
        found[name] = []
        for item in items:
            found[name].append(count_errors(item.words, item.read(used).split()))
            done += 1
            progress(done / max(1, total))
    return found


def compare(sets: dict[str, list[Item]], before: dict[str, list[int]], after: dict[str, list[int]]) -> list[Compared]:
    """Both results as rates with a paired interval (a bootstrap over recordings).

    Args:
        sets: from `held_out_sets`.
        before, after: from `recognise`.
    """
    found = []
    for name, errors in before.items():
        words = [len(item.words) for item in sets[SITE if name == SITE_LIST else name]]
        low, high = difference(errors, after[name], words)
        found.append(Compared(name, error_rate(errors, words), error_rate(after[name], words), low, high))
    return found


def decide(comparisons: Sequence[Compared], max_general_loss: float) -> str:
    """`BETTER`, or why the model before is kept: `KEPT` where the gain may be chance, `FORGOT`.

    The word list is part of the test where there is one, as the site will use it. Where there are texts of the site,
    they decide; else its noise does.
    """
    by_name = {one.name: one for one in comparisons}
    decisive = next((by_name[name] for name in (SITE_LIST, SITE, NOISE) if name in by_name), None)
    if decisive is None or not decisive.is_better:
        return KEPT
    general = by_name.get(GENERAL)
    return FORGOT if general is not None and general.lost > max_general_loss else BETTER
