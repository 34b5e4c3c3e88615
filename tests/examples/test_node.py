"""The Node example gives the words of Python, from files and from stdin, and its errors say what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import speak
from other_languages import (
    EXAMPLES,
    NODE_MODULES,
    SAMPLE_RATE,
    en_base,
    node,
    npm_package,
    ten_recordings,
    texts,
    with_json,
)

from lwasr_edge import Final, Recognizer
from lwasr_edge.streaming.pauses import AT_ONCE, find_segments
from lwasr_edge.streaming.recent_audio import LEVELS_PER_FRAME, Levels
from lwasr_edge.wer import word_errors

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.1)
PACKAGES = ["onnxruntime-node", "onnxruntime-web"]
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="needs the checkout, not an install")


def copy_of_example(package: str, folder: Path) -> Path:
    """A copy of the example with one of the two packages; skips the test without it."""
    installed = npm_package(package)
    for name in ("node", "web"):
        shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("node_modules", "site"))
    modules = folder / "node" / "node_modules"
    modules.mkdir()
    for path in installed.parent.iterdir():
        if path.name not in PACKAGES or path == installed:
            (modules / path.name).symlink_to(path)
    return folder / "node"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with the package that is installed."""
    package = next((name for name in PACKAGES if (NODE_MODULES / name).is_dir()), PACKAGES[0])
    return copy_of_example(package, tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def tiny(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_json(model_path, tmp_path_factory.mktemp("tiny"))


def transcribe(example: Path, model: Path, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess:
    command = [node(), example / "transcribe.mjs", "--model", model, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120)


def printed(done: subprocess.CompletedProcess) -> list[str]:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize("package", PACKAGES)
def test_ten_recordings(package: str, tmp_path: Path) -> None:
    example = copy_of_example(package, tmp_path)
    paths = ten_recordings(tmp_path)
    found, expected = printed(transcribe(example, en_base(), *paths)), texts(en_base(), paths)
    if package == "onnxruntime-node":
        assert found == expected
    # WebAssembly rounds in another order: a piece that is as likely as another may differ.
    assert len(found) == len(expected)
    assert word_errors(expected, found).wer <= 0.04


def test_words_have_the_times_and_confidences_of_python(example: Path, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "tones.wav"
    soundfile.write(path, speak(*SENTENCE), SAMPLE_RATE, subtype="PCM_16")
    (line,) = printed(transcribe(example, tiny, "--json", path))
    expected = Recognizer(tiny).transcribe(path).words
    found = json.loads(line)["words"]
    assert [word["text"] for word in found] == ["one", "fourteen", "two", "threes"]
    assert [word["startS"] for word in found] == pytest.approx([word.start_s for word in expected])
    assert [word["confidence"] for word in found] == pytest.approx([word.confidence for word in expected], abs=1e-4)


def test_wav_files_of_every_kind(example: Path, tiny: Path, tmp_path: Path) -> None:
    kinds = [(8000, "PCM_U8"), (22_050, "PCM_24"), (44_100, "FLOAT"), (48_000, "PCM_32")]
    paths = [tmp_path / f"{subtype}.wav" for _, subtype in kinds]
    for path, (hz, subtype) in zip(paths, kinds, strict=True):
        samples = speak(*SENTENCE, sample_rate=hz)
        soundfile.write(path, np.stack([samples, samples], 1), hz, subtype=subtype)
    assert printed(transcribe(example, tiny, *paths)) == ["one fourteen two threes"] * len(kinds)


def test_stdin_gives_partial_and_final_texts(example: Path, tiny: Path) -> None:
    samples = (speak(*SENTENCE) * 32767).astype("<i2").tobytes()
    events = [json.loads(line) for line in printed(transcribe(example, tiny, "--json", "-", stdin=samples))]
    finals = [event["text"] for event in events if event["kind"] == "final"]
    partials = [event["text"] for event in events if event["kind"] == "partial"]
    assert finals == ["one fourteen two", "threes"]
    assert partials[:1] == ["one"]
    assert "one fourteen two" in partials
    assert printed(transcribe(example, tiny, "-", stdin=samples[:-1])) == finals


def events_of_python(recognizer: Recognizer, data: bytes) -> list[tuple[str, str]]:
    stream = recognizer.stream()
    events = [*stream.accept(data), *stream.flush()]
    return [("final" if isinstance(event, Final) else "partial", event.text) for event in events]


def events_of_javascript(example: Path, model: Path, data: bytes) -> list[tuple[str, str]]:
    lines = printed(transcribe(example, model, "--json", "-", stdin=data))
    return [(event["kind"], event["text"]) for event in map(json.loads, lines)]


def test_streams_give_the_events_of_python(tmp_path: Path) -> None:
    """Ten recordings with pauses, then some without, whose utterance ends by its length, as one stream."""
    example = copy_of_example("onnxruntime-node", tmp_path)
    recordings = [soundfile.read(path, dtype="int16")[0] for path in ten_recordings(tmp_path)]
    between = np.zeros(SAMPLE_RATE, np.int16)
    parts = [part for recording in recordings for part in (recording, between)]
    data = np.concatenate([*parts, *(recording[4000:-4000] for recording in 3 * recordings[:3])]).tobytes()
    expected = events_of_python(Recognizer(en_base(), lm=None), data)
    assert events_of_javascript(example, en_base(), data) == expected
    assert len([text for kind, text in expected if kind == "final" and text]) > len(recordings)


def test_streams_of_tones_and_noise(example: Path, tiny: Path) -> None:
    """Pauses of every length, words up to the limit of an utterance, and times in which nobody speaks."""
    random = np.random.default_rng(5)
    spoken: list[str | float] = [4.0]
    for number in range(24):
        spoken += ["\u2581one", "\u2581two", "\u2581three"][number % 3 : number % 3 + 1]
        spoken.append(float(random.choice([0.1, 0.4, 0.7, 0.9, 1.1, 3.0], p=[0.6, 0.2, 0.05, 0.05, 0.05, 0.05])))
    samples = speak(*spoken)
    samples = samples + (0.003 * random.standard_normal(len(samples))).astype(np.float32)
    data = (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
    assert events_of_javascript(example, tiny, data) == events_of_python(Recognizer(tiny, lm=None), data)


def test_errors_say_what_to_do(example: Path, tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no recording")
    for arguments, message in [
        ((text,), "a recording must be a WAV file"),
        ((), "give one or more WAV files"),
    ]:
        done = transcribe(example, tiny, *arguments)
        assert (done.returncode, done.stdout) == (1, b"")
        assert message in done.stderr.decode()
    model = tmp_path / "model.onnx.gz"
    description = json.loads(tiny.with_name("model.json").read_text())
    for changed, data, message in [
        ({"format": 3}, tiny.read_bytes(), "model format must be 2, got 3"),
        ({}, tiny.read_bytes() + b"0", "the model must have"),
        ({}, tiny.read_bytes()[:-1] + b"0", "the model must have SHA-256"),
    ]:
        model.write_bytes(data)
        model.with_name("model.json").write_text(json.dumps({**description, **changed}))
        done = transcribe(example, model, text)
        assert done.returncode == 1
        assert message in done.stderr.decode()


def run_module(program: str, data: bytes) -> dict[str, list]:
    """What a program prints as JSON that imports the modules of the page; `data` is its stdin."""
    web = (EXAMPLES / "web").as_uri()
    head = f'import * as pauses from "{web}/pauses.js"; import {{ Resampler }} from "{web}/lwasr.js";'
    head += 'import { readFileSync } from "node:fs"; const bytes = readFileSync(0);'
    head += "const audio = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));"
    command = [node(), "--input-type=module", "--eval", head + program]
    return json.loads(subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.parametrize("kind", ["talk", "one breath", "short", "silence", "noise"])
def test_recordings_are_cut_in_the_frames_of_python(kind: str) -> None:
    random = np.random.default_rng(len(kind))
    spans = {"talk": (0.1, 1.2, 90), "one breath": (0.02, 0.05, 900), "short": (0.1, 0.5, 4)}
    parts = [np.zeros(SAMPLE_RATE, np.float32)]
    for _ in range(spans[kind][2] if kind in spans else 0):
        for level in (random.uniform(0.02, 0.3), 0.0003):
            size = round(random.uniform(*spans[kind][:2]) * SAMPLE_RATE)
            parts.append((level * random.standard_normal(size)).astype(np.float32))
    if kind == "noise":
        parts.append((0.01 * random.standard_normal(70 * SAMPLE_RATE)).astype(np.float32))
    audio = np.concatenate(parts)
    audio = audio[: len(audio) // 640 * 640]
    levels = Levels(640 // LEVELS_PER_FRAME, 0)
    levels.append(audio)
    expected, start, n_levels = [], 0, len(audio) // 160
    while True:
        is_last = n_levels - start <= AT_ONCE
        cut = find_segments(levels.between(start, n_levels if is_last else start + AT_ONCE), is_last=is_last)
        for first, end in cut.segments:
            expected.append([(start + first) // LEVELS_PER_FRAME, -(-(start + end) // LEVELS_PER_FRAME)])
        if is_last:
            break
        start += cut.used // LEVELS_PER_FRAME * LEVELS_PER_FRAME
    program = "console.log(JSON.stringify(pauses.findSegments(pauses.levelsOf(audio, 640))))"
    assert run_module(program, audio.tobytes()) == expected
    assert len(expected) >= {"talk": 10, "one breath": 3, "short": 1, "silence": 0, "noise": 0}[kind]


@pytest.mark.parametrize("hz", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_resampled_tones_keep_their_level_and_blocks_do_not_matter(hz: int) -> None:
    seconds = np.arange(hz) / hz
    audio = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    if hz > 16_000:
        audio += np.sin(2 * np.pi * 9500 * seconds).astype(np.float32)  # above 8 kHz: must vanish
    program = f"""
        const whole = Array.from(Resampler.convert(audio, {hz}, 16000));
        const resampler = new Resampler({hz}, 16000);
        const blocks = [];
        for (let at = 0; at < audio.length; at += 331) blocks.push(...resampler.process(audio.slice(at, at + 331)));
        blocks.push(...resampler.flush());
        console.log(JSON.stringify([whole, blocks]));"""
    whole, blocks = run_module(program, audio.tobytes())
    assert blocks == whole
    assert abs(len(whole) - 16_000) <= 1
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(whole)) / 16_000)
    assert np.abs(np.array(whole) - expected)[100:-100].max() < 2e-3
