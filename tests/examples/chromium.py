"""Chromium without a window, driven through its debugging pipe (the Chrome DevTools Protocol)."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


class Chromium:
    """A browser with a new profile, and one page at a time.

    Args:
        profile: an empty folder.
        microphone: a WAV file that the fake microphone plays once.
    """

    def __init__(self, profile: Path, microphone: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        options = [f"--user-data-dir={profile}", f"--use-file-for-fake-audio-capture={microphone}%noloop"]
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" 3</dev/fd/{commands} 4>/dev/fd/{answers}', "sh", CHROMIUM, *ARGUMENTS, *options],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._last_id = 0
        self._session: dict[str, str] = {}

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, url: str) -> None:
        """Show a page in a new tab; later commands are for it."""
        self._session = {}
        target = self.command("Target.createTarget", url=url)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}

    def command(self, method: str, **params: Any) -> Any:
        """Run a command of the protocol; return its result."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression in the page."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def choose_file(self, element_id: str, path: Path) -> None:
        """Choose a file in an <input type="file">."""
        found = self.command("Runtime.evaluate", expression=f"document.getElementById('{element_id}')")
        self.command("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def wait_for(self, expression: str, timeout_s: float = 60) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            text = self.evaluate("document.body?.innerText")
            is_broken = self.evaluate("document.body?.dataset.state") == "error"
            assert time.monotonic() < end and not is_broken, f"{expression} was not true after {timeout_s} s: {text}"
            time.sleep(0.1)
        return value

    def _message(self) -> Any:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], 60)
            data = os.read(self._read, 1 << 16) if ready else b""
            assert data, "chromium has ended or does not answer"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)
