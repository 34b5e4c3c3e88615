"""F1 of full stops, question marks, commas and capitals on held-out text, and the time of a sentence.

    python -m benchmarks.accuracy.written TEXT... [--held-out TEXT...] [--json FILE]

Of TEXTs, the lines that `lwasr-train written` does not train on are measured; of --held-out files, which it was not
given, all lines. The tagger gets what a recogniser gives: words in lower case, numbers spelt out, no punctuation and no
pauses. Each file is measured twice:

    sentences     each line is an utterance, as most finals of a stream
    running text  lines in shuffled order are joined to texts of 100 words, without the pauses that speech has
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge.training.written.corpus import MEASURING, TUNING
from lwasr_edge.training.written.scores import TEXT_WORDS, score, texts
from lwasr_edge.training.written.sentences import Tagged, emphasised, read_lines, share_of, tag_line
from lwasr_edge.written.tagger import WEIGHTS, Tagger
from lwasr_edge.written.text import write_text

MAX_SENTENCES = 3000  # of each file
TIMED_WORDS = range(20, 31)  # of the sentences whose time is measured
MAX_TIMED = 200


def held_out_sentences(path: Path, *, is_held_out: bool) -> list[Tagged]:
    """Sentences of a file that were not trained on."""
    lines = read_lines(path)
    ordinary = emphasised(lines)
    chosen = (line for line in lines if is_held_out or TUNING <= share_of(line) < TUNING + MEASURING)
    return [sentence for line in chosen if (sentence := tag_line(line, ordinary))][:MAX_SENTENCES]


def sentence_times_ms(tagger: Tagger, sentences: list[Tagged]) -> list[float]:
    """Processor time of written text, with the rules for numbers, of each sentence of 20 to 30 words."""
    spoken = [" ".join(one.words) for one in sentences if len(one.words) in TIMED_WORDS][:MAX_TIMED]
    for text in spoken[:5]:
        write_text(text, tagger)
    times = []
    for text in spoken:
        began = time.process_time()
        write_text(text, tagger)
        times.append(1000 * (time.process_time() - began))
    return times


def measure(paths: list[Path], held_out: list[Path], weights: Path) -> dict[str, Any]:
    """The figures of every file."""
    tagger = Tagger.load(weights)
    files: dict[str, Any] = {}
    times: list[float] = []
    for path in (*paths, *held_out):
        sentences = held_out_sentences(path, is_held_out=path in held_out)
        times += sentence_times_ms(tagger, sentences)
        files[path.name.partition(".")[0]] = {
            "held_out": "file" if path in held_out else "lines",
            "sentences": len(sentences),
            "alone": {name: one.to_dict() for name, one in score(tagger, texts(sentences, n_words=1)).items()},
            "joined": {name: one.to_dict() for name, one in score(tagger, texts(sentences)).items()},
        }
    return {"bytes": weights.stat().st_size, "ms": round(statistics.median(times), 2), "files": files}


def render(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    header = ("file", "measured as", "sentences", "ends", "question marks", "commas", "capitals")
    rows = []
    for name, one in figures["files"].items():
        for mode, shown in (("alone", "sentences"), ("joined", "running text")):
            scores = [f"{one[mode][what]['f1']:.3f}" for what in ("ends", "question", "comma", "capital")]
            label = f"{name} (not trained on)" if one["held_out"] == "file" else name
            rows.append((label, shown, str(one["sentences"]), *scores))
    return "\n".join(
        [
            f"F1 on held-out text; {TEXT_WORDS} words of running text at a time. {figures['bytes'] / 1e6:.2f} MB, "
            f"{figures['ms']:.2f} ms for a sentence of {TIMED_WORDS[0]} to {TIMED_WORDS[-1]} words (median). "
            f"{provenance_line(figures)}",
            "",
            table(header, rows),
            "",
        ]
    )


def main() -> None:
    """Measure, print the table, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="files that lwasr-train written was given")
    parser.add_argument("--held-out", nargs="*", type=Path, default=[], metavar="TEXT", help="files that it was not")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="FILE", help="(default: the package's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    print(render(write_json(args.json, measure(args.texts, args.held_out, args.weights))))


if __name__ == "__main__":
    main()
