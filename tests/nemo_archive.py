"""NeMo archives of small models, for tests of the import."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.nemo import LAYER_NAMES, MODEL_NAMES


def nemo_state(model: AcousticModel) -> dict[str, torch.Tensor]:
    """The model's weights with NeMo's names and shapes."""
    layer_names = {ours: theirs for theirs, ours in LAYER_NAMES.items()}
    model_names = {ours: theirs for theirs, ours in MODEL_NAMES.items()}
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("encoder.layers."):
            _, _, index, inner = name.split(".", 3)
            ours = max((one for one in layer_names if inner == one or inner.startswith(one + ".")), key=len)
            theirs = f"encoder.layers.{index}.{layer_names[ours]}{inner[len(ours) :]}"
        else:
            ours = next(one for one in model_names if name.startswith(one + "."))
            theirs = model_names[ours] + name[len(ours) :]
        theirs = theirs.replace("batch_norm.mean", "batch_norm.running_mean")
        theirs = theirs.replace("batch_norm.variance", "batch_norm.running_var")
        if ("pointwise" in theirs and theirs.endswith("weight")) or theirs == "decoder.decoder_layers.0.weight":
            value = value.unsqueeze(2)
        state[theirs] = value.clone()
    state["preprocessor.featurizer.window"] = torch.ones(400)
    return state


def nemo_config(model: AcousticModel) -> dict[str, Any]:
    encoder = model.config.encoder
    return {
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 80,
            "n_fft": 512,
            "log": True,
            "frame_splicing": 1,
            "dither": 1e-5,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "n_layers": encoder.n_layers,
            "d_model": encoder.d_model,
            "n_heads": encoder.n_heads,
            "ff_expansion_factor": 2,
            "conv_kernel_size": encoder.conv_kernel,
            "conv_norm_type": encoder.conv_norm,
            "subsampling": "striding",
            "subsampling_factor": 4,
            "subsampling_conv_channels": encoder.subsampling_channels,
            "self_attention_model": "rel_pos",
            "att_context_size": [-1, -1],
            "xscaling": encoder.xscaling,
            "untie_biases": True,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "vocabulary": list(model.config.vocabulary[:-1]),
        },
    }


def write_archive(
    path: Path, config: object, state: object, tokenizer: bytes | None = None, mode: Literal["w", "w:gz"] = "w:gz"
) -> Path:
    weights = io.BytesIO()
    torch.save(state, weights)
    parts = {"./model_config.yaml": yaml.safe_dump(config).encode(), "./model_weights.ckpt": weights.getvalue()}
    if tokenizer is not None:
        parts["./0a1b2c_tokenizer.model"] = tokenizer
    with tarfile.open(path, mode) as archive:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
