"""Removal of modules: what stays, what a removed module leaves behind, and that the rest of the SDK can use it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model, two_utterances, write_test_manifest
from torch import Tensor

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.training.cli import main
from lwasr_edge.training.compress.modules import Removal, bias_before, removed_from
from lwasr_edge.training.compress.students import Shape, init_students, student_config
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.model.config import MODULES
from lwasr_edge.training.options import parse_keep

EVERY = [(layer, name) for layer in range(2) for name in MODULES]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WaveformStore:
    return WaveformStore(two_utterances(tmp_path_factory.mktemp("speech"), 1.5), torch.device("cpu"))


def posteriors(model: AcousticModel, store: WaveformStore) -> Tensor:
    batch = store.batch(store.spread(2)[0])
    return model.eval().log_probs(batch.waveform, batch.n_samples)[0]


@pytest.mark.parametrize("module", EVERY)
def test_a_module_of_constant_output_is_removed_without_a_trace(module: tuple[int, str], store: WaveformStore) -> None:
    model = small_model(normalization="running")
    layer, name = module
    last = {"attention": "out", "conv": "pointwise2"}.get(name, "linear2")
    torch.nn.init.zeros_(model.encoder.layers[layer].get_submodule(f"{name}.{last}").weight)
    removal = Removal(model, store)
    removal.removed.append(module)
    student = removed_from(model, removal)
    assert getattr(student.encoder.layers[layer], name) is None
    torch.testing.assert_close(posteriors(student, store), posteriors(model, store), rtol=0, atol=1e-4)


def test_neighbours_that_are_removed_leave_their_means_to_the_one_before() -> None:
    model = small_model(normalization="running")
    removed = {(0, "feed_forward1"), (0, "attention"), (1, "feed_forward1")}
    assert bias_before(model, (0, "attention"), removed)[0] is model.encoder.subsampling.linear.bias
    assert bias_before(model, (1, "feed_forward1"), removed)[0] is model.encoder.layers[0].norm.bias
    assert bias_before(model, (1, "conv"), removed)[0] is model.encoder.layers[1].attention.out.bias


def test_the_module_that_does_nothing_goes_first(store: WaveformStore) -> None:
    model = small_model(normalization="running")
    conv = model.encoder.layers[1].conv
    for parameter in conv.pointwise2.parameters():
        torch.nn.init.zeros_(parameter)
    removal = Removal(model, store)
    removal.remove(0.99)
    assert removal.removed == [(1, "conv")]
    removal.remove(0.5)
    assert removal.time <= 0.5 and removal.removed[0] == (1, "conv")
    left = [module for module in EVERY if module not in removal.removed]
    assert removal.left == left and left


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_impossible_shares(share: float, store: WaveformStore) -> None:
    with pytest.raises(OptionError, match="the share of time of a student must be"):
        Removal(small_model(normalization="running"), store).remove(share)


def test_students_of_less_time_are_nested_and_can_be_stored(tmp_path: Path, store: WaveformStore) -> None:
    reference = small_model(normalization="running")
    shapes = parse_keep("2x24@0.4,2x24@0.7", 2)
    assert shapes["layers2x24at0_4"] == Shape((0, 1), 24, time=0.4)
    students = init_students(reference, shapes, store)
    small, large = (students[name].config.encoder for name in shapes)
    assert {*large.removed} < {*small.removed}
    student = students["layers2x24at0_4"]
    assert student.encoder.subsampling.conv1.weight.requires_grad and not student.head.weight.is_inference()
    save_checkpoint(tmp_path / "student.safetensors", student, letters_tokenizer())
    loaded, _ = load_checkpoint(tmp_path / "student.safetensors")
    assert loaded.config == student.config
    torch.testing.assert_close(posteriors(loaded, store), posteriors(student, store))


def test_the_command_removes_trains_and_trains_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_test_manifest(tmp_path, ("rms_16k.opus", "slt_16k.flac"))
    save_checkpoint(tmp_path / "reference.safetensors", small_model(normalization="running"), letters_tokenizer())
    given = ["--train", str(data), "--device", "cpu", "--batch-s", "4", "--steps", "2", "--warmup-steps", "1"]
    run = ["represent", "--reference", str(tmp_path / "reference.safetensors"), "--keep", "2@0.5,2x24@0.7"]
    assert main([*run, *given, "--layer-steps", "1", "-o", str(tmp_path / "run")]) == 0
    student, _ = load_checkpoint(tmp_path / "run" / "layers2at0_5.safetensors")
    removed = ", ".join(student.config.encoder.removed)
    assert removed and f"layers2at0_5: without {removed}\n" in capsys.readouterr().out
    adapt = ["adapt", str(tmp_path / "run" / "layers2x24at0_7.safetensors"), "--qat", "--qat-levels", "4"]
    assert main([*adapt, *given, "-o", str(tmp_path / "adapted")]) == 0


def test_a_run_that_goes_on_keeps_the_modules_it_began_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine, or the next version, could find others."""
    data = write_test_manifest(tmp_path, ("rms_16k.opus", "slt_16k.flac"))
    save_checkpoint(tmp_path / "reference.safetensors", small_model(normalization="running"), letters_tokenizer())
    given = [
        "represent",
        "--reference",
        str(tmp_path / "reference.safetensors"),
        "--keep",
        "2@0.5,2",
        "--train",
        str(data),
    ]
    given += [
        "--device",
        "cpu",
        "--batch-s",
        "4",
        "--warmup-steps",
        "1",
        "--layer-steps",
        "0",
        "-o",
        str(tmp_path / "run"),
    ]
    assert main([*given, "--steps", "1"]) == 0
    before, _ = load_checkpoint(tmp_path / "run" / "layers2at0_5.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(Removal, "remove", lambda *_: pytest.fail("searched again"))
        assert main([*given, "--steps", "2"]) == 0
    assert "resuming" in capsys.readouterr().out
    after, _ = load_checkpoint(tmp_path / "run" / "layers2at0_5.safetensors")
    assert before.config == after.config and before.config.encoder.removed
    assert not torch.equal(before.head.weight, after.head.weight)


def test_students_of_a_student_keep_what_it_lacks(store: WaveformStore) -> None:
    reference = small_model(normalization="running", n_layers=3, removed=("0.conv", "2.attention"))
    assert student_config(reference.config, Shape((0, 2))).encoder.removed == ("0.conv", "1.attention")
    pruned = init_students(reference, {"a": Shape((0, 2), 16, 8)}, store)["a"]
    assert pruned.encoder.layers[0].conv is None and pruned.encoder.layers[1].attention is None
    assert pruned.encoder.layers[0].attention.out.in_features == 8


def test_multiplications_leave_out_what_is_removed() -> None:
    whole = small_model().config
    layers = [
        dataclasses.replace(whole, encoder=dataclasses.replace(whole.encoder, removed=(f"0.{name}",))).multiplications[
            1
        ]
        for name in MODULES
    ]
    assert sum(whole.multiplications[1] - one for one in layers) * 2 == whole.multiplications[1]


@pytest.mark.parametrize("removed", [("2.conv",), ("0.head",), ["0.conv"], (0,)])
def test_modules_that_no_layer_has_are_refused(removed: object) -> None:
    with pytest.raises(CheckpointError, match="removed must be modules of the layers"):
        small_model(removed=removed)


@pytest.mark.parametrize("text", ["8@", "8@x", "8x352@0.5@0.4", "8@0", "8@1", "8@nan"])
def test_a_keep_with_a_wrong_share(text: str) -> None:
    with pytest.raises(OptionError, match="share of time"):
        parse_keep(text, 16)
