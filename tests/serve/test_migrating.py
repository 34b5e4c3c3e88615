"""docs/migrating.md: what its tables say to call here is called."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from locations import ROOT, SPEECH_16K
from speech import default_recognizer

from lwasr_edge import EndpointRules, Event, Final, Recognizer, Transcript, load_audio
from lwasr_edge.cli import build_parser

PAGE = ROOT / "docs" / "migrating.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the checkout, not an install")
NO_CALLS = ("for event in listener: ...", 'base_url="http://127.0.0.1:8080/v1"')


def sections() -> dict[str, list[str]]:
    """Section -> the code in the right column of its table, in order."""
    found: dict[str, list[str]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *lines = part.splitlines()
        rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")]
        assert all(len(row) == 2 for row in rows), title
        found[title] = [code for row in rows[1:] for code in re.findall(r"`([^`]+)`", row[1])]
    return found


def page_names() -> dict[str, object]:
    """What the page's first block imports, and the names that it explains."""
    (block, *_) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(block, names)
    samples = load_audio(SPEECH_16K)
    return names | {
        "path": SPEECH_16K,
        "samples": samples,
        "data": (np.concatenate([samples, np.zeros(16_000, np.float32)]) * 32767).astype("<i2").tobytes(),
    }


def sharing(recognizer: Recognizer) -> Callable[..., Recognizer]:
    """`Recognizer` for a model that is open already: opening it takes most of the time."""

    def make(**options: Any) -> Recognizer:
        inspect.signature(Recognizer).bind(**options)
        return recognizer.with_decoding(**{name: value for name, value in options.items() if name != "threads"})

    return make


class FakeListener:
    """A microphone that delivers the recording."""

    def __init__(self, recognizer: Recognizer, endpoint: EndpointRules) -> None:
        stream = recognizer.stream(16_000, endpoint=endpoint)
        self._events = [*stream.accept(load_audio(SPEECH_16K)), *stream.flush()]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)


@contextlib.contextmanager
def listen(recognizer: Recognizer, device: object = None, endpoint: EndpointRules | None = None) -> Iterator[object]:
    yield FakeListener(recognizer, endpoint or EndpointRules())


@pytest.fixture(scope="module")
def default() -> Recognizer:
    """The default model."""
    return default_recognizer()


@pytest.mark.parametrize(("section", "calls"), sections().items() if PAGE.is_file() else [])
def test_calls_run(section: str, calls: list[str], default: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = default.transcribe(SPEECH_16K)
    assert isinstance(expected, Transcript)
    monkeypatch.setattr(Recognizer, "listen", listen)
    names = page_names() | {"Recognizer": sharing(default)}
    n_calls = 0
    for call in calls:
        if call in NO_CALLS or call.startswith("lwasr"):
            continue
        names.pop("text", None)
        exec(call, names)
        n_calls += 1
        if "text" in names:
            assert names["text"] == expected.text, call
    assert n_calls >= 8
    if section == "vosk":
        (final,) = names["finals"]
        assert final.text.split()[:4] == expected.text.split()[:4]
        assert [text for text, *_ in names["times"]] == final.text.split()
        assert names["partials"] and len(names["alternatives"]) > 1
        assert len(names["streams"]) == 2
    if section == "sherpa-onnx":
        assert names["rules"] == EndpointRules(2.4, 1.2, 20)
        assert names["ended"] == [] and isinstance(names["events"][-1], Final)
    if section.startswith("Whisper"):
        assert [word.text for word in names["words"]] == expected.text.split()
        assert names["seconds"] == expected.duration_s
    if section == "speech_recognition":
        assert isinstance(names["final"], Final)


def test_commands_exist() -> None:
    from lwasr_edge.export.cli import build_parser as export_parser

    commands = {call for calls in sections().values() for call in calls if call.startswith("lwasr")}
    assert len(commands) >= 5
    for command in commands:
        program, *options = shlex.split(command)
        parser = build_parser() if program == "lwasr" else export_parser()
        assert parser.parse_args(options), command


def test_the_files_of_the_deployment_start_the_service() -> None:
    """Options of the unit and of the container exist, and both run without rights."""
    folder = ROOT / "examples" / "deploy"
    unit = (folder / "lwasr-serve.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *options = shlex.split(command)
    assert Path(program).name == "lwasr"
    assert build_parser().parse_args(options).command == "serve"
    for setting in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{setting}\n" in unit
    container = (folder / "Containerfile").read_text(encoding="utf-8")

    entry, default = (
        json.loads(re.findall(rf"^{name} (\[.*\])$", container, re.M)[-1]) for name in ("ENTRYPOINT", "CMD")
    )
    assert entry[0] == "lwasr"
    assert build_parser().parse_args([*entry[1:], *default]).command == "serve"
    assert re.search(r"^USER \d+:\d+$", container, re.M)
    for line in re.findall(r"^COPY (?!--from)(.*)$", container, re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
