"""`lwasr site record`: consent, keys, the files, and a real microphone where the machine can have one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import virtual_microphone
from site_folder import spoken
from virtual_microphone import DEVICE, VirtualMicrophone

from lwasr_edge import OptionError
from lwasr_edge.cli import main
from lwasr_edge.cli.site import recording
from lwasr_edge.cli.site.recording import meter
from lwasr_edge.errors import ManifestError
from lwasr_edge.site.consent import ended_retentions, folder_name, read_consents
from lwasr_edge.site.folder import read_folder
from lwasr_edge.site.takes import Take, add_consent, missing_prompts, read_prompts, save_take

PROMPTS = ["Turn the light on.", "Close valve 21.", "Good morning."]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("# sentences\n\n" + "\r\n".join([*PROMPTS, PROMPTS[0]]), encoding="utf-16")
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Stdin that has some lines; the microphone delivers a sentence."""
    files = []

    def type_lines(*lines: str) -> None:
        reader, writer = os.pipe()
        os.write(writer, "".join(f"{line}\n" for line in lines).encode())
        os.close(writer)
        files.append(os.fdopen(reader))
        monkeypatch.setattr(sys, "stdin", files[-1])

    def record_take(device: object, ended: Callable[[], bool], show: Callable[[float], object]) -> Take:
        take = Take(16_000)
        for block in np.array_split(spoken("one two"), 10):
            show(take.accept(block)[0])
        while not ended():
            pass
        return take

    monkeypatch.setattr(recording, "record_take", record_take)
    yield type_lines
    for file in files:
        file.close()


def test_consent_is_asked_once_and_recording_goes_on(
    tmp_path: Path, prompts: Path, typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["site", "record", str(tmp_path / "place"), "--prompts", str(prompts)]
    typed("Anna B.", "acceptance test", "2999-12-31", "y", "", "", "", "", "", "r", "", "", "", "q")
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "2 of 3 sentences are recorded" in shown.out and shown.err.count("2 of 3:") == 2
    typed("Anna B.", "", "", "")
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "Anna B. agreed on" in shown.err and "3 of 3:  Good morning." in shown.err
    assert "3 of 3 sentences are recorded" in shown.out
    (consent,) = read_consents(tmp_path / "place")
    assert (consent.speaker, consent.purpose, consent.keep_until) == ("Anna B.", "acceptance test", "2999-12-31")
    samples = read_folder(tmp_path / "place").samples
    assert [(sample.name, sample.text, sample.speaker) for sample in samples] == [
        (f"Anna-B/000{number}.wav", text, "Anna B.") for number, text in enumerate(PROMPTS, 1)
    ]
    assert soundfile.info(samples[0].path).samplerate == 16_000


def test_without_consent_nothing_is_recorded(
    tmp_path: Path, prompts: Path, typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["site", "record", str(tmp_path / "place"), "--prompts", str(prompts), "--speaker", "7"]
    for answers in ("test 2999-12-31 n", "test 2999-12-31", "test soon y", "test 2001-01-01 y"):
        typed(*answers.split())
        assert main(command) == 2
        assert not (tmp_path / "place").exists()
    assert "the speaker must agree" in capsys.readouterr().err


def test_takes_that_are_not_kept(tmp_path: Path, prompts: Path, typed: Callable[..., None]) -> None:
    typed("s", "", "", "s", "", "", "q")  # skip; record and skip; record and quit
    command = ["site", "record", str(tmp_path / "p"), "--prompts", str(prompts), "--speaker", "7", "--purpose", "t"]
    add_consent(tmp_path / "p", "7", "t", "2999-12-31")
    assert main(command) == 0
    assert [path.name for path in (tmp_path / "p").rglob("*")] == ["consent.json"]


def test_a_retention_that_is_over(tmp_path: Path, prompts: Path, typed: Callable[..., None]) -> None:
    consent = {"speaker": "7", "purpose": "t", "keep_until": "2020-01-01", "agreed_at": "2019-01-01", "folder": "7"}
    (tmp_path / "consent.json").write_text(json.dumps({"speakers": [consent]}))
    typed("")
    assert main(["site", "record", str(tmp_path), "--prompts", str(prompts), "--speaker", "7"]) == 2
    assert ended_retentions({"speakers": [consent, 3, {}]}) == ["2020-01-01"]
    assert ended_retentions([]) == ended_retentions({"speakers": 3}) == []


@pytest.mark.parametrize("content", ["no json", "[]", '{"speakers": [{"speaker": "a"}]}', '{"speakers": 3}'])
def test_damaged_consents(tmp_path: Path, content: str) -> None:
    (tmp_path / "consent.json").write_text(content)
    with pytest.raises(ManifestError, match="must be a list of consents"):
        read_consents(tmp_path)


def test_names_of_folders() -> None:
    assert folder_name("Anna B.", []) == "Anna-B"
    assert folder_name("../../etc", []) == "etc"
    assert folder_name("\u674e", ["speaker"]) == "speaker-2"
    assert folder_name("anna", ["Anna"]) == "anna-2"


def test_sentences(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("# none\n")
    with pytest.raises(OptionError, match="must have 1 to"):
        read_prompts(tmp_path / "p.txt")
    with pytest.raises(OptionError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_a_recording_counts_only_with_its_text(tmp_path: Path) -> None:
    take = Take(16_000)
    take.accept(spoken("one"))
    take.skip(160)
    assert save_take(tmp_path, take, "one").name == "0001.wav"
    (tmp_path / "0002.txt").write_text("two\n")  # killed before its recording was written
    assert missing_prompts(tmp_path, ["one", "two"]) == ["two"]
    assert save_take(tmp_path, take, "two").name == "0003.wav"
    assert take.lost_samples == 160


def test_the_meter() -> None:
    assert meter(0.0) == f"[{'-' * 40}]  -60 dB"
    assert meter(1.0) == f"[{'#' * 40}]    0 dB  too loud"
    assert meter(0.0316).count("#") == 20


def test_keys_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with recording.Keys() as keys:
            os.write(leader, b"Anna\n")
            assert keys.line("speaker:") == "Anna"
            assert keys.pressed() is None
            os.write(leader, b"R\n")
            assert [keys.key("?"), keys.key("?")] == ["r", ""]
    os.close(leader)


@pytest.mark.skipif(virtual_microphone.why_missing() is not None, reason=str(virtual_microphone.why_missing()))
def test_a_real_microphone(tmp_path: Path, prompts: Path) -> None:
    soundfile.write(tmp_path / "speech.wav", spoken("one two"), 16_000)
    command = [sys.executable, "-m", "lwasr_edge", "site", "record", str(tmp_path / "place"), "--prompts", str(prompts)]
    command += ["--device", DEVICE, "--speaker", "7", "--purpose", "t", "--keep-until", "2999-12-31"]
    with VirtualMicrophone() as microphone:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=microphone.env, bufsize=0, **pipes)
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"y\n\n")
        while b"speak now" not in process.stderr.readline():
            pass
        microphone.play(tmp_path / "speech.wav")
        process.stdin.write(b"\n")
        while b"Enter: keep" not in process.stderr.readline():
            pass
        process.stdin.write(b"\nq\n")
        out, _ = process.communicate(timeout=20)
    assert b"1 of 3 sentences" in out
    samples, rate = soundfile.read(tmp_path / "place" / "7" / "0001.wav")
    assert rate >= 16_000 and abs(samples).max() > 0.1
