"""Import of NeMo Conformer-CTC archives (``*.nemo``: a tar of config, torch weights and a SentencePiece model)."""

from __future__ import annotations

import io
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lwasr_edge.errors import CheckpointError
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_weights
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig

BLANK = "<blank>"

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
        CheckpointError: no such archive, or a model that this project has no definition for; the message says what
            was found.
    """
    members = read_archive(path)
    model = AcousticModel(model_config(read_config(members["model_config.yaml"], str(path)), str(path)))
    load_weights(model, renamed(read_weights(members["model_weights.ckpt"], str(path)), str(path)), str(path))
    return model.eval(), members["tokenizer.model"]


def read_archive(path: Path) -> dict[str, bytes]:
    """The archive's three parts by plain name; NeMo puts a hash before the tokenizer's."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if name.endswith("tokenizer.model"):
                    name = "tokenizer.model"
                if member.isfile() and name in ("model_config.yaml", "model_weights.ckpt", "tokenizer.model"):
                    parts[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a NeMo archive, which is a tar file ({reason})") from error
    for name in ("model_config.yaml", "model_weights.ckpt", "tokenizer.model"):
        if name not in parts:
            raise CheckpointError(f"{path}: a tar file without {name}: not a NeMo archive of a CTC model with BPE")
    return parts


def read_config(data: bytes, source: str) -> dict[str, Any]:
    """The archive's YAML, with the three sections that a CTC model has."""
    try:
        config = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{source}: model_config.yaml cannot be read: {' '.join(str(error).split())}") from error
    found = sorted(config) if isinstance(config, dict) else type(config).__name__
    for section in ("encoder", "preprocessor", "decoder"):
        if not isinstance(config, dict) or not isinstance(config.get(section), dict):
            raise CheckpointError(f"{source}: model_config.yaml has no section {section}; found: {found}")
    return config


def read_weights(data: bytes, source: str) -> dict[str, Tensor]:
    """The archive's tensors; pickled code in them is refused, never run."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{source}: model_weights.ckpt holds no tensors that can be read ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{source}: model_weights.ckpt is expected to hold tensors by name")
    return state


def expect(source: str, found: dict[str, Any], **allowed: Any) -> None:
    """Refuse a config that asks for what the project does not define."""
    for name, value in allowed.items():
        values = value if isinstance(value, tuple) else (value,)
        if name in found and found[name] not in values:
            known = " or ".join(map(repr, values))
            raise CheckpointError(f"{source}: {name} is {found[name]!r}; this project defines {known} alone")


def model_config(config: dict[str, Any], source: str) -> ModelConfig:
    """NeMo's config as ours.

    Raises:
        CheckpointError: it asks for what the project does not define, or leaves out what must be known.
    """
    encoder, front, decoder = config["encoder"], config["preprocessor"], config["decoder"]
    for section, defined in (("encoder", "ConformerEncoder"), ("decoder", "ConvASRDecoder")):
        target = str(config[section].get("_target_", "not named")).rpartition(".")[2]
        if target != defined:
            raise CheckpointError(f"{source}: the {section} is {target}; this project defines {defined} alone")
    expect(source, encoder, self_attention_model="rel_pos", subsampling="striding", subsampling_factor=4)
    expect(source, encoder, untie_biases=True, conv_norm_type=("batch_norm", "layer_norm"), causal_downsampling=False)
    expect(source, encoder, att_context_size=([-1, -1], None), conv_context_size=None, use_bias=True)
    expect(source, front, sample_rate=16000, window_size=0.025, window_stride=0.01, frame_splicing=1)
    expect(source, front, normalize="per_feature", window="hann", log=True, mag_power=2.0, log_zero_guard_type="add")
    try:
        return known_config(encoder, front, decoder)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{source}: {error}") from error
        raise CheckpointError(f"{source}: model_config.yaml lacks or garbles {error}") from error


def known_config(encoder: dict[str, Any], front: dict[str, Any], decoder: dict[str, Any]) -> ModelConfig:
    """Sections that `model_config` found to be of a kind the project defines."""
    width = encoder["d_model"]
    channels = encoder.get("subsampling_conv_channels", -1)
    rate = front["sample_rate"]
    win_length = round(front["window_size"] * rate)
    return ModelConfig(
        frontend=FrontendConfig(
            sample_rate=rate,
            win_length=win_length,
            hop_length=round(front["window_stride"] * rate),
            n_fft=front.get("n_fft") or 1 << (win_length - 1).bit_length(),
            n_mels=front["features"],
            f_min_hz=float(front.get("lowfreq", 0.0)),
            f_max_hz=float(front.get("highfreq") or rate / 2),
            preemphasis=front.get("preemph", 0.97),
        ),
        encoder=EncoderConfig(
            n_layers=encoder["n_layers"],
            d_model=width,
            n_heads=encoder["n_heads"],
            d_feed_forward=width * encoder["ff_expansion_factor"],
            conv_kernel=encoder["conv_kernel_size"],
            conv_norm=encoder.get("conv_norm_type", "batch_norm"),
            subsampling_channels=channels if channels > 0 else width,
            xscaling=encoder.get("xscaling", True),
        ),
        vocabulary=(*decoder["vocabulary"], BLANK),
    )


def renamed(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """NeMo's tensors under our names; pointwise convolutions become linear layers."""
    result = {}
    for name, value in state.items():
        if UNUSED.match(name):
            continue
        ours = our_name(name)
        if ours is None:
            raise CheckpointError(f"{source}: tensor {name} belongs to a layer this project has no definition for")
        if value.dim() == 3 and value.shape[2] == 1 and not ours.endswith("depthwise.weight"):
            value = value.squeeze(2)
        result[ours] = value.float()
    return result


def our_name(name: str) -> str | None:
    """A tensor's name in our model; None where NeMo's is not known."""
    name = name.replace("running_mean", "mean").replace("running_var", "variance")
    layer = re.match(r"encoder\.layers\.(\d+)\.(.*)", name)
    names, head, rest = MODEL_NAMES, "", name
    if layer:
        names, head, rest = LAYER_NAMES, f"encoder.layers.{layer[1]}.", layer[2]
    for theirs, ours in names.items():
        if rest == theirs or rest.startswith(theirs + "."):
            return head + ours + rest[len(theirs) :]
    return None
