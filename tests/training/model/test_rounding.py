"""Rounded weights: what is learnt, written, read and exported is the same whole number of steps."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
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

from lwasr_edge import Recognizer
from lwasr_edge.export import cli, pipeline
from lwasr_edge.export.compress import BLOCK_BYTES, compressed
from lwasr_edge.export.graph import trace
from lwasr_edge.export.quantize import LARGEST_PAIR, quantize, scales_of
from lwasr_edge.export.streaming import StreamingModel, WholeModel, exported_model
from lwasr_edge.model import Model
from lwasr_edge.training.compress.smooth_quant import balance_behind, equalise
from lwasr_edge.training.compress.students import Shape, fit_running_norm, init_from_reference, init_students
from lwasr_edge.training.data.augment import AugmentConfig, Augmenter
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.loop.device import Hardware
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Run, Trainer
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.model.quantized import (
    LARGEST,
    SCALES_PER_DEVIATION,
    prepare_qat,
    quantized_copy,
    quantized_values,
)
from lwasr_edge.training.options import CTC_WEIGHTS

CPU = torch.device("cpu")


@pytest.fixture
def model() -> AcousticModel:
    """Of random weights, with steps, not rounded yet."""
    model = random_model()
    prepare_qat(model)
    return model


def steps_in(model: AcousticModel) -> dict[str, torch.Tensor]:
    """Weights of the rounded products in steps, not rounded."""
    return {name: product.weight.detach() / product.step[:, None] for name, product in model.quantized_layers().items()}


def arrays(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_beginning_changes_no_output() -> None:
    model = random_model()
    waveform, n_samples = torch.randn(1, 16_000) * 0.1, torch.tensor([16_000])
    wanted = model.log_probs(waveform, n_samples)[0]
    prepare_qat(model)
    torch.testing.assert_close(model.log_probs(waveform, n_samples)[0], wanted, rtol=0, atol=1e-3)
    before = {name: product.step.clone() for name, product in model.quantized_layers().items()}
    prepare_qat(model)  # once only
    assert all(torch.equal(product.step, before[name]) for name, product in model.quantized_layers().items())


def test_layers_products_are_rounded_and_nothing_else(model: AcousticModel) -> None:
    names = {name.removeprefix("encoder.layers.0.") for name in model.quantized_layers() if ".layers.0." in name}
    assert names == {
        *(f"feed_forward{i}.linear{j}" for i in (1, 2) for j in (1, 2)),
        *(f"attention.{name}" for name in ("query", "key", "value", "out")),
        "conv.pointwise1",
        "conv.pointwise2",
    }
    assert random_model().quantized_layers() == {}


def test_a_step_is_an_eighth_of_the_deviation_or_holds_the_largest_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwasr_edge.training.model.quantized.LARGEST", 30)
    model = random_model()
    with torch.no_grad():
        model.encoder.layers[0].feed_forward1.linear2.weight[3, 5] = 100.0
    prepare_qat(model)
    product = model.encoder.layers[0].feed_forward1.linear2
    deviation = product.weight.square().mean(1).sqrt()
    torch.testing.assert_close(product.step[0], deviation[0] / SCALES_PER_DEVIATION)
    assert float(quantized_values(product.weight, product.step)[3].abs().max()) == 30
    assert 2 * LARGEST <= LARGEST_PAIR  # any two neighbours


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.floats(2**-10, 10, width=32))
def test_rounding_twice_is_rounding_once(values: list[float], step: float) -> None:
    weight, steps = torch.tensor([values]), torch.tensor([step])
    once = quantized_values(weight, steps)
    assert torch.equal(quantized_values(once * step, steps), once)
    within = weight.abs() <= LARGEST * step
    assert float(((once * step - weight).abs()[within] / step).max() if within.any() else 0) <= 0.5 + 1e-3


@pytest.mark.parametrize("half", [False, True])
def test_checkpoint_holds_whole_steps(model: AcousticModel, tmp_path: Path, half: bool) -> None:
    save_checkpoint(tmp_path / "a.safetensors", model, letters_tokenizer(), half=half)
    read, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert read.config.qat
    stored = quantized_copy(model).quantized_layers()
    for name, product in read.quantized_layers().items():
        assert torch.equal(product.weight, stored[name].weight), name
    save_checkpoint(tmp_path / "b.safetensors", read, letters_tokenizer(), half=half)
    written, again = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert written.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in written.items())
    assert written["encoder.layers.1.conv.pointwise1.weight"].dtype == torch.int8


def test_a_model_without_steps_is_stored_as_it_is() -> None:
    model = random_model()
    assert quantized_copy(model) is model


def rounded_trainer(folder: Path, precision: torch.dtype) -> Trainer:
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
def test_training_computes_with_rounded_weights_and_moves_others(tmp_path: Path, precision: torch.dtype) -> None:
    trainer = rounded_trainer(tmp_path / "a", precision)
    trainer.train()
    student, copied = trainer.family.students["student"], trainer.copies.models["student"]
    between = torch.cat([(steps - steps.round()).abs().flatten() for steps in steps_in(student).values()])
    assert float(between.mean()) > 0.1  # what the optimiser moves lies anywhere between the steps
    for name, product in copied.quantized_layers().items():
        steps = product.weight.float() / student.quantized_layers()[name].step[:, None]
        tolerance = 1e-3 if precision is torch.float32 else 0.3  # bfloat16 has eight bits
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=tolerance)
    read, _ = load_checkpoint(tmp_path / "a" / "run" / "student.safetensors")
    for name, product in quantized_copy(student).quantized_layers().items():
        assert torch.equal(read.quantized_layers()[name].weight, product.weight)


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    whole = rounded_trainer(tmp_path / "a", torch.float32)
    whole.train()
    first = rounded_trainer(tmp_path / "b", torch.float32)
    first.schedule = dataclasses.replace(first.schedule, steps=3)
    first.train()
    second = rounded_trainer(tmp_path / "b", torch.float32)
    assert second.resume()
    second.train()
    for one, other in zip(whole.models.parameters(), second.models.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [Shape((0, 2)), Shape((0, 1, 2), 16)])
def test_a_rounded_student_can_be_the_reference_of_smaller_ones(tmp_path: Path, shape: Shape) -> None:
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
def rounded() -> AcousticModel:
    """As its checkpoint holds it."""
    model = random_model()
    prepare_qat(model)
    return quantized_copy(model)


@pytest.fixture(scope="module")
def exported(rounded: AcousticModel) -> StreamingModel | WholeModel:
    return exported_model(rounded)


@pytest.fixture(scope="module")
def traced(exported: StreamingModel | WholeModel) -> onnx.ModelProto:
    return trace(exported)


def test_int8_file_multiplies_the_very_steps(
    rounded: AcousticModel, exported: StreamingModel | WholeModel, traced: onnx.ModelProto
) -> None:
    stored = arrays(quantize(traced, steps=scales_of(exported)))
    products = rounded.quantized_layers()
    for name, parts in {
        "feed_forward1.linear2": ["feed_forward1.linear2"],  # whose output the layer halves
        "attention.projection": ["attention.query", "attention.key", "attention.value"],
        "conv.pointwise1": ["conv.pointwise1"],
    }.items():
        wanted = [products[f"encoder.layers.1.{part}"] for part in parts]
        integers = torch.cat([quantized_values(product.weight, product.step) for product in wanted])
        np.testing.assert_array_equal(stored[f"layers.1.{name}.weight_quantized"], integers.numpy().T)


def test_products_kept_in_float_are_stored_as_their_steps(
    exported: StreamingModel | WholeModel, traced: onnx.ModelProto
) -> None:
    name = "layers.1.attention.projection"
    quantized = quantize(traced, [name, "head"], scales_of(exported))
    assert {name, "head"} <= {node.name for node in quantized.graph.node if node.op_type == "MatMul"}
    stored = arrays(quantized)
    restored = stored[f"{name}.weight_int8"].astype(np.float32) * stored[f"{name}.weight_scale"]
    np.testing.assert_allclose(restored, exported.get_submodule(name).weight.detach().numpy(), rtol=1e-5)
    assert stored["head.weight_float16"].dtype == np.float16  # the head is not rounded


def test_balance_evens_the_channels_and_changes_nothing() -> None:
    torch.manual_seed(3)
    products, norm = [torch.nn.Linear(6, 4), torch.nn.Linear(6, 3)], torch.nn.LayerNorm(6)
    norm.weight.data = torch.tensor([0.1, 1.0, 20.0, 1.0, 1.0, 1.0])
    x = torch.randn(50, 6)
    wanted = [product(norm(x)) for product in products]
    loudest = norm(x).abs().amax(0)
    balance_behind(norm, *products)
    for product, one in zip(products, wanted, strict=True):
        torch.testing.assert_close(product(norm(x)), one)
    balanced = norm(x).abs().amax(0)
    assert balanced.max() / balanced.min() < 0.3 * loudest.max() / loudest.min()


def test_a_model_is_balanced_once() -> None:
    model = random_model()
    equalise(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    equalise(model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_compression_loses_nothing(data: bytes, n_blocks: int) -> None:
    data += bytes(n_blocks * BLOCK_BYTES)
    packed = compressed(data)
    assert gzip.decompress(packed) == data
    assert compressed(data) == packed


def test_weights_of_few_steps_compress() -> None:
    steps = np.random.default_rng(0).normal(0, SCALES_PER_DEVIATION, 1 << 18).round().astype(np.int8).tobytes()
    entropy = np.log2(SCALES_PER_DEVIATION * np.sqrt(2 * np.pi * np.e)) / 8  # bytes, of a normal distribution
    assert len(compressed(steps)) / len(steps) < entropy + 0.01 < len(gzip.compress(steps)) / len(steps)


def test_the_command_writes_a_compressed_file_that_runs(
    rounded: AcousticModel,
    traced: onnx.ModelProto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pipeline, "trace", lambda _: copy.deepcopy(traced))  # which is slow
    checkpoint, path, plain = tmp_path / "a.safetensors", tmp_path / "a.int8.onnx.gz", tmp_path / "b.int8.onnx"
    save_checkpoint(checkpoint, rounded, b"no tokenizer")
    assert cli.main([str(checkpoint), "-o", str(path), "--int8", "--name", "a"]) == 0
    assert "a third smaller" not in capsys.readouterr().out
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["a.int8.onnx.gz", "a.int8.report.json", "a.safetensors"]
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
