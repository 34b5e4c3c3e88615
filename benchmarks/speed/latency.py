"""Latency: from the end of a word to its display, and from the end of an utterance to its final text.

    python -m benchmarks.speed.latency --manifest ../shared/speech/librispeech-dev.jsonl --limit 40 [--model NAME|PATH]

Each recording is fed to a stream in blocks of 20 ms, followed by two seconds of silence, in simulated real time: the
time of an event is the end of the block that caused it, plus the processing time, plus the remaining work on earlier
blocks. Only the processing time is measured, so the figures are those of a microphone without its driver. One row is
one hop and one right context.

* word: from the end of its sound to the first event that shows the word in its final form. The end of the sound is that
  of the same word when the same model transcribes the file. A word that is recognised before its sound ends has a
  negative latency.
* words changed: edits (changed, removed or inserted words) of what was already shown, per word of the final text.
  Adding words at the end is no edit. The change from the last partial to the final counts.
* final text: after the endpoint rule (the default 0.8 s of silence, which is subtracted), or after the caller's flush
  at the end of speech (push to talk). Speech ends with the last 10 ms of a recording within 30 dB of its loud parts:
  the recordings must be clean (LibriSpeech is).
* processor time: of all blocks of the recording and the silence after it, per second of the recording.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from benchmarks.streams import RATE
from lwasr_edge import EndpointRules, Final, Recognizer, Word, load_audio
from lwasr_edge.bench.recordings import CLIP, from_manifest
from lwasr_edge.bench.results import Latency
from lwasr_edge.chunking import STREAM_HOP_MS, STREAM_RIGHT_CONTEXT_MS
from lwasr_edge.wer import align_words, word_errors

BLOCK = 320  # samples: 20 ms, as sound cards deliver
SILENCE_S = 2.0  # after each recording
SPEECH_RANGE_DB = 30.0
LATENCIES = ("word", "final_by_endpoint", "final_by_flush")


@dataclass(frozen=True)
class Setting:
    """Options of a stream."""

    hop_ms: float
    right_context_ms: float

    def __str__(self) -> str:
        is_default = self == DEFAULT
        return f"{self.hop_ms:g} / {self.right_context_ms:g} ms" + " (default)" * is_default


DEFAULT = Setting(STREAM_HOP_MS, STREAM_RIGHT_CONTEXT_MS)
SETTINGS = (
    *(Setting(hop_ms, STREAM_RIGHT_CONTEXT_MS) for hop_ms in (80.0, 160.0, 320.0, 640.0)),
    *(Setting(STREAM_HOP_MS, right_context_ms) for right_context_ms in (320.0, 960.0, 1280.0)),
)


@dataclass(frozen=True)
class Shown:
    """One event as the user sees it."""

    at_s: float  # in simulated real time
    words: tuple[Word, ...]  # all of the recording so far
    is_final: bool


@dataclass
class Latencies:
    """Measurements with one setting, over all recordings; times in seconds."""

    word: list[float] = field(default_factory=list)
    final_by_endpoint: list[float] = field(default_factory=list)
    final_by_flush: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    words_changed: int = 0
    final_words: int = 0
    cpu_s: float = 0.0
    speech_s: float = 0.0


def play(recognizer: Recognizer, waveform: np.ndarray, setting: Setting) -> Iterator[Shown]:
    """Feed a recording to a stream with the default endpoint rules; flush at its end.

    Args:
        recognizer: opens the stream.
        waveform: (N,) float32 at 16 kHz.
        setting: of the stream.
    """
    free_at_s = 0.0
    before: tuple[Word, ...] = ()
    with recognizer.stream(RATE, hop_ms=setting.hop_ms, right_context_ms=setting.right_context_ms) as stream:
        for start in range(0, len(waveform) + 1, BLOCK):
            block = waveform[start : start + BLOCK]
            is_last = start + BLOCK > len(waveform)
            began_s = time.perf_counter()
            events = stream.accept(block)
            if is_last:
                events += stream.flush()
            took_s = time.perf_counter() - began_s
            free_at_s = max(free_at_s, (start + len(block)) / RATE) + took_s
            for event in events:
                yield Shown(free_at_s, before + event.words, isinstance(event, Final))
                if isinstance(event, Final):
                    before += event.words


def end_of_speech_s(waveform: np.ndarray) -> float:
    """End of the last 10 ms within 30 dB of the recording's loud parts (the 95th percentile of its levels)."""
    frames = waveform[: len(waveform) // 160 * 160].reshape(-1, 160)
    level_db = 10 * np.log10((frames**2).mean(1) + 1e-12)
    loud = np.flatnonzero(level_db > np.percentile(level_db, 95) - SPEECH_RANGE_DB)
    return float(loud[-1] + 1) * 0.01


def measure(
    recognizer: Recognizer, waveform: np.ndarray, of_file: tuple[Word, ...], setting: Setting, to: Latencies
) -> None:
    """Add the measurements of one recording.

    Args:
        recognizer: opens the streams.
        waveform: (N,) float32 at 16 kHz.
        of_file: words of the file; they end with their sound.
        setting: of the streams.
        to: where they are added.
    """
    speech_ends_s = end_of_speech_s(waveform)
    silence = np.zeros(round(SILENCE_S * RATE), np.float32)
    began_s = time.process_time()
    seen = list(play(recognizer, np.concatenate([waveform, silence]), setting))
    to.cpu_s += time.process_time() - began_s
    to.speech_s += len(waveform) / RATE
    words = next((event.words for event in reversed(seen) if event.is_final), ())
    texts = [word.text for word in words]
    to.texts.append(" ".join(texts))
    to.final_words += len(words)
    to.words_changed += words_changed(seen)
    for index, other in align_words(texts, [word.text for word in of_file]):
        if index is not None and other is not None and words[index].text == of_file[other].text:
            to.word.append(first_shown_s(seen, index, words[index].text) - of_file[other].end_s)
    if words:
        final = next(event for event in seen if event.is_final and len(event.words) == len(words))
        to.final_by_endpoint.append(final.at_s - speech_ends_s - (EndpointRules().silence_after_speech_s or 0.0))
    flushed = list(play(recognizer, waveform[: round(speech_ends_s * RATE)], setting))
    if flushed and flushed[-1].is_final:
        to.final_by_flush.append(flushed[-1].at_s - speech_ends_s)


def first_shown_s(seen: list[Shown], index: int, text: str) -> float:
    """When word `index` was first shown in its final form."""
    return next(event.at_s for event in seen if len(event.words) > index and event.words[index].text == text)


def words_changed(seen: Sequence[Shown]) -> int:
    """Edits of words that were already shown, from each event to the next."""
    texts = [[word.text for word in event.words] for event in seen]
    return sum(edits_to_prefix(before, after) for before, after in pairwise(texts))


def edits_to_prefix(before: Sequence[str], after: Sequence[str]) -> int:
    """Word edits from ``before`` to that prefix of ``after`` which needs the fewest."""
    costs = list(range(len(after) + 1))  # from nothing to each prefix
    for index, word in enumerate(before, 1):
        row = [index]
        for column, other in enumerate(after, 1):
            row.append(min(costs[column] + 1, row[-1] + 1, costs[column - 1] + (word != other)))
        costs = row
    return min(costs)


def main() -> None:
    """Print a table, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="recordings with transcripts")
    parser.add_argument("--limit", type=int, default=40, help="recordings (default: 40)")
    parser.add_argument("--model", help="name or path (default: the default model)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    recordings = from_manifest(args.manifest, args.limit)
    recognizer = Recognizer(args.model)
    latencies = {setting: Latencies() for setting in SETTINGS}
    for setting in SETTINGS:
        list(play(recognizer, load_audio(CLIP), setting))  # the first calls of each size take longer
    file_texts = []
    for item in recordings.items:
        waveform = load_audio(item.path)
        transcript = recognizer.transcribe((waveform, RATE))
        file_texts.append(transcript.text)
        for setting, to in latencies.items():
            measure(recognizer, waveform, transcript.words, setting, to)
    texts = [item.text or "" for item in recordings.items]
    default = latencies[DEFAULT]
    figures = {
        "model": recognizer.info.name,
        "manifest": args.manifest.name,
        "recordings": len(recordings.items),
        "threads": 1,
        "wer_files": word_errors(texts, file_texts).wer,
        "settings": [row(setting, to, texts, default) for setting, to in latencies.items()],
    }
    print(section(write_json(args.json, figures)))


def row(setting: Setting, latencies: Latencies, texts: list[str], default: Latencies) -> dict[str, object]:
    """The figures of one setting; latencies in ms."""
    summaries = {name: Latency.of_seconds(getattr(latencies, name)) for name in LATENCIES}
    return {
        **asdict(setting),
        "wer": word_errors(texts, latencies.texts).wer,
        "words_changed_per_word": latencies.words_changed / max(latencies.final_words, 1),
        "cpu_s_per_speech_s": latencies.cpu_s / latencies.speech_s,
        "cpu_relative": latencies.cpu_s / default.cpu_s if default.cpu_s else None,
        **{name: asdict(summary) if summary else None for name, summary in summaries.items()},
    }


def section(figures: dict) -> str:
    """The figures as Markdown."""
    rows = [
        (
            str(Setting(line["hop_ms"], line["right_context_ms"])),
            *(f"{line[kind]['p50']:.0f} / {line[kind]['p95']:.0f}" if line[kind] else "-" for kind in LATENCIES),
            f"{line['words_changed_per_word']:.2f}",
            f"{line['cpu_relative']:.2f}" if line["cpu_relative"] is not None else "-",
            f"{100 * line['wer']:.2f} %",
        )
        for line in figures["settings"]
    ]
    head = (
        *("hop / right context", "end of word to its display", "end of speech + 0.8 s to final", "flush to final"),
        *("words changed per word", "processor time", "WER"),
    )
    return "\n".join(
        [
            f"{figures['model']}: ms, median / 95th percentile; {figures['recordings']} recordings of "
            f"{figures['manifest']}, WER of files {100 * figures['wer_files']:.2f} %. A word ends with its sound; "
            "words recognised before have negative latency. Processor time is relative to the default. "
            f"{figures['threads']} thread. {provenance_line(figures)}",
            "",
            table(head, rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
