"""The README is correct: its commands, options and files exist, and its Python runs."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from locations import ROOT
from speech import default_recognizer

import lwasr_edge
from lwasr_edge import load_audio
from lwasr_edge.bench.recordings import CLIP

README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.is_file(), reason="needs the checkout, not an install")
MODULES = {"lwasr": "lwasr_edge.cli", "lwasr-train": "lwasr_edge.training.cli", "lwasr-export": "lwasr_edge.export.cli"}


def pages() -> list[Path]:
    """All Markdown pages of the checkout."""
    folders = [ROOT / name for name in ("docs", "models", "benchmarks")]
    return sorted([*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))])


def blocks(language: str, page: Path = README) -> list[str]:
    if not page.is_file():
        return []
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every different `lwasr...` command of the pages' shell blocks."""
    joined = [block.replace("\\\n", " ") for page in pages() for block in blocks("sh", page)]
    lines = [part for block in joined for line in block.splitlines() for part in re.split(r"&& | \| ", line)]
    found = [" ".join(words) for line in lines if (words := shlex.split(line, comments=True)) and words[0] in MODULES]
    return list(dict.fromkeys(found))


def test_the_two_commands_are_on_the_first_screen() -> None:
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:40])
    assert "pip install . && lwasr transcribe FILE.wav" in first_screen
    assert "make test" in first_screen
    assert "English only" in first_screen


@pytest.mark.parametrize("command", commands())
def test_commands_and_their_options_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *rest = command.split()
    n_words = 2 if rest[0] in ("lm", "models", "site") else 1  # of a command with actions
    subcommand = [] if program == "lwasr-export" else rest[:n_words]
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(MODULES[program]).main([*subcommand, "--help"])
    assert ended.value.code == 0
    described = capsys.readouterr().out
    for option in (word for word in rest if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", described), f"{program} has no {option}"


@pytest.mark.parametrize("source", blocks("python"), ids=lambda source: source.splitlines()[0])
def test_python_uses_public_names(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "lwasr_edge":
            for alias in node.names:
                assert alias.name in lwasr_edge.__all__
                getattr(lwasr_edge, alias.name)


def test_the_streaming_example_prints_every_sentence_once(capsys: pytest.CaptureFixture[str]) -> None:
    default_recognizer()  # or skip
    (source,) = [block for block in blocks("python") if "recognizer.stream(" in block]
    samples = load_audio(CLIP, target_hz=44100)[: 5 * 44100]  # it ends in the last word
    exec(source, {"blocks_of_samples": np.array_split(samples, 50)})
    lines = capsys.readouterr().out.splitlines(keepends=True)
    *growing, last = [line for line in lines if line.strip()]
    assert last.startswith("she opened the window and listened")
    assert last.endswith("\n")
    assert len(growing) > 2
    assert all(line.endswith("\r") for line in growing)


def test_the_tree_of_files_exists() -> None:
    (tree,) = blocks("text")
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        path = ROOT.joinpath(*folders)
        assert path.is_dir() if name.endswith("/") else path.is_file(), path


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert targets or page != README
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_pages_name_files_that_exist() -> None:
    """Paths of code and documents in the text of a page (`lwasr_edge/model.py`, docs/bench.md)."""
    pattern = re.compile(r"(?<![\w/.-])(?:lwasr_edge|export|docs|tests|benchmarks|examples)/[\w./-]+\.(?:py|md|sh)\b")
    named = {(page, name) for page in pages() for name in pattern.findall(page.read_text(encoding="utf-8"))}
    assert named
    assert sorted(name for _, name in named if not (ROOT / name).is_file()) == []
