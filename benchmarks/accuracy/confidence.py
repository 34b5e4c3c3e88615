"""WER with and without the general language model, and how often words of a confidence are right.

    python -m benchmarks.accuracy.confidence --manifest ../shared/speech/librispeech-dev.jsonl [--manifest ...]

Files, as by `lwasr transcribe`. The expected calibration error is the mean distance between the confidence of a word
and the share of right words among those of similar confidence (tenths), by words (Naeini et al. 2015).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge import Recognizer
from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.bench.recordings import from_manifest
from lwasr_edge.hub.catalog import installed_models
from lwasr_edge.lm.calibration import expected_error, reliability, right_words
from lwasr_edge.wer import normalize_text, word_errors


def figures_of_set(recognizer: Recognizer, manifest: Path, limit: int) -> dict:
    """Error rates of one model on one set, and its reliability with the language model."""
    items = from_manifest(manifest, None).items
    if len(items) > limit:
        items = tuple(items[index] for index in evenly_spaced(len(items), limit, "down").tolist())
    references = [normalize_text(item.text or "") for item in items]
    greedy = recognizer.with_decoding(lm=None)
    found = [recognizer.transcribe(item.path) for item in items]
    confidences = np.array([word.confidence for transcript in found for word in transcript.words])
    right = [
        value
        for reference, transcript in zip(references, found, strict=True)
        for value in right_words(reference.split(), [word.text for word in transcript.words])
    ]
    bins = reliability(confidences, np.array(right, bool))
    counted = word_errors(references, [transcript.text for transcript in found])
    return {
        "set": manifest.stem,
        "recordings": len(items),
        "words": counted.words,
        "wer": counted.wer,
        "greedy_wer": word_errors(references, [greedy.transcribe(item.path).text for item in items]).wer,
        "calibration_error": expected_error(bins),
        "bins": [asdict(one) for one in bins],
    }


def main() -> None:
    """Print the figures, and write them with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, action="append", required=True, help="recordings with transcripts")
    parser.add_argument("--limit", type=int, default=80, help="recordings of each (default: %(default)s)")
    parser.add_argument("--model", action="append", help="name or path; may be repeated (default: all installed)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    models = []
    for name in args.model or [model.card.name for model in installed_models()]:
        recognizer = Recognizer(name)
        sets = [figures_of_set(recognizer, manifest, args.limit) for manifest in args.manifest]
        models.append({"model": recognizer.info.name, "sets": sets})
    print(section(write_json(args.json, {"models": models})))


def section(figures: dict) -> str:
    """The figures as Markdown."""
    rates = [
        (
            f"{model['model']}, {one['set']}",
            str(one["words"]),
            f"{100 * one['greedy_wer']:.2f}",
            f"{100 * one['wer']:.2f}",
            f"{one['calibration_error']:.3f}",
        )
        for model in figures["models"]
        for one in model["sets"]
    ]
    shares = [
        (
            f"{model['model']}, {one['set']}",
            str(group["words"]),
            f"{group['confidence']:.2f}",
            f"{group['right']:.2f}",
        )
        for model in figures["models"]
        for one in model["sets"]
        for group in one["bins"]
    ]
    header = ("model, set", "words", "WER %, greedy", "WER %, default", "calibration error")
    return "\n".join(
        [
            f"Files, greedy and by default. {provenance_line(figures)}",
            "",
            table(header, rates),
            "",
            "Words by tenths of their confidence:",
            "",
            table(("model, set", "words", "mean confidence", "share that is right"), shares),
            "",
        ]
    )


def plot(figures: dict, path: Path) -> str:
    """Share of right words by confidence: a calibrated model is on the diagonal."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    for model in figures["models"]:
        for one in model["sets"]:
            bins = [group for group in one["bins"] if group["words"] >= 5]
            label = f"{model['model']}, {one['set']}"
            axes.plot([group["confidence"] for group in bins], [group["right"] for group in bins], "o-", label=label)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of right words")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return "Share of right words by confidence"


if __name__ == "__main__":
    main()
