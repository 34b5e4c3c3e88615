"""Checkpoints: round trips, and errors for damaged, foreign and newer files."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_models import letters_tokenizer, small_model

from lwasr_edge.errors import CheckpointError
from lwasr_edge.files import sha256_of
from lwasr_edge.training.compress.qat import prepare_qat
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, save_checkpoint
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_model(normalization="running"), letters_tokenizer(), {"schedule": "short"})
    return path


def with_metadata(path: Path, **changes: str) -> Path:
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
    with pytest.raises(CheckpointError, match="not a checkpoint of lwasr-edge: `lwasr-train import-nemo` makes one"):
        load_checkpoint(path)


def test_newer_version(saved: Path) -> None:
    with_metadata(saved, **{"lwasr.checkpoint": "2"})
    with pytest.raises(CheckpointError, match="checkpoint format must be 1, got 2: pip install --upgrade lwasr-edge"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(saved: Path, value: float) -> None:
    model = small_model(normalization="running")
    with torch.no_grad():
        model.head.bias[3] = value
    save_checkpoint(saved, model, letters_tokenizer())
    with pytest.raises(CheckpointError, match="tensor head.bias holds NaN or infinity"):
        load_checkpoint(saved)


def test_config_that_does_not_fit_the_weights(saved: Path) -> None:
    config = small_model(normalization="running", d_feed_forward=64).config.to_dict()
    with_metadata(saved, config=json.dumps(config))
    with pytest.raises(CheckpointError, match="weights do not fit the config.*feed_forward1.linear1"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("encoder", "d_model", 15, "d_model must be a multiple of n_heads, 2, got 15"),
        ("encoder", "conv_kernel", 4, "conv_kernel must be odd, got 4"),
        ("encoder", "n_heads", 0, "n_heads must be a whole number >= 1, got 0"),
        ("encoder", "flash", True, "unexpected keyword argument 'flash'"),
        ("encoder", "n_layers", "two", "n_layers must be a whole number >= 1, got 'two'"),
        ("encoder", "n_layers", 10**9, "n_layers must be at most 1024"),
        ("encoder", "d_feed_forward", 32.0, "d_feed_forward must be a whole number"),
        ("encoder", "xscaling", "yes", "xscaling must be true or false"),
        ("frontend", "n_mels", 65_000, "weights do not fit the config"),
        ("frontend", "f_max_hz", float("nan"), "f_max_hz must be a finite number"),
        ("frontend", "f_min_hz", 8000, "f_min_hz must be a finite number >= 0 and < 8000"),
        ("frontend", "log_guard", None, "log_guard must be a finite number > 0, got None"),
        ("frontend", "normalization", "none", "normalization must be one of utterance, running, got 'none'"),
        ("frontend", "win_length", 1024, "win_length must be at most n_fft, 512, got 1024"),
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


def mutated(data: bytes, seed: int) -> bytes:
    """A few random bytes of the file changed, mostly in its header, or its end cut off."""
    rng = np.random.default_rng(seed)
    header_end = 8 + int.from_bytes(data[:8], "little")
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        end = header_end if rng.random() < 0.8 else len(data)
        changed[rng.integers(0, end)] = rng.integers(0, 256)
    return bytes(changed[: rng.integers(0, len(data))]) if rng.random() < 0.2 else bytes(changed)


def test_damaged_bytes_raise_nothing_but_checkpoint_errors(saved: Path) -> None:
    data = saved.read_bytes()
    n_errors = 0
    for seed in range(200):
        saved.write_bytes(mutated(data, seed))
        for read in (load_checkpoint, checkpoint_notes):
            try:
                read(saved)
            except CheckpointError as error:
                n_errors += 1
                assert str(saved) in str(error)
    assert n_errors > 100


@pytest.mark.parametrize(
    "value", [None, True, 1e400, -1, "", "text", [], [1], {}, {"a": None}, float("nan"), [[]], "a" * 5000]
)
def test_config_fields_of_wrong_types(saved: Path, value: object) -> None:
    wanted = small_model(normalization="running").config.to_dict()
    for section in ("frontend", "encoder", None):
        for name in wanted if section is None else wanted[section]:
            config = copy.deepcopy(wanted)
            (config if section is None else config[section])[name] = value
            with_metadata(saved, config=json.dumps(config))
            try:
                load_checkpoint(saved)
            except CheckpointError as error:
                assert str(saved) in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "[" * 100_000, '{"frontend": []}', '{"a": 1}'])
@pytest.mark.parametrize("key", ["config", "notes"])
def test_metadata_that_is_not_the_json_of_a_checkpoint(saved: Path, key: str, text: str) -> None:
    with_metadata(saved, **{key: text})
    if key == "notes":
        load_checkpoint(saved)  # does not need them
    with pytest.raises(CheckpointError, match="small.safetensors"):
        checkpoint_notes(saved) if key == "notes" else load_checkpoint(saved)


@pytest.mark.parametrize("name", ["tokenizer.model", "head.bias", "norm.gain"])
def test_missing_tensors(saved: Path, name: str) -> None:
    tensors = load_file(saved)
    del tensors[name]
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, saved, metadata)
    with pytest.raises(CheckpointError, match=name if "." in name and name != "tokenizer.model" else "a tokenizer"):
        load_checkpoint(saved)


@pytest.mark.parametrize("key", ["config", "notes", "lwasr.checkpoint"])
def test_missing_metadata(saved: Path, key: str) -> None:
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
    del metadata[key]
    save_file(load_file(saved), saved, metadata)
    with pytest.raises(CheckpointError, match="small.safetensors"):
        checkpoint_notes(saved) if key == "notes" else load_checkpoint(saved)


@pytest.mark.parametrize("scale", [torch.ones(3), torch.tensor(1.0), None])
def test_scales_that_do_not_fit(tmp_path: Path, scale: torch.Tensor | None) -> None:
    model, path = small_model(), tmp_path / "qat.safetensors"
    prepare_qat(model)
    save_checkpoint(path, model, letters_tokenizer())
    tensors = load_file(path)
    name = "encoder.layers.1.conv.pointwise1"
    if scale is None:
        del tensors[f"{name}.weight"]
    else:
        tensors[f"{name}.step"] = scale
    with safe_open(path, "pt") as file:
        save_file(tensors, path, file.metadata())
    with pytest.raises(CheckpointError, match="quantised weights must have fitting scales"):
        load_checkpoint(path)


def test_a_scale_that_would_fill_the_memory(tmp_path: Path) -> None:
    """A weight of one row and a scale of many give a product of both sizes."""
    model, path = small_model(), tmp_path / "qat.safetensors"
    prepare_qat(model)
    save_checkpoint(path, model, letters_tokenizer())
    tensors = load_file(path)
    name = "encoder.layers.1.conv.pointwise1"
    tensors |= {f"{name}.weight": torch.ones(1, 10**6, dtype=torch.int8), f"{name}.step": torch.ones(10**6)}
    with safe_open(path, "pt") as file:
        save_file(tensors, path, file.metadata())
    with pytest.raises(CheckpointError, match=r"fitting scales, got \[1000000\] for \[1, 1000000\]"):
        load_checkpoint(path)


def test_the_long_memory_of_older_checkpoints_is_ignored() -> None:
    config = small_model(normalization="running").config
    values = config.to_dict()
    values["frontend"]["forget_s"] = 10.0
    del values["frontend"]["norm_memory_s"]
    assert ModelConfig.from_dict(values) == config
