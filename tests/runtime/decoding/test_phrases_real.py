"""Phrases on real speech with the default model, and the example."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import speak
from locations import ROOT
from speech import default_recognizer, shared_utterances

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.mark.real_speech
def test_digits_and_none_of_them() -> None:
    recognizer = default_recognizer().with_decoding(phrases=DIGITS)
    digits = shared_utterances(40, "fsdd-test")
    right = [recognizer.transcribe(digit.samples(), 16_000).text == digit.text for digit in digits]
    assert sum(right) >= 36
    for sentence in shared_utterances(10, "librispeech-dev"):
        transcript = recognizer.transcribe(sentence.samples(), 16_000)
        assert transcript.text == ""
        assert transcript.alternatives[0].text == ""


@pytest.mark.skipif(not (ROOT / "examples").is_dir(), reason="needs the checkout, not an install")
def test_the_example(default_model: Path, tmp_path: Path) -> None:
    phrases, wav = tmp_path / "phrases.txt", tmp_path / "commands.wav"
    phrases.write_text("one fourteen\nthree\n")
    items = (
        0.2,
        "\u2581one",
        0.1,
        "\u2581four",
        0.08,
        "teen",
        1.0,
        "\u2581two",
        0.1,
        "\u2581two",
        1.0,
        "\u2581three",
        0.2,
    )
    soundfile.write(wav, speak(*items), 16_000)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/phrases.py"), str(wav), str(phrases)],
        env={
            **os.environ,
            "LWASR_HOME": str(default_model.parents[1]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()] == [
        "one fourteen (0.99)",
        "ignored 'two two' (1.00)",
        "three (0.99)",
    ]
