"""Batches and augmentation of this project compared with lhotse's, over the training sets of ../shared/speech.

    python -m benchmarks.training.data [--speech ../shared/speech] [--noise ../shared/noise] [--repeat 1]

Batches: the share of padding, the longest batch, and the CPU time to make those of an epoch. Augmentation: seconds of
audio per second of CPU time, on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.dataset import DynamicBucketingSampler, cut_transforms

from benchmarks.page.markdown import table
from benchmarks.page.provenance import CHECKOUT
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.batches import Batches, WaveformStore
from lwasr_edge.training.data.corpus import Corpus, load_corpus, read_audio_folder
from lwasr_edge.training.data.manifest import Utterance, read_manifest

RATE = 16_000
NONE = {"speeds": (1.0,), "pause_probability": 0.0, "noise_probability": 0.0, "room_probability": 0.0}


def named_cuts(lengths: np.ndarray) -> CutSet:
    """Cuts of these lengths (samples) whose ids are their indices; no audio is read to make batches."""

    def cut(index: int, n: int) -> MonoCut:
        source = AudioSource("file", [0], "none.wav")
        recording = Recording(str(index), [source], RATE, n, n / RATE)
        return MonoCut(str(index), start=0, duration=n / RATE, channel=0, recording=recording)

    return CutSet.from_cuts(cut(index, int(n)) for index, n in enumerate(lengths))


def batch_row(name: str, batch_s: float, lengths: np.ndarray, make: Callable[[], list[np.ndarray]]) -> list[str]:
    """Make an epoch's batches and measure them."""
    began = time.process_time()
    batches = make()
    took_s = time.process_time() - began
    padded = [int(lengths[batch].max()) * len(batch) for batch in batches]
    padding = 1 - sum(int(lengths[batch].sum()) for batch in batches) / sum(padded)
    return [f"{batch_s:g}", name, f"{100 * padding:.1f}", f"{max(padded) / RATE:.1f}", f"{took_s:.2f}"]


def compare_batches(utterances: list[Utterance]) -> str:
    """The table of batches."""
    lengths = np.array([round(utterance.duration_s * RATE) for utterance in utterances])
    corpus = Corpus(utterances, np.zeros(0, np.int16), np.cumsum(lengths) - lengths, lengths)
    cuts, rows = named_cuts(lengths), []
    for batch_s in (40.0, 120.0):
        ours = Batches(corpus, batch_s, seed=1)
        rows.append(batch_row("Batches", batch_s, lengths, lambda ours=ours: ours.epoch(0)))
        for n_buckets in (10, 30):
            sampler = DynamicBucketingSampler(
                cuts, max_duration=batch_s, num_buckets=n_buckets, shuffle=True, seed=1, buffer_size=20_000
            )

            def theirs(sampler: Any = sampler) -> list[np.ndarray]:
                return [np.array([int(cut.id) for cut in batch]) for batch in sampler]

            rows.append(batch_row(f"lhotse, {n_buckets} buckets", batch_s, lengths, theirs))
    return table(["target, s", "batches by", "padding, %", "longest batch, s", "epoch, s"], rows)


def in_memory(utterances: Iterable[Utterance], corpus: Corpus, folder: Path) -> CutSet:
    """The audio of the corpus as cuts in memory."""

    def cut(utterance: Utterance, start: int, n: int) -> MonoCut:
        path = folder / f"{start}.wav"
        soundfile.write(path, corpus.samples[start : start + n], RATE)
        return Recording.from_file(path, recording_id=utterance.id).move_to_memory().to_cut()

    return CutSet.from_cuts(map(cut, utterances, corpus.starts.tolist(), corpus.lengths.tolist()))


def compare_augmentation(speech: Corpus, noise: Corpus) -> str:
    """The table of augmentation."""
    torch.set_num_threads(1)
    store, background = WaveformStore(speech, torch.device("cpu")), torch.from_numpy(noise.samples)
    total_s = float(speech.lengths.sum()) / RATE
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        cuts = in_memory(speech.utterances, speech, Path(one))
        noises = in_memory(noise.utterances, noise, Path(other))

    def ours(**settings: Any) -> str:
        augmenter = Augmenter(AugmentConfig(**settings), background)
        began = time.process_time()
        for indices in Batches(speech, 40, seed=1).epoch(0):
            batch = store.batch(indices)
            augmenter.for_student(*augmenter.for_both(batch.waveform, batch.n_samples))
        return f"{total_s / (time.process_time() - began):.0f}"

    def theirs(transform: Callable[[CutSet], CutSet]) -> str:
        began = time.process_time()
        try:
            for cut in transform(cuts):
                cut.load_audio()
        except RuntimeError as error:
            return "needs torchaudio" if "install torchaudio" in str(error) else "fails"
        return f"{total_s / (time.process_time() - began):.0f}"

    mix = cut_transforms.CutMix(noises, snr=(0, 30), p=1.0, seed=1)
    room = cut_transforms.ReverbWithImpulseResponse(p=1.0)
    rows = [
        ["speed", ours(**NONE | {"speeds": (0.9, 1.1)}), theirs(cut_transforms.PerturbSpeed([0.9, 1.1], p=1.0))],
        ["noise", ours(**NONE | {"noise_probability": 1.0}), theirs(mix)],
        ["reverberation", ours(**NONE | {"room_probability": 1.0}), theirs(room)],
        ["all, with default probabilities", ours(), ""],
    ]
    return table(["augmentation (ours: with gain)", "ours, audio s / s", "lhotse, audio s / s"], rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = CHECKOUT.parent / "shared"
    parser.add_argument("--speech", type=Path, default=shared / "speech", help="default: %(default)s")
    parser.add_argument("--noise", type=Path, default=shared / "noise", help="default: %(default)s")
    parser.add_argument("--repeat", type=int, default=1, help="of the training sets, to simulate a larger corpus")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    train = [utterance for path in sorted(args.speech.glob("*-train.jsonl")) for utterance in read_manifest(path)]
    print(f"{len(train) * args.repeat} utterances\n\n{compare_batches(train * args.repeat)}\n")
    dev = read_manifest(args.speech / "librispeech-dev.jsonl")[:120]
    print(compare_augmentation(load_corpus(dev), load_corpus(read_audio_folder(args.noise))))


if __name__ == "__main__":
    main()
