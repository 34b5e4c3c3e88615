"""Transcripts in OpenAI's `verbose_json`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lwasr_edge.words import join_words

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Transcript
    from lwasr_edge.words import Word

SEGMENT_PAUSE_S = 0.8  # a pause this long starts a new segment
MAX_SEGMENT_S = 30.0


def verbose_json(transcript: Transcript, language: str, granularities: Iterable[str]) -> dict[str, Any]:
    """The fields of OpenAI's `TranscriptionVerbose`.

    Args:
        transcript: of a file.
        language: its name, as in "english".
        granularities: "segment", "word" or both.
    """
    form: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "usage": {"type": "duration", "seconds": round(transcript.duration_s, 3)},
    }
    if "segment" in granularities:
        form["segments"] = [_segment(number, words) for number, words in enumerate(segments(transcript.words))]
    if "word" in granularities:
        form["words"] = [
            {
                "word": word.text,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "probability": round(word.confidence, 4),
            }
            for word in transcript.words
        ]
    return form


def segments(words: Sequence[Word]) -> list[list[Word]]:
    """Words in groups that pauses separate, none longer than MAX_SEGMENT_S."""
    groups: list[list[Word]] = []
    for word in words:
        if (
            groups
            and word.start_s - groups[-1][-1].end_s < SEGMENT_PAUSE_S
            and word.end_s - groups[-1][0].start_s <= MAX_SEGMENT_S
        ):
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _segment(number: int, words: Sequence[Word]) -> dict[str, Any]:
    """One segment. `avg_logprob` comes from the confidences of words; there are no token ids of a public vocabulary."""
    text = join_words(words)
    encoded = text.encode()
    logprobs = [math.log(max(word.confidence, 1e-6)) for word in words]
    return {
        "id": number,
        "seek": 0,
        "start": round(words[0].start_s, 3),
        "end": round(words[-1].end_s, 3),
        "text": f" {text}",
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(logprobs) / len(logprobs), 4),
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4),
        "no_speech_prob": 0.0,
    }
