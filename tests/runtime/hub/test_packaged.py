"""The packaged model in zip files and in programs of PyInstaller, and what happens where it is missing."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile
from conftest import speak, write_model_dir
from locations import ROOT

from lwasr_edge import ModelNotFoundError
from lwasr_edge.errors import CatalogWarning
from lwasr_edge.hub import packaged
from lwasr_edge.hub.catalog import default_model, find_model, installed_models


def zipped(path: Path, *, model: Path | None) -> Path:
    """The package in a zip file that runs `lwasr`."""
    with zipfile.ZipFile(path, "w") as file:
        for source in (ROOT / "lwasr_edge").rglob("*.py"):
            file.write(source, source.relative_to(ROOT))
        file.writestr("__main__.py", "import sys\nfrom lwasr_edge.cli import main\nsys.exit(main())\n")
        for source in [] if model is None else model.iterdir():
            file.write(source, f"lwasr_edge/models/en-base/{source.name}")
    return path


def run(path: Path, home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LWASR_HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": ""}
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, timeout=60, check=False)


@pytest.mark.skipif(not (ROOT / "lwasr_edge").is_dir(), reason="needs the checkout")
def test_a_zip_file_uses_its_own_model_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_model_dir(home / "models" / "mine", "mine", default=True)
    wav = home / "two.wav"
    soundfile.write(wav, speak("\u2581two", 0.3), 16_000)
    with_model = zipped(tmp_path / "a.pyz", model=write_model_dir(tmp_path / "en-base", "en-base", default=True))
    listed = run(with_model, home, "models", "list")
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["*", "en-base"], ["mine", "1"]]
    done = run(with_model, home, "transcribe", "--json", wav)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"text": "two"' in done.stdout and '"model": "en-base"' in done.stdout
    assert sorted(path.name for path in home.iterdir()) == ["models", "two.wav"]  # nothing is left behind

    without = zipped(tmp_path / "b.pyz", model=None)
    failed = run(without, home, "transcribe", wav)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("lwasr: error: the packaged model 'en-base' must be in ")
    assert "b.pyz/lwasr_edge/models, got none: build the zip file from an installed package" in failed.stderr
    assert run(without, home, "transcribe", wav, "--model", "mine").stdout == "two\n"


def test_a_frozen_program_without_its_model(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model_dir(lwasr_home / "models" / "mine", "mine", default=True)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(packaged, "_PACKAGE", tmp_path / "_internal" / "lwasr_edge")
    for name in (None, "en-base"):
        with pytest.raises(ModelNotFoundError, match=r"'en-base' must be in .*_internal.* or with --add-data"):
            find_model(name)
    assert find_model("mine").name == "model.onnx"


def test_a_frozen_program_prefers_its_own_model(
    lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model_dir(lwasr_home / "models" / "en-base", "en-base", default=True)
    own = write_model_dir(tmp_path / "package-models" / "en-base", "en-base", default=True)
    assert default_model().directory == lwasr_home / "models" / "en-base"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("lwasr_edge.hub.catalog.has_model", lambda: True)
    assert default_model().directory == own
    assert len(installed_models()) == 1


def test_another_model_is_not_taken_silently(lwasr_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = write_model_dir(lwasr_home / "models" / "mine", "mine", default=True)
    monkeypatch.setattr("lwasr_edge.hub.catalog.has_model", lambda: False)
    with pytest.warns(CatalogWarning, match=rf"install lwasr-edge again, or name another model; {mine} is used"):
        assert find_model() == mine / "model.onnx"


def test_the_hook_of_pyinstaller() -> None:
    from lwasr_edge.__pyinstaller import get_hook_dirs

    (folder,) = get_hook_dirs()
    hook = runpy.run_path(str(Path(folder) / "hook-lwasr_edge.py"))
    assert "lwasr_edge.recognizer" in hook["hiddenimports"]
    assert {Path(source).name: target for source, target in hook["datas"]} == dict.fromkeys(
        ("model.int8.onnx.gz", "card.json", "card.md"), "lwasr_edge/models/en-base"
    ) | {"general.lm": "lwasr_edge/decoding"}
