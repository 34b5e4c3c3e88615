"""Checkpoints: one safetensors file that holds weights, config and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.model.quantized import from_int8, to_int8

FORMAT = "lwasr.checkpoint"
FORMAT_VERSION = "1"
TOKENIZER = "tokenizer.model"


def refuse_folder(path: Path) -> None:
    """Say at once that a checkpoint is a file, not after the work is done.

    Raises:
        OptionError: ``path`` is a folder.
    """
    if path.is_dir():
        raise OptionError(f"-o {path}: is a folder; expected a file to write, as {path / 'student.safetensors'}")


def save_checkpoint(
    path: Path, model: AcousticModel, tokenizer: bytes, notes: dict[str, str] | None = None, half: bool = False
) -> None:
    """Write a model as one file.

    Args:
        path: usually ``*.safetensors``.
        model: its parameters and buffers are stored, in float16 with ``half`` and else in float32; weights that have
            steps are rounded.
        tokenizer: the serialised SentencePiece model.
        notes: how the model came to be; kept as strings.
        half: half the size; for shipping.
    """
    dtype = torch.float16 if half else torch.float32
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    tensors = {name: value.to(dtype).contiguous() for name, value in state.items()} | to_int8(state)
    tensors[TOKENIZER] = torch.from_numpy(np.frombuffer(tokenizer, np.uint8).copy())
    metadata = {FORMAT: FORMAT_VERSION, "config": json.dumps(model.config.to_dict()), "notes": json.dumps(notes or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, metadata))


def load_checkpoint(path: Path, dropout: float = 0.0) -> tuple[AcousticModel, bytes]:
    """Read what `save_checkpoint` wrote.

    Returns:
        The model in float32, in evaluation mode, and its serialised SentencePiece model.

    Raises:
        CheckpointError: the file is missing, damaged, of another program or of a newer version, or holds NaN.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    check_format(path, metadata)
    if TOKENIZER not in tensors or "config" not in metadata:
        raise CheckpointError(f"{path}: a checkpoint without its tokenizer or its config: is it damaged?")
    try:
        config = ModelConfig.from_dict(json.loads(metadata["config"]))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    tokenizer = tensors.pop(TOKENIZER).numpy().tobytes()
    model = AcousticModel(config, dropout)
    load_weights(model, from_int8({name: value.float() for name, value in tensors.items()}), str(path))
    return model.eval(), tokenizer


def check_format(path: Path, metadata: dict[str, str]) -> None:
    """Refuse safetensors files of other programs and of newer versions."""
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a checkpoint of lwasr-edge; `lwasr-train import-nemo` makes one"
        )
    if metadata[FORMAT] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {metadata[FORMAT]}; this lwasr-edge reads {FORMAT_VERSION}: upgrade it"
        )


def load_weights(model: AcousticModel, tensors: dict[str, Tensor], source: str) -> None:
    """Put ``tensors`` into ``model``; names and shapes must fit and every value must be finite."""
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: tensor {name} holds NaN or infinity: did training diverge?")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: weights do not fit the config: {reason[:300]}") from error


def checkpoint_notes(path: Path) -> dict[str, str]:
    """How the model in ``path``, which `load_checkpoint` reads, came to be."""
    with safe_open(path, "pt") as file:
        notes: dict[str, str] = json.loads(file.metadata()["notes"])
    return notes
