"""Choosing, rolling back and removing models; kills at any moment; what names the default."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_model_dir, write_version

from lwasr_edge import CatalogError, ModelNotFoundError, Recognizer
from lwasr_edge.cli import main
from lwasr_edge.errors import CatalogWarning
from lwasr_edge.hub.catalog import default_model, find_model, installed_model, installed_models, verify_model
from lwasr_edge.hub.fetch import fetch_model
from lwasr_edge.hub.preference import config_path
from lwasr_edge.hub.versions import is_older, previous_version, remove_model, roll_back, use_model


@pytest.fixture
def sources(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two versions of a model; the package's own model is the default."""
    monkeypatch.setattr("lwasr_edge.hub.fetch.try_model", lambda path, name: None)
    monkeypatch.delenv("LWASR_MODEL", raising=False)
    write_model_dir(tmp_path / "package-models" / "base", "base", default=True)
    return {version: write_version(tmp_path / "from" / version, version) for version in ("1.9", "1.10")}


def version() -> str:
    return installed_model("place").card.version


def test_a_version_and_the_one_before(sources: dict[str, Path]) -> None:
    fetch_model(sources["1.9"])
    with pytest.raises(CatalogError, match="must have a version before to go back to"):
        roll_back("place")
    folder = fetch_model(sources["1.10"])
    assert version() == "1.10" and previous_version(folder).version == "1.9"
    assert [model.card.name for model in installed_models()] == ["place", "base"]  # the one before is hidden
    assert roll_back().after == "1.9" and version() == "1.9"
    assert all(verdict == "ok" for _, verdict in verify_model(installed_model("place")))
    assert roll_back("place").after == "1.10" and version() == "1.10"
    fetch_model(sources["1.10"])  # again: the version before is still 1.9
    assert roll_back().after == "1.9"


def test_settings_that_are_damaged_do_not_stop_an_installation(sources: dict[str, Path]) -> None:
    fetch_model(sources["1.9"])
    config_path().write_text("{")
    with pytest.warns(CatalogWarning, match="'place' was replaced, but `lwasr models rollback` will need its name"):
        fetch_model(sources["1.10"])
    assert version() == "1.10" and previous_version(installed_model("place").directory).version == "1.9"


def test_an_older_version_does_not_replace_a_newer_one(sources: dict[str, Path]) -> None:
    fetch_model(sources["1.10"])
    with pytest.raises(CatalogError, match="must not be older than the installed one, 1.10, got 1.9: pass --replace"):
        fetch_model(sources["1.9"])
    assert version() == "1.10"
    fetch_model(sources["1.9"], replace=True)
    assert version() == "1.9"


@pytest.mark.parametrize(
    ("version", "other", "older"),
    [
        ("1.9", "1.10", True),
        ("1.10", "1.9", False),
        ("1", "1.0", False),
        ("1", "1.0.1", True),
        ("v2", "v10", True),
        ("", "1", False),
        ("a", "b", False),
    ],
)
def test_order_of_versions(version: str, other: str, older: bool) -> None:
    assert is_older(version, other) is older


def test_the_default_model_is_chosen_and_rolled_back(
    sources: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "install", str(sources["1.9"])]) == 0
    assert default_model().card.name == "base"
    assert main(["models", "use", "place"]) == 0
    assert default_model().card.name == "place" and find_model() == installed_model("place").path
    assert Recognizer(lm=None).info.name == "place"
    assert main(["models", "rollback"]) == 0
    assert default_model().card.name == "base"
    assert main(["models", "rollback"]) == 0
    assert default_model().card.name == "place"
    assert main(["models", "use", "nothing"]) == 2
    capsys.readouterr()
    assert main(["models", "remove", "place"]) == 0
    assert "the default model is now base" in capsys.readouterr().out
    assert default_model().card.name == "base"
    assert main(["models", "remove", "base"]) == 2  # of the package
    with pytest.raises(ModelNotFoundError):
        remove_model("place")


def test_removing_leaves_nothing(sources: dict[str, Path], lwasr_home: Path) -> None:
    fetch_model(sources["1.9"])
    fetch_model(sources["1.10"])
    remove_model("place")
    assert list((lwasr_home / "models").iterdir()) == []


def test_what_names_the_default(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The argument, then the variable, then the file, then the cards."""
    fetch_model(sources["1.9"])
    other = write_model_dir(tmp_path / "other", "other")
    use_model("place")
    monkeypatch.setenv("LWASR_MODEL", str(other))
    assert find_model() == other / "model.onnx" and default_model().card.name == "other"
    assert find_model("base").parent.name == "base"
    monkeypatch.setenv("LWASR_MODEL", str(other / "model.onnx"))
    assert Recognizer(lm=None).info.name == "other"
    assert main(["models", "use", "base"]) == 0
    assert "LWASR_MODEL is set" in capsys.readouterr().err
    monkeypatch.setenv("LWASR_MODEL", "missing")
    with pytest.raises(ModelNotFoundError, match="LWASR_MODEL: model must be a file or one of the installed models"):
        find_model()
    monkeypatch.setenv("LWASR_MODEL", "")
    config_path().write_text(json.dumps({"model": str(other), "colour": 3}))
    assert find_model() == other / "model.onnx"
    use_model("place")
    assert json.loads(config_path().read_text())["colour"] == 3  # of another program
    for content in ('{"model": 3}', "no json", '{"model": "gone"}', "[]", '{"model": ""}'):
        config_path().write_text(content)
        with pytest.warns(CatalogWarning, match="was skipped"):
            assert find_model().parent.name == "base"


KILLED = """
import sys, itertools
from pathlib import Path
from lwasr_edge.hub import fetch, versions
fetch.try_model = lambda path, name: None
print("ready", flush=True)
for number in itertools.count():
    fetch.fetch_model(sys.argv[1 + number % 2], replace=True)
    versions.use_model("place")
    versions.roll_back("place")
    versions.roll_back("place")
    versions.use_model("base")
    versions.roll_back()
"""


def test_a_kill_at_any_moment_leaves_a_model_that_works(sources: dict[str, Path]) -> None:
    fetch_model(sources["1.9"])
    chance = random.Random(0)
    seen = set()
    for _ in range(8):
        command = [sys.executable, "-c", KILLED, *map(str, sources.values())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        model = installed_model("place")
        assert all(verdict == "ok" for _, verdict in verify_model(model))
        Recognizer("place", lm=None)
        assert default_model().card.name in ("place", "base")
        seen.add(model.card.version)
    assert seen <= {"1.9", "1.10"}
    fetch_model(sources["1.10"])
    assert version() == "1.10"
