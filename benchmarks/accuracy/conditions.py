"""WER of a stream under conditions of a microphone: other levels, a level that changes, long pauses, noise.

    python -m benchmarks.accuracy.conditions --manifest ../shared/speech/librispeech-dev.jsonl [--limit 40]

"Separate streams": each recording has a stream of its own. "In one stream": the recordings follow each other in one
stream, separated by pauses; a word belongs to the recording that contains its middle. Noise is white, its level in dB
relative to full scale (RMS). The last line counts words recognised in noise without speech.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from benchmarks.streams import RATE, stream_words
from lwasr_edge import Recognizer, load_audio
from lwasr_edge.bench.recordings import from_manifest
from lwasr_edge.chunking import STREAM_HOP_MS
from lwasr_edge.wer import word_errors
from lwasr_edge.words import join_words

NOISE_DBFS = (-60, -50, -40, -30)
NOISE_S = 60.0


@dataclass(frozen=True)
class Condition:
    """Changes to the recordings, which are given in one stream."""

    name: str
    gains_db: tuple[float, ...] = (0.0,)  # of the recordings in turn, repeated
    halves: bool = False  # use the gains for the first and the second half instead
    pause_s: float = 1.0
    noise_dbfs: float | None = None  # of the pauses; None: digital silence

    def gain(self, index: int, count: int) -> float:
        """Factor for one recording of several."""
        turn = (2 * index) // count if self.halves else index % len(self.gains_db)
        return 10 ** (self.gains_db[turn] / 20)


CONDITIONS = (
    Condition("1 s of silence between"),
    Condition("every other recording 20 dB down", gains_db=(0.0, -20.0)),
    Condition("20 dB down from the middle on", gains_db=(0.0, -20.0), halves=True),
    Condition("20 dB up from the middle on", gains_db=(-20.0, 0.0), halves=True),
    Condition("60 s of silence between", pause_s=60.0),
    Condition("60 s of noise at -50 dB between", pause_s=60.0, noise_dbfs=-50.0),
)


def noise(seconds: float, dbfs: float, seed: int = 0) -> np.ndarray:
    """White noise, (N,) float32."""
    return np.random.default_rng(seed).normal(0, 10 ** (dbfs / 20), round(seconds * RATE)).astype(np.float32)


def texts_in_one_stream(
    recognizer: Recognizer, waveforms: Sequence[np.ndarray], condition: Condition, hop_ms: float
) -> list[str]:
    """The texts of recordings that are given to one stream."""
    parts, starts_s, at = [], [], 0
    for index, waveform in enumerate(waveforms):
        gap = np.zeros(round(condition.pause_s * RATE), np.float32)
        if condition.noise_dbfs is not None:
            gap = noise(condition.pause_s, condition.noise_dbfs, seed=index)
        starts_s.append(at / RATE)
        parts += [waveform * np.float32(condition.gain(index, len(waveforms))), gap]
        at += len(waveform) + len(gap)
    texts: list[list[str]] = [[] for _ in waveforms]
    for word in stream_words(recognizer, parts, hop_ms):
        texts[np.searchsorted(starts_s[1:], (word.start_s + word.end_s) / 2, side="right")].append(word.text)
    return [" ".join(words) for words in texts]


def main() -> None:
    """Print the figures, and write them with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="recordings with transcripts")
    parser.add_argument("--limit", type=int, default=40, help="recordings (default: 40)")
    parser.add_argument("--model", help="name or path (default: the default model)")
    parser.add_argument("--hop-ms", type=float, default=STREAM_HOP_MS, help="of the stream (default: %(default)g)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    items = from_manifest(args.manifest, args.limit).items
    recognizer = Recognizer(args.model)
    waveforms = [load_audio(item.path) for item in items]
    texts = [item.text or "" for item in items]
    rows = {}
    for gain_db in (0, -20, -40, 10):
        scaled = [waveform * np.float32(10 ** (gain_db / 20)) for waveform in waveforms]
        found = [join_words(stream_words(recognizer, [waveform], args.hop_ms)) for waveform in scaled]
        rows[f"separate streams, {gain_db:+d} dB"] = word_errors(texts, found).wer
    for condition in CONDITIONS:
        found = texts_in_one_stream(recognizer, waveforms, condition, args.hop_ms)
        rows[f"in one stream, {condition.name}"] = word_errors(texts, found).wer
    invented = {f"{dbfs} dB": len(stream_words(recognizer, [noise(NOISE_S, dbfs)], args.hop_ms)) for dbfs in NOISE_DBFS}
    figures = {
        "model": recognizer.info.name,
        "manifest": args.manifest.name,
        "recordings": len(items),
        "hop_ms": args.hop_ms,
        "wer": rows,
        "words_in_a_minute_of_noise": invented,
    }
    print(section(write_json(args.json, figures)))


def section(figures: dict) -> str:
    """The figures as Markdown."""
    counts = ", ".join(f"{count} at {level}" for level, count in figures["words_in_a_minute_of_noise"].items())
    return "\n".join(
        [
            f"{figures['model']} in a stream with a hop of {figures['hop_ms']:g} ms, {figures['recordings']} "
            f"recordings of {figures['manifest']}. {provenance_line(figures)}",
            "",
            table(("condition", "WER"), [(name, f"{100 * wer:.2f} %") for name, wer in figures["wer"].items()]),
            "",
            f"Words recognised in a minute of white noise: {counts}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
