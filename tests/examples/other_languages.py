"""What the tests of the examples in other languages share: models with their JSON files, recordings, Node packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from locations import ROOT
from speech import own_utterances, shared_utterances

from lwasr_edge import Recognizer
from lwasr_edge.export.pipeline import save_model, write_interface
from lwasr_edge.model import Model
from lwasr_edge.words import TimedToken, build_words, join_words

EXAMPLES = ROOT / "examples"
EN_BASE = ROOT / "models" / "en-base" / "model.int8.onnx.gz"
SAMPLE_RATE = 16_000
# The npm packages are installed by hand or by CI; no test fetches any.
NODE_MODULES = Path(os.environ.get("LWASR_NODE_MODULES", EXAMPLES / "node" / "node_modules"))


def with_json(model: Path, folder: Path) -> Path:
    """A copy of a model as `lwasr-export` writes it: gzip, and a JSON file beside it."""
    proto = onnx.load(model)
    path = folder / "model.onnx.gz"
    save_model(proto, path)
    write_interface(proto, path)
    return path


def en_base() -> Path:
    """The model of the package; skips the test where its JSON file is missing."""
    if not (EN_BASE.is_file() and EN_BASE.with_name("model.int8.json").is_file()):
        pytest.skip("needs models/en-base with model.int8.json")
    return EN_BASE


def ten_recordings(folder: Path) -> list[Path]:
    """WAV files, 16-bit mono at 16 kHz: those of tests/data, and seven of ../shared/speech if it is there."""
    utterances = own_utterances()
    with contextlib.suppress(pytest.skip.Exception):
        utterances += shared_utterances(7, "an4-test")
    paths = [folder / f"{number}.wav" for number in range(len(utterances))]
    for path, utterance in zip(paths, utterances, strict=True):
        soundfile.write(path, utterance.samples(), SAMPLE_RATE, subtype="PCM_16")
    return paths


def texts(model: Path, paths: list[Path]) -> list[str]:
    """What `Recognizer.transcribe` gives."""
    recognizer = Recognizer(model, lm=None)
    return [recognizer.transcribe(path).text for path in paths]


def documented_text(model: Model, path: Path) -> str:
    """The text of a recording that is not cut at pauses, by the loop of docs/MODEL_FORMAT.md."""
    samples, _ = soundfile.read(path, dtype="float32")
    info = model.info
    size, most = info.samples_per_frame, info.max_chunk_frames
    audio = np.pad(samples, (0, info.flush_samples + -(len(samples) + info.flush_samples) % size))
    state, first_frame, tokens = model.initial_state(), 0, list[TimedToken]()
    while len(window := audio[first_frame * size : (first_frame + most) * size]):
        look_ahead = 16 if len(window) == most * size and model.can_look_ahead else 0
        result = model.run_chunk(window, state, look_ahead=look_ahead)
        tokens += result.timed_tokens(first_frame, committed=True)
        state, first_frame = result.state, first_frame + result.committed_frames
    return join_words(build_words(info, tokens))


def node() -> str:
    """Node 18 or newer; skips the test without it."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 18:
        pytest.skip(f"needs node 18 or newer, found {version.strip()}")
    return found


def npm_package(name: str) -> Path:
    """The folder of an installed npm package; skips the test without it."""
    path = NODE_MODULES / name
    if not path.is_dir():
        pytest.skip(f"needs the npm package {name} in $LWASR_NODE_MODULES or in examples/node/node_modules")
    return path
