"""--written and --no-written: defaults of terminals, files, JSON and subtitles, and of models of other languages."""

from __future__ import annotations

import json
import types
from pathlib import Path

import pytest
import soundfile
from conftest import speak

from lwasr_edge import Final, Partial, Word
from lwasr_edge.cli import main
from lwasr_edge.cli.commands.listen import event_to_dict, show_events
from lwasr_edge.cli.options import is_english

TEXT, WRITTEN = "one fourteen two", "One 14 two."
SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 0.1)
FINAL = Final(
    (Word("it", 0.0, 0.1, 1.0), Word("fell", 0.1, 0.3, 1.0), Word("ten", 0.3, 0.5, 1.0)), 0.0, 0.5, "endpoint"
)

pytestmark = pytest.mark.usefixtures("default_model")


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recording of TEXT in the current directory."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", speak(*SENTENCE), 16000)
    return "a.wav"


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["transcribe", *argv]) == 0
    return capsys.readouterr().out


def in_a_terminal(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(f"lwasr_edge.cli.commands.{command}.is_terminal", lambda stream: True)


def test_text_is_written_in_a_terminal_alone(
    recording: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert output(capsys, recording) == f"{TEXT}\n"
    assert output(capsys, recording, "--written") == f"{WRITTEN}\n"
    in_a_terminal(monkeypatch, "transcribe")
    assert output(capsys, recording) == f"{WRITTEN}\n"
    assert output(capsys, recording, "--no-written") == f"{TEXT}\n"
    assert output(capsys, recording, "-o", "a.txt") == ""
    assert Path("a.txt").read_text(encoding="utf-8") == f"{TEXT}\n"
    assert [line.split("\t")[3] for line in output(capsys, recording, "--words").splitlines()] == TEXT.split()


def test_json_has_both(recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    described = json.loads(output(capsys, recording, "--json"))
    assert (described["text"], described["written"]) == (TEXT, WRITTEN)
    assert [(one["text"], one["n_words"]) for one in described["written_words"]] == [("One", 1), ("14", 1), ("two.", 1)]
    assert described["written_words"][1]["start_s"] == described["words"][1]["start_s"]
    assert "written" not in json.loads(output(capsys, recording, "--json", "--no-written"))


def test_subtitles_and_channels_are_written(recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert WRITTEN in output(capsys, recording, "--srt")
    assert WRITTEN in output(capsys, recording, "--vtt")
    assert TEXT in output(capsys, recording, "--vtt", "--no-written")
    assert WRITTEN in output(capsys, recording, "--channel", "each", "--srt")
    assert TEXT in output(capsys, recording, "--channel", "each")
    assert WRITTEN in output(capsys, recording, "--channel", "each", "--written")
    assert output(capsys, recording, "--words", "--written").splitlines()[2].endswith("\ttwo.")


def test_finals_of_listen_are_written_and_partials_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    show_events([FINAL], as_json=False)
    show_events([FINAL], as_json=False, written=True)
    assert capsys.readouterr().out == "it fell ten\nIt fell 10.\n"
    partial = Partial(0.5, FINAL.words, 3, (), 3)
    assert "written" not in event_to_dict(partial, written=True)
    described = event_to_dict(FINAL, written=True)
    assert isinstance(described, dict)
    assert (described["text"], described["written"]) == ("it fell ten", "It fell 10.")
    assert "written" not in event_to_dict(FINAL)


@pytest.mark.parametrize(("language", "expected"), [("en", True), ("en-GB", True), ("", True), ("de", False)])
def test_models_of_other_languages_are_not_written_by_default(language: str, expected: bool) -> None:
    recognizer = types.SimpleNamespace(info=types.SimpleNamespace(language=language))
    assert is_english(recognizer) is expected
