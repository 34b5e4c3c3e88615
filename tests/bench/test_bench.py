"""`lwasr bench`: the figures add up, the machine is named, and errors are one line."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import tiny_model
from conftest import speak
from locations import ROOT

from lwasr_edge import EndpointRules, Recognizer
from lwasr_edge.bench import board, recordings, results, runner, settings, streaming
from lwasr_edge.cli import build_parser, main

SENTENCE = (0.3, "\u2581one", 0.1, "\u2581four", "teen", 0.2, "\u2581two", 0.1)  # one fourteen two


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker processes find the package, installed or not."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two recordings that the tiny model recognises correctly, one of them with a wrong reference text."""
    soundfile.write(tmp_path / "a.wav", speak(*SENTENCE), 16000)
    soundfile.write(tmp_path / "b.flac", speak("\u2581three", 0.8, sample_rate=44100), 44100)
    lines = [
        {"audio_filepath": "a.wav", "text": "One fourteen two."},
        {"audio_filepath": "b.flac", "text": "five three"},  # a deletion
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report_path(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a quick run over the packaged recording."""
    path = tmp_path_factory.mktemp("bench") / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["bench", str(model_path), "--quick", "--json", str(path)]) == 0
    return path


def test_the_report_is_complete_and_adds_up(report_path: Path, model_path: Path) -> None:
    report = json.loads(report_path.read_text())
    assert (report["format"], report["schema_version"]) == ("lwasr-bench", 2)
    assert report["command"].startswith("lwasr bench ")
    assert set(report["versions"]) == {"lwasr-edge", "onnxruntime", "numpy", "libsndfile"}
    assert report["board"]["cores"] >= 1
    assert report["audio"] == {"source": "built-in", "recordings": 1, "seconds": pytest.approx(5.2, abs=0.01)}
    (model,) = report["models"]
    assert (model["name"], model["file"], model["bytes"]) == ("tiny", "tiny.onnx", model_path.stat().st_size)
    startup = {step: spread["median"] for step, spread in model["startup"].items()}
    assert 0 < startup["imports"] < startup["total"] < 30
    file, stream = model["measurements"]
    assert (file["mode"], file["hop_ms"], stream["mode"], stream["hop_ms"]) == ("file", None, "stream", 320)
    assert (file["right_context_ms"], stream["right_context_ms"]) == (None, 0)  # the tiny model has none
    assert len(stream["rtf"]["values"]) == report["repeat"] == 3
    assert set(stream["idle_cpu_s_per_audio_s"]) == {"silence", "noise"}
    latency = stream["hop_latency_ms"]
    assert latency["count"] == 3 * 16  # 5.2 s hold 16 hops of 320 ms
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert file["hop_latency_ms"] is None
    if sys.platform == "linux":
        memory = file["memory"]
        assert 10e6 < memory["loaded"] <= memory["peak"] < 400e6
        assert memory["steady"] <= memory["peak"]
    assert file["accuracy"] is None  # one sentence does not measure accuracy
    assert isinstance(file["text"], str)


def test_wer_of_files_and_in_chunks(
    model_path: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    argv = ["bench", str(model_path), "--manifest", str(manifest), "--stream", "160", "--repeat", "1", "--quick"]
    assert main([*argv, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    for measurement in report["models"][0]["measurements"]:
        assert measurement["accuracy"] == {"wer": 0.2, "substitutions": 0, "deletions": 1, "insertions": 0, "words": 5}
        assert measurement["text"] is None
    printed = capsys.readouterr().out
    assert "20.00 %" in printed
    assert "stream 160" in printed


def test_compare(report_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = json.loads(report_path.read_text())
    for measurement in slower["models"][0]["measurements"]:
        measurement["rtf"]["median"] *= 2
    slower["board"]["name"] = "another"
    slower["models"][0]["measurements"][1]["threads"] = 4
    path = tmp_path / "slower.json"
    path.write_text(json.dumps(slower))
    assert main(["bench", "compare", str(report_path), str(path)]) == 0
    printed = capsys.readouterr().out
    (row,) = (line.split() for line in printed.splitlines() if line.startswith("tiny"))
    assert row[1:3] == ["file", "1"]
    assert row[5] == "2.00"
    assert "the machines differ" in printed
    assert printed.count("only in one: tiny float32 stream 320") == 2
    assert "start-up B / A 1.00, file size B / A 1.00: tiny float32" in printed


def test_compare_keeps_right_contexts_apart(
    report_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = json.loads(report_path.read_text())
    stream = next(one for one in other["models"][0]["measurements"] if one["mode"] == "stream")
    stream["right_context_ms"] = 640
    path = tmp_path / "other.json"
    path.write_text(json.dumps(other))
    assert main(["bench", "compare", str(report_path), str(path)]) == 0
    assert capsys.readouterr().out.count("only in one: tiny float32 stream 320") == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonsense.onnx"], "model must be a file (.onnx or .onnx.gz), got nonsense.onnx"),
        (["MODEL", "--audio", "nowhere"], "nowhere: no recordings"),
        (["MODEL", "--manifest", "nowhere.jsonl"], "nowhere.jsonl: no such manifest"),
        (["MODEL", "--audio", "x", "--manifest", "y"], "exclude each other"),
        (["MODEL", "--stream", "100", "--quick"], "--stream must be a multiple of 40 ms"),
        (["MODEL", "--right-context", "100", "--quick"], "--right-context must be a multiple of 40 ms"),
        (["MODEL", "--right-context", "640", "--quick"], "right_context_ms must be 0 with this model"),
        (["MODEL", "--json", "nowhere/out.json"], "the folder nowhere does not exist: create it first"),
        (["compare", "README.md", "README.md"], "README.md must be a file written by `lwasr bench --json`"),
    ],
)
def test_errors_are_one_line(
    argv: list[str], message: str, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *(str(model_path) if word == "MODEL" else word for word in argv)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lwasr: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", ["m.jsonl", "a.wav", "model.txt", "link.json"])
def test_a_report_must_not_replace_an_input(
    name: str, manifest: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.rename(tmp_path / "m.jsonl")
    (tmp_path / "model.txt").write_bytes(model_path.read_bytes())
    (tmp_path / "link.json").symlink_to("m.jsonl")
    before = (tmp_path / name).read_bytes()
    argv = ["bench", str(tmp_path / "model.txt"), "--manifest", str(tmp_path / "m.jsonl"), "--quick"]
    assert main([*argv, "--json", str(tmp_path / name)]) == 2
    assert "output must" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


def test_damaged_reports_are_named(report_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every value of a report is removed, and replaced by some values of other kinds."""
    report = json.loads(report_path.read_text())
    path = tmp_path / "damaged.json"
    draw = random.Random(0)

    def compare(text: str) -> None:
        path.write_text(text, encoding="utf-8")
        files = draw.sample([path, report_path], 2)  # either order
        status = main(["bench", "compare", *map(str, files)])
        err = capsys.readouterr().err
        assert (status, err) == (0, "") or (status == 2 and err.count("\n") == 1 and "unexpected" not in err), text

    def damage(value: object) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        for key in keys:
            kept = value[key]
            for other in draw.sample([None, [], {}, "one\u2028two", True, float("nan"), 10**400], 3):
                value[key] = other
                compare(json.dumps(report, ensure_ascii=False))
            value[key] = kept
            if isinstance(value, dict):
                del value[key]
                compare(json.dumps(report))
                value[key] = kept
            damage(kept)

    for measurement in report["models"][0]["measurements"]:
        measurement["rtf"]["values"] = []
    report["command"] = report["versions"] = report["before"] = report["after"] = ""
    damage(report)
    for text in ("", "[]", "null", "[" * 100_000, report_path.read_text()[:-200], '{"format": "lwasr-bench"}'):
        compare(text)
    path.write_bytes(b"\xff\xfe\0")
    assert main(["bench", "compare", str(path), str(report_path)]) == 2


def test_debug_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "bench", "nonsense.onnx"]) == 2
    assert "Traceback" in (err := capsys.readouterr().err) and "got nonsense.onnx" in err


def test_the_default_settings() -> None:
    chosen = settings.chosen_settings(build_parser().parse_args(["bench", "--right-context", "320"]))
    assert (chosen.hop_ms, chosen.right_context_ms) == (settings.DEFAULT_HOP_MS, 320)
    assert settings.chosen_settings(build_parser().parse_args(["bench", "--stream", "none"])).hop_ms == ()


def test_a_worker_reports_what_it_cannot_use(model_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    with pytest.raises(ValueError, match=r"bad\.wav must be WAV, FLAC"):
        runner.run_worker({"mode": "file", "model": str(model_path), "threads": 1, "recordings": [str(bad)]})
    with pytest.raises(runner.MeasurementError, match="failed with status 1: KeyError: 'threads'"):
        runner.run_worker({"mode": "file", "model": str(model_path)})


def test_a_manifest_line_without_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "text": "one"}\n{"audio_filepath": "b.wav"}\n')
    with pytest.raises(
        ValueError, match="line 2: line must be a JSON object with audio_filepath and text, got no text"
    ):
        recordings.from_manifest(path, None)


def test_a_manifest_of_segments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio_filepath": "talk.wav", "offset": 3.5, "duration": 2, "text": "one"}\n')
    with pytest.raises(ValueError, match=r"entry 1: recording must be a full file, got a segment \(offset\)"):
        recordings.from_manifest(path, None)


def test_a_manifest_needs_words(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "text": "..."}\n')
    with pytest.raises(ValueError, match="texts must have words to count errors, got none"):
        recordings.from_manifest(path, None)


def test_limit_takes_the_first(manifest: Path, tmp_path: Path) -> None:
    assert [item.text for item in recordings.from_manifest(manifest, 1).items] == ["One fourteen two."]
    assert [Path(item.path).name for item in recordings.from_folder(tmp_path, None).items] == ["a.wav", "b.flac"]


def test_latency_of_a_board_that_is_too_slow_adds_up(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hops of 320 ms that take 1 s each: every hop waits for the one before."""
    clock = iter(np.arange(100) * 1.0)
    monkeypatch.setattr(streaming.time, "perf_counter", lambda: next(clock))
    done = streaming.run_stream(recognizer, np.zeros(3 * 5120, np.float32))
    assert done.hop_latency_s == pytest.approx([1.0, 1.68, 2.36])
    assert done.final_latency_s == pytest.approx(3.36)
    assert done.busy_s == pytest.approx(4.0)


def test_run_stream_gives_the_words_of_a_stream(recognizer: Recognizer) -> None:
    waveform = speak(*SENTENCE, EndpointRules().silence_after_speech_s + 1.0, "\u2581one")
    done = streaming.run_stream(recognizer, waveform)
    assert done.text == "one fourteen two one"
    assert len(done.hop_latency_s) == len(waveform) // 5120


def test_hops_do_not_depend_on_the_right_context(tmp_path: Path) -> None:
    path = tmp_path / "ahead.onnx"
    onnx.save(tiny_model.build_model(look_ahead=True), path)
    waveform = speak(*SENTENCE, 2.56 - 0.7 - 4 * 0.12)
    for right_context_ms in (None, 0, 320):
        done = streaming.run_stream(Recognizer(path), waveform, right_context_ms)
        assert (done.hop_ms, done.text) == (320, "one fourteen two")
        assert done.right_context_ms == (640 if right_context_ms is None else right_context_ms)
        assert len(done.hop_latency_s) == 8  # they end at 0.32, 0.64 ... 2.56 s


def test_a_raspberry_pi_is_named(tmp_path: Path) -> None:
    files = {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
        * 4,
        "proc/meminfo": "MemTotal:        8245968 kB\n",
        "proc/loadavg": "0.25 0.10 0.05 1/200 1234\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
        "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/class/thermal/thermal_zone0/temp": "54321\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    described = board.read_board(tmp_path)
    assert described.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert described.processor == "4 x Cortex-A76"
    assert described.int8_features == ("asimddp",)
    assert described.memory_bytes == 8245968 * 1024
    assert described.system == "Debian GNU/Linux 12 (bookworm)"
    condition = board.read_condition(tmp_path)
    assert (condition.governor, condition.clock_mhz, condition.load) == ("ondemand", 2400.0, 0.25)
    assert condition.temperature_c == pytest.approx(54.321)


def test_throttle_flags() -> None:
    assert board.decode_throttled("throttled=0x0\n") == ()
    assert board.decode_throttled("throttled=0x50005\n") == (
        "under-voltage now",
        "throttled now",
        "under-voltage since boot",
        "throttled since boot",
    )
    assert board.decode_throttled("VCHI initialization failed") is None


def test_spread_and_latency() -> None:
    assert results.Spread.of([3.0, 1.0, 2.0]).median == 2.0
    latency = results.Latency.of_seconds([0.001 * n for n in range(101)])
    assert (latency.p50, latency.p95, latency.max, latency.count) == (
        pytest.approx(50),
        pytest.approx(95),
        pytest.approx(100),
        101,
    )
    assert results.Latency.of_seconds([]) is None


def test_the_packaged_recording_matches_its_description() -> None:
    info = soundfile.info(recordings.CLIP)
    assert (info.samplerate, info.channels, info.format) == (16000, 1, "FLAC")
    assert info.duration == pytest.approx(recordings.CLIP_S, abs=0.01)
    assert recordings.CLIP.stat().st_size < 100_000


def test_the_packaged_recording_is_in_the_wheel() -> None:
    tomllib = pytest.importorskip("tomllib")
    pyproject = ROOT / "pyproject.toml"
    if not pyproject.is_file():
        pytest.skip("needs the checkout, not an install")
    packaged = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert recordings.CLIP.name in packaged.get("lwasr_edge.bench", [])
