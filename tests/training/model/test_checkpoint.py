"""Checkpoints: what is written is read again, and what is not a good checkpoint is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import letters_tokenizer, small_model

from lwasr_edge.errors import CheckpointError
from lwasr_edge.files import sha256_of
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, save_checkpoint
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_model(normalization="running"), letters_tokenizer(), {"schedule": "short"})
    return path


def with_metadata(path: Path, **changes: str) -> Path:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, **changes})
    return path


def test_round_trip(saved: Path) -> None:
    model = small_model(normalization="running")
    read, tokenizer = load_checkpoint(saved)
    assert tokenizer == letters_tokenizer()
    assert read.config == model.config
    assert not read.training
    for name, value in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name
    assert checkpoint_notes(saved) == {"schedule": "short"}
    assert len(sha256_of(saved)) == 64


def test_half_precision_is_half_the_size(saved: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, small_model(normalization="running"), letters_tokenizer(), half=True)

    def weight_bytes(path: Path) -> int:
        return sum(value.nbytes for name, value in load_file(path).items() if name != "tokenizer.model")

    assert 2 * weight_bytes(half) == weight_bytes(saved)
    read, _ = load_checkpoint(half)
    assert read.head.weight.dtype == torch.float32
    torch.testing.assert_close(read.head.weight, small_model().head.weight, atol=1e-3, rtol=1e-3)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"RIFF" + data, lambda data: data[: len(data) // 2]])
def test_damaged(saved: Path, damage) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(CheckpointError, match="small.safetensors: not a readable safetensors file"):
        load_checkpoint(saved)


def test_safetensors_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of lwasr-edge; `lwasr-train import-nemo` makes one"):
        load_checkpoint(path)


def test_newer_version(saved: Path) -> None:
    with_metadata(saved, **{"lwasr.checkpoint": "2"})
    with pytest.raises(CheckpointError, match="checkpoint format 2; this lwasr-edge reads 1"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_numbers(saved: Path, value: float) -> None:
    model = small_model(normalization="running")
    with torch.no_grad():
        model.head.bias[3] = value
    save_checkpoint(saved, model, letters_tokenizer())
    with pytest.raises(CheckpointError, match="tensor head.bias holds NaN or infinity"):
        load_checkpoint(saved)


def test_config_and_weights_that_do_not_fit(saved: Path) -> None:
    config = small_model(normalization="running", d_feed_forward=64).config.to_dict()
    with_metadata(saved, config=json.dumps(config))
    with pytest.raises(CheckpointError, match="weights do not fit the config.*feed_forward1.linear1"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("encoder", "d_model", 15, "does not divide into 2 heads"),
        ("encoder", "conv_kernel", 4, "the kernel must have a middle"),
        ("encoder", "n_heads", 0, "n_heads is 0"),
        ("encoder", "flash", True, "unexpected keyword argument 'flash'"),
        ("encoder", "n_layers", "two", "not one this version knows"),
        ("frontend", "normalization", "none", "expected one of"),
        ("frontend", "win_length", 1024, "longer than n_fft"),
    ],
)
def test_impossible_config(saved: Path, section: str, name: str, value: object, message: str) -> None:
    config = small_model(normalization="running").config.to_dict()
    config[section][name] = value
    with_metadata(saved, config=json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


def test_config_round_trip() -> None:
    config = ModelConfig(FrontendConfig(n_mels=64), EncoderConfig(n_layers=3), ("a", "<blank>"), (0, 4, 9))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.blank_id == 1


def test_a_write_that_fails_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lwasr_edge.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, small_model(seed=9, normalization="running"), letters_tokenizer())
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["small.safetensors"]
