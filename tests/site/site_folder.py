"""Recordings for the tests of lwasr_edge.site: tones that the tiny model recognises as words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from conftest import speak

PIECES = {"one": ["\u2581one"], "two": ["\u2581two"], "three": ["\u2581three"], "four": ["\u2581four"]}
PIECES["fourteen"] = ["\u2581four", "teen"]


def spoken(text: str, *, level: float = 0.3, sample_rate: int = 16_000) -> np.ndarray:
    """The tones of the words, with pauses between them and soft noise: (N,) float32."""
    parts: list[str | float] = [0.3]
    for word in text.split():
        parts += [*PIECES[word], 0.24]
    audio = speak(*parts, 0.3, sample_rate=sample_rate, level=level)
    noise = np.random.default_rng(len(text)).standard_normal(len(audio)) * 1e-3 * level
    return (audio + noise).astype(np.float32)


def write_recording(path: Path, words: str, text: str | None = None, *, level: float = 0.3) -> Path:
    """Write a recording of `words` and the text beside it, `words` by default; "" for no text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".ogg": "VORBIS"}.get(path.suffix.lower(), "PCM_16")
    soundfile.write(path, spoken(words, level=level), 16_000, kind)
    if text != "":
        path.with_suffix(".txt").write_text(text or words, encoding="utf-8")
    return path


def write_folder(root: Path, count: int = 12) -> Path:
    """A folder of recordings, no two of them alike, of which every fourth has a wrong word in its text."""
    words = list(PIECES)
    for number in range(count):
        said = " ".join(words[(number * step + number // 5) % len(words)] for step in (1, 2, 3, 4)) + " one" * (
            number // 5
        )
        text = said.replace(said.split()[0], "three", 1) if number % 4 == 3 else said
        write_recording(root / f"r{number:02d}.wav", said, text, level=0.2 + 0.01 * number)
    return root
