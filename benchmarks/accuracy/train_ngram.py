"""Train a small n-gram model on the transcripts of manifests, and write it in ARPA format.

    python -m benchmarks.accuracy.train_ngram -o words.arpa ../shared/speech/an4-train.jsonl [MANIFEST ...] [--order 3]

Interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999, section 4.1.6) with one discount for each
order, D = n1 / (n1 + 2 n2). Fast enough for tens of thousands of sentences; for more, use KenLM or SRILM, whose
files the SDK also reads.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lwasr_edge.bench.manifest import read_manifest_lines
from lwasr_edge.files import write_file
from lwasr_edge.wer import normalize_text

Gram = tuple[str, ...]


def count_grams(sentences: Iterable[list[str]], order: int) -> list[Counter[Gram]]:
    """Counts of the n-grams of each order; below the highest, the number of words that precede each.

    An n-gram at the beginning of a sentence has no predecessor, and keeps its plain count.
    """
    plain: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = ["<s>", *sentence, "</s>"]
        for n in range(1, order + 1):
            plain[n - 1].update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    counts = plain[order - 1 :]
    for n in range(order - 1, 0, -1):
        followed = Counter(gram[1:] for gram in plain[n])
        counts.insert(0, Counter({g: count if g[0] == "<s>" else followed[g] for g, count in plain[n - 1].items()}))
    del counts[0][("<s>",)]  # never predicted
    return counts


def kneser_ney(counts: list[Counter[Gram]]) -> list[dict[Gram, tuple[float, float]]]:
    """For each order: n-gram -> (probability, back-off weight)."""
    n_words = len(counts[0]) + 1  # and <unk>
    by_order: list[dict[Gram, float]] = []
    weight_after: dict[Gram, float] = {}
    for grams in counts:
        once, twice = (sum(count == k for count in grams.values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        totals: Counter[Gram] = Counter()
        for gram, count in grams.items():
            totals[gram[:-1]] += count
        kinds = Counter(gram[:-1] for gram in grams)
        weight_after |= {context: discount * kinds[context] / total for context, total in totals.items()}
        probabilities = {}
        for gram, count in grams.items():
            context, shorter = gram[:-1], by_order[-1][gram[1:]] if by_order else 1.0 / n_words
            probabilities[gram] = (count - discount) / totals[context] + weight_after[context] * shorter
        by_order.append(probabilities)
    by_order[0] |= {("<unk>",): weight_after[()] / n_words, ("<s>",): 0.0}
    return [{gram: (p, weight_after.get(gram, 1.0)) for gram, p in probs.items()} for probs in by_order]


def to_arpa(levels: list[dict[Gram, tuple[float, float]]]) -> str:
    """The ARPA file as text."""
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, 1)), ""]
    for n, level in enumerate(levels, 1):
        lines.append(f"\\{n}-grams:")
        for gram, (probability, rest) in sorted(level.items()):
            log10 = math.log10(probability) if probability else -99.0
            weight = f"\t{math.log10(rest):.5f}" if n < len(levels) and rest != 1.0 else ""
            lines.append(f"{log10:.5f}\t{' '.join(gram)}{weight}")
        lines.append("")
    return "\n".join([*lines, "\\end\\", ""])


def train_arpa(manifests: Iterable[Path], order: int) -> str:
    """ARPA text for the transcripts of manifests."""
    entries = [entry for path in manifests for entry in read_manifest_lines(path, required=("audio_filepath", "text"))]
    return to_arpa(kneser_ney(count_grams([normalize_text(entry.text).split() for entry in entries], order)))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path, help="with transcripts")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="ARPA file to write")
    parser.add_argument("--order", type=int, choices=range(1, 6), default=3, help="of the n-grams (default: 3)")
    args = parser.parse_args()
    write_file(args.output, train_arpa(args.manifests, args.order))


if __name__ == "__main__":
    main()
