"""What importing costs and must not load, and the direction of imports between rooms."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import ROOT

import lwasr_edge

# Rooms (modules and sub-packages) of the package by layer: a room imports only from layers before its own. Imports in
# functions count; those for type checkers alone do not.
RUNTIME_LAYERS = [
    {"errors"},
    {"native", "validate"},
    {"files"},
    {"chunking", "model_info", "wer", "words"},
    {"written"},
    {"audio", "events", "hub"},
    {"decoding", "microphone", "model", "utterance"},
    {"streaming"},
    {"stream"},
    {"recognizer"},
    {"__init__"},
    {"__pyinstaller", "bench", "serve"},
    {"lm", "site"},
    {"cli"},
    {"__main__"},
]
TRAINING_LAYERS = [
    {"training.__init__"},
    {"training.model", "training.data", "training.written"},
    {"training.compress"},
    {"training.loop", "training.scoring"},
    {"training.options"},
    {"training.run", "training.site"},
    {"training.commands"},
    {"training.study"},
    {"training.cli"},
]
LAYERS = [*RUNTIME_LAYERS, *TRAINING_LAYERS, {"export"}]

HEAVY = ["torch", "onnx", "sounddevice", "sentencepiece", "safetensors", "matplotlib", "tqdm", "scipy"]
HEAVY += ["aiohttp", "wyoming", "zeroconf", "prometheus_client", "asyncio", "nacl"]


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


def test_no_telemetry_and_no_files(model_path: Path, tmp_path: Path) -> None:
    """onnxruntime's telemetry would write an identifier to the home folder."""
    code = f"import lwasr_edge; lwasr_edge.Recognizer({str(model_path)!r})"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_is_cheap() -> None:
    assert "numpy" not in modules_after("import lwasr_edge")

    def seconds(statement: str) -> float:
        code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    # Alternating and as a ratio, so that a slow or busy machine passes; numpy is most of it (measured: 1.5 to 1.8).
    turns = [(seconds("import numpy"), seconds("from lwasr_edge import Recognizer")) for _ in range(7)]
    numpy_s, package_s = (min(times) for times in zip(*turns, strict=True))
    assert package_s < 2.0 * numpy_s


def test_every_public_name_exists() -> None:
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


def room_of(module: str) -> str:
    """The room of a module, "lwasr_edge.training.loop.trainer" -> "training.loop"."""
    first, *rest = [*module.split(".")[1:], "__init__"]
    return f"{first}.{rest[0]}" if first == "training" else first


def imported_modules(node: ast.AST) -> Iterator[str]:
    """Modules of this package that a syntax tree imports, also lazily; names of the package by their own module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name.split(".")[0] == "lwasr_edge")
        elif isinstance(child, ast.ImportFrom) and child.module == "lwasr_edge":
            for alias in child.names:
                is_error = alias.name == "errors" or alias.name.endswith(("Error", "Warning"))
                is_plain = is_error or alias.name == "__version__"  # needs nothing but the errors
                yield f"lwasr_edge.{'errors' if is_plain else lwasr_edge._MODULE_OF.get(alias.name, alias.name)}"
        elif isinstance(child, ast.ImportFrom) and (child.module or "").startswith("lwasr_edge."):
            yield child.module
        yield from imported_modules(child)


def imports_between_rooms() -> dict[tuple[str, str], set[str]]:
    """(room, imported room) -> files with such an import."""
    arrows: dict[tuple[str, str], set[str]] = {}
    for folder, package in ((ROOT / "lwasr_edge", "lwasr_edge"), (ROOT / "export", "lwasr_edge.export")):
        for path in folder.rglob("*.py"):
            importer = room_of(".".join([package, *path.relative_to(folder).with_suffix("").parts]))
            for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
                if room_of(module) != importer:
                    arrows.setdefault((importer, room_of(module)), set()).add(str(path.relative_to(ROOT)))
    return arrows


@pytest.mark.skipif(not (ROOT / "export").is_dir(), reason="needs the checkout, not an install")
def test_rooms_import_only_from_the_layers_below() -> None:
    """No upward import, so no cycle between rooms either."""
    layer_of = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
    arrows = imports_between_rooms()
    assert len(arrows) > 40
    assert {room for arrow in arrows for room in arrow} - set(layer_of) == set(), "add the room to a layer"
    upward = {arrow: files for arrow, files in arrows.items() if layer_of[arrow[0]] <= layer_of[arrow[1]]}
    assert upward == {}


def test_the_graph_sees_lazy_imports_and_not_those_of_type_checkers() -> None:
    source = """
if TYPE_CHECKING:
    from lwasr_edge.stream import Stream
from lwasr_edge import Recognizer, OptionError, __version__
def lazy():
    from lwasr_edge.hub.catalog import find_model
    import lwasr_edge.wer
"""
    modules = ["recognizer", "errors", "errors", "hub.catalog", "wer"]
    assert list(imported_modules(ast.parse(source))) == [f"lwasr_edge.{name}" for name in modules]
    assert [room_of(f"lwasr_edge.{name}") for name in ("wer", "hub.catalog")] == ["wer", "hub"]
