"""General speech that is mixed in, so that nothing is forgotten; and what of it is held out to measure that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lwasr_edge.errors import ManifestError
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.data.manifest import Utterance, read_manifest

MAX_UTTERANCE_S = 16.0  # the longest decides how much memory a step takes
N_DEV = 72
N_HELD_OUT = 100
SEED = 1
SNR_DB = (0.0, 10.0)  # of the test in noise


@dataclass(frozen=True)
class General:
    """Utterances of general speech with texts; no utterance is in two lists, and no speaker where many are known."""

    train: list[Utterance]
    dev: list[Utterance]
    held_out: list[Utterance]


def read_general(manifests: Sequence[Path], train_s: float) -> General:
    """Read manifests, and choose at most ``train_s`` seconds to train on.

    Raises:
        ManifestError: a manifest cannot be read, or there are too few utterances with texts.
    """
    found: list[Utterance] = []
    for number, path in enumerate(manifests):
        for one in read_manifest(path):
            if one.text.strip() and 0.5 <= one.duration_s <= MAX_UTTERANCE_S:
                found.append(replace(one, id=f"general {number}: {one.id}", speaker=one.speaker or one.id))
    if len(found) < 10:
        raise ManifestError(
            f"--general must have 10 utterances with texts of {MAX_UTTERANCE_S:g} s or less, got {len(found)}: add some"
        )
    order = np.random.default_rng(SEED).permutation(len(found))
    found = [found[index] for index in order]
    speakers = list(dict.fromkeys(one.speaker for one in found))
    n_test = min(N_DEV + N_HELD_OUT, len(found) // 2)
    tests, rest = found[:n_test], found[n_test:]
    if len(speakers) >= 10:
        chosen = set(speakers[: max(2, len(speakers) // 5)])
        tests = [one for one in found if one.speaker in chosen][: N_DEV + N_HELD_OUT]
        rest = [one for one in found if one.speaker not in chosen]
    n_dev = min(N_DEV, len(tests) // 3)
    ends = np.cumsum([one.duration_s for one in rest])
    train = rest[: int(np.searchsorted(ends, train_s)) + 1]
    return General(train, tests[:n_dev], tests[n_dev:])


def in_noise(speech: Corpus, noise: Corpus, seed: int = 7) -> Corpus:
    """A corpus with noise added to each utterance, at its own ratio within `SNR_DB`; the same in every run."""
    random = np.random.default_rng(seed)
    samples = []
    for index in range(len(speech.utterances)):
        waveform = speech.waveform(index)
        background = np.resize(noise.waveform(int(random.integers(len(noise.utterances)))), len(waveform))
        power, noise_power = np.square(waveform).mean(), np.square(background).mean() + 1e-9
        mixed = waveform + background * np.sqrt(power / noise_power) * 10 ** (-random.uniform(*SNR_DB) / 20)
        mixed = mixed / max(1.0, float(np.abs(mixed).max()))
        samples.append(np.round(mixed * 32767).astype(np.int16))
    lengths = np.array([len(one) for one in samples], np.int64)
    return Corpus(speech.utterances, np.concatenate(samples), np.cumsum(lengths) - lengths, lengths)
