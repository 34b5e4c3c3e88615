"""A small model to adapt, as an installed one, and a folder of recordings: tones that its model file recognises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import soundfile
import tiny_model
from small_models import letters_tokenizer, small_model

from lwasr_edge.files import sha256_of
from lwasr_edge.training.model.checkpoint import save_checkpoint

NAMES = {"one": ["\u2581one"], "two": ["\u2581two"], "three": ["\u2581three"], "four": ["\u2581four"]}


def write_base(folder: Path, name: str = "base") -> Path:
    """The folder of a model with its card and a checkpoint of random weights, which is not that of its file."""
    folder.mkdir(parents=True)
    file = folder / "model.onnx"
    save_checkpoint(folder / "checkpoint.safetensors", small_model(normalization="running"), letters_tokenizer())
    onnx.save(tiny_model.build_model(name=name), file)
    files = [{"path": file.name, "sha256": sha256_of(file), "bytes": file.stat().st_size}]
    card = {"name": name, "version": "1.2", "default": True, "licence": "CC BY 4.0", "files": files}
    (folder / "card.json").write_text(json.dumps(card | {"about": {"attribution": "made by a test"}}), encoding="utf-8")
    return folder


def write_site(folder: Path, count: int = 12, speakers: int = 4) -> Path:
    """Recordings of spoken numbers with a table of texts and speakers, and two of noise."""
    from conftest import speak

    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    rows = ["file,text,speaker"]
    for number in range(count):
        words = random.choice(list(NAMES), 4).tolist()
        parts = [part for word in words for part in (*NAMES[word], 0.24)]
        audio = speak(0.3, *parts, 0.3, level=random.uniform(0.1, 0.4))
        soundfile.write(folder / f"r{number:02d}.wav", audio + 1e-3 * random.standard_normal(len(audio)), 16_000)
        rows.append(f"r{number:02d}.wav,{' '.join(words)},s{number % speakers}")
    (folder / "texts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for number in range(2):
        soundfile.write(folder / f"noise{number}.wav", 0.05 * random.standard_normal(16_000 * 12), 16_000)
    return folder


def write_long(folder: Path, name: str, count: int) -> tuple[Path, list[tuple[float, float, str]]]:
    """One recording of spoken numbers with Kaldi's files; start and end in seconds and text of each part."""
    write_site(folder, count)
    rows = (folder / "texts.csv").read_text(encoding="utf-8").splitlines()[1:]
    parts, segments = [], []
    for row in rows:
        file, text, _ = row.split(",")
        parts.append(soundfile.read(folder / file)[0])
        end = sum(map(len, parts)) / 16_000
        segments.append((round(end - len(parts[-1]) / 16_000, 4), round(end, 4), text))
    for path in (*folder.glob("r*.wav"), *folder.glob("noise*.wav"), folder / "texts.csv"):
        path.unlink()
    soundfile.write(folder / name, np.concatenate(parts), 16_000)
    lines = {"wav.scp": [f"rec /data/{name}"]}
    lines["segments"] = [f"u{number:02d} rec {start} {end}" for number, (start, end, _) in enumerate(segments)]
    lines["text"] = [f"u{number:02d} {text}" for number, (_, _, text) in enumerate(segments)]
    for file, written in lines.items():
        (folder / file).write_text("\n".join(written), encoding="utf-8")
    return folder / name, segments


def write_general(folder: Path, count: int = 16) -> Path:
    """A manifest of spoken numbers, a speaker each."""
    write_site(folder, count, speakers=count)
    rows = (folder / "texts.csv").read_text(encoding="utf-8").splitlines()[1:]
    path = folder / "general.jsonl"
    entries = []
    for row in rows:
        name, text, speaker = row.split(",")
        duration = soundfile.info(folder / name).duration
        entries.append({"id": name, "audio_filepath": name, "duration": duration, "text": text, "speaker": speaker})
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path
