"""WER of recordings with noise mixed in, by signal-to-noise ratio.

    python -m benchmarks.accuracy.noisy --manifest ../shared/speech/librispeech-dev.jsonl \
        --noise ../shared/noise/noise-dev.jsonl [--model NAME] [--snr 20 --snr 10]

Each recording gets one clip of noise, drawn by its number, repeated to its length from a random start. The ratio is
that of the mean power of the recording to that of the noise. All models and ratios have the same mixtures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge import Recognizer, load_audio
from lwasr_edge.bench.manifest import evenly_spaced, read_manifest_lines
from lwasr_edge.bench.recordings import Recording, from_manifest
from lwasr_edge.hub.catalog import installed_models
from lwasr_edge.wer import normalize_text, word_errors

RATE = 16000
SNRS_DB = (20.0, 10.0, 5.0, 0.0)
SEED = 28


def mixed(speech: np.ndarray, noise: np.ndarray, snr_db: float, start: int) -> np.ndarray:
    """Speech with noise.

    Args:
        speech: (N,) float32.
        noise: (M,) float32, repeated to N samples.
        snr_db: ratio of the mean powers, dB.
        start: first sample of the noise.

    Returns:
        (N,) float32; scaled down where it would be beyond full scale.
    """
    cut = noise[(start + np.arange(len(speech))) % len(noise)]
    power = max(float(np.mean(cut**2)), 1e-12)
    total = speech + cut * np.float32(np.sqrt(np.mean(speech**2) / power) * 10 ** (-snr_db / 20))
    return (total / max(1.0, float(np.abs(total).max()))).astype(np.float32)


class Mixtures:
    """Recordings and the noise that each of them gets.

    Args:
        items: recordings.
        noises: paths of clips.
    """

    def __init__(self, items: tuple[Recording, ...], noises: list[Path]) -> None:
        rng = np.random.default_rng(SEED)
        self.speech = [load_audio(item.path) for item in items]
        clips = [load_audio(path) for path in noises]
        drawn = [clips[number] for number in rng.integers(len(clips), size=len(items))]
        self.noise = [(clip, int(rng.integers(len(clip)))) for clip in drawn]

    def at(self, snr_db: float | None) -> list[np.ndarray]:
        """The recordings at one ratio; None: without noise."""
        if snr_db is None:
            return self.speech
        return [
            mixed(speech, clip, snr_db, start) for speech, (clip, start) in zip(self.speech, self.noise, strict=True)
        ]


def rates(recognizer: Recognizer, waveforms: list[np.ndarray], references: list[str]) -> dict[str, float]:
    """WER by default and greedy."""
    greedy = recognizer.with_decoding(lm=None)
    ways = {"default": recognizer, "greedy": greedy}
    return {
        way: word_errors(references, [one.transcribe((waveform, RATE)).text for waveform in waveforms]).wer
        for way, one in ways.items()
    }


def main() -> None:
    """Print the table, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="recordings with transcripts")
    parser.add_argument("--noise", type=Path, required=True, help="manifest of noise")
    parser.add_argument("--limit", type=int, default=80, help="recordings (default: %(default)s)")
    parser.add_argument("--snr", type=float, action="append", help="dB; may be repeated (default: 20, 10, 5, 0)")
    parser.add_argument("--model", action="append", help="name or path; may be repeated (default: all installed)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    items = from_manifest(args.manifest, None).items
    if len(items) > args.limit:
        items = tuple(items[index] for index in evenly_spaced(len(items), args.limit, "down").tolist())
    mixtures = Mixtures(items, [entry.path for entry in read_manifest_lines(args.noise, required=("audio_filepath",))])
    references = [normalize_text(item.text or "") for item in items]
    models = []
    for name in args.model or [model.card.name for model in installed_models()]:
        recognizer = Recognizer(name)
        found = [
            {"snr_db": snr_db, "wer": rates(recognizer, mixtures.at(snr_db), references)}
            for snr_db in (None, *(args.snr or SNRS_DB))
        ]
        models.append({"model": recognizer.info.name, "rates": found})
    figures = {
        "manifest": args.manifest.name,
        "noise": args.noise.name,
        "recordings": len(items),
        "models": models,
    }
    print(section(write_json(args.json, figures)))


def section(figures: dict) -> str:
    """The figures as Markdown."""
    ratios = [one["snr_db"] for one in figures["models"][0]["rates"]]
    header = ["WER %", *("without noise" if ratio is None else f"{ratio:g} dB" for ratio in ratios)]
    rows = [
        (
            f"{model['model']}{', greedy' if way == 'greedy' else ''}",
            *(f"{100 * one['wer'][way]:.1f}" for one in model["rates"]),
        )
        for model in figures["models"]
        for way in ("default", "greedy")
    ]
    return "\n".join(
        [
            f"Files: {figures['recordings']} recordings of {figures['manifest']}, each with a clip of "
            f"{figures['noise']}, by the ratio of their mean powers. {provenance_line(figures)}",
            "",
            table(tuple(header), rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
