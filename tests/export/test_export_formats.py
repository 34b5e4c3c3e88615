"""The formats for other runtimes: sherpa-onnx, with its wheel if installed, and onnxruntime's own."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import PIECES, random_model
from locations import EN_TINY_CHECKPOINT
from onnx import numpy_helper
from speech import own_utterances, shared_utterances

from lwasr_edge import OptionError, Recognizer
from lwasr_edge.errors import VerificationError
from lwasr_edge.export import cli, pipeline
from lwasr_edge.export.graph import trace
from lwasr_edge.export.metadata import Description, describe, write_metadata
from lwasr_edge.export.ort_format import require_same
from lwasr_edge.export.run_model import log_probs_of, run_file
from lwasr_edge.export.sherpa import (
    PARITY_TOLERANCE,
    SherpaModel,
    from_floor,
    sherpa_metadata,
    sherpa_model,
    sherpa_parity,
    trace_sherpa,
    write_tokens,
)
from lwasr_edge.export.streaming import exported_model
from lwasr_edge.export.verify import RecordingSet, synthetic_recordings
from lwasr_edge.model import Model
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.scoring.decode import greedy_tokens, tokens_to_text
from lwasr_edge.training.scoring.scores import score

SHIFT_SAMPLES = 120  # sherpa-onnx centres its frames so much later


def checkpoint_of(model: AcousticModel, folder: Path) -> Path:
    path = folder / "random.safetensors"
    save_checkpoint(path, model, b"no tokenizer")
    return path


@pytest.fixture(scope="module")
def traced() -> onnx.ModelProto:
    return trace(exported_model(random_model()))


@pytest.fixture
def fast_trace(traced: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert `random_model`, which is slow, only once."""
    monkeypatch.setattr(pipeline, "trace", lambda _: copy.deepcopy(traced))


@pytest.fixture(scope="module")
def traced_for_sherpa() -> onnx.ModelProto:
    return trace_sherpa(sherpa_model(random_model()))


@pytest.fixture
def fast_sherpa_trace(traced_for_sherpa: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fast_trace`, for the other format; a model with normalisation over utterances is converted all the same."""
    running = random_model().config.frontend

    def trace_once(model: SherpaModel) -> onnx.ModelProto:
        return copy.deepcopy(traced_for_sherpa) if model.config.frontend == running else trace_sherpa(model)

    monkeypatch.setattr(pipeline, "trace_sherpa", trace_once)


def sherpa_recognizer(folder: Path):
    sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx")
    files = {"model": str(folder / "model.onnx"), "tokens": str(folder / "tokens.txt")}
    return sherpa_onnx.OfflineRecognizer.from_nemo_ctc(**files, num_threads=1)


def text_of_sherpa(recognizer, waveform: np.ndarray) -> str:
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, waveform)
    recognizer.decode_stream(stream)
    return stream.result.text.strip()


def text_of_torch(model: AcousticModel, waveform: np.ndarray) -> str:
    """With full context."""
    log_probs, _ = model.log_probs(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    return tokens_to_text(greedy_tokens(log_probs[0], model.config.blank_id), model.config.vocabulary)


@pytest.mark.usefixtures("fast_sherpa_trace")
@pytest.mark.parametrize("normalization", ["running", "utterance"])
def test_sherpa_folder_from_the_command(normalization: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(normalization)
    arguments = [str(checkpoint_of(model, tmp_path)), "-o", str(tmp_path / "out"), "--format", "sherpa-onnx"]
    assert cli.main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.onnx", "report.json", "tokens.txt"]
    assert "from_nemo_ctc" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["parity"] <= PARITY_TOLERANCE
    lines = (tmp_path / "out" / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"{PIECES[0]} 0"
    assert lines[-1] == f"<blk> {len(PIECES)}"
    properties = {p.key: p.value for p in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert properties["normalize_type"] == {"running": "", "utterance": "per_feature"}[normalization]
    assert properties["subsampling_factor"] == "4"
    assert cli.main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    recognizer = sherpa_recognizer(tmp_path / "out")
    waveform = own_utterances()[0].samples()
    assert text_of_sherpa(recognizer, waveform) != ""
    assert text_of_sherpa(recognizer, np.zeros(8000, np.float32)) is not None  # any text, but no crash


def test_sherpa_refuses_other_features() -> None:
    with pytest.raises(OptionError, match="40 bands"):
        sherpa_model(random_model(n_mels=40))


def test_from_floor() -> None:
    guard, floor = 2.0**-24, float(np.finfo(np.float32).eps)
    found = from_floor(torch.tensor([np.log(floor), np.log(1e-3)], dtype=torch.float32), guard)
    assert found.tolist() == pytest.approx([np.log(guard), np.log(1e-3 + guard)], abs=1e-5)


@pytest.mark.long
def test_real_words_in_sherpa(tmp_path: Path) -> None:
    """With our frame positions, sherpa-onnx gives our words; with its own, about as many errors."""
    pytest.importorskip("sherpa_onnx", reason="pip install sherpa-onnx")
    if not EN_TINY_CHECKPOINT.is_file():
        pytest.skip("no trained checkpoint here")
    model, _ = load_checkpoint(EN_TINY_CHECKPOINT)
    onnx.save(write_metadata(trace_sherpa(sherpa_model(model)), sherpa_metadata(model, {})), tmp_path / "model.onnx")
    write_tokens(tmp_path / "tokens.txt", model)
    assert sherpa_parity(model, tmp_path / "model.onnx") < PARITY_TOLERANCE
    recognizer = sherpa_recognizer(tmp_path)
    utterances = own_utterances() + shared_utterances(4)
    references = [utterance.text for utterance in utterances]
    waveforms = [utterance.samples() for utterance in utterances]
    ours = [text_of_torch(model, waveform) for waveform in waveforms]
    theirs = [text_of_sherpa(recognizer, waveform) for waveform in waveforms]
    aligned = [text_of_sherpa(recognizer, np.pad(waveform, (SHIFT_SAMPLES, 0))) for waveform in waveforms]
    assert score(ours, aligned).wer < 0.02
    assert abs(score(references, theirs).wer - score(references, ours).wer) < 0.03


@pytest.mark.usefixtures("fast_trace")
@pytest.mark.parametrize("precision", ["--fp32", "--int8"])
def test_ort_format(precision: str, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(random_model(), tmp_path)
    for file_format in ("onnx", "ort"):
        output = tmp_path / f"m.{file_format}"
        assert cli.main([str(checkpoint), "-o", str(output), "--format", file_format, precision, "--force"]) == 0
    config = (tmp_path / "m.required_operators.config").read_text()
    assert str(tmp_path) not in config
    assert "ai.onnx;18;" in config
    assert ("DynamicQuantizeMatMul" in config) == (precision == "--int8")
    models = Model(tmp_path / "m.onnx"), Model(tmp_path / "m.ort")
    assert models[0].info == models[1].info
    waveform = own_utterances()[0].samples()
    results = [run_file(model, waveform) for model in models]
    if precision == "--fp32":
        assert [r.tokens.tolist() for r in results[0]] == [r.tokens.tolist() for r in results[1]]
        np.testing.assert_allclose(log_probs_of(results[0]), log_probs_of(results[1]), atol=2e-3)
    assert Recognizer(tmp_path / "m.ort").transcribe(own_utterances()[0].path).text != ""


def test_an_ort_file_of_another_model_is_refused(traced: onnx.ModelProto, tmp_path: Path) -> None:
    proto = write_metadata(copy.deepcopy(traced), describe(random_model(), Description("random"), "float32", ""))
    onnx.save(proto, tmp_path / "right.onnx")
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "head.weight")
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(proto, tmp_path / "wrong.onnx")
    with pytest.raises(
        VerificationError, match="best token of the ONNX file must be the ORT file's in 97 % of the frames, got"
    ):
        require_same(
            tmp_path / "right.onnx", tmp_path / "wrong.onnx", [RecordingSet("signals", synthetic_recordings(16_000))]
        )


@pytest.mark.usefixtures("fast_trace")
def test_run_file_equals_transcribe_of_one_segment(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert cli.main([str(checkpoint_of(random_model(), tmp_path)), "-o", str(path)]) == 0
    model, recognizer = Model(path), Recognizer(path)
    for n_samples in (640, 63_360, 64_000, 150_000):
        waveform = np.random.default_rng(n_samples).normal(0, 0.1, n_samples).astype(np.float32)
        results = run_file(model, waveform)
        tokens = [token.token for result in results for token in result.timed_tokens(committed=True)]
        text = " ".join(tokens_to_text(tokens, model.info.vocabulary).split())
        assert text == recognizer.transcribe(waveform, 16_000).text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB; skips the test if it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mount is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.usefixtures("fast_trace", "fast_sherpa_trace")
@pytest.mark.parametrize(("file_format", "name"), [("onnx", "m.onnx"), ("ort", "m.ort"), ("sherpa-onnx", "m")])
def test_a_full_disk(
    file_format: str, name: str, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(random_model(), tmp_path)
    (small_disk / "precious").write_bytes(b"x" * 16_384)
    assert cli.main([str(checkpoint), "-o", str(small_disk / name), "--format", file_format]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lwasr-export: error: ")
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert [path.name for path in small_disk.iterdir()] == ["precious"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, folder = checkpoint_of(random_model(), tmp_path), tmp_path / "closed"
    folder.mkdir(mode=0o500)
    assert cli.main([str(checkpoint), "-o", str(folder / "m.onnx")]) == 2
    assert "cannot be written: no permission in" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
