"""Import of NeMo Conformer-CTC archives (``*.nemo``: a tar of config, torch weights and a SentencePiece model)."""

from __future__ import annotations

import gzip
import io
import re
import reprlib
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from torch import Tensor

from lwasr_edge.errors import CheckpointError
from lwasr_edge.files import open_regular
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import loading_fault, model_with_weights
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig
from lwasr_edge.validate import shown, whole_number

BLANK = "<blank>"
# Largest sizes of the members. PyYAML reads 50 kB a second.
MEMBER_BYTES = {"model_config.yaml": 1 << 19, "model_weights.ckpt": 1 << 32, "tokenizer.model": 1 << 26}
MAX_RATIO = 10  # of the unpacked size of a gzip archive to its own
MIN_UNPACKED_BYTES = 1 << 24  # a small archive may be mostly the padding of its tar

# NeMo's names on the left, as prefixes of a layer or of the model
LAYER_NAMES = {
    "norm_feed_forward1": "feed_forward1.norm",
    "feed_forward1": "feed_forward1",
    "norm_self_att": "attention.norm",
    "self_attn.linear_q": "attention.query",
    "self_attn.linear_k": "attention.key",
    "self_attn.linear_v": "attention.value",
    "self_attn.linear_pos": "attention.position",
    "self_attn.linear_out": "attention.out",
    "self_attn.pos_bias_u": "attention.content_bias",
    "self_attn.pos_bias_v": "attention.position_bias",
    "norm_conv": "conv.norm",
    "conv.pointwise_conv1": "conv.pointwise1",
    "conv.depthwise_conv": "conv.depthwise",
    "conv.batch_norm": "conv.depthwise_norm",
    "conv.pointwise_conv2": "conv.pointwise2",
    "norm_feed_forward2": "feed_forward2.norm",
    "feed_forward2": "feed_forward2",
    "norm_out": "norm",
}
MODEL_NAMES = {
    "encoder.pre_encode.conv.0": "encoder.subsampling.conv1",
    "encoder.pre_encode.conv.2": "encoder.subsampling.conv2",
    "encoder.pre_encode.out": "encoder.subsampling.linear",
    "decoder.decoder_layers.0": "head",
}
UNUSED = re.compile(r"preprocessor\.|.*num_batches_tracked$|.*\.pe$")


def import_nemo(path: Path) -> tuple[AcousticModel, bytes]:
    """Read a Conformer-CTC of any width, depth and vocabulary.

    Returns:
        The model in evaluation mode, and the serialised SentencePiece model.

    Raises:
        CheckpointError: no such archive, a damaged one, or a model that this project does not support.
    """
    source, members = str(path), read_archive(path)
    config = model_config(read_config(members["model_config.yaml"], source), source)
    weights = renamed(read_weights(members["model_weights.ckpt"], source), source)
    return model_with_weights(config, weights, source).eval(), members["tokenizer.model"]


def read_archive(path: Path) -> dict[str, bytes]:
    """The archive's three files by plain name; NeMo puts a hash before the tokenizer's.

    Raises:
        CheckpointError: the archive is missing or damaged, or lacks one of the files.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    parts: dict[str, bytes] = {}
    try:
        with open_regular(path) as file, tarfile.open(fileobj=_unpacked(file), mode="r:") as archive:
            for member in archive:
                name = Path(member.name).name
                if name.endswith("tokenizer.model"):
                    name = "tokenizer.model"
                if member.isfile() and not member.issparse() and name in MEMBER_BYTES:
                    if member.size > MEMBER_BYTES[name]:
                        raise ValueError(f"{name} must have at most {MEMBER_BYTES[name]} bytes, got {member.size}")
                    parts[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except Exception as error:  # of tarfile or zlib, depending on the damage
        raise CheckpointError(f"{path}: not a NeMo archive, which is a tar file ({loading_fault(error)})") from error
    for name in ("model_config.yaml", "model_weights.ckpt", "tokenizer.model"):
        if name not in parts:
            raise CheckpointError(f"{path}: a NeMo archive of a CTC model with BPE must contain {name}, got none")
    return parts


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, of bounded size: weights shrink little, so a larger one is no archive."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self._max_bytes = max_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position > self._max_bytes:
            raise ValueError(f"it unpacks to more than {self._max_bytes} bytes")
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        if self._file.tell() > self._max_bytes:
            raise ValueError(f"it unpacks to more than {self._max_bytes} bytes")
        buffer[: len(data)] = data
        return len(data)


def _unpacked(file: BinaryIO) -> BinaryIO:
    """The tar file in a plain or gzip file."""
    is_gzip = file.read(2) == b"\x1f\x8b"
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not is_gzip:
        return file
    return io.BufferedReader(_Unpacked(file, MAX_RATIO * size + MIN_UNPACKED_BYTES))  # type: ignore[return-value]


def read_config(data: bytes, source: str) -> dict[str, Any]:
    """The archive's YAML, with the three sections that a CTC model has.

    Raises:
        CheckpointError: it is not YAML, or lacks one of them.
    """
    try:
        config = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{source}: model_config.yaml cannot be read: {' '.join(str(error).split())[:300]}"
        ) from error
    found = shown(sorted(map(str, config))) if isinstance(config, dict) else type(config).__name__
    for section in ("encoder", "preprocessor", "decoder"):
        if not isinstance(config, dict) or not isinstance(config.get(section), dict):
            raise CheckpointError(f"{source}: model_config.yaml must have a section {section}, got {found}")
    return config


def read_weights(data: bytes, source: str) -> dict[str, Tensor]:
    """The archive's tensors; pickled code is refused, never run.

    Raises:
        CheckpointError: they cannot be read.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of torch, zipfile or pickle, depending on the damage
        raise CheckpointError(
            f"{source}: model_weights.ckpt holds no readable tensors ({loading_fault(error)})"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{source}: model_weights.ckpt must hold tensors by name, got {reprlib.repr(state)}")
    return state


def expect(source: str, found: dict[str, Any], **allowed: Any) -> None:
    """Check values of a config that this project supports one or a few of.

    Raises:
        CheckpointError: a value is not among the allowed ones. A missing one is NeMo's default, which is allowed.
    """
    for name, value in allowed.items():
        values = value if isinstance(value, tuple) else (value,)
        if name in found and found[name] not in values:
            known = " or ".join(map(repr, values))
            raise CheckpointError(f"{source}: {name} must be {known}, got {reprlib.repr(found[name])}")


def model_config(config: dict[str, Any], source: str) -> ModelConfig:
    """Convert NeMo's config.

    Raises:
        CheckpointError: a value is not supported, missing or of a wrong type.
    """
    encoder, preprocessor, decoder = config["encoder"], config["preprocessor"], config["decoder"]
    for section, defined in (("encoder", "ConformerEncoder"), ("decoder", "ConvASRDecoder")):
        target = config[section].get("_target_")
        if not isinstance(target, str) or target.rpartition(".")[2] != defined:
            raise CheckpointError(f"{source}: _target_ of the {section} must be {defined}, got {reprlib.repr(target)}")
    expect(source, encoder, self_attention_model="rel_pos", subsampling="striding", subsampling_factor=4)
    expect(source, encoder, untie_biases=True, conv_norm_type=("batch_norm", "layer_norm"), causal_downsampling=False)
    expect(source, encoder, att_context_size=([-1, -1], None), conv_context_size=None, use_bias=True)
    expect(source, preprocessor, sample_rate=16000, window_size=0.025, window_stride=0.01, frame_splicing=1)
    expect(
        source, preprocessor, normalize="per_feature", window="hann", log=True, mag_power=2.0, log_zero_guard_type="add"
    )
    try:
        return supported_config(encoder, preprocessor, decoder)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: model_config.yaml: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{source}: model_config.yaml: a value is missing or has a wrong type: {error!r:.200}"
        ) from error


def supported_config(encoder: dict[str, Any], preprocessor: dict[str, Any], decoder: dict[str, Any]) -> ModelConfig:
    """Convert sections whose kind `model_config` has checked."""
    width = whole_number("d_model", encoder["d_model"], 1, error=CheckpointError)
    expansion = whole_number("ff_expansion_factor", encoder["ff_expansion_factor"], 1, error=CheckpointError)
    channels = encoder.get("subsampling_conv_channels", -1)
    rate = preprocessor["sample_rate"]
    win_length = round(preprocessor["window_size"] * rate)
    vocabulary = decoder["vocabulary"]
    if not isinstance(vocabulary, list):
        raise CheckpointError(f"vocabulary must be a list, got {reprlib.repr(vocabulary)}")
    return ModelConfig(
        frontend=FrontendConfig(
            sample_rate=rate,
            win_length=win_length,
            hop_length=round(preprocessor["window_stride"] * rate),
            n_fft=preprocessor.get("n_fft") or 1 << (win_length - 1).bit_length(),
            n_mels=preprocessor["features"],
            f_min_hz=float(preprocessor.get("lowfreq", 0.0)),
            f_max_hz=float(preprocessor.get("highfreq") or rate / 2),
            preemphasis=preprocessor.get("preemph", 0.97),
        ),
        encoder=EncoderConfig(
            n_layers=encoder["n_layers"],
            d_model=width,
            n_heads=encoder["n_heads"],
            d_feed_forward=width * expansion,
            conv_kernel=encoder["conv_kernel_size"],
            conv_norm=encoder.get("conv_norm_type", "batch_norm"),
            subsampling_channels=channels if channels > 0 else width,
            xscaling=encoder.get("xscaling", True),
        ),
        vocabulary=(*vocabulary, BLANK),
    )


def renamed(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """NeMo's tensors by our names; pointwise convolutions become linear layers.

    Raises:
        CheckpointError: a tensor belongs to a layer that this project does not support.
    """
    result = {}
    for name, value in state.items():
        if UNUSED.match(name):
            continue
        ours = our_name(name)
        if ours is None:
            raise CheckpointError(f"{source}: tensor {name} belongs to a layer that this project does not support")
        if value.dim() == 3 and value.shape[2] == 1 and not ours.endswith("depthwise.weight"):
            value = value.squeeze(2)
        result[ours] = value.float()
    return result


def our_name(name: str) -> str | None:
    """A tensor's name in our model; None for an unknown name of NeMo."""
    name = name.replace("running_mean", "mean").replace("running_var", "variance")
    layer = re.match(r"encoder\.layers\.(\d+)\.(.*)", name)
    names, head, rest = MODEL_NAMES, "", name
    if layer:
        names, head, rest = LAYER_NAMES, f"encoder.layers.{layer[1]}.", layer[2]
    for theirs, ours in names.items():
        if rest == theirs or rest.startswith(theirs + "."):
            return head + ours + rest[len(theirs) :]
    return None
