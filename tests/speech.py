"""Real speech for tests: the recordings of tests/data, those of ../shared/speech if present, and the default model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from locations import DATA, SHARED_SPEECH

from lwasr_edge import ModelNotFoundError, Recognizer, load_audio
from lwasr_edge.hub.catalog import find_model


@dataclass(frozen=True)
class Utterance:
    """A recording and its reference text."""

    path: Path
    text: str

    def samples(self) -> np.ndarray:
        """(N,) float32 at 16 kHz."""
        return load_audio(self.path)


def own_utterances() -> list[Utterance]:
    """The synthetic voices of tests/data."""
    texts = json.loads((DATA / "transcripts.json").read_text(encoding="utf-8"))
    return [Utterance(DATA / name, text) for name, text in texts.items()]


def shared_utterances(count: int, corpus: str = "librispeech-dev") -> list[Utterance]:
    """Evenly spaced utterances of a corpus in ../shared/speech; skips the test if it is missing."""
    manifest = SHARED_SPEECH / f"{corpus}.jsonl"
    if not manifest.is_file():
        pytest.skip("needs ../shared/speech")
    entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    chosen = [entries[i * len(entries) // count] for i in range(count)]
    return [Utterance(SHARED_SPEECH / entry["audio_filepath"], entry["text"]) for entry in chosen]


def default_recognizer() -> Recognizer:
    """The default model; skips the test if none is installed."""
    try:
        path = find_model(None)
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    return Recognizer(path)


def pause(seconds: float) -> np.ndarray:
    """Digital silence: (N,) float32 at 16 kHz."""
    return np.zeros(round(seconds * 16_000), np.float32)
