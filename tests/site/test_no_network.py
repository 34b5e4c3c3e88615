"""No command of a site opens a connection: in a network namespace without devices, and with every socket refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_model_dir
from site_folder import spoken, write_folder

# Python tells the hook of each socket. Native code, and the process in which a model is tried, have the namespace.
PROGRAM = """
import json, os, socket, sys
def refuse(event, args):
    if event.startswith("socket.") or event in ("urllib.Request", "http.client.connect", "ftplib.connect"):
        os.write(2, f"network: {event} {args}\\n".encode())
        os._exit(99)
sys.addaudithook(refuse)
import numpy as np
from lwasr_edge.cli import main
from lwasr_edge.cli.site import recording
from lwasr_edge.site.takes import Take
samples = np.load(sys.argv[2])
def record_take(device, ended, show):
    take = Take(16_000)
    show(take.accept(samples)[0])
    while not ended():
        pass
    return take
recording.record_take = record_take  # the microphone
for command, typed in json.loads(sys.argv[1]):
    reader, writer = os.pipe()
    os.write(writer, typed.encode())
    os.close(writer)
    sys.stdin = os.fdopen(reader)
    code = main(command)
    print(json.dumps([command[:2], code]), flush=True)
"""


def namespace() -> list[str]:
    """A command that runs another without network devices; skips the test where that is not permitted."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Linux)")
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("this machine permits no network namespace")


def commands(root: Path, tmp_path: Path) -> list[tuple[list[str], str]]:
    """Every command of docs/site.md with a folder instead of an address, and what is typed."""
    model, first, second = (str(tmp_path / name) for name in ("m1", "m1", "m2"))
    page, folder, key = (str(tmp_path / name) for name in ("page.html", "published", "key"))
    record = ["site", "record", str(tmp_path / "new"), "--prompts", str(tmp_path / "prompts.txt"), "--speaker", "7"]
    record += ["--purpose", "test", "--keep-until", "2999-12-31"]
    check = ["site", "check", str(root), "--model", str(Path(model) / "model.onnx")]
    return [
        (record, "y\n\n\n\n\n\n\nq\n"),
        ([*check, "--words", str(tmp_path / "words.txt"), "--report", page, "--with-audio", "--language", "ja"], ""),
        ([*check, "--json"], ""),
        (["models", "install", first], ""),
        (["models", "install", second], ""),
        (["models", "use", "tiny"], ""),
        (["models", "list"], ""),
        (["models", "verify", "tiny"], ""),
        (["models", "rollback"], ""),
        (["models", "rollback", "tiny"], ""),
        (["models", "keygen", key], ""),
        (["models", "publish", folder, second, "--key", key], ""),
        (["models", "available", folder, "--key", f"{key}.pub"], ""),
        (["models", "update", folder, "--key", f"{key}.pub", "--model", "tiny", "--replace", "--save"], ""),
        (["models", "update"], ""),
        (["models", "remove", "tiny"], ""),
        (["site", "erase", str(root), "--yes"], ""),
    ]


def test_nothing_is_sent(tmp_path: Path) -> None:
    import numpy as np

    pytest.importorskip("nacl", reason="needs PyNaCl: pip install '.[fleet]'")
    start = namespace()
    root = write_folder(tmp_path / "folder", 3)
    np.save(tmp_path / "speech.npy", spoken("one two"))
    (tmp_path / "prompts.txt").write_text("one two\n")
    (tmp_path / "words.txt").write_text("four\n")
    for name, version in (("m1", "1"), ("m2", "2")):
        card = json.loads((write_model_dir(tmp_path / name) / "card.json").read_text())
        files = card["files"] if version == "1" else card["files"][1:]
        (tmp_path / name / "card.json").write_text(json.dumps({**card, "version": version, "files": files}))
    wanted = commands(root, tmp_path)
    program = [sys.executable, "-c", PROGRAM, json.dumps(wanted), str(tmp_path / "speech.npy")]
    environment = {**os.environ, "LWASR_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "ignore"}
    environment.pop("LWASR_MODEL", None)
    ended = subprocess.run([*start, *program], capture_output=True, text=True, env=environment)
    done = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[[")]
    assert (ended.returncode, done) == (0, [[command[:2], 0] for command, _ in wanted]), ended.stderr
    assert (tmp_path / "new" / "7" / "0001.wav").is_file()
    assert not list(root.glob("*.wav")) and not (tmp_path / "page.html").exists()  # erased


def test_the_guard_sees_a_connection(tmp_path: Path) -> None:
    (tmp_path / "speech.npy").write_bytes(b"")
    program = PROGRAM.replace("samples = np.load(sys.argv[2])", "samples = None")
    command = [(["models", "available", "http://127.0.0.1:9/"], "")]
    ended = subprocess.run([sys.executable, "-c", program, json.dumps(command)], capture_output=True, text=True)
    assert ended.returncode == 99 and "network: " in ended.stderr
