"""Checkpoints: one safetensors file that holds weights, config and tokenizer."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.model.quantized import SCALE, from_int8, to_int8
from lwasr_edge.validate import shown

FORMAT = "lwasr.checkpoint"
FORMAT_VERSION = "1"
TOKENIZER = "tokenizer.model"


def refuse_folder(path: Path) -> None:
    """Check, before the work is done, that the output path of a checkpoint is not a folder.

    Raises:
        OptionError: ``path`` is a folder.
    """
    if path.is_dir():
        raise OptionError(f"-o must be a file, got the folder {path}: name a file, as {path / 'student.safetensors'}")


def save_checkpoint(
    path: Path, model: AcousticModel, tokenizer: bytes, notes: dict[str, str] | None = None, half: bool = False
) -> None:
    """Write a model as one file, atomically.

    Args:
        path: usually ``*.safetensors``.
        model: its parameters and buffers are stored in float16 with ``half`` and in float32 otherwise; QAT weights are
            stored as int8.
        tokenizer: the serialised SentencePiece model.
        notes: the origin of the model, as strings.
        half: halve the size, for distribution.

    Raises:
        OSError: no space, no permission.
    """
    dtype = torch.float16 if half else torch.float32
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    tensors = {name: value.to(dtype).contiguous() for name, value in state.items()} | to_int8(state)
    tensors[TOKENIZER] = torch.from_numpy(np.frombuffer(tokenizer, np.uint8).copy())
    metadata = {FORMAT: FORMAT_VERSION, "config": json.dumps(model.config.to_dict()), "notes": json.dumps(notes or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, metadata))


def load_checkpoint(path: Path, dropout: float = 0.0) -> tuple[AcousticModel, bytes]:
    """Read a file that `save_checkpoint` wrote.

    Returns:
        The model in float32, in evaluation mode, and its serialised SentencePiece model.

    Raises:
        CheckpointError: the file is missing, damaged, of another program or of a newer version, or contains NaN.
    """
    metadata, tensors = read_safetensors(path)
    config = read_config(path, metadata)
    tokenizer = tensors.pop(TOKENIZER, None)
    if tokenizer is None or tokenizer.dtype != torch.uint8:
        raise CheckpointError(f"{path}: checkpoint must contain a tokenizer, got none: download or make it again")
    _check_scales(path, tensors)
    try:
        weights = from_int8({name: value.float() for name, value in tensors.items()})
    except (KeyError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"{path}: quantised weights must have fitting scales, got {error!r:.200}") from error
    return model_with_weights(config, weights, str(path), dropout).eval(), tokenizer.numpy().tobytes()


def _check_scales(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse scales of other lengths than their weights': the product of both might be many times larger.

    Raises:
        CheckpointError: a scale does not fit.
    """
    for name, scale in tensors.items():
        weight = tensors.get(f"{name.removesuffix(SCALE)}weight") if name.endswith(f".{SCALE}") else None
        if weight is not None and (weight.dim() == 0 or scale.shape != weight.shape[:1]):
            shapes = f"{list(scale.shape)} for {list(weight.shape)}"
            raise CheckpointError(f"{path}: quantised weights must have fitting scales, got {shapes[:200]}")


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, of another program or of a newer version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            check_format(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except CheckpointError:
        raise
    except Exception as error:  # of safetensors or of torch, depending on the damage
        raise CheckpointError(f"{path}: not a readable safetensors file ({loading_fault(error)})") from error
    return metadata, tensors


def loading_fault(error: Exception) -> str:
    """Why a file of tensors cannot be read, in one line; torch's own words advise to run the code in it."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds code or objects that are no tensors, which were not loaded"
    first_line = (str(error) or type(error).__name__).strip().splitlines()[0]
    return first_line[:200]


def check_format(path: Path, metadata: dict[str, str]) -> None:
    """Refuse safetensors files of other programs and of newer versions.

    Raises:
        CheckpointError: it is one of these.
    """
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a checkpoint of lwasr-edge: `lwasr-train import-nemo` makes one"
        )
    if metadata[FORMAT] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format must be {FORMAT_VERSION}, got {metadata[FORMAT][:20]}: "
            "pip install --upgrade lwasr-edge"
        )


def read_config(path: Path, metadata: dict[str, str]) -> ModelConfig:
    """The config in the metadata of a checkpoint.

    Raises:
        CheckpointError: it is missing, no JSON, or not a config.
    """
    try:
        return ModelConfig.from_dict(read_json(path, metadata, "config"))
    except CheckpointError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise CheckpointError(f"{prefix}{error}") from error


def read_json(path: Path, metadata: dict[str, str], name: str) -> dict[str, Any]:
    """A JSON object in the metadata of a checkpoint.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    try:
        value = json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {name} must be a JSON object, got {error!r:.200}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: {name} must be a JSON object, got {shown(value)}")
    return value


def model_with_weights(
    config: ModelConfig, tensors: dict[str, Tensor], source: str, dropout: float = 0.0
) -> AcousticModel:
    """Build a model and set its weights.

    Args:
        config: of the model.
        tensors: a state dict in float32.
        source: the file's path, for messages.
        dropout: of the model.

    Raises:
        CheckpointError: names or shapes do not fit the config, or a value is not finite.
    """
    try:
        for name, value in tensors.items():
            if not torch.isfinite(value).all():
                raise CheckpointError(f"{source}: tensor {name} holds NaN or infinity: did training diverge?")
        with torch.device("meta"):  # sizes that do not fit are found before any memory is allocated for them
            AcousticModel(config).load_state_dict(tensors, assign=True)
        model = AcousticModel(config, dropout)
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: weights do not fit the config: {reason[:300]}") from error
    return model


def checkpoint_notes(path: Path) -> dict[str, str]:
    """The notes on a model's origin that `save_checkpoint` stored.

    Raises:
        CheckpointError: the file is not a readable checkpoint, or has no notes.
    """
    metadata, _ = read_safetensors(path)
    notes = read_json(path, metadata, "notes")
    if not all(isinstance(value, str) for value in notes.values()):
        raise CheckpointError(f"{path}: notes must be strings, got {shown(notes)}")
    return notes
