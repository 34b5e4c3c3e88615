"""Quantisation-aware training: the same integers are trained, stored, read and exported."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import random_model
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from safetensors.torch import load_file
from small_models import letters, letters_tokenizer, small_model, two_utterances

from lwasr_edge import OptionError, Recognizer
from lwasr_edge.export import cli, pipeline
from lwasr_edge.export.graph import trace
from lwasr_edge.export.quantize import LARGEST_PAIR, quantize, scales_of
from lwasr_edge.export.streaming import FullContextModel, StreamingModel, exported_model
from lwasr_edge.files import sha256_of
from lwasr_edge.hub.gzip_blocks import BLOCK_BYTES, compressed
from lwasr_edge.model import Model
from lwasr_edge.training.compress.feature_norm import fit_running_norm
from lwasr_edge.training.compress.qat import prepare_qat
from lwasr_edge.training.compress.smooth_quant import equalise, equalise_norm
from lwasr_edge.training.compress.students import Shape, init_from_reference, init_students
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.loop.device import Hardware
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Run, Trainer
from lwasr_edge.training.model.acoustic_model import SCALE, AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.model.quantized import LEVELS_PER_DEVIATION, MAX_LEVEL, quantized_copy, quantized_values
from lwasr_edge.training.options import CTC_WEIGHTS

CPU = torch.device("cpu")


@pytest.fixture
def model() -> AcousticModel:
    """Random weights with quantisation scales, not quantised yet."""
    model = random_model()
    prepare_qat(model)
    return model


def scale_of(linear: torch.nn.Linear) -> torch.Tensor:
    return linear.get_buffer(SCALE)


def levels_in(model: AcousticModel) -> dict[str, torch.Tensor]:
    """QAT weights divided by their scales, not rounded."""
    layers = model.quantized_layers()
    return {name: linear.weight.detach() / scale_of(linear)[:, None] for name, linear in layers.items()}


def arrays(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_preparation_changes_no_output() -> None:
    model = random_model()
    waveform, n_samples = torch.randn(1, 16_000) * 0.1, torch.tensor([16_000])
    wanted = model.log_probs(waveform, n_samples)[0]
    prepare_qat(model)
    torch.testing.assert_close(model.log_probs(waveform, n_samples)[0], wanted, rtol=0, atol=1e-3)
    before = {name: scale_of(linear).clone() for name, linear in model.quantized_layers().items()}
    prepare_qat(model)  # does nothing the second time
    assert all(torch.equal(scale_of(linear), before[name]) for name, linear in model.quantized_layers().items())


def test_only_linear_modules_of_layers_are_quantised(model: AcousticModel) -> None:
    names = {name.removeprefix("encoder.layers.0.") for name in model.quantized_layers() if ".layers.0." in name}
    assert names == {
        *(f"feed_forward{i}.linear{j}" for i in (1, 2) for j in (1, 2)),
        *(f"attention.{name}" for name in ("query", "key", "value", "out")),
        "conv.pointwise1",
        "conv.pointwise2",
    }
    assert random_model().quantized_layers() == {}


def test_a_scale_is_an_eighth_of_the_deviation_or_fits_the_largest_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("model.quantized", "compress.qat"):
        monkeypatch.setattr(f"lwasr_edge.training.{module}.MAX_LEVEL", 30)
    model = random_model()
    with torch.no_grad():
        model.encoder.layers[0].feed_forward1.linear2.weight[3, 5] = 100.0
    prepare_qat(model)
    linear = model.encoder.layers[0].feed_forward1.linear2
    deviation = linear.weight.detach().square().mean(1).sqrt()
    torch.testing.assert_close(scale_of(linear)[0], deviation[0] / LEVELS_PER_DEVIATION)
    assert float(quantized_values(linear.weight, scale_of(linear))[3].abs().max()) == 30
    assert 2 * MAX_LEVEL <= LARGEST_PAIR  # any two neighbours


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.floats(2**-10, 10, width=32))
def test_quantisation_is_idempotent(values: list[float], scale: float) -> None:
    weight, scales = torch.tensor([values]), torch.tensor([scale])
    once = quantized_values(weight, scales)
    assert torch.equal(quantized_values(once * scale, scales), once)
    within = weight.abs() <= MAX_LEVEL * scale
    assert float(((once * scale - weight).abs()[within] / scale).max() if within.any() else 0) <= 0.5 + 1e-3


@pytest.mark.parametrize("half", [False, True])
def test_checkpoint_stores_int8(model: AcousticModel, tmp_path: Path, half: bool) -> None:
    save_checkpoint(tmp_path / "a.safetensors", model, letters_tokenizer(), half=half)
    read, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert read.config.qat
    stored = quantized_copy(model).quantized_layers()
    for name, linear in read.quantized_layers().items():
        assert torch.equal(linear.weight, stored[name].weight), name
    save_checkpoint(tmp_path / "b.safetensors", read, letters_tokenizer(), half=half)
    written, again = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert written.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in written.items())
    assert written["encoder.layers.1.conv.pointwise1.weight"].dtype == torch.int8


@pytest.mark.parametrize("levels", [4.0, 8.0])
def test_levels_in_a_standard_deviation(levels: float) -> None:
    model = small_model()
    prepare_qat(model, levels)
    linear = model.encoder.layers[0].feed_forward1.linear1
    deviation = linear.weight.detach().square().mean(1).sqrt()
    assert ((deviation / linear.get_buffer(SCALE)).round(decimals=3) <= levels).all()
    assert (deviation / linear.get_buffer(SCALE)).max() == pytest.approx(levels)


@pytest.mark.parametrize("levels", [0.0, 65.0, float("nan")])
def test_impossible_levels(levels: float) -> None:
    with pytest.raises(OptionError, match="--qat-levels must be 1 to 64"):
        prepare_qat(small_model(), levels)


def test_a_model_without_qat_is_stored_unchanged() -> None:
    model = random_model()
    assert quantized_copy(model) is model


def qat_trainer(folder: Path, precision: torch.dtype) -> Trainer:
    folder.mkdir(exist_ok=True)
    corpus = two_utterances(folder, 3.0)
    store = WaveformStore(corpus, CPU)
    student = init_from_reference(small_model(n_layers=2), (0, 1))
    fit_running_norm(student, store)
    prepare_qat(student)
    schedule = Schedule(steps=6, batch_s=4, learning_rate=1e-3, warmup_steps=2, save_every=3)
    targets = [letters().encode(utterance.text) for utterance in corpus.utterances]
    augmenter, hardware = Augmenter(AugmentConfig(), None), Hardware(CPU, precision)
    run = Run(corpus, store, targets, augmenter, schedule, hardware, folder / "run")
    return Trainer(run, Family({"student": student}, letters_tokenizer(), {"train": "test"}), CTC_WEIGHTS)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_training_computes_with_quantised_weights_and_updates_float_ones(
    tmp_path: Path, precision: torch.dtype
) -> None:
    trainer = qat_trainer(tmp_path / "a", precision)
    trainer.train()
    student, copied = trainer.family.students["student"], trainer.copies.models["student"]
    residuals = torch.cat([(levels - levels.round()).abs().flatten() for levels in levels_in(student).values()])
    assert float(residuals.mean()) > 0.1  # the optimiser's weights are between the levels
    for name, linear in copied.quantized_layers().items():
        levels = linear.weight.float() / scale_of(student.quantized_layers()[name])[:, None]
        tolerance = 1e-3 if precision is torch.float32 else 0.3  # bfloat16 has eight bits
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=tolerance)
    read, _ = load_checkpoint(tmp_path / "a" / "run" / "student.safetensors")
    for name, linear in quantized_copy(student).quantized_layers().items():
        assert torch.equal(read.quantized_layers()[name].weight, linear.weight)


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    unbroken = qat_trainer(tmp_path / "a", torch.float32)
    unbroken.train()
    first = qat_trainer(tmp_path / "b", torch.float32)
    first.schedule = dataclasses.replace(first.schedule, steps=3)
    first.train()
    second = qat_trainer(tmp_path / "b", torch.float32)
    assert second.resume()
    second.train()
    for one, other in zip(unbroken.models.parameters(), second.models.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [Shape((0, 2)), Shape((0, 1, 2), 16)])
def test_a_qat_student_can_be_the_reference_of_smaller_ones(tmp_path: Path, shape: Shape) -> None:
    store = WaveformStore(two_utterances(tmp_path, 3.0), CPU)
    reference = init_from_reference(small_model(n_layers=3), (0, 1, 2))
    fit_running_norm(reference, store)
    prepare_qat(reference)
    student = init_students(quantized_copy(reference), {"student": shape}, store)["student"]
    assert not student.config.qat
    assert not [name for name in student.state_dict() if name.endswith(".step")]
    given = quantized_copy(reference).encoder.layers[shape.layers[1]].conv.pointwise1.weight
    assert torch.equal(student.encoder.layers[1].conv.pointwise1.weight, given)
    prepare_qat(student)
    assert student.config.qat


@pytest.fixture(scope="module")
def quantised() -> AcousticModel:
    """A QAT model as its checkpoint stores it."""
    model = random_model()
    prepare_qat(model)
    return quantized_copy(model)


@pytest.fixture(scope="module")
def exported(quantised: AcousticModel) -> StreamingModel | FullContextModel:
    return exported_model(quantised)


@pytest.fixture(scope="module")
def traced(exported: StreamingModel | FullContextModel) -> onnx.ModelProto:
    return trace(exported)


def test_int8_file_has_the_quantised_weights(
    quantised: AcousticModel, exported: StreamingModel | FullContextModel, traced: onnx.ModelProto
) -> None:
    stored = arrays(quantize(traced, scales=scales_of(exported)))
    linears = quantised.quantized_layers()
    for name, parts in {
        "feed_forward1.linear2": ["feed_forward1.linear2"],  # whose output the layer halves
        "attention.projection": ["attention.query", "attention.key", "attention.value"],
        "conv.pointwise1": ["conv.pointwise1"],
    }.items():
        wanted = [linears[f"encoder.layers.1.{part}"] for part in parts]
        integers = torch.cat([quantized_values(linear.weight, scale_of(linear)) for linear in wanted])
        np.testing.assert_array_equal(stored[f"layers.1.{name}.weight_quantized"], integers.numpy().T)


def test_qat_weights_kept_in_float_are_stored_as_int8(
    exported: StreamingModel | FullContextModel, traced: onnx.ModelProto
) -> None:
    name = "layers.1.attention.projection"
    quantized = quantize(traced, [name, "head"], scales_of(exported))
    assert {name, "head"} <= {node.name for node in quantized.graph.node if node.op_type == "MatMul"}
    stored = arrays(quantized)
    restored = stored[f"{name}.weight_int8"].astype(np.float32) * stored[f"{name}.weight_scale"]
    np.testing.assert_allclose(restored, exported.get_submodule(name).weight.detach().numpy(), rtol=1e-5)
    assert stored["head.weight_float16"].dtype == np.float16  # the head has no QAT


def test_equalisation_evens_the_channels_and_changes_no_output() -> None:
    torch.manual_seed(3)
    linears, norm = [torch.nn.Linear(6, 4), torch.nn.Linear(6, 3)], torch.nn.LayerNorm(6)
    norm.weight.data = torch.tensor([0.1, 1.0, 20.0, 1.0, 1.0, 1.0])
    x = torch.randn(50, 6)
    wanted = [linear(norm(x)) for linear in linears]
    loudest = norm(x).abs().amax(0)
    equalise_norm(norm, *linears)
    for linear, one in zip(linears, wanted, strict=True):
        torch.testing.assert_close(linear(norm(x)), one)
    equalised = norm(x).abs().amax(0)
    assert equalised.max() / equalised.min() < 0.3 * loudest.max() / loudest.min()


def test_equalisation_is_idempotent() -> None:
    model = random_model()
    equalise(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    equalise(model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_compression_is_lossless(data: bytes, n_blocks: int) -> None:
    data += bytes(n_blocks * BLOCK_BYTES)
    found = compressed(data)
    assert gzip.decompress(found) == data
    assert compressed(data) == found
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)  # programs in other languages read one member
    assert member.decompress(found) == data and member.eof and not member.unused_data


def test_quantised_weights_compress() -> None:
    levels = np.random.default_rng(0).normal(0, LEVELS_PER_DEVIATION, 1 << 18).round().astype(np.int8).tobytes()
    entropy = np.log2(LEVELS_PER_DEVIATION * np.sqrt(2 * np.pi * np.e)) / 8  # bytes, of a normal distribution
    assert len(compressed(levels)) / len(levels) < entropy + 0.01 < len(gzip.compress(levels)) / len(levels)


def test_the_command_writes_a_compressed_file_that_runs(
    quantised: AcousticModel,
    traced: onnx.ModelProto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pipeline, "trace", lambda _: copy.deepcopy(traced))  # which is slow
    checkpoint, path, plain = tmp_path / "a.safetensors", tmp_path / "a.int8.onnx.gz", tmp_path / "b.int8.onnx"
    save_checkpoint(checkpoint, quantised, b"no tokenizer")
    assert cli.main([str(checkpoint), "-o", str(path), "--int8", "--name", "a"]) == 0
    assert "a third smaller" not in capsys.readouterr().out
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["a.int8.json", "a.int8.onnx.gz", "a.int8.report.json", "a.safetensors"]
    described = json.loads((tmp_path / "a.int8.json").read_text(encoding="utf-8"))
    assert described["file"] == {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    assert described["model"] == json.loads(Model(path)._session.get_modelmeta().custom_metadata_map["lwasr.model"])
    assert {"name": "waveform", "dtype": "float32", "shape": ["samples"]} in described["inputs"]
    shapes = {row["name"].removeprefix("state_"): row["shape"] for row in described["inputs"][2:]}
    assert shapes == {row["name"].removeprefix("next_"): row["shape"] for row in described["outputs"][4:]}
    assert shapes == {name.removeprefix("state_"): list(s) for name, s in Model(path).state_shapes.items()}
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    report = json.loads((tmp_path / "a.int8.report.json").read_text(encoding="utf-8"))
    assert (report["bytes"], report["unpacked_bytes"]) == (path.stat().st_size, plain.stat().st_size)
    assert report["bytes"] < report["unpacked_bytes"]
    onnx.checker.check_model(onnx.load(plain))
    assert Model(path).info == Model(plain).info
    waveform = np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32)
    assert Recognizer(path).transcribe(waveform, 16_000).text == Recognizer(plain).transcribe(waveform, 16_000).text
    assert cli.main([str(checkpoint), "-o", str(plain), "--int8", "--name", "a", "--force"]) == 0
    assert "MODEL.onnx.gz, which the runtime reads too, is a third smaller" in capsys.readouterr().out
    assert plain.read_bytes() == gzip.decompress(path.read_bytes())
