"""What importing costs, and what it must not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lwasr_edge

HEAVY = ["torch", "onnx", "sounddevice", "sentencepiece", "safetensors", "matplotlib", "tqdm", "scipy"]


def modules_after(code: str) -> set[str]:
    """Names in sys.modules after some code ran in a fresh interpreter."""
    program = f"import sys\n{code}\nprint(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import lwasr_edge",
        "from lwasr_edge import *",
        "import lwasr_edge.cli; lwasr_edge.cli.build_parser()",
        "from lwasr_edge import Recognizer, Stream, Listener, load_audio, list_devices",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    loaded = modules_after(code)
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint({"onnxruntime", "soundfile", "soxr"})  # needed, but not before the first use


def test_transcribing_loads_nothing_heavy_either(model_path: Path) -> None:
    loaded = modules_after(
        "import numpy as np, lwasr_edge\n"
        f"assert lwasr_edge.Recognizer({str(model_path)!r}).transcribe(np.zeros(48000, np.int16), 48000).text == ''"
    )
    assert loaded.isdisjoint(HEAVY)
    assert "onnxruntime" in loaded


def test_nothing_is_reported_and_nothing_left_behind(model_path: Path, tmp_path: Path) -> None:
    """onnxruntime's telemetry would leave an identifier in the home directory."""
    code = f"import lwasr_edge; lwasr_edge.Recognizer({str(model_path)!r})"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_package_alone_is_all_but_free() -> None:
    assert "numpy" not in modules_after("import lwasr_edge")

    def seconds(statement: str) -> float:
        code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    # by turns and as a ratio, so that a slow or busy machine passes too; numpy is most of it (measured: 1.2 to 1.4)
    turns = [(seconds("import numpy"), seconds("from lwasr_edge import Recognizer")) for _ in range(7)]
    numpy_s, package_s = (min(times) for times in zip(*turns, strict=True))
    assert package_s < 1.8 * numpy_s


def test_every_public_name_is_there() -> None:
    assert all(hasattr(lwasr_edge, name) for name in lwasr_edge.__all__)
    assert set(lwasr_edge.__all__) <= set(dir(lwasr_edge))
    assert set(lwasr_edge._MODULE_OF) <= set(lwasr_edge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        lwasr_edge.nonsense  # noqa: B018


def test_every_error_is_an_lwasr_error_and_a_built_in_kind() -> None:
    errors = [getattr(lwasr_edge, name) for name in lwasr_edge.__all__ if name.endswith("Error")]
    assert len(errors) >= 13
    for error in errors:
        assert issubclass(error, lwasr_edge.LwasrError)
        assert error is lwasr_edge.LwasrError or issubclass(error, (ValueError, OSError, RuntimeError, ImportError))
