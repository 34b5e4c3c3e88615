"""Words of a sentence after a noise, in a stream and in a file.

    python -m benchmarks.accuracy.noise_before [--model NAME|PATH] [--json OUT]

The packaged recording at -25 dB follows white, pink or brown noise, synthetic music, or a sound like that of a vacuum
cleaner, each at -8 and -20 dB for 1, 3 and 10 s and with 0.5, 1 and 3 s of zeros between; and 2 s of silence or faint
noise. Levels are RMS relative to full scale. Words right are those of the sentence; extra words are recognised beside
them, most of them in the noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from benchmarks.streams import AFTER_S, RATE, stream_words
from lwasr_edge import Recognizer, load_audio
from lwasr_edge.bench.recordings import CLIP, TEXT_OF_CLIP
from lwasr_edge.wer import align_words

SENTENCE_DBFS = -25.0
LEVELS_DBFS = (-8.0, -20.0)
LENGTHS_S = (1.0, 3.0, 10.0)
GAPS_S = (0.5, 1.0, 3.0)
FAINT_DBFS = (-70.0, -60.0, -50.0)
ALONE = "the sentence alone"


@dataclass(frozen=True)
class Before:
    """What precedes the sentence."""

    name: str  # of the sound
    dbfs: float | None = None  # None: silence
    length_s: float = 0.0
    gap_s: float = 0.0  # of zeros, before the sentence

    @property
    def row(self) -> str:
        """The row of the table to which it belongs."""
        return self.name if self.dbfs is None else f"{self.name}, {self.dbfs:g} dB"

    def waveform(self) -> np.ndarray:
        """The sound and the gap, (N,) float32."""
        gap = np.zeros(round(self.gap_s * RATE), np.float32)
        if self.dbfs is None:
            return np.concatenate([np.zeros(round(self.length_s * RATE), np.float32), gap])
        return np.concatenate([at_level(SOUNDS[self.name](self.length_s), self.dbfs), gap])


def at_level(samples: np.ndarray, dbfs: float) -> np.ndarray:
    """Samples at a level, clipped at full scale, as float32."""
    scaled = samples / np.sqrt(np.mean(samples**2)) * 10 ** (dbfs / 20)
    return np.clip(scaled, -1, 1).astype(np.float32)


def coloured(seconds: float, exponent: float) -> np.ndarray:
    """Noise whose power falls with the frequency to the power of ``exponent``: 0 white, 1 pink, 2 brown."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(4).standard_normal(count))
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20.0)
    return np.fft.irfft(spectrum / frequencies ** (exponent / 2), count)


def music(seconds: float) -> np.ndarray:
    """Four chords of plucked notes with harmonics, two a second."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    chords = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7), (164.8, 207.7, 246.9))
    beat = (time_s * 2).astype(int)
    decay = np.exp(-3 * (time_s * 2 - beat))
    samples = np.zeros(len(time_s))
    for number, notes in enumerate(chords):
        tones = sum(np.sin(2 * np.pi * hz * n * time_s) / n**1.5 for hz in notes for n in range(1, 6))
        samples += np.where(beat % len(chords) == number, tones * decay, 0.0)
    return samples


def vacuum(seconds: float) -> np.ndarray:
    """A motor's harmonics of 110 Hz, slightly modulated, and the rush of air."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * 110 * time_s + 0.5 * np.sin(2 * np.pi * 3 * time_s)
    motor = sum(np.sin(n * phase) / n for n in range(1, 30))
    air = coloured(seconds, 1.0)
    return motor / np.std(motor) + 1.5 * air / np.std(air)


SOUNDS: dict[str, Callable[[float], np.ndarray]] = {
    "white noise": lambda seconds: coloured(seconds, 0.0),
    "pink noise": lambda seconds: coloured(seconds, 1.0),
    "brown noise": lambda seconds: coloured(seconds, 2.0),
    "music": music,
    "vacuum cleaner": vacuum,
}


def all_before() -> list[Before]:
    """Everything that is measured, the sentence alone first."""
    faint = [Before("white noise", dbfs, 2.0) for dbfs in FAINT_DBFS]
    loud = [
        Before(name, dbfs, length_s, gap_s)
        for name in SOUNDS
        for dbfs in LEVELS_DBFS
        for length_s in LENGTHS_S
        for gap_s in GAPS_S
    ]
    return [Before(ALONE), Before("2 s of silence", length_s=2.0), *faint, *loud]


def right_and_extra(expected: list[str], found: list[str]) -> tuple[int, int]:
    """Words of the sentence that were recognised, and other words."""
    right = sum(i is not None and j is not None and expected[i] == found[j] for i, j in align_words(expected, found))
    return right, len(found) - right


def measured(recognizer: Recognizer, sentence: np.ndarray, before: Before) -> dict[str, object]:
    """The words of a stream and of a file."""
    silence = np.zeros(round(AFTER_S * RATE), np.float32)
    samples = np.concatenate([before.waveform(), sentence, silence])
    ways = {"stream": stream_words(recognizer, [samples]), "file": recognizer.transcribe((samples, RATE)).words}
    result: dict[str, object] = {
        "row": before.row,
        "sound": before.name,
        "dbfs": before.dbfs,
        "length_s": before.length_s,
        "gap_s": before.gap_s,
    }
    for way, words in ways.items():
        right, extra = right_and_extra(TEXT_OF_CLIP.split(), [word.text for word in words])
        result[way] = {"right": right, "extra": extra}
    return result


def main() -> None:
    """Print the table, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or path (default: the default model)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    recognizer = Recognizer(args.model)
    sentence = at_level(load_audio(CLIP), SENTENCE_DBFS)
    figures = {
        "model": recognizer.info.name,
        "words": len(TEXT_OF_CLIP.split()),
        "sounds": [measured(recognizer, sentence, before) for before in all_before()],
    }
    print(section(write_json(args.json, figures)))


def section(figures: dict) -> str:
    """The figures as Markdown: one row for each sound and level, over its lengths and gaps."""
    rows = []
    for name in dict.fromkeys(sound["row"] for sound in figures["sounds"]):
        sounds = [sound for sound in figures["sounds"] if sound["row"] == name]
        cells = [cell for way in ("stream", "file") for cell in _cells(sound[way] for sound in sounds)]
        rows.append((name, str(len(sounds)), *cells))
    ways = [f"{way}: {kind}" for way in ("stream", "file") for kind in ("words right", "least", "extra")]
    return "\n".join(
        [
            f"{figures['model']}, a sentence of {figures['words']} words: means over lengths and gaps, and the least. "
            f"{provenance_line(figures)}",
            "",
            table(("before the sentence", "recordings", *ways), rows),
            "",
        ]
    )


def _cells(counts: Iterable[dict[str, int]]) -> tuple[str, str, str]:
    """Mean and least of the words right, mean of the extra ones."""
    known = list(counts)
    right = [count["right"] for count in known]
    extra = sum(count["extra"] for count in known) / len(known)
    return f"{sum(right) / len(right):.1f}", str(min(right)), f"{extra:.1f}"


if __name__ == "__main__":
    main()
