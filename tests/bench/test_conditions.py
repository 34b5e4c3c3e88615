"""benchmarks/accuracy/conditions.py: words of a stream are assigned to the right recordings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import speak
from locations import BENCHMARKS, ROOT

from lwasr_edge import Recognizer

if not BENCHMARKS.is_dir():
    pytest.skip("needs the checkout, not an install", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.accuracy import conditions


@pytest.mark.parametrize("condition", conditions.CONDITIONS, ids=lambda condition: condition.name)
def test_words_are_assigned_to_their_recording(recognizer: Recognizer, condition: conditions.Condition) -> None:
    waveforms = [speak(0.1, f"\u2581{word}", 0.1) for word in ("one", "two", "three")] + [speak(0.5)]
    assert conditions.texts_in_one_stream(recognizer, waveforms, condition, 320) == ["one", "two", "three", ""]


def test_gains() -> None:
    by_turns, halves = conditions.CONDITIONS[1:3]
    assert [by_turns.gain(index, 4) for index in range(4)] == pytest.approx([1, 0.1, 1, 0.1])
    assert [halves.gain(index, 5) for index in range(5)] == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_from_a_manifest(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", speak(0.2, "\u2581one", 0.4, "\u2581two", 0.2), 16000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "a.wav", "text": "one two three"}) + "\n")
    out = tmp_path / "out.json"
    argv = ["conditions.py", "--manifest", str(manifest), "--model", str(model_path), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    conditions.main()
    figures = json.loads(out.read_text())
    assert len(figures["wer"]) == 4 + len(conditions.CONDITIONS)
    assert set(figures["wer"].values()) == {1 / 3}
    assert set(figures["words_in_a_minute_of_noise"].values()) == {0}
    assert "| separate streams, -20 dB " in capsys.readouterr().out
