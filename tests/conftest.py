"""Fixtures of the runtime's tests: the tiny model, and tones that it recognises as words."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_model

from lwasr_edge import Recognizer


def pytest_configure() -> None:
    """Handle Ctrl-C even if a background shell started the tests with SIGINT ignored, as their children would be.

    Of several processes that test, each calculates in one thread: they would take the cores from each other.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def speak(*spoken: str | float, sample_rate: int = 16_000, level: float = 0.3) -> np.ndarray:
    """Make audio for the tiny model.

    Args:
        *spoken: a piece of its vocabulary, for 0.12 s of its tone; or a number, for seconds of silence.
        sample_rate: Hz.
        level: amplitude of the tones.

    Returns:
        (N,) float32.
    """
    parts = []
    for item in spoken:
        seconds, hz = (0.12, tiny_model.tone_hz(item)) if isinstance(item, str) else (item, 0.0)
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        parts.append(level * np.sin(2 * np.pi * hz * time))
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, streaming."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(tiny_model.build_model(), path)
    return path


@pytest.fixture(scope="session")
def offline_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without streaming."""
    path = tmp_path_factory.mktemp("model") / "tiny-offline.onnx"
    onnx.save(tiny_model.build_model(streaming=False, name="tiny-offline"), path)
    return path


@pytest.fixture(scope="session")
def recognizer(model_path: Path) -> Recognizer:
    """A recogniser with the tiny model."""
    return Recognizer(model_path)


def write_model_dir(directory: Path, name: str = "tiny", *, default: bool = False) -> Path:
    """Make a model's folder with the tiny model and its card."""
    directory.mkdir(parents=True)
    data = tiny_model.build_model(name=name).SerializeToString()
    (directory / "model.onnx").write_bytes(data)
    (directory / "card.md").write_text(f"# {name}\n")
    files = [
        {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in (directory / "card.md", directory / "model.onnx")
    ]
    card = {"name": name, "version": "1", "default": default, "licence": "Apache-2.0", "files": files}
    (directory / "card.json").write_text(json.dumps(card))
    return directory


def write_version(folder: Path, version: str, name: str = "place") -> Path:
    """A model's folder with a version and a file of its own."""
    write_model_dir(folder, name)
    (folder / "card.md").write_text(version)
    card = json.loads((folder / "card.json").read_text())
    card["version"] = version
    card["files"][0] |= {"sha256": hashlib.sha256(version.encode()).hexdigest(), "bytes": len(version)}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def lwasr_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $LWASR_HOME, and no models in the package."""
    monkeypatch.setenv("LWASR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("lwasr_edge.hub.catalog.packaged_models_dir", lambda: tmp_path / "package-models")
    return tmp_path / "home"


@pytest.fixture
def default_model(lwasr_home: Path) -> Path:
    """The tiny model, installed as the default."""
    return write_model_dir(lwasr_home / "models" / "tiny", default=True)


Speak = Callable[..., np.ndarray]
