"""The C example builds without warnings, gives the words of Python over the same windows, and refuses bad input."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest
import soundfile
import tiny_model
from conftest import speak
from other_languages import EXAMPLES, SAMPLE_RATE, documented_text, en_base, ten_recordings, with_json

from lwasr_edge.model import Model

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 1.4, "\u2581three", "s", 0.1)
HEADER = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"), "onnxruntime_c_api.h")
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="needs the checkout, not an install")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with the library of the Python package; slowly, with sanitizers, if $LWASR_SANITIZE is set."""
    if not (shutil.which("cmake") and shutil.which("cc")):
        pytest.skip("needs cmake and a C compiler")
    if not HEADER.is_file():
        pytest.skip("needs onnxruntime_c_api.h in $ONNXRUNTIME_INCLUDE, or libonnxruntime-dev")
    spec = importlib.util.find_spec("onnxruntime")
    libraries = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("needs libonnxruntime.so in the Python package")
    folder = tmp_path_factory.mktemp("build")
    options = [f"-DONNXRUNTIME_INCLUDE={HEADER.parent}", f"-DONNXRUNTIME_LIBRARY={libraries[0]}"]
    sanitizers = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    flags = f"-Werror {sanitizers if os.environ.get('LWASR_SANITIZE') else '-O2'}"
    configure = ["cmake", "-S", EXAMPLES / "c", "-B", folder, f"-DCMAKE_C_FLAGS={flags}", *options]
    configured = subprocess.run(configure, capture_output=True, text=True)
    if "Could NOT find ZLIB" in configured.stderr:
        pytest.skip("needs zlib's header")
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "transcribe"


@pytest.fixture(scope="module")
def tiny(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_json(model_path, tmp_path_factory.mktemp("tiny"))


def run(program: Path, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the end of the process frees the session
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, timeout=60, env=environment)


def text(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().removesuffix("\n")


def test_it_is_short() -> None:
    lines = (EXAMPLES / "c" / "transcribe.c").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 400
    assert max(map(len, lines)) <= 120


def test_ten_recordings(program: Path, tmp_path: Path) -> None:
    paths = ten_recordings(tmp_path)
    model = Model(en_base())
    expected = [documented_text(model, path) for path in paths]
    assert [text(run(program, en_base(), path)) for path in paths] == expected
    assert all(expected)


def test_stdin_gives_the_words_of_small_windows(program: Path, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "tones.wav"
    soundfile.write(path, speak(*SENTENCE), SAMPLE_RATE, subtype="PCM_16")
    samples = path.read_bytes()[44:]
    assert text(run(program, tiny, path)) == text(run(program, tiny, "-", stdin=samples)) == "one fourteen two threes"
    assert text(run(program, tiny, "-", stdin=samples + b"\0")) == "one fourteen two threes"
    assert text(run(program, tiny, "-", stdin=b"")) == ""


def test_plain_models_and_unfinished_recordings(program: Path, model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "tones.wav"
    soundfile.write(path, speak(*SENTENCE), SAMPLE_RATE, subtype="PCM_16")
    data = path.read_bytes()
    unknown_size = data[:40] + b"\xff\xff\xff\xff" + data[44:]
    extra_chunk = data[:12] + b"LIST\x05\0\0\0INFO\0\0" + data[12:]
    for changed in (unknown_size, extra_chunk):
        path.write_bytes(changed)
        assert text(run(program, model_path, path)) == "one fourteen two threes"
    path.write_bytes(data[: 44 + 2 * 12_000])
    assert text(run(program, model_path, path)) == "one fourteen"


def test_errors_say_what_to_do(program: Path, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "tones.wav"
    soundfile.write(path, speak(*SENTENCE), SAMPLE_RATE, subtype="PCM_16")
    data = path.read_bytes()
    cut = tmp_path / "cut.onnx.gz"
    cut.write_bytes(tiny.read_bytes()[:-100])
    other = tmp_path / "other.wav"
    soundfile.write(other, speak(*SENTENCE), 8000, subtype="PCM_16")
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        ((), "give a model and a WAV file"),
        ((tiny, tmp_path / "none.wav"), "must be a WAV file, got none that can be read"),
        ((tiny, tiny), "must be a WAV file, got another format"),
        ((tiny, other), "must be 16-bit mono at 16000 Hz, got 16 bits, 1 channels, 8000 Hz"),
        ((tmp_path / "none.onnx", path), "must be a model file, got none that can be read"),
        ((cut, path), "must be a complete gzip file"),
        ((path, path), "onnxruntime:"),
    ]
    for arguments, message in cases:
        done = run(program, *arguments)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode().startswith("error: ")
        assert message in done.stderr.decode()
    for length in range(0, 44, 11):  # headers cut anywhere
        path.write_bytes(data[:length])
        done = run(program, tiny, path)
        assert done.returncode == 1
        assert b"must" in done.stderr


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("", "must have the entry"),
        ("{", "must have the entry"),
        ('{"streaming": true, "x": "\\', "must have the entry"),
        ('{"streaming":true,"sample_rate":99999999999999999999}', '"sample_rate" of the model must be 1 to'),
        ('{"streaming":false}', "must be a streaming model"),
        ("VOCABULARY", "must be 1 to 65536 strings"),
        ("[" * 100_000, "must have the entry"),
    ],
)
@pytest.mark.parametrize("vocabulary", ['"vocabulary": ["a', '"vocabulary":'])
def test_damaged_metadata(program: Path, tmp_path: Path, metadata: str, message: str, vocabulary: str) -> None:
    proto = tiny_model.build_model()
    sizes = '"sample_rate":16000,"samples_per_frame":640,"max_chunk_frames":250,"flush_samples":640'
    changed = f'{{"streaming":true,{sizes},"nested":{{"a":["vocabulary"]}},{vocabulary}'
    for entry in proto.metadata_props:
        if entry.key == "lwasr.model":
            entry.value = changed if metadata == "VOCABULARY" else metadata
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    done = run(program, path, "-")
    assert done.returncode == 1
    assert message in done.stderr.decode()


def test_escapes_in_the_metadata(program: Path, tmp_path: Path) -> None:
    proto = tiny_model.build_model(vocabulary=["\u2581\u00e9t\u00e9", '\u2581"\\', *tiny_model.VOCABULARY[2:]])
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    spoken = (speak(0.2, "\u2581one", 0.1, "\u2581two", 0.1, "<unk>", 0.2) * 32767).astype("<i2").tobytes()
    expected = '\u00e9t\u00e9 "\\\u2047'
    assert text(run(program, path, "-", stdin=spoken)) == expected
    for entry in proto.metadata_props:
        entry.value = entry.value.encode("ascii", "backslashreplace").decode().replace("\\xe9", "\\u00e9")
    onnx.save(proto, path)
    assert text(run(program, path, "-", stdin=spoken)) == expected
