"""Accuracy and cost of phrase lists, beam search and language models on real speech.

    python -m benchmarks.accuracy.phrases [--model NAME|PATH ...] [--speech ../shared/speech] [--stream]

The model runs once per recording; each decoder gets the posteriors of its utterances: the parts of a file, or with
--stream those of the finals of a stream that gets the recording in one go. Recordings of single words and of
other speech measure how often a phrase list accepts phrases on it, and other speech:

    an4-test         spelled names, numbers, control words; the words of an4-train are the phrases
    fsdd-test        single digits
    commonvoice-dev  sentences; every phrase accepted is a false alarm

N-grams are trained on transcripts of training sets, in memory (benchmarks/accuracy/train_ngram.py).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.train_ngram import train_arpa
from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import CHECKOUT, write_json
from benchmarks.streams import AFTER_S, RATE
from lwasr_edge import Final, LanguageModel, ModelInfo, PhraseList, Recognizer, load_audio
from lwasr_edge.bench.manifest import ManifestEntry, read_manifest_lines
from lwasr_edge.decoding.alternatives import Alternative
from lwasr_edge.decoding.decoder import Decoded, Decoder, make_decoder
from lwasr_edge.decoding.ngram import NGram
from lwasr_edge.wer import word_errors

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COMMANDS = [
    f"{verb} {thing} {room}".strip()
    for verb in ("switch on", "switch off", "dim")
    for thing in ("the lights", "the lamp", "the heating")
    for room in ("", "in the kitchen", "in the bedroom", "in the hall")
] + ["stop", "help", "louder", "quieter", "what time is it", "set a timer", "cancel", "next song"]
GREEDY = "greedy"
ONE_DIGIT, LOW_DIGITS, HIGH_DIGITS = "one of 10 digits", "one of 0 to 4", "one of 5 to 9"
GENERAL_TEXTS = ("librispeech-train", "commonvoice-train", "kathleen-train")
COLUMNS = {"wer": "WER %", "right": "right %", "wrong": "wrong %", "nothing": "rejected %"}
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass
class Hypotheses:
    """Results of one decoder on one set."""

    texts: list[str] = field(default_factory=list)  # of each recording
    confidences: list[float] = field(default_factory=list)  # of the most probable phrase
    seconds: float = 0.0


class Keeper:
    """A decoder that keeps the posteriors of utterances; their number is the text of the alternative it returns.

    A stream may decode an utterance several times before it is certain of its end: the `Final` has the number of the
    posteriors that count.
    """

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def decode(self, log_probs: np.ndarray) -> Decoded:
        self.kept.append(log_probs)
        return Decoded([], (Alternative(str(len(self.kept) - 1), 0.0, 1.0),), None)


def utterances_of(recognizer: Recognizer, waveform: np.ndarray, *, as_stream: bool) -> list[np.ndarray]:
    """The posteriors of each utterance of a recording."""
    keeper = Keeper()
    keeping = recognizer.with_decoder(keeper)
    if not as_stream:
        keeping.transcribe((waveform, RATE))
        return keeper.kept
    with keeping.stream(RATE) as stream:
        events = stream.accept(waveform) + stream.accept(np.zeros(round(AFTER_S * RATE), np.float32)) + stream.flush()
    finals = [event for event in events if isinstance(event, Final)]
    return [keeper.kept[int(final.alternatives[0].text)] for final in finals if final.alternatives]


class Recorder:
    """Runs decoders and keeps their results; the texts of a recording's utterances are joined."""

    def __init__(self, info: ModelInfo, decoders: dict[str, Decoder]) -> None:
        self._info = info
        self._decoders = decoders
        self.results = {name: Hypotheses() for name in (GREEDY, *decoders)}

    def begin(self) -> None:
        """Start a new recording."""
        for found in self.results.values():
            found.texts.append("")
            found.confidences.append(0.0)

    def add(self, log_probs: np.ndarray) -> None:
        """Decode the next utterance."""
        for name, decoder in self._decoders.items():
            start = time.process_time()
            decoded = decoder.decode(log_probs)
            self.results[name].seconds += time.process_time() - start
            self._keep(self.results[name], [token.token for token in decoded.tokens])
            phrase = max((a.confidence for a in decoded.alternatives if a.text), default=0.0)
            self.results[name].confidences[-1] = max(self.results[name].confidences[-1], phrase)
        best = log_probs.argmax(axis=1)
        is_new = (best != self._info.blank_id) & (np.diff(best, prepend=self._info.blank_id) != 0)
        self._keep(self.results[GREEDY], best[is_new].tolist())

    def _keep(self, found: Hypotheses, tokens: list[int]) -> None:
        pieces = "".join(self._info.vocabulary[token] for token in tokens)
        found.texts[-1] = " ".join((found.texts[-1] + pieces).replace("\u2581", " ").split())


def read_manifest(speech: Path, name: str) -> list[ManifestEntry]:
    return read_manifest_lines(speech / f"{name}.jsonl", required=("audio_filepath", "text"))


def train(speech: Path, *names: str) -> NGram:
    """A trigram model of the transcripts of sets."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "words.arpa")
        path.write_text(train_arpa([speech / f"{name}.jsonl" for name in names], order=3), encoding="utf-8")
        return NGram.read(path)


def make_decoders(info: ModelInfo, speech: Path) -> dict[str, dict[str, Decoder]]:
    """The decoders for each set, in addition to greedy decoding."""
    words = sorted({word for entry in read_manifest(speech, "an4-train") for word in entry.text.split()})
    an4 = LanguageModel(train(speech, "an4-train"))
    general = LanguageModel(train(speech, *GENERAL_TEXTS))
    options: dict[str, dict[str, dict[str, Any]]] = {
        "an4-test": {
            "beam 8": {"beam": 8},
            "beam 8, trigram of an4-train": {"beam": 8, "lm": an4},
            f"{len(words)} words biased": {"phrases": PhraseList(words, "bias")},
            f"sequence of {len(words)} words": {"phrases": PhraseList(words, "sequence")},
            f"sequence of {len(words)} words, trigram": {"phrases": PhraseList(words, "sequence"), "lm": an4},
        },
        "fsdd-test": {
            "beam 8": {"beam": 8},
            "10 digits biased": {"phrases": PhraseList(DIGITS, "bias")},
            ONE_DIGIT: {"phrases": DIGITS},
            "one of 10 digits, none rejected": {"phrases": PhraseList(DIGITS, min_confidence=0.0)},
            LOW_DIGITS: {"phrases": DIGITS[:5]},
            HIGH_DIGITS: {"phrases": DIGITS[5:]},
        },
        "commonvoice-dev": {
            "beam 8": {"beam": 8},
            "beam 8, trigram of general texts": {"beam": 8, "lm": general},
            "10 digits biased": {"phrases": PhraseList(DIGITS, "bias")},
            ONE_DIGIT: {"phrases": DIGITS},
            f"one of {len(COMMANDS)} commands": {"phrases": COMMANDS},
            f"sequence of {len(words)} words": {"phrases": PhraseList(words, "sequence")},
        },
    }
    return {
        name: {decoding: make_decoder(info, **of_decoder) for decoding, of_decoder in of_set.items()}
        for name, of_set in options.items()
    }


@dataclass
class SetResult:
    """A set with the results of all its decoders."""

    name: str
    references: list[str]
    audio_s: float
    hypotheses: dict[str, Hypotheses]


def decode_set(
    recognizer: Recognizer, speech: Path, name: str, decoders: dict[str, Decoder], *, as_stream: bool
) -> SetResult:
    """Run the model and every decoder on a set."""
    entries = read_manifest(speech, name)
    recorder = Recorder(recognizer.info, decoders)
    audio_s = 0.0
    for entry in entries:
        recorder.begin()
        waveform = load_audio(entry.path)
        audio_s += len(waveform) / RATE
        for log_probs in utterances_of(recognizer, waveform, as_stream=as_stream):
            recorder.add(log_probs)
    return SetResult(name, [entry.text for entry in entries], audio_s, recorder.results)


def figures_of(result: SetResult) -> list[dict[str, Any]]:
    """A row for each decoder of a set."""
    count = len(result.references)
    rows = []
    for decoding, found in result.hypotheses.items():
        pairs = list(zip(result.references, found.texts, strict=True))
        rows.append(
            {
                "set": result.name,
                "decoding": decoding,
                "wer": word_errors(result.references, found.texts).wer,
                "right": sum(reference == text for reference, text in pairs) / count,
                "wrong": sum(bool(text) and reference != text for reference, text in pairs) / count,
                "nothing": sum(not text for text in found.texts) / count,
                "decoding_s_per_s": found.seconds / result.audio_s,
            }
        )
    return rows


def thresholds(digits: SetResult, other: SetResult) -> list[dict[str, float]]:
    """Rates by `min_confidence`: digits rejected, digits off the list accepted, and sentences accepted as a digit."""
    all_ten, low, high = (digits.hypotheses[name].confidences for name in (ONE_DIGIT, LOW_DIGITS, HIGH_DIGITS))
    is_low = [DIGITS.index(text) < 5 for text in digits.references]
    absent = [
        five_up if is_small else under_five for is_small, under_five, five_up in zip(is_low, low, high, strict=True)
    ]
    sentences = other.hypotheses[ONE_DIGIT].confidences
    return [
        {
            "min_confidence": threshold,
            "digits_rejected": float(np.mean(np.array(all_ten) < threshold)),
            "absent_digits_accepted": float(np.mean(np.array(absent) >= threshold)),
            "sentences_accepted": float(np.mean(np.array(sentences) >= threshold)),
        }
        for threshold in THRESHOLDS
    ]


def figures_of_model(recognizer: Recognizer, speech: Path, *, as_stream: bool) -> dict[str, Any]:
    """Every set with every decoder, by one model."""
    info = recognizer.info
    decoders = make_decoders(info, speech)
    results = {
        name: decode_set(recognizer, speech, name, of_set, as_stream=as_stream) for name, of_set in decoders.items()
    }
    return {
        "model": info.name,
        "source": info.source,
        "precision": info.precision,
        "rows": [row for result in results.values() for row in figures_of(result)],
        "thresholds": thresholds(results["fsdd-test"], results["commonvoice-dev"]),
    }


def render(figures: dict[str, Any]) -> str:
    """The tables of every model as Markdown, one per set."""
    tables = [text for model in figures["models"] for text in (f"**{model['model']}**", *tables_of(model))]
    return "\n\n".join([*tables, provenance_line(figures)])


def tables_of(model: dict[str, Any]) -> list[str]:
    """One table per set, and one of thresholds."""
    tables = []
    for name in dict.fromkeys(row["set"] for row in model["rows"]):
        of_set = [row for row in model["rows"] if row["set"] == name]
        percent = [[row["decoding"], *(f"{100 * row[key]:.1f}" for key in COLUMNS)] for row in of_set]
        times = [f"{1000 * row['decoding_s_per_s']:.0f}" for row in of_set]
        header = [name, *COLUMNS.values(), "CPU ms per s of audio"]
        tables.append(table(header, [[*cells, cost] for cells, cost in zip(percent, times, strict=True)]))
    header = ["min_confidence", "digits rejected %", "absent digits accepted %", "sentences accepted %"]
    rows = [
        [f"{row.pop('min_confidence'):.1f}", *(f"{100 * share:.1f}" for share in row.values())]
        for row in map(dict, model["thresholds"])
    ]
    return [*tables, table(header, rows)]


def main() -> None:
    """Measure, print the tables, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", action="append", metavar="NAME|PATH", help="may be repeated (default: the default model)"
    )
    parser.add_argument(
        "--speech", type=Path, default=CHECKOUT.parent / "shared" / "speech", metavar="DIR", help="with manifests"
    )
    parser.add_argument("--stream", action="store_true", help="recognise in streams (default: as files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    models = [figures_of_model(Recognizer(name), args.speech, as_stream=args.stream) for name in args.model or [None]]
    mode = "streams" if args.stream else "files"
    print(render(write_json(args.json, {"mode": mode, "models": models})))


if __name__ == "__main__":
    main()
