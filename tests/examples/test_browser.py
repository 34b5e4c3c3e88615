"""The page in headless Chromium with a new profile: a file, a fake microphone, and no network after the first visit."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import CHROMIUM, Chromium
from conftest import speak
from other_languages import EXAMPLES, SAMPLE_RATE, en_base, node, npm_package, with_json
from speech import own_utterances

from lwasr_edge import Recognizer
from lwasr_edge.wer import word_errors

pytestmark = [
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="needs the checkout, not an install"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]
STATE = "document.body?.dataset.state"
FINALS = "[...document.querySelectorAll('#finals p')].map((line) => line.textContent)"
WATCH = """
    window.shown = [];
    new MutationObserver(() => window.shown.push(document.getElementById("partial").textContent))
        .observe(document.getElementById("partial"), { childList: true });
    window.levels = [];
    setInterval(() => window.levels.push(document.getElementById("level").value), 50);"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Site:
    """The assembled page behind a local web server."""

    def __init__(self, model: Path, folder: Path) -> None:
        packages = npm_package("onnxruntime-web").parent
        options = ["--model", model, "--out", folder, "--packages", packages]
        subprocess.run([node(), EXAMPLES / "web" / "site.mjs", *options], check=True, capture_output=True)
        handler = functools.partial(QuietHandler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://localhost:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def tiny_site(model_path: Path, tmp_path: Path) -> Iterator[Site]:
    site = Site(with_json(model_path, tmp_path), tmp_path / "site")
    yield site
    site.close()


def test_microphone_file_and_no_network(tiny_site: Site, tmp_path: Path) -> None:
    # The fake microphone resamples to 48 kHz, and may begin before the page listens.
    sentence = (2.5, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 3.0)
    microphone, tones = tmp_path / "microphone.wav", tmp_path / "tones.wav"
    soundfile.write(microphone, speak(*sentence, sample_rate=48_000), 48_000, subtype="PCM_16")
    soundfile.write(tones, speak(0.3, "\u2581three", "s", 0.3), SAMPLE_RATE, subtype="PCM_16")
    with Chromium(tmp_path / "profile", microphone) as browser:
        browser.open(tiny_site.url)
        browser.wait_for(f"{STATE} === 'ready'")
        browser.evaluate(WATCH)
        browser.evaluate("document.getElementById('microphone').click()")
        browser.wait_for(f"{FINALS}.length > 0")
        browser.evaluate("document.getElementById('microphone').click()")
        browser.wait_for(f"{STATE} === 'ready'")
        assert browser.evaluate(FINALS) == ["one fourteen two"]
        assert "one" in browser.evaluate("window.shown")  # while the sentence was spoken
        assert max(browser.evaluate("window.levels")) > 0.7

        browser.wait_for("document.body.dataset.offline === 'ready'")
        tiny_site.close()
        browser.open(tiny_site.url)
        browser.wait_for(f"{STATE} === 'ready'")
        browser.choose_file("file", tones)
        browser.wait_for(f"{STATE} === 'ready' && {FINALS}.length > 0")
        assert browser.evaluate(FINALS) == ["threes"]


def test_the_model_of_the_package(tmp_path: Path) -> None:
    recordings = own_utterances()
    recognizer = Recognizer(en_base(), lm=None)
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(SAMPLE_RATE), SAMPLE_RATE, subtype="PCM_16")
    site = Site(en_base(), tmp_path / "site")
    found, expected = [], []
    with Chromium(tmp_path / "profile", silence) as browser:
        browser.open(site.url)
        browser.wait_for(f"{STATE} === 'ready'")
        for number, recording in enumerate(recordings):
            path = tmp_path / f"{number}.wav"
            soundfile.write(path, recording.samples(), SAMPLE_RATE, subtype="PCM_16")
            expected.append(recognizer.transcribe(path).text)
            browser.choose_file("file", path)
            browser.wait_for(f"{STATE} === 'ready' && {FINALS}.length === {number + 1}")
        found = browser.evaluate(FINALS)
    site.close()
    assert len(found) == len(expected)
    assert word_errors(expected, found).wer <= 0.05  # WebAssembly rounds in another order
