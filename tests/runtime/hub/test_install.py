"""Fetching from servers, folders and cards of strangers, and being killed while installing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import write_model_dir

from lwasr_edge import CatalogError, Recognizer
from lwasr_edge.errors import CatalogWarning
from lwasr_edge.hub import address, install
from lwasr_edge.hub.address import Address
from lwasr_edge.hub.catalog import default_model, find_model, installed_model, installed_models
from lwasr_edge.hub.fetch import fetch_model
from lwasr_edge.hub.install import remove_leftovers, replace_folder, staging_folder

Answer = Callable[[http.server.BaseHTTPRequestHandler, str], None]


def edited(directory: Path, **changes: object) -> Path:
    card = json.loads((directory / "card.json").read_text())
    (directory / "card.json").write_text(json.dumps({**card, **changes}))
    return directory


def other_model(directory: Path, name: str = "tiny", **changes: object) -> Path:
    """A model of that name with other files than `write_model_dir` makes."""
    write_model_dir(directory, "other")
    return edited(directory, name=name, **changes)


def names(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


# What may be replaced


def test_a_model_from_elsewhere_is_not_replaced(
    lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lwasr_edge.hub.fetch.try_model", lambda path, name: None)
    fetch_model(write_model_dir(tmp_path / "here" / "tiny"))
    stranger = other_model(tmp_path / "there" / "tiny", version="9")
    with pytest.raises(CatalogError, match="got 'tiny', which was fetched from elsewhere: pass --replace"):
        fetch_model(stranger)
    assert installed_model("tiny").card.version == "1"
    fetch_model(other_model(tmp_path / "here" / "tiny-2", version="2"))  # beside the first
    assert installed_model("tiny").card.version == "2"
    fetch_model(stranger, replace=True)
    assert installed_model("tiny").card.version == "9"
    with pytest.raises(CatalogError, match="elsewhere"):
        fetch_model(tmp_path / "here" / "tiny")
    assert names(lwasr_home) == [".tiny.previous", "tiny"]


def test_the_same_files_from_elsewhere_keep_their_origin(lwasr_home: Path, tmp_path: Path) -> None:
    fetch_model(write_model_dir(tmp_path / "here" / "tiny"))
    fetch_model(write_model_dir(tmp_path / "there" / "tiny"))
    assert installed_model("tiny").card.fields["fetched_from"] == str(tmp_path / "here" / "tiny")
    with pytest.raises(CatalogError, match="elsewhere"):
        fetch_model(other_model(tmp_path / "there" / "second"))


def test_a_packaged_model_is_not_replaced(lwasr_home: Path, tmp_path: Path) -> None:
    write_model_dir(tmp_path / "package-models" / "tiny", default=True)
    stranger = other_model(tmp_path / "there", default=True)
    with pytest.raises(CatalogError, match="got 'tiny', which is part of the package: pass --replace"):
        fetch_model(stranger)
    assert default_model().directory == tmp_path / "package-models" / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch_model(stranger, replace=True)
    assert default_model().directory == lwasr_home / "models" / "tiny"


def test_another_default_is_announced(lwasr_home: Path, tmp_path: Path) -> None:
    write_model_dir(tmp_path / "package-models" / "tiny", default=True)
    with pytest.warns(CatalogWarning, match="the default model is now 'mine', before it was 'tiny': remove .*mine"):
        fetch_model(other_model(tmp_path / "mine", name="mine", default=True))
    edited(lwasr_home / "models" / "mine", default=False)
    with pytest.warns(CatalogWarning, match="there is no default model now, before it was 'tiny'"):
        fetch_model(other_model(tmp_path / "second"), replace=True)


def test_a_folder_that_is_no_model_may_be_replaced(lwasr_home: Path, tmp_path: Path) -> None:
    (lwasr_home / "models" / "tiny").mkdir(parents=True)
    (lwasr_home / "models" / "tiny" / "card.json").write_text("{")
    fetch_model(write_model_dir(tmp_path / "tiny"))
    assert installed_model("tiny").card.version == "1"


# Trials


def test_what_is_no_model_is_not_installed(lwasr_home: Path, tmp_path: Path) -> None:
    fetch_model(write_model_dir(tmp_path / "tiny"))
    source = write_model_dir(tmp_path / "second")
    data = b"no model"
    (source / "model.onnx").write_bytes(data)
    files = json.loads((source / "card.json").read_text())["files"]
    files[1].update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    edited(source, version="2", files=files)
    with pytest.raises(
        CatalogError, match=r"'tiny' from .*second cannot be used and was not installed: model\.onnx can"
    ):
        fetch_model(source)
    assert installed_model("tiny").card.version == "1"
    assert names(lwasr_home) == ["tiny"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"it ends its process \(SIGSEGV\)"),
        ("import time; time.sleep(60)", "must run within 0.5 s, got none of it"),
        ("raise SystemExit('first line\\nlast line')", "was not installed: last line"),
        ("import sys; sys.exit(3)", "was not installed: exit status 3"),
    ],
)
def test_a_trial_that_fails(
    lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    monkeypatch.setattr("lwasr_edge.hub.trial._PROGRAM", program)
    monkeypatch.setattr("lwasr_edge.hub.trial.TRIAL_S", 0.5 if "sleep" in program else 60.0)
    with pytest.raises(CatalogError, match=message):
        fetch_model(write_model_dir(tmp_path / "tiny"))
    assert names(lwasr_home) == []


def test_a_default_that_cannot_be_opened_says_what_to_remove(lwasr_home: Path) -> None:
    folder = write_model_dir(lwasr_home / "models" / "tiny", default=True)
    for content in (b"no model", b"\x1f\x8bno model"):
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=rf"fetch the model again, or remove {folder}$"):
            Recognizer()
    (folder / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=rf"fetch the model again, or remove {folder}$"):
        Recognizer()


# Cards


@pytest.mark.parametrize(
    "change",
    [
        {"name": " "},
        {"name": "a\x1b[2J"},
        {"name": "a\rb"},
        {"name": "a" * 101},
        {"name": "ｔｉｎｙ"},
        {"version": ["1"]},
        {"version": "1" * 101},
        {"files": [{"path": f"{index}.onnx", "sha256": "0", "bytes": 1} for index in range(101)]},
        {"files": [{"path": "a.onnx", "sha256": "0", "bytes": 10**20}]},
        {"files": [{"path": "a b.onnx", "sha256": "0", "bytes": 1}]},
        {"files": [{"path": "./a.onnx", "sha256": "0", "bytes": 1}]},
        {"files": [{"path": "a//b.onnx", "sha256": "0", "bytes": 1}]},
        {"files": [{"path": "a/" * 200 + "b.onnx", "sha256": "0", "bytes": 1}]},
        {"files": [{"path": path, "sha256": "0", "bytes": 1} for path in ("a.onnx", "A.onnx")]},
        {"files": [{"path": path, "sha256": "0", "bytes": 1} for path in ("a.onnx", "a.onnx/b")]},
        {"files": [{"path": path, "sha256": "0", "bytes": 1} for path in ("a.onnx", "card.json")]},
        {"files": [{"path": path, "sha256": "0", "bytes": 1} for path in ("a.onnx", "a.onnx.part")]},
    ],
)
def test_cards_of_strangers(lwasr_home: Path, tmp_path: Path, change: dict) -> None:
    """None is fetched, and none that is already there hides another model."""
    source = edited(write_model_dir(tmp_path / "source"), **change)
    with pytest.raises(CatalogError) as raised:
        fetch_model(source)
    assert len(str(raised.value)) < 600
    write_model_dir(tmp_path / "package-models" / "tiny", default=True)
    edited(write_model_dir(lwasr_home / "models" / "x"), **change)
    with pytest.warns(CatalogWarning, match="was skipped"):
        assert default_model().card.name == "tiny"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "large", "deep"])
def test_cards_that_are_no_files(lwasr_home: Path, tmp_path: Path, kind: str) -> None:
    write_model_dir(tmp_path / "package-models" / "tiny", default=True)
    card = write_model_dir(lwasr_home / "models" / "x") / "card.json"
    card.unlink()
    if kind == "fifo":
        os.mkfifo(card)
    elif kind == "folder":
        card.mkdir()
    elif kind == "device":
        card.symlink_to("/dev/zero")
    else:
        card.write_text(" " * 2_000_000 if kind == "large" else '{"a":' * 100_000)
    with pytest.warns(CatalogWarning, match="was skipped"):
        assert default_model().card.name == "tiny"
    with pytest.raises(CatalogError):
        fetch_model(card.parent)


def test_a_pipe_as_a_file_of_a_model(lwasr_home: Path, tmp_path: Path) -> None:
    source = write_model_dir(tmp_path / "source")
    (source / "card.md").unlink()
    os.mkfifo(source / "card.md")
    with pytest.raises(CatalogError, match="must be a regular file, got a pipe"):
        fetch_model(source)


# Space


def test_a_model_that_is_too_large(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model_dir(tmp_path / "source")
    monkeypatch.setattr("lwasr_edge.hub.fetch.MAX_TOTAL_BYTES", 1 << 20)
    card = json.loads((source / "card.json").read_text())
    card["files"][0]["bytes"] = 3 << 20
    with pytest.raises(CatalogError, match="at most 1 MB, got 3 MB in the card of 'tiny': nothing was fetched"):
        fetch_model(edited(source, files=card["files"]))
    assert names(lwasr_home) == []


def test_a_full_disk(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model_dir(tmp_path / "source")
    usage = type("Usage", (), {"free": 500_000})
    monkeypatch.setattr("lwasr_edge.hub.fetch.shutil.disk_usage", lambda path: usage)
    with pytest.raises(CatalogError, match=r"'tiny' needs 0 MB in .*, got 0 MB: free some"):
        fetch_model(source)
    usage.free = 1 << 30

    def fail(file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lwasr_edge.hub.fetch.sync", fail)
    with pytest.raises(CatalogError, match="cannot be stored in .*No space left"):
        fetch_model(source)
    assert names(lwasr_home) == []  # the part does not keep the disk full


# Servers


class Server(http.server.ThreadingHTTPServer):
    """A web server that answers with a function."""

    daemon_threads = True
    answer: Answer

    def handle_error(self, *_: object) -> None:
        """Keep quiet: clients hang up."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.answer(self, self.path.rpartition("/")[2])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/tiny"


def send(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
    for _ in range(400):
        handler.wfile.write(b" ")
        time.sleep(0.01)


@pytest.mark.parametrize("slow", ["card.json", "model.onnx", "headers"])
def test_a_server_that_is_too_slow(
    lwasr_home: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    source = write_model_dir(tmp_path / "source")

    def answer(handler: http.server.BaseHTTPRequestHandler, name: str) -> None:
        if slow == "headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        elif name == slow:
            handler.send_response(200)
            handler.send_header("Content-Length", "45000")
            handler.end_headers()
        else:
            send(handler, (source / name).read_bytes())
            return
        drip(handler)

    server.answer = answer
    monkeypatch.setattr(address, "TIMEOUT_S", 0.3)
    began_at = time.monotonic()
    with pytest.raises(CatalogError, match=r"bytes in 0 s: the server is too slow"):
        fetch_model(url(server))
    assert time.monotonic() - began_at < 3.0


def test_a_slow_start_is_no_reason_to_stop(
    lwasr_home: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are counted over a while, and the time between reads does not count."""
    source = write_model_dir(tmp_path / "source")

    def answer(handler: http.server.BaseHTTPRequestHandler, name: str) -> None:
        time.sleep(0.1)
        send(handler, (source / name).read_bytes())

    server.answer = answer
    monkeypatch.setattr(address, "TIMEOUT_S", 0.5)
    fetch_model(url(server))
    assert find_model("tiny").is_file()


@pytest.mark.parametrize("target", ["ftp://127.0.0.1:1/x", "file:///etc/hostname", "data:application/json,{}"])
def test_redirects_that_are_not_followed(lwasr_home: Path, server: Server, target: str) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, name: str) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    server.answer = answer
    with pytest.raises(CatalogError, match="redirect|Redirection"):
        fetch_model(url(server))


def test_https_is_not_left() -> None:
    handler = address._RedirectHandler()
    asked = urllib.request.Request("https://a.example/card.json")
    with pytest.raises(CatalogError, match="must be answered over https, got a redirect to http://b.example/"):
        handler.redirect_request(asked, None, 302, "Found", {}, "http://b.example/")
    assert handler.redirect_request(asked, None, 302, "Found", {}, "https://b.example/").host == "b.example"


def test_where_an_answer_came_from(lwasr_home: Path, server: Server) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, name: str) -> None:
        if name == "gone":
            handler.send_error(404, "\x1b]0;owned\x07")
            return
        handler.send_response(302)
        handler.send_header("Location", "/gone")
        handler.end_headers()

    server.answer = answer
    with pytest.raises(CatalogError, match=r"answered 404 .*\(redirected to http://127.*/gone\)"):
        fetch_model(url(server))


@pytest.mark.parametrize("bad", ["http://[::1/", "http://\u2100.example/", "http://", "http://a b/", "http://\x01/"])
def test_addresses_that_are_none(lwasr_home: Path, bad: str) -> None:
    with pytest.raises(CatalogError):
        fetch_model(bad)


def test_origins_have_no_password() -> None:
    found = Address("HTTPS://me:secret@Host.example:8443/models/tiny/card.json")
    assert found.origin == "https://host.example:8443/models/tiny"
    assert found.siblings == "https://host.example:8443/models"
    assert Address("http://a.example").siblings == "http://a.example"


# Two at a time, and kills

FETCH = "import sys; from lwasr_edge.hub.fetch import fetch_model; fetch_model(sys.argv[1])"


def test_two_fetches_at_once_both_end_well(lwasr_home: Path, tmp_path: Path) -> None:
    source = write_model_dir(tmp_path / "source")
    running = [
        subprocess.Popen([sys.executable, "-c", FETCH, str(source)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
    assert names(lwasr_home) == ["tiny"]
    assert installed_model("tiny").card.version == "1"


def test_a_staging_folder_has_one_user(tmp_path: Path) -> None:
    with staging_folder(tmp_path, "m") as first, staging_folder(tmp_path, "m") as second:
        assert first.name == ".m.partial"
        assert second != first
        (first / "a").write_text("")
        (second / "a").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == [".m.partial"]  # the first can be resumed
    with staging_folder(tmp_path, "m") as third:
        assert third == first


def test_leftovers_of_killed_fetches(tmp_path: Path) -> None:
    old, new, private = (tmp_path / name for name in (".a.partial", ".b.partial", ".c.0123abcd.partial"))
    for folder in (old, new, private):
        folder.mkdir()
        (folder / "model.onnx.part").write_text("part")
        folder.with_name(folder.name + ".lock").write_bytes(b"")
    os.utime(old, (1, 1))
    (tmp_path / ".d.partial.lock").write_bytes(b"")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.partial", ".b.partial.lock"]
    with staging_folder(tmp_path, "b"):
        remove_leftovers(tmp_path)
        assert (new / "model.onnx.part").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.partial"]


def test_files_of_another_version_are_not_installed(lwasr_home: Path, tmp_path: Path) -> None:
    staging = lwasr_home / "models" / ".tiny.partial"
    (staging / "sub" / "deeper").mkdir(parents=True)
    (staging / "model.onnx").mkdir()
    for name in ("stranger.txt", "sub/deeper/x", "model.onnx/x"):
        (staging / name).write_text("of another version")
    (staging / "card.md").symlink_to("/etc/hostname")
    folder = fetch_model(write_model_dir(tmp_path / "source"))
    assert sorted(path.name for path in folder.rglob("*")) == ["card.json", "card.md", "model.onnx"]
    assert not (folder / "card.md").is_symlink()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kill_at_any_step_of_the_replacement(
    lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """Each operation on the disk fails once, as if the process had been killed there."""
    root = lwasr_home / "models"
    monkeypatch.setattr("lwasr_edge.hub.fetch.try_model", lambda path, name: None)
    if not can_exchange:
        monkeypatch.setattr(install, "_exchange", lambda one, other: False)
    for step in ("rename", "rmtree"):
        for count in range(3):
            shutil.rmtree(root, ignore_errors=True)
            write_model_dir(root / "tiny")
            edited(write_model_dir(root / ".tiny.partial"), version="2")
            with monkeypatch.context() as patch:
                kill_at(patch, step, count)
                with contextlib.suppress(KeyboardInterrupt):
                    replace_folder(root / ".tiny.partial", root / "tiny")
            assert installed_model("tiny").card.version in ("1", "2")
            assert Recognizer("tiny").info.name == "tiny"
            fetch_model(edited(write_model_dir(tmp_path / f"{step}{count}"), version="3"), replace=True)
            assert installed_model("tiny").card.version == "3"
            assert [model.directory.name for model in installed_models()] == ["tiny"]
            assert names(lwasr_home) == ["tiny"]


def kill_at(patch: pytest.MonkeyPatch, step: str, count: int) -> None:
    """Let the step of that number raise KeyboardInterrupt, as Ctrl-C does there."""
    calls = 0
    owner, name = (Path, "rename") if step == "rename" else (install.shutil, "rmtree")
    real = getattr(owner, name)

    def stop(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls > count:
            raise KeyboardInterrupt
        return real(*args, **options)

    patch.setattr(owner, name, stop)
