"""Latency: from the end of a word to the partial with it, and from the end of an utterance to its final text.

    python -m benchmarks.speed.latency --manifest ../shared/speech/librispeech-dev.jsonl --limit 40 [--model NAME|PATH]

Each recording is fed to a stream in blocks of 20 ms, followed by two seconds of silence, in simulated real time: the
time of an event is the end of the block that caused it, plus the processing time, plus the remaining work on earlier
blocks. Only the processing time is measured, so the figures are those of a microphone without its driver.

The end of a word is defined in two ways:

* token time: the end of the frame of the word's last token when the same model transcribes the file in its largest
  chunks (a forced alignment by the model itself). Every word has one. CTC emits tokens inside words, often before the
  audio of the word ends; "speech ends after its last token" is the difference.
* audio: the end of the last 10 ms of a recording within 30 dB of its loud parts. Only the last word of a recording has
  one, and the recording must be clean (LibriSpeech is).

Final text is caused by the endpoint rule (the default 0.8 s of silence, which is subtracted), or by the caller's flush
at the end of speech (push to talk).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge import EndpointRules, Final, Recognizer, Word, load_audio
from lwasr_edge.bench.recordings import from_manifest
from lwasr_edge.bench.results import Latency
from lwasr_edge.wer import align_words, word_errors

RATE = 16_000
BLOCK = 320  # samples: 20 ms, as sound cards deliver
SILENCE_S = 2.0  # after each recording
SPEECH_RANGE_DB = 30.0
CHUNKS_MS = (160, 320, 640, 1280)


@dataclass(frozen=True)
class Shown:
    """One event as the user sees it."""

    at_s: float  # in simulated real time
    words: tuple[Word, ...]  # all of the recording so far
    is_final: bool


@dataclass
class Latencies:
    """Seconds at one chunk size, over all recordings."""

    word: list[float] = field(default_factory=list)
    last_word: list[float] = field(default_factory=list)
    final_by_endpoint: list[float] = field(default_factory=list)
    final_by_flush: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def play(recognizer: Recognizer, waveform: np.ndarray, chunk_ms: float) -> Iterator[Shown]:
    """Feed a recording to a stream with the default endpoint rules; flush at its end.

    Args:
        waveform: (N,) float32 at 16 kHz.
    """
    free_at_s = 0.0
    before: tuple[Word, ...] = ()
    with recognizer.stream(RATE, chunk_ms=chunk_ms) as stream:
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
    recognizer: Recognizer, waveform: np.ndarray, aligned: tuple[Word, ...], chunk_ms: float, to: Latencies
) -> None:
    """Add the latencies of one recording.

    Args:
        waveform: (N,) float32 at 16 kHz.
        aligned: words of the file; their times are the token times.
    """
    speech_ends_s = end_of_speech_s(waveform)
    silence = np.zeros(round(SILENCE_S * RATE), np.float32)
    seen = list(play(recognizer, np.concatenate([waveform, silence]), chunk_ms))
    words = next((event.words for event in reversed(seen) if event.is_final), ())
    to.texts.append(" ".join(word.text for word in words))
    shown_at_s = [first_shown_s(seen, index, word.text) for index, word in enumerate(words)]
    for index, other in align_words([word.text for word in words], [word.text for word in aligned]):
        if index is not None and other is not None and words[index].text == aligned[other].text:
            to.word.append(shown_at_s[index] - aligned[other].end_s)
    if words:
        to.last_word.append(shown_at_s[-1] - speech_ends_s)
        final = next(event for event in seen if event.is_final and len(event.words) == len(words))
        to.final_by_endpoint.append(final.at_s - speech_ends_s - (EndpointRules().silence_after_speech_s or 0.0))
    flushed = list(play(recognizer, waveform[: round(speech_ends_s * RATE)], chunk_ms))
    if flushed and flushed[-1].is_final:
        to.final_by_flush.append(flushed[-1].at_s - speech_ends_s)


def first_shown_s(seen: list[Shown], index: int, text: str) -> float:
    """When word `index` was first shown in its final form."""
    return next(event.at_s for event in seen if len(event.words) > index and event.words[index].text == text)


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
    latencies = {chunk_ms: Latencies() for chunk_ms in CHUNKS_MS}
    early_s, file_texts = [], []
    for item in recordings.items:
        waveform = load_audio(item.path)
        transcript = recognizer.transcribe((waveform, RATE))
        file_texts.append(transcript.text)
        if transcript.words:
            early_s.append(end_of_speech_s(waveform) - transcript.words[-1].end_s)
        for chunk_ms, to in latencies.items():
            measure(recognizer, waveform, transcript.words, chunk_ms, to)
    texts = [item.text or "" for item in recordings.items]
    figures = {
        "model": recognizer.info.name,
        "manifest": args.manifest.name,
        "recordings": len(recordings.items),
        "threads": 1,
        "wer_whole": word_errors(texts, file_texts).wer,
        "speech_ends_after_last_token_ms": 1000 * float(np.median(early_s)),
        "chunks": [row(chunk_ms, to, texts) for chunk_ms, to in latencies.items()],
    }
    print(section(write_json(args.json, figures)))


def row(chunk_ms: float, latencies: Latencies, texts: list[str]) -> dict[str, object]:
    """The figures of one chunk size; latencies in ms."""
    kinds = {
        "word": latencies.word,
        "last_word": latencies.last_word,
        "final_by_endpoint": latencies.final_by_endpoint,
        "final_by_flush": latencies.final_by_flush,
    }
    summaries = {name: Latency.of_seconds(seconds) for name, seconds in kinds.items()}
    latency_ms = {name: asdict(summary) if summary else None for name, summary in summaries.items()}
    return {"chunk_ms": chunk_ms, "wer": word_errors(texts, latencies.texts).wer, **latency_ms}


def section(figures: dict) -> str:
    """The figures as Markdown."""
    kinds = ("word", "last_word", "final_by_endpoint", "final_by_flush")
    rows = [
        (
            f"{line['chunk_ms']} ms",
            *(f"{line[kind]['p50']:.0f} / {line[kind]['p95']:.0f}" if line[kind] else "-" for kind in kinds),
            f"{100 * line['wer']:.2f} %",
        )
        for line in figures["chunks"]
    ]
    head = (
        *("chunk", "word: token to partial", "end of speech to last word"),
        *("end of speech + 0.8 s to final", "flush to final", "WER"),
    )
    return "\n".join(
        [
            f"{figures['model']}: ms, median / 95th percentile; {figures['recordings']} recordings of "
            f"{figures['manifest']}, WER of files {100 * figures['wer_whole']:.2f} %. The end of speech is "
            f"{figures['speech_ends_after_last_token_ms']:.0f} ms after the last token (median); tokens emitted before "
            f"the audio ends have negative latency. {figures['threads']} thread. {provenance_line(figures)}",
            "",
            table(head, rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
