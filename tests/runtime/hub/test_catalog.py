"""Finding, verifying and fetching models."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_model_dir
from locations import ROOT

from lwasr_edge import CatalogError, ChecksumError, ModelNotFoundError, OptionError, Recognizer
from lwasr_edge.errors import CatalogWarning
from lwasr_edge.hub.catalog import (
    default_model,
    find_model,
    installed_model,
    installed_models,
    packaged_models_dir,
    parse_card,
    read_card,
    sha256_of,
    user_models_dir,
    verify_model,
)
from lwasr_edge.hub.fetch import fetch_model


def edit_card(directory: Path, **changes: object) -> None:
    card = json.loads((directory / "card.json").read_text())
    (directory / "card.json").write_text(json.dumps({**card, **changes}))


def test_folder_of_the_users_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LWASR_HOME", str(tmp_path))
    assert user_models_dir() == tmp_path / "models"
    monkeypatch.delenv("LWASR_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert user_models_dir() == tmp_path / "data" / "lwasr" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_models_dir() == tmp_path / ".local" / "share" / "lwasr" / "models"


def test_folder_of_the_packages_models() -> None:
    assert packaged_models_dir().name == "models"
    assert packaged_models_dir().parent.name in ("lwasr_edge", ROOT.name)


def test_nothing_installed(lwasr_home: Path) -> None:
    assert installed_models() == []
    with pytest.raises(ModelNotFoundError, match=r"no installed model is the default.*installed: none"):
        find_model()


def test_the_users_models_come_first(lwasr_home: Path, tmp_path: Path) -> None:
    write_model_dir(tmp_path / "package-models" / "a", "a", default=True)
    write_model_dir(tmp_path / "package-models" / "b", "b")
    mine = write_model_dir(lwasr_home / "models" / "a", "a")
    assert [(model.card.name, model.directory) for model in installed_models()] == [
        ("a", mine),
        ("b", tmp_path / "package-models" / "b"),
    ]
    assert find_model("a") == mine / "model.onnx"
    with pytest.raises(ModelNotFoundError, match="is the default"):  # the card of `a` has no "default"
        default_model()


def test_a_broken_card_of_the_user_leaves_the_other_models(lwasr_home: Path, tmp_path: Path) -> None:
    write_model_dir(tmp_path / "package-models" / "a", "a", default=True)
    broken = write_model_dir(lwasr_home / "models" / "b", "b")
    (broken / "card.json").write_text("")
    with pytest.warns(CatalogWarning, match=r"was skipped, .*: remove .*b, or fetch the model again"):
        assert default_model().card.name == "a"
    (tmp_path / "package-models" / "a" / "card.json").write_text("")
    with pytest.raises(CatalogError), pytest.warns(CatalogWarning):
        installed_models()


def test_the_default_is_marked_or_the_only_one(lwasr_home: Path) -> None:
    write_model_dir(lwasr_home / "models" / "a", "a")
    assert default_model().card.name == "a"
    write_model_dir(lwasr_home / "models" / "b", "b", default=True)
    assert default_model().card.name == "b"


def test_paths_are_models_too(lwasr_home: Path, tmp_path: Path) -> None:
    directory = write_model_dir(tmp_path / "somewhere")
    assert find_model(directory) == find_model(str(directory)) == directory / "model.onnx"
    assert find_model(directory / "model.onnx") == directory / "model.onnx"
    with pytest.raises(ModelNotFoundError, match=r"one of the installed models \(none\), got \'somewhere\'"):
        find_model("somewhere")


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.int8.onnx.gz"])
def test_the_first_onnx_file_runs(name: str) -> None:
    files = [{"path": path, "sha256": "0", "bytes": 1} for path in ("card.md", name, "model.float32.onnx")]
    card = parse_card(json.dumps({"name": "a", "files": files}).encode(), "card")
    assert card.model_file.path == name
    assert (card.version, card.is_default) == ("", False)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("", "must be a model card"),
        ("[]", "must be a model card"),
        ("null", "must be a model card"),
        ("3", "must be a model card"),
        ('"text"', "must be a model card"),
        ("[" * 100_000, "must be a model card"),
        ('{"name": "a"}', "'files' is missing"),
        ('{"name": "a", "files": null}', "must be a model card"),
        ('{"name": "a", "files": {"path": "a.onnx"}}', "must be a model card"),
        ('{"name": "a", "files": ["a.onnx"]}', "must be a model card"),
        ('{"name": "a", "files": [{"path": "a.onnx"}]}', "'bytes' is missing"),
        ('{"name": "a", "files": [{"path": "a.onnx", "bytes": 1}]}', "'sha256' is missing"),
        ('{"name": "a", "files": [{"path": null, "sha256": "0", "bytes": 1}]}', "path must be a string, got None"),
        ('{"name": "a", "files": [{"path": "a.onnx", "sha256": 0, "bytes": 1}]}', "sha256 must be a string, got 0"),
        (
            '{"name": "a", "files": [{"path": "a.onnx", "sha256": "0", "bytes": Infinity}]}',
            "bytes must be a whole number",
        ),
        ('{"name": "a", "files": [{"path": "a.onnx", "sha256": "0", "bytes": "1"}]}', "bytes must be a whole number"),
        (
            '{"name": "a", "files": [{"path": "a.onnx", "sha256": "0", "bytes": -1}]}',
            "bytes must be a whole number >= 0",
        ),
        ('{"name": ["a"], "files": []}', "name must be a string"),
        ('{"name": "\\ud800", "files": []}', "must be a model card"),
        ('{"name": "a", "files": []}', r"must list an \.onnx or \.onnx\.gz file, got \[\]"),
        ('{"name": "../a", "files": []}', "must be usable as a folder's name"),
        ('{"name": "", "files": []}', "must be usable as a folder's name"),
        ('{"name": "a", "files": [{"path": "../x.onnx", "sha256": "0", "bytes": 1}]}', "inside the model's folder"),
        ('{"name": "a", "files": [{"path": "/x.onnx", "sha256": "0", "bytes": 1}]}', "inside the model's folder"),
        ('{"name": "a", "files": [{"path": "x\\u0000.onnx", "sha256": "0", "bytes": 1}]}', "inside the model's folder"),
    ],
)
def test_invalid_cards(card: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(card)
    with pytest.raises(CatalogError, match=message):
        read_card(tmp_path / "card.json")


def test_a_card_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(CatalogError, match="must be a model card"):
        read_card(tmp_path / "card.json")


def test_a_folder_or_file_does_not_hide_an_installed_model(
    default_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find_model("tiny") == default_model / "model.onnx"
    assert Recognizer("tiny").info.name == "tiny"
    (tmp_path / "tiny").rmdir()
    (tmp_path / "tiny").write_bytes(b"other")
    assert find_model("tiny") == default_model / "model.onnx"
    assert find_model("./tiny") == find_model(Path("tiny")) == Path("tiny")
    (tmp_path / "tiny").unlink()
    write_model_dir(tmp_path / "tiny", "mine")  # a folder with a card is a model
    assert find_model("tiny") == Path("tiny/model.onnx")


def test_folders_that_are_not_models(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for model in ("empty", "./empty", "empty/", Path("empty"), tmp_path / "empty", "."):
        with pytest.raises(ModelNotFoundError, match=r"folder with a card\.json, got the folder"):
            find_model(model)
    (tmp_path / "exported").write_bytes(b"")
    assert find_model("exported") == Path("exported")
    for model in (3, b"tiny", ["tiny"]):
        with pytest.raises(OptionError, match="model must be a name, a path or None"):
            find_model(model)


def test_verify(default_model: Path) -> None:
    model = installed_model("tiny")
    assert [(file.path, verdict) for file, verdict in verify_model(model)] == [("card.md", "ok"), ("model.onnx", "ok")]
    data = bytearray((default_model / "model.onnx").read_bytes())
    data[1000] ^= 1
    (default_model / "model.onnx").write_bytes(data)
    (default_model / "card.md").unlink()
    verdicts = {file.path: verdict for file, verdict in verify_model(model)}
    assert verdicts == {"card.md": "missing", "model.onnx": "damaged: its SHA-256 is not the one in the card"}
    (default_model / "model.onnx").write_bytes(data[:100])
    verdicts = {file.path: verdict for file, verdict in verify_model(model)}
    assert verdicts["model.onnx"].startswith("damaged: 100 bytes, must be ")


# Fetching


class Server(http.server.ThreadingHTTPServer):
    """A web server that can resume, break off, and count."""

    root: Path
    break_after: int | None = None
    ignores_ranges = False
    requests: list[tuple[str, str | None]]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        path = self.server.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not self.server.ignores_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        limit = self.server.break_after if path.suffix == ".onnx" and self.server.break_after else len(data)
        self.wfile.write(data[start : start + limit])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    served = Server(("127.0.0.1", 0), Handler)
    served.root = tmp_path / "served"
    served.requests = []
    write_model_dir(served.root / "tiny")
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/tiny"


def left_behind(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


def test_fetch_from_a_directory(lwasr_home: Path, tmp_path: Path) -> None:
    source = write_model_dir(tmp_path / "source")
    reported = []
    directory = fetch_model(source, progress=lambda *done: reported.append(done))
    assert directory == lwasr_home / "models" / "tiny"
    assert sorted(path.name for path in directory.iterdir()) == ["card.json", "card.md", "model.onnx"]
    assert Recognizer("tiny").info.name == "tiny"
    assert reported[-1] == ("model.onnx", 45_047, 45_047) or reported[-1][1] == reported[-1][2] > 1000
    assert left_behind(lwasr_home) == ["tiny"]


def test_fetch_from_an_address(lwasr_home: Path, server: Server) -> None:
    for address in (url(server), url(server) + "/", url(server) + "/card.json"):
        directory = fetch_model(address)
        assert sha256_of(directory / "model.onnx") == sha256_of(server.root / "tiny" / "model.onnx")
    assert left_behind(lwasr_home) == ["tiny"]


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_fetch_resumes(lwasr_home: Path, server: Server, ignores_ranges: bool) -> None:
    server.break_after = 20_000
    with pytest.raises(CatalogError, match="resume"):
        fetch_model(url(server))
    assert installed_models() == []
    server.break_after = None
    server.ignores_ranges = ignores_ranges
    server.requests.clear()
    fetch_model(url(server))
    assert ("/tiny/model.onnx", "bytes=20000-") in server.requests
    assert "/tiny/card.md" not in [path for path, _ in server.requests]  # it was complete
    assert [verdict for _, verdict in verify_model(installed_model("tiny"))] == ["ok", "ok"]


def test_fetch_refuses_other_bytes(lwasr_home: Path, tmp_path: Path) -> None:
    source = write_model_dir(tmp_path / "source")
    data = bytearray((source / "model.onnx").read_bytes())
    data[-1] ^= 1
    (source / "model.onnx").write_bytes(data)
    with pytest.raises(
        ChecksumError,
        match=r"model\.onnx must have the size and SHA-256 in the card, got others: the download was discarded",
    ):
        fetch_model(source)
    (source / "model.onnx").write_bytes(data * 2)
    with pytest.raises(ChecksumError, match=r"model\.onnx must have the size"):
        fetch_model(source)
    assert installed_models() == []


def test_fetch_keeps_the_old_model_until_the_new_one_is_complete(lwasr_home: Path, tmp_path: Path) -> None:
    fetch_model(write_model_dir(tmp_path / "source"))
    newer = write_model_dir(tmp_path / "newer")
    edit_card(newer, version="2")
    (newer / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(CatalogError):
        fetch_model(newer)
    assert installed_model("tiny").card.version == "1"
    (newer / "model.onnx").write_bytes((tmp_path / "source" / "model.onnx").read_bytes())
    fetch_model(newer)
    assert installed_model("tiny").card.version == "2"
    assert left_behind(lwasr_home) == ["tiny"]


def test_a_checksum_of_the_caller(lwasr_home: Path, tmp_path: Path) -> None:
    source = write_model_dir(tmp_path / "source")
    with pytest.raises(ChecksumError, match="nothing was fetched"):
        fetch_model(source, sha256="0" * 64)
    fetch_model(source, sha256=sha256_of(source / "model.onnx").upper())


def test_invalid_sources(lwasr_home: Path, server: Server, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"card\.json cannot be read: No such file"):
        fetch_model(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match="answered 404"):
        fetch_model(url(server) + "/nowhere")
    with pytest.raises(CatalogError, match=r"http\(s\) address"):
        fetch_model("ftp://127.0.0.1/tiny")
    with pytest.raises(CatalogError, match="cannot be reached"):
        fetch_model("http://127.0.0.1:9/tiny")
    for address in ("http://127.0.0.1:9x/tiny", "http://127.0.0.1:9/a model"):
        with pytest.raises(CatalogError, match=r"cannot be reached: (nonnumeric port|URL can't contain)"):
            fetch_model(address)
    (server.root / "tiny" / "card.json").write_bytes(b" " * 2_000_000)
    with pytest.raises(CatalogError, match="not a model card"):
        fetch_model(url(server))


def test_a_server_of_another_kind(lwasr_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(CatalogError, match=r"cannot be reached: SSH-2\.0"):
            fetch_model(f"http://127.0.0.1:{listening.getsockname()[1]}/tiny")
        answering.join()


def test_a_folder_that_cannot_be_written(lwasr_home: Path, tmp_path: Path) -> None:
    lwasr_home.write_text("a file where the directory should be")
    with pytest.raises(CatalogError, match="cannot be stored"):
        fetch_model(write_model_dir(tmp_path / "source"))
