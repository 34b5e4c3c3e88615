"""A small model to adapt, as an installed one, and a folder of recordings of its speakers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from small_models import DATA, TRANSCRIPTS, letters_tokenizer, small_model

from lwasr_edge import load_audio
from lwasr_edge.export.metadata import Description
from lwasr_edge.export.pipeline import export
from lwasr_edge.files import sha256_of
from lwasr_edge.training.model.checkpoint import save_checkpoint


def write_base(folder: Path, name: str = "base") -> Path:
    """The folder of a random streaming model with its card and its checkpoint."""
    folder.mkdir(parents=True)
    checkpoint, file = folder / "checkpoint.safetensors", folder / "model.onnx"
    save_checkpoint(checkpoint, small_model(normalization="running"), letters_tokenizer())
    export(checkpoint, file, "float32", Description(name))
    files = [{"path": file.name, "sha256": sha256_of(file), "bytes": file.stat().st_size}]
    card = {"name": name, "version": "1.2", "default": True, "licence": "CC BY 4.0", "files": files}
    (folder / "card.json").write_text(json.dumps(card | {"about": {"attribution": "made by a test"}}), encoding="utf-8")
    return folder


def write_site(folder: Path, count: int = 12, speakers: int = 4) -> Path:
    """Recordings of tests/data at different levels, with a table of texts and speakers; and two without text."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    rows = ["file,text,speaker"]
    names = list(TRANSCRIPTS)
    for number in range(count):
        name = names[number % len(names)]
        audio = load_audio(DATA / name)[: 16_000 * 4] * random.uniform(0.3, 0.9)
        soundfile.write(folder / f"r{number:02d}.wav", audio + 1e-3 * random.standard_normal(len(audio)), 16_000)
        rows.append(f'r{number:02d}.wav,"{TRANSCRIPTS[name]}",s{number % speakers}')
    (folder / "texts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for number in range(2):
        soundfile.write(folder / f"noise{number}.wav", 0.05 * random.standard_normal(16_000 * 12), 16_000)
    return folder
