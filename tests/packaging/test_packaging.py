"""The distribution: contents and requirements of wheel and source archive, versions, direction of imports."""

import ast
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from locations import ROOT

import lwasr_edge
from lwasr_edge.model_info import FORMAT_VERSION

WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "runs")
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the checkout, not an install")


def pyproject() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def package_folders() -> dict[str, Path]:
    """Package -> folder, read from pyproject.toml."""
    setuptools = pyproject()["tool"]["setuptools"]
    mapped = setuptools["package-dir"]
    return {name: ROOT / mapped.get(name, name.replace(".", "/")) for name in setuptools["packages"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel built from it, of a copy with one more model."""
    for needed in ("build", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs the package {needed} (pip install '.[dev]')")
    copy, out = tmp_path_factory.mktemp("checkout") / "lwasr-edge", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    probe = copy / "models" / "probe"
    probe.mkdir()
    for name in ("model.int8.onnx.gz", "card.md", "card.json", "model.onnx", "model.safetensors", "config.json"):
        (probe / name).write_text("probe", encoding="utf-8")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_base_install_is_small(metadata: Message) -> None:
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = sorted(line.split(";")[0].rstrip("0123456789.<>=! ") for line in base)
    assert names == ["numpy", "onnxruntime", "soundfile", "soxr"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Provides-Extra") == ["mic", "serve", "opus", "fleet", "train", "export", "dev"]


def test_wheel_contains_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    top_level = {name.partition("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"lwasr_edge"}
    for package, folder in package_folders().items():
        for source in folder.glob("*.py"):
            assert f"{package.replace('.', '/')}/{source.name}" in names
    assert {"lwasr_edge/py.typed", "lwasr_edge/export/__init__.py", "lwasr_edge/export/cli.py"} <= names
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if "dist-info/licenses/" in name}


def test_wheel_contains_the_general_language_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [info for info in archive.infolist() if info.filename.endswith(".lm")]
    assert entry.filename == "lwasr_edge/decoding/general.lm"
    assert entry.compress_size < 2e6


def test_wheel_contains_the_default_model_and_its_card_but_no_checkpoints(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("lwasr_edge/models/") for name in archive.namelist() if "/models/" in name}
    default = "en-base"
    assert json.loads((ROOT / "models" / default / "card.json").read_text(encoding="utf-8"))["default"]
    assert names == {
        "__init__.py",
        *(f"{default}/{name}" for name in ("model.int8.onnx.gz", "model.int8.json", "card.md", "card.json")),
    }


def test_source_archive_contains_documents_and_every_model_that_has_a_card(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    documents = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "NOTICE", "LICENSE", "Makefile")
    for name in (*documents, "docs/README.md", "docs/decisions/README.md", "docs/MODEL_FORMAT.md"):
        assert name in names
    cards = sorted(ROOT.glob("models/*/card.json"))
    assert cards
    for card in cards:
        folder = f"models/{card.parent.name}"
        files = [entry["path"] for entry in json.loads(card.read_text(encoding="utf-8"))["files"]]
        assert {f"{folder}/{name}" for name in (*files, "card.json", "card.md", "about.json")} <= names
    assert "tests/packaging/wheel_check.sh" in names
    assert [name for name in names if name.endswith(".safetensors")] == []


def test_wheel_imports_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys, importlib.util as util; sys.path.insert(0, sys.argv[1]);"
        "import lwasr_edge, lwasr_edge.export, lwasr_edge.models;"
        "print(lwasr_edge.__file__, lwasr_edge.export.__file__, lwasr_edge.models.__file__, sep='\\n');"
        "print(util.find_spec('export'), util.find_spec('models'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, site], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    *files, last = done.stdout.splitlines()
    assert files == [str(site / "lwasr_edge" / part / "__init__.py") for part in (".", "export", "models")]
    assert last == "None None False"


def test_console_scripts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        lines = archive.read(name).decode().split()
    text = "".join(lines)
    assert text == (
        "[console_scripts]lwasr=lwasr_edge.cli:main"
        "lwasr-export=lwasr_edge.export.cli:mainlwasr-train=lwasr_edge.training.cli:main"
        "[pyinstaller40]hook-dirs=lwasr_edge.__pyinstaller:get_hook_dirs"
    )


def test_the_version_has_one_definition(metadata: Message) -> None:
    assert metadata["Version"] == lwasr_edge.__version__
    assert "version" not in pyproject()["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{lwasr_edge.__version__}] - " in changelog


def test_the_format_version_has_one_definition() -> None:
    title = (ROOT / "docs" / "MODEL_FORMAT.md").read_text(encoding="utf-8").splitlines()[0]
    assert title == f"# Model format, version {FORMAT_VERSION}"
    sources = [path for top in ("lwasr_edge", "export") for path in (ROOT / top).rglob("*.py")]
    sources = [path for path in sources if "lwasr.contract" in path.read_text(encoding="utf-8")]
    assert sources == [ROOT / "lwasr_edge" / "model_info.py"]


def test_the_wheel_check_installs_the_lower_bounds() -> None:
    script = (ROOT / "tests" / "packaging" / "wheel_check.sh").read_text(encoding="utf-8")
    for requirement in pyproject()["project"]["dependencies"]:
        assert f" {requirement.replace('>=', '==')} " in script


def test_the_workflow_covers_every_declared_python() -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    for job in jobs.values():
        assert job["runs-on"] and job["timeout-minutes"]
        assert set([needs] if isinstance(needs := job.get("needs", []), str) else needs) <= set(jobs)
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    for command in re.findall(r"tests/\S+\.sh", WORKFLOW.read_text(encoding="utf-8")):
        assert (ROOT / command).stat().st_mode & 0o100
    matrix = jobs["wheel"]["strategy"]["matrix"]
    classifiers = [line.rpartition(" ")[2] for line in pyproject()["project"]["classifiers"] if ":: 3." in line]
    assert matrix["python"] == classifiers
    assert {entry["runner"] for entry in matrix["include"]} == set(matrix["runner"])


def test_cards_for_people_are_those_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of about.json or of the text in benchmarks/cards.py, card.json and card.md must follow."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    render = importlib.import_module("cards").markdown
    for path in sorted(ROOT.glob("models/*/card.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        about = json.loads(path.with_name("about.json").read_text(encoding="utf-8"))
        assert {**card, **card["about"], **about} == {**card, **card["about"]}
        assert path.with_name("card.md").read_text(encoding="utf-8") == render(card)


def test_install_commands_work_from_a_checkout() -> None:
    """The project is on no package index yet: extras are installed as `pip install '.[mic]'`."""
    sources = [path for top in ("lwasr_edge", "export", "examples", "docs") for path in (ROOT / top).rglob("*")]
    sources = [path for path in (*sources, *ROOT.glob("*.md")) if path.suffix in (".py", ".md")]
    assert [path for path in sources if re.search(r"pip install \S?lwasr-edge\[", path.read_text("utf-8"))] == []


def test_every_package_folder_is_named_in_pyproject() -> None:
    folders = {folder for top in ("lwasr_edge", "export", "models") for folder in (ROOT / top).rglob("*")}
    found = {path for path in (*folders, ROOT / "export", ROOT / "models") if (path / "__init__.py").is_file()}
    assert found | {ROOT / "lwasr_edge"} == set(package_folders().values())


def imported_modules(source: Path) -> set[str]:
    """All modules that a file imports, inside functions too."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_point_from_export_to_training_to_runtime() -> None:
    runtime = [path for path in (ROOT / "lwasr_edge").rglob("*.py") if "training" not in path.parts]
    training = list((ROOT / "lwasr_edge" / "training").rglob("*.py"))
    assert runtime and training
    for sources, forbidden in (
        (runtime, ("torch", "onnx", "lwasr_edge.training", "lwasr_edge.export")),
        (training, ("lwasr_edge.export",)),
    ):
        for source in sources:
            bad = [n for n in imported_modules(source) if any(n == f or n.startswith(f + ".") for f in forbidden)]
            assert not bad, f"{source.relative_to(ROOT)} imports {sorted(set(bad))}"
