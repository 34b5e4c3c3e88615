"""Signed indexes of models for many devices: shares, old copies, hostile content, kills at any moment."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_version

from lwasr_edge import CatalogError, ChecksumError, MissingExtraError, Recognizer
from lwasr_edge.cli import main
from lwasr_edge.hub.catalog import installed_model, verify_model
from lwasr_edge.hub.fetch import fetch_model
from lwasr_edge.hub.fleet import device, index, update
from lwasr_edge.hub.fleet.index import parse_index, signed_bytes
from lwasr_edge.hub.fleet.publish import publish_models
from lwasr_edge.hub.fleet.signing import SecretKey, make_keys, read_public, read_secret
from lwasr_edge.hub.fleet.update import open_fleet, update_model
from lwasr_edge.hub.preference import config_path
from lwasr_edge.hub.versions import remove_model, roll_back

pytest.importorskip("nacl", reason="needs PyNaCl: pip install '.[fleet]'")
KEY = SecretKey(bytes(range(32)))


@pytest.fixture
def models(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Folders of three versions of a model; models are not tried."""
    monkeypatch.setattr("lwasr_edge.hub.fetch.try_model", lambda path, name: None)
    monkeypatch.delenv("LWASR_MODEL", raising=False)
    return {version: str(write_version(tmp_path / "made" / version, version)) for version in ("1", "2", "3")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "published"


def updated(folder: Path | str, name: str = "place", **options: bool) -> tuple[str, str]:
    """What an update did, and the version that is installed then."""
    outcome = update_model(open_fleet(str(folder), [KEY.public]), name, **options)
    return outcome.kind, installed_model(name).card.version


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of a folder on a web server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_from_keys_to_a_device_that_updates_itself(
    lwasr_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, folder = tmp_path / "company key", tmp_path / "published"
    assert main(["models", "keygen", str(key)]) == 0
    public = capsys.readouterr().out.split()[1]
    assert key.stat().st_mode & 0o077 == 0 and public in Path(f"{key}.pub").read_text()
    one = write_version(tmp_path / "one", "1")
    assert main(["models", "publish", str(folder), str(one), "--key", str(key)]) == 0
    with served(tmp_path) as address:
        url = f"{address}/published/"
        assert main(["models", "available", url]) == 0
        shown = capsys.readouterr()
        assert "all devices, for this one" in shown.out and "signature of the index was not checked" in shown.err
        assert main(["models", "update", url]) == 2
        assert main(["models", "update", url, "--key", public]) == 2
        assert "--model place" in capsys.readouterr().err
        assert main(["models", "update", url, "--key", f"{key}.pub", "--model", "place", "--save"]) == 0
        assert main(["models", "use", "place"]) == 0
        assert Recognizer(lm=None).info.name == "place"
        second = write_version(tmp_path / "two", "2")
        assert main(["models", "publish", str(folder), str(second), "--key", str(key)]) == 0
        capsys.readouterr()
        assert main(["models", "update"]) == 0
        assert "place: version 2 was installed, before it was 1" in capsys.readouterr().out
        assert main(["models", "available"]) == 0
        assert "for this one, installed" in capsys.readouterr().out
    assert json.loads(config_path().read_text())["updates"] == {"source": url, "keys": [public], "models": ["place"]}
    card = installed_model("place").card
    assert card.fields["signed_by"] == read_public(public).id and "fetched_from" in card.fields
    assert "fetched_from" not in (next((folder / "place").glob("v2-*")) / "card.json").read_text()


def test_an_update_that_was_rolled_back_is_not_installed_again(models: dict[str, str], folder: Path) -> None:
    publish_models(folder, [models["1"]], KEY)
    assert updated(folder) == (update.INSTALLED, "1")
    assert updated(folder) == (update.CURRENT, "1")
    publish_models(folder, [models["2"]], KEY)
    assert updated(folder) == (update.INSTALLED, "2")
    roll_back("place")
    assert updated(folder) == (update.ROLLED_BACK, "1")
    publish_models(folder, [models["3"]], KEY, 1 - 1e-9)  # 2 stays in the index
    assert updated(folder) == (update.INSTALLED, "3")
    assert roll_back("place").after == "1"
    assert updated(folder) == (update.ROLLED_BACK, "1")
    publish_models(folder, [models["3"]], KEY, 0.0)  # 2 is for all devices again
    assert updated(folder) == (update.ROLLED_BACK, "1")
    assert roll_back("place").after == "3"  # to it again: no longer one that was left
    publish_models(folder, [models["3"]], KEY)
    assert updated(folder) == (update.CURRENT, "3")


def test_shares_of_devices(
    models: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_models(folder, [models["1"]], KEY)

    def takers(version: str, share: float) -> set[int]:
        releases = publish_models(folder, [models[version]], KEY, share).releases
        assert releases[0].version == version
        return {number for number in range(2000) if device.is_for(releases[0], f"pi-{number}")}

    tenth, half = takers("2", 0.1), takers("2", 0.5)
    assert 150 < len(tenth) < 250 and 900 < len(half) < 1100 and tenth < half
    others = takers("3", 0.1)
    assert len(others & tenth) < 60  # not the same devices each time
    assert takers("3", 0) == set()
    assert len(takers("3", 1)) == 2000

    takers_of_4 = publish_models(folder, [str(write_version(folder.parent / "4", "4"))], KEY, 0.5).releases[0]
    names = [f"hall-{number}" for number in range(30)]
    inside = next(name for name in names if device.is_for(takers_of_4, name))
    outside = next(name for name in names if not device.is_for(takers_of_4, name))
    for name, version in ((outside, "3"), (inside, "4"), (outside, "4")):  # and what is installed stays
        monkeypatch.setattr("lwasr_edge.hub.fleet.update.device_id", lambda name=name: name)
        assert updated(folder)[1] == version
    publish_models(folder, [f"{folder.parent / '4'}"], KEY, 0)
    assert updated(folder) == (update.NEWER, "4")
    assert main(["models", "available", str(folder)]) == 0
    assert "none of the devices, installed" in capsys.readouterr().out


def test_what_identifies_a_device(lwasr_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "serial").write_bytes(b"10000000abc\0")
    monkeypatch.setattr(device, "IDENTIFIERS", (str(tmp_path / "none"), str(tmp_path / "serial")))
    assert device.device_id() == "10000000abc"
    monkeypatch.setattr(device, "IDENTIFIERS", ())
    made = device.device_id()
    assert len(made) == 32 and device.device_id() == made
    config_path().write_text('{"device": "hall-3"}')
    assert device.device_id() == "hall-3"


def test_what_may_be_published(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    publish_models(folder, [models["2"]], KEY, 0.5)
    with pytest.raises(CatalogError, match="must not be older than the published one, 2, got 1"):
        publish_models(folder, [models["1"]], KEY)
    changed = write_version(tmp_path / "changed", "2")
    card = json.loads((changed / "card.json").read_text())
    card["files"] = card["files"][1:]
    (changed / "card.json").write_text(json.dumps(card))
    with pytest.raises(CatalogError, match="version of 'place' must change with its files"):
        publish_models(folder, [str(changed)], KEY)
    (Path(models["3"]) / "card.md").write_text("4")
    with pytest.raises(CatalogError, match=r"card\.md must be as its card says, got: damaged"):
        publish_models(folder, [models["3"]], KEY)
    (changed / "card.json").write_text(json.dumps({**card, "version": ""}))
    with pytest.raises(CatalogError, match="devices need it to tell which is newer"):
        publish_models(folder, [str(changed)], KEY)
    with pytest.raises(CatalogError, match="must be signed by the key"):
        publish_models(folder, [models["2"]], SecretKey(bytes(32)))
    tampered = (folder / "index.json").read_text().replace('"share": 0.5', '"share": 1.0')
    (folder / "index.json").write_text(tampered)
    with pytest.raises(CatalogError, match="got another signature"):  # it is not signed again
        publish_models(folder, [models["2"]], KEY)


def test_an_old_index_is_refused(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    publish_models(folder, [models["1"]], KEY)
    old = shutil.copytree(folder, tmp_path / "mirror")
    updated(folder)
    publish_models(folder, [models["2"]], KEY)
    assert updated(folder) == (update.INSTALLED, "2")
    with pytest.raises(CatalogError, match="must not be older than the last one, number .* it may be an old copy"):
        updated(old)
    remove_model("place")
    with pytest.raises(CatalogError, match="must not be older"):
        updated(old)
    shutil.rmtree(folder)  # a folder that was lost is made anew
    publish_models(folder, [models["3"]], KEY)
    time_of_2 = json.loads((old / "index.json").read_text())["signed"]["serial"]
    assert json.loads((folder / "index.json").read_text())["signed"]["serial"] >= time_of_2
    (installed_folder := tmp_path / "home" / "models" / device.STATE_NAME).write_text("[]")
    with pytest.raises(CatalogError, match="must be a note of the last indexes"):
        updated(folder)
    installed_folder.unlink()
    assert updated(folder) == (update.INSTALLED, "3")


def test_files_that_are_not_those_of_the_index(models: dict[str, str], folder: Path) -> None:
    publish_models(folder, [models["1"]], KEY)
    (release,) = open_fleet(str(folder), [KEY.public]).index.releases
    card, text = folder / release.path / "card.json", folder / release.path / "card.md"
    original = card.read_text()
    card.write_text(original.replace('"licence"', '"Licence"'))
    with pytest.raises(ChecksumError, match="must be the card of the index"):
        updated(folder)
    card.write_text(original)
    text.write_text("2")
    with pytest.raises(ChecksumError, match="must have the size and SHA-256"):
        updated(folder)
    text.unlink()
    with pytest.raises(CatalogError, match="cannot be read"):
        updated(folder)
    with pytest.raises(CatalogError, match="must be one of the index"):
        updated(folder, "other")


def test_models_from_elsewhere(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    publish_models(folder, [models["2"]], KEY)
    fetch_model(models["1"])
    with pytest.raises(CatalogError, match="was fetched from elsewhere: pass --replace"):
        updated(folder)
    assert updated(folder, replace=True) == (update.INSTALLED, "2")
    moved = shutil.copytree(folder, tmp_path / "moved")  # another server, the same key
    publish_models(moved, [models["3"]], KEY)
    assert updated(moved) == (update.INSTALLED, "3")
    new_key = SecretKey(bytes(32))  # takes the place of the old one, in a folder of its own
    publish_models(tmp_path / "new", [str(write_version(tmp_path / "4", "4"))], new_key)
    for keys, version in (([new_key.public], "3"), ([KEY.public, new_key.public], "4")):
        with contextlib.suppress(CatalogError):
            update_model(open_fleet(str(tmp_path / "new"), keys), "place")
        assert installed_model("place").card.version == version


def test_a_signature_of_another_key(models: dict[str, str], folder: Path) -> None:
    publish_models(folder, [models["1"]], KEY)
    other = SecretKey(bytes(32)).public
    with pytest.raises(CatalogError, match=f"must be signed by the key {other.id}, got another signature"):
        open_fleet(str(folder), [other])
    assert open_fleet(str(folder), [other, KEY.public]).index.key_id == KEY.public.id
    with pytest.raises(CatalogError, match="must be checked with a key"):
        update_model(open_fleet(str(folder), None), "place")
    envelope = json.loads((folder / "index.json").read_text())
    for signature in ("", None, 3, [], "x", "A" * 88):
        (folder / "index.json").write_text(json.dumps({**envelope, "signature": signature}))
        with pytest.raises(CatalogError, match=r"must be signed by the key .*, got (no|another) signature"):
            open_fleet(str(folder), [KEY.public])


GOOD = {
    "name": "place",
    "version": "1",
    "path": "place/v1",
    "share": 1.0,
    "card": {"path": "card.json", "sha256": "0" * 64, "bytes": 100},
    "files": [{"path": "model.onnx", "sha256": "0" * 64, "bytes": 100}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../../etc"}, "name must be of letters"),
        ({"name": ".hidden"}, "name must be of letters"),
        ({"name": 3}, "name must be a printable string"),
        ({"name": "a" * 200}, "at most 100 characters"),
        ({"version": "\x1b[31m"}, "version must be a printable string"),
        ({"version": None}, "version must be a printable string"),
        ({"path": "/etc"}, "path must be inside"),
        ({"path": "place/../../x"}, "path must be inside"),
        ({"path": "http://x/"}, "path must be inside"),
        ({"path": "a?b#c"}, "path must be inside"),
        ({"share": "1"}, "share must be a finite number"),
        ({"share": 2}, "share must be a finite number >= 0 and <= 1"),
        ({"share": True}, "share must be a finite number"),
        ({"card": {**GOOD["card"], "path": "../card.json"}}, "card must be card.json"),
        ({"card": None}, "each file must be an object, got None"),
        ({"files": []}, "files must be a list of 1 to 100"),
        ({"files": [GOOD["files"][0]] * 101}, "files must be a list of 1 to 100"),
        ({"files": [{**GOOD["files"][0], "path": "../x"}]}, "must be inside the model's folder"),
        ({"files": [{**GOOD["files"][0], "path": "a\x00"}]}, "must be inside the model's folder"),
        ({"files": [{**GOOD["files"][0], "bytes": -1}]}, "bytes must be a whole number"),
        ({"files": [3]}, "each file must be an object, got 3"),
        ({"files": [GOOD["files"][0]] * 2}, "each path must be another one"),
        ({"files": "model.onnx"}, "files must be a list"),
        ({"files": [{**GOOD["files"][0], "sha256": 1}]}, "sha256 must be a string"),
    ],
)
def test_hostile_releases(change: dict, message: str) -> None:
    """Also if they are signed: the key may have been stolen."""
    signed = {"format": 1, "serial": 1, "created": "now", "releases": [{**GOOD, **change}]}
    data = json.dumps({"signed": signed, "key": "", "signature": ""}).encode()
    with pytest.raises(CatalogError, match=message) as caught:
        parse_index(data, "index.json", None)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"signed": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"signed": {"format": NaN}}',
        b'{"signed": {"format": 2}}',
        b'{"signed": {"format": 1, "serial": -1, "created": "", "releases": []}}',
        b'{"signed": {"format": 1' + b"0" * 5000 + b"}}",
        b'{"signed": {"format": 1, "serial": 1e400, "created": "", "releases": []}}',
        b'{"signed": {"format": 1, "serial": 1, "created": "", "releases": {}}}',
        b'{"signed": {"format": 1, "serial": 1, "created": "", "releases": [[]]}}',
        b'{"signed": {"format": 1, "serial": 1, "created": "\\ud800", "releases": []}}',
        json.dumps({"signed": {"format": 1, "serial": 1, "created": "", "releases": [GOOD] * 2}}).encode(),
        json.dumps({"signed": {"format": 1, "serial": 1, "created": "", "releases": [GOOD] * 501}}).encode(),
    ],
)
def test_hostile_indexes(data: bytes, lwasr_home: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "index.json").write_bytes(data)
    for options in ([], ["--key", KEY.public.line]):
        assert main(["models", "available", str(folder), *options]) == 2
        shown = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
        assert len(shown) == 1 and "index.json must be" in shown[0]


def test_indexes_without_end(lwasr_home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MAX_INDEX_BYTES", 1000)
    folder.mkdir()
    (folder / "index.json").write_bytes(b" " * 5000)
    with pytest.raises(CatalogError, match="at most 1000 bytes"):
        open_fleet(str(folder), None)
    with served(folder) as address, pytest.raises(CatalogError, match="larger than 1000 bytes: it is not an index"):
        open_fleet(address, None)
    (folder / "index.json").unlink()
    (folder / "index.json").symlink_to("index.json")
    with pytest.raises(CatalogError, match="cannot be read"):
        open_fleet(str(folder), None)
    with pytest.raises(CatalogError, match=r"http\(s\) address"):
        open_fleet("ftp://127.0.0.1/", None)


def test_what_is_signed_does_not_depend_on_how_it_is_written() -> None:
    one = json.loads('{"b": [1, 2.5], "a": "\\u00e9"}')
    two = json.loads('{ "a": "\u00e9", "a": "\u00e9", "b":[1,2.50] }')
    assert signed_bytes(one) == signed_bytes(two) == b'{"a":"\\u00e9","b":[1,2.5]}'
    message = signed_bytes(one)
    assert KEY.public.has_signed(message, KEY.sign(message))
    assert not KEY.public.has_signed(message + b" ", KEY.sign(message))
    # RFC 8032, section 7.1, test 1: the public key of this secret key.
    secret = SecretKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert secret.public.data.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = make_keys(tmp_path / "key")
    assert read_secret(tmp_path / "key").public == public
    for form in (public.line, public.line.split()[1], str(tmp_path / "key.pub")):
        assert read_public(form) == public
    with pytest.raises(CatalogError, match="must not exist"):
        make_keys(tmp_path / "key")
    with pytest.raises(
        CatalogError, match=r"must be a lwasr-public-key, got a lwasr-secret-key: .* with \.pub"
    ) as found:
        read_public(str(tmp_path / "key"))
    assert (tmp_path / "key").read_text().split()[1] not in str(found.value)
    with pytest.raises(CatalogError, match="must be a lwasr-secret-key, got a lwasr-public-key"):
        read_secret(tmp_path / "key.pub")
    for content in ("", "lwasr-public-key", "lwasr-public-key ?", "lwasr-public-key AAAA", "x" * 2000, "\x00\xff"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(CatalogError, match="must be a lwasr-public-key|at most 1000 bytes"):
            read_public(str(tmp_path / "bad"))
    with pytest.raises(CatalogError, match="cannot be read"):
        read_public(str(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "nacl", None)
    monkeypatch.setitem(sys.modules, "nacl.signing", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[fleet\]'"):
        KEY.sign(b"")


@pytest.mark.parametrize("content", ["3", "[]", '{"source": 3}', '{"keys": "a"}', '{"models": [3]}'])
def test_settings_that_are_none(content: str, lwasr_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lwasr_home.mkdir()
    config_path().write_text(f'{{"updates": {content}}}')
    assert main(["models", "update"]) == 2
    assert "updates in " in capsys.readouterr().err


KILLED = """
import hashlib, itertools, json, os, shutil, sys
from pathlib import Path
from lwasr_edge.hub import fetch, versions
from lwasr_edge.hub.fleet import publish, signing, update
fetch.try_model = lambda path, name: None
key, made, folder = signing.SecretKey(bytes(range(32))), Path(sys.argv[1]), Path(sys.argv[2])
card = json.loads((made / "card.json").read_text())
def make(version):  # a folder of its own: an unfinished one is left alone
    new = shutil.copytree(made, made.with_name(f"{version}-{os.getpid()}"))
    (new / "card.md").write_text(version)
    card["files"][0] |= {"sha256": hashlib.sha256(version.encode()).hexdigest(), "bytes": len(version)}
    (new / "card.json").write_text(json.dumps({**card, "version": version}))
    return str(new)
print("ready", flush=True)
for number in itertools.count(int(sys.argv[3])):
    publish.publish_models(folder, [make(f"1.{number}")], key, (1, 0.99)[number % 2])
    update.update_model(update.open_fleet(str(folder), [key.public]), "place")
    versions.roll_back("place")
    print(number, flush=True)
"""


def kill_in_a_loop(kills: int, made: Path, folder: Path, seed: int = 0, longest_s: float = 0.25) -> int:
    """Kill a program that publishes, updates and rolls back, and check what it leaves; returns the last version."""
    chance, number = random.Random(seed), 2
    for _ in range(kills):
        command = [sys.executable, "-c", KILLED, str(made), str(folder), str(number)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, longest_s))
        process.send_signal(signal.SIGKILL)
        done = process.stdout.read().split()
        assert process.wait() == -signal.SIGKILL  # it had not failed before
        process.stdout.close()
        number = int(done[-1] if done else number) + 2
        model = installed_model("place")
        assert all(verdict == "ok" for _, verdict in verify_model(model))
        assert model.card.fields["signed_by"] == KEY.public.id
        Recognizer("place", lm=None)
        published = open_fleet(str(folder), [KEY.public])
        for release in published.index.releases:
            for file in (release.card, *release.files):
                assert hashlib.sha256((folder / release.path / file.path).read_bytes()).hexdigest() == file.sha256
    return number


def test_a_kill_at_any_moment_leaves_a_model_and_an_index(models: dict[str, str], folder: Path) -> None:
    publish_models(folder, [models["1"]], KEY)
    assert updated(folder) == (update.INSTALLED, "1")
    number = kill_in_a_loop(8, Path(models["2"]), folder)
    last = str(write_version(folder.parent / "last", f"1.{number}"))
    publish_models(folder, [last], KEY)
    assert updated(folder) == (update.INSTALLED, f"1.{number}")
    assert roll_back("place").after != f"1.{number}"
