"""The `lwasr` command, as its users see it: output, errors, exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import tiny_model
from conftest import speak, write_model_dir
from locations import ROOT

from lwasr_edge import __version__
from lwasr_edge.cli import main

TEXT = "one fourteen two"
SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 0.1)

pytestmark = pytest.mark.usefixtures("default_model")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: two recordings, and a file that is not one."""
    path = tmp_path / "work"
    path.mkdir()
    soundfile.write(path / "a.wav", speak(*SENTENCE), 16000)
    soundfile.write(path / "b.flac", speak("\u2581three", 0.1, sample_rate=44100), 44100)
    (path / "bad.wav").write_text("this is not audio\n" * 20)
    monkeypatch.chdir(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail with status 2, nothing on stdout, and one line on stderr; return the line."""
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith("lwasr: error: ")
    assert err.count("\n") == 1
    return err


def test_one_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "transcribe", "a.wav") == (0, TEXT + "\n", "")


def test_several_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "transcribe", "a.wav", "b.flac") == (0, f"a.wav: {TEXT}\nb.flac: three\n", "")


def test_a_bad_one_among_several(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "transcribe", "a.wav", "bad.wav", "no.wav", "b.flac")
    assert (status, out) == (2, f"a.wav: {TEXT}\nb.flac: three\n")
    assert [line.split()[2] for line in err.splitlines()] == ["bad.wav", "no"]
    assert "no such audio file: no.wav" in err


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "transcribe", "--json", "a.wav", "b.flac")
    first, second = map(json.loads, out.splitlines())
    assert (first["file"], first["text"], first["model"]) == ("a.wav", TEXT, "tiny")
    assert second["file"] == "b.flac"
    assert first["words"][0] == {"text": "one", "start_s": 0.2975, "end_s": 0.43, "confidence": 0.9998}


def test_subtitles_and_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(capsys, "transcribe", "a.wav", "--srt", "--no-written")[1]
        == f"1\n00:00:00,298 --> 00:00:01,297\n{TEXT}\n\n"
    )
    assert run(capsys, "transcribe", "a.wav", "--vtt")[1].startswith("WEBVTT\n\n00:00:00.298 --> 00:00:01.297\n")
    words = run(capsys, "transcribe", "a.wav", "--words")[1].splitlines()
    assert [line.split("\t")[3] for line in words] == TEXT.split()
    assert run(capsys, "transcribe", "a.wav", "b.flac", "--words")[1].splitlines()[3].startswith("b.flac\t0.0")


def test_output_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "transcribe", "a.wav", "-o", "out.txt") == (0, "", "")
    assert (folder / "out.txt").read_text() == TEXT + "\n"
    assert "-o needs one FILE, got 2" in fails(capsys, "transcribe", "a.wav", "b.flac", "-o", "out.txt")
    assert "the folder no does not exist: create it first" in fails(capsys, "transcribe", "a.wav", "-o", "no/out.txt")


def test_output_directory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "transcribe", "a.wav", "b.flac", "--srt", "--output-dir", "out/srt") == (0, "", "")
    assert sorted(path.name for path in (folder / "out" / "srt").iterdir()) == ["a.srt", "b.srt"]
    assert "would both be written to" in fails(capsys, "transcribe", "a.wav", "x/a.flac", "--output-dir", "out")
    assert "--srt on stdout needs one FILE, got 2" in fails(capsys, "transcribe", "a.wav", "b.flac", "--srt")
    assert "a.wav cannot be created" in fails(capsys, "transcribe", "a.wav", "--output-dir", "a.wav")


def test_an_output_must_not_be_an_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link.txt").symlink_to("a.wav")
    (folder / "hard.txt").hardlink_to(folder / "a.wav")
    (folder / "plain").write_bytes((folder / "a.wav").read_bytes())
    before = (folder / "a.wav").read_bytes()
    for output in ("a.wav", "./a.wav", str(folder / "a.wav"), f"../{folder.name}/a.wav", "link.txt", "hard.txt"):
        assert "output must not be an input" in fails(capsys, "transcribe", "a.wav", "-o", output)
    assert "output must not be an input" in fails(capsys, "transcribe", "plain", "-o", "plain")
    phrases = folder / "phrases.txt"
    phrases.write_text("one\n")
    message = fails(capsys, "transcribe", "a.wav", "--phrases", "phrases.txt", "-o", "phrases.txt")
    assert "output must not be an input" in message
    (folder / "b.txt").write_bytes((folder / "b.flac").read_bytes())
    message = fails(capsys, "transcribe", "b.txt", "--output-dir", ".")  # its transcript would be b.txt
    assert "output must not be an input" in message
    assert (folder / "a.wav").read_bytes() == before
    assert phrases.read_text() == "one\n"


def test_an_output_must_not_be_another_recording_or_model(
    folder: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "flac.txt").write_bytes((folder / "b.flac").read_bytes())
    (folder / "model.bin").write_bytes(model_path.read_bytes())
    for output, kind in (
        ("b.flac", "a recording"),  # as with `-o *.wav`, which the shell expands
        ("bad.wav", "a recording"),
        ("flac.txt", "a binary file"),
        ("model.bin", "a binary file"),
    ):
        before = (folder / output).read_bytes()
        assert f"got {output}, which is {kind}" in fails(capsys, "transcribe", "a.wav", "-o", output)
        assert (folder / output).read_bytes() == before


def test_an_old_transcript_is_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.txt").write_text("old")
    assert run(capsys, "transcribe", "a.wav", "--output-dir", ".") == (0, "", "")
    assert (folder / "a.txt").read_text() == TEXT + "\n"
    assert run(capsys, "transcribe", "a.wav", "-o", "/dev/null") == (0, "", "")


def test_a_failed_file_leaves_no_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "old.txt").write_text("old")
    fails(capsys, "transcribe", "bad.wav", "-o", "old.txt")
    assert (folder / "old.txt").read_text() == "old"


def test_stdin(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((folder / "a.wav").read_bytes())))
    assert run(capsys, "transcribe", "-") == (0, TEXT + "\n", "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "holds no audio: 0 bytes" in fails(capsys, "transcribe", "-")
    assert "can be read only once" in fails(capsys, "transcribe", "-", "-")


def test_chunk_and_threads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "transcribe", "a.wav", "--chunk-ms", "160", "--threads", "0")[1] == TEXT + "\n"
    assert "positive multiple of the model's frame, 40 ms, up to 10000, got 50" in fails(
        capsys, "transcribe", "a.wav", "--chunk-ms", "50"
    )


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["transcribe"],
        ["nonsense"],
        ["transcribe", "a.wav", "--chunk-ms", "-1"],
        ["transcribe", "a.wav", "--threads", "-1"],
        ["transcribe", "a.wav", "--threads", "two"],
        ["transcribe", "a.wav", "--srt", "--vtt"],
        ["models"],
    ],
)
def test_wrong_usage(folder: Path, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def test_a_truncated_file_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (folder / "a.wav").read_bytes()
    (folder / "cut.wav").write_bytes(data[: len(data) // 2])
    status, out, err = run(capsys, "transcribe", "cut.wav")
    assert (status, out) == (0, "one four\n")
    assert err.startswith("lwasr: warning: cut.wav is truncated or damaged: 0.59 of 1.18 s could be decoded")


def test_every_bad_input_gives_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty.wav").touch()
    soundfile.write(folder / "none.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan], np.float32), 16000, subtype="FLOAT")
    onnx.save(tiny_model.build_model(contract="3"), folder / "newer.onnx")
    model = tiny_model.build_model().SerializeToString()
    (folder / "cut.onnx").write_bytes(model[: len(model) // 2])
    assert "no such audio file: no.wav" in fails(capsys, "transcribe", "no.wav")
    assert "bad.wav must be WAV, FLAC, OGG, Opus, MP3 or AIFF" in fails(capsys, "transcribe", "bad.wav")
    assert "holds no audio" in fails(capsys, "transcribe", "empty.wav")
    assert "holds no audio" in fails(capsys, "transcribe", "none.wav")
    assert "audio must be a file, got the folder" in fails(capsys, "transcribe", ".")
    assert "nan.wav: samples must be finite, got nan at sample 1" in fails(capsys, "transcribe", "nan.wav")
    assert "model format 3" in fails(capsys, "transcribe", "a.wav", "--model", "newer.onnx")
    assert "damaged" in fails(capsys, "info", "cut.onnx")
    assert "cannot be opened as an ONNX model" in fails(capsys, "info", "a.wav")
    assert "installed models (tiny), got 'none'" in fails(capsys, "info", "none")


def test_debug_shows_the_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["transcribe", "no.wav", "--debug"], ["--debug", "transcribe", "no.wav"]):
        status, _, err = run(capsys, *argv)
        assert status == 2
        assert err.startswith("Traceback (most recent call last):")
        assert err.endswith("lwasr: error: no such audio file: no.wav\n")


def test_too_little_memory_is_not_a_bug(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lwasr_edge.cli.commands.transcribe.plan_jobs", exhaust)
    status, _, err = run(capsys, "transcribe", "a.wav")
    assert status == 2
    assert err.startswith("lwasr: error: not enough memory")
    assert "--chunk-ms" in err


def test_a_bug_asks_for_a_report(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lwasr_edge.cli.commands.transcribe.plan_jobs", lambda *_: 1 / 0)
    status, _, err = run(capsys, "transcribe", "a.wav")
    assert status == 1
    assert err.startswith("lwasr: error: unexpected ZeroDivisionError: division by zero: please report it")


def test_ctrl_c(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lwasr_edge.cli.commands.transcribe.plan_jobs", interrupt)
    assert run(capsys, "transcribe", "a.wav") == (130, "", "")


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "info")
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["name"] == "tiny"
    assert lines["chunk_ms"] == "160, 320, 640, 1280"
    assert lines["streaming"] == "yes"
    assert lines["format"] == "2"
    assert "contract" not in lines
    assert lines["state"] == "state_tail [360], state_last [1]"


def test_info_as_json(model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = json.loads(run(capsys, "info", str(model_path), "--json")[1])
    assert described["bytes"] == model_path.stat().st_size
    assert (described["contract"], described["format"]) == (2, 2)
    assert (described["vocabulary_size"], described["state_bytes"]) == (9, 1448)
    assert described["state"] == {"state_tail": [360], "state_last": [1]}


def test_names_of_models_hold_no_commands_for_the_terminal(
    lwasr_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    name = "\x1b]0;owned\x07\x9b2J"
    path.write_bytes(tiny_model.build_model(name=name).SerializeToString())
    status, out, _ = run(capsys, "info", str(path))
    assert status == 0 and "\\x1b]0;owned\\x07\\x9b2J" in out and "\x1b" not in out
    status, out, _ = run(capsys, "info", "--json", str(path))
    assert json.loads(out)["name"] == name and "\x9b" not in out and "\x1b" not in out
    directory = write_model_dir(lwasr_home / "models" / "a", "a")
    card = json.loads((directory / "card.json").read_text())
    (directory / "card.json").write_text(json.dumps({**card, "version": "\x1b[2J"}))
    status, out, _ = run(capsys, "models", "list")
    assert status == 0 and "\\x1b[2J" in out and "\x1b" not in out


def test_models(lwasr_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = run(capsys, "models", "list")[1].splitlines()
    assert line.split() == ["*", "tiny", "1", "0.0", "MB", str(lwasr_home / "models" / "tiny")]
    assert run(capsys, "models", "path")[1] == f"{lwasr_home}/models/tiny/model.onnx\n"
    assert run(capsys, "models", "path", "tiny")[1] == f"{lwasr_home}/models/tiny/model.onnx\n"
    assert run(capsys, "models", "verify")[1] == "tiny/card.md: ok\ntiny/model.onnx: ok\n"
    source = write_model_dir(tmp_path / "source", "second")
    assert run(capsys, "models", "fetch", str(source)) == (0, f"{lwasr_home}/models/second\n", "")
    (lwasr_home / "models" / "second" / "model.onnx").write_bytes(b"x")
    status, out, _ = run(capsys, "models", "verify", "second")
    assert status == 2
    assert "second/model.onnx: damaged: 1 bytes" in out
    assert "installed models (second, tiny), got 'third'" in fails(capsys, "models", "path", "third")
    assert "nothing was fetched" in fails(capsys, "models", "fetch", str(source), "--sha256", "0" * 64)


def test_as_a_program(folder: Path) -> None:
    command = [sys.executable, "-m", "lwasr_edge"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert version.stdout == f"lwasr {__version__}\n"
    with (folder / "a.wav").open("rb") as file:
        piped = subprocess.run([*command, "transcribe", "-"], stdin=file, capture_output=True, cwd=ROOT)
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, TEXT.encode() + b"\n", b"")


def test_a_reader_that_goes_away(folder: Path) -> None:
    command = f"{sys.executable} -m lwasr_edge transcribe {folder}/a.wav {folder}/b.flac | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert ended.stderr == ""
