"""The metadata of a model file: two `metadata_props`, and a JSON file beside it (docs/MODEL_FORMAT.md)."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from lwasr_edge.export.streaming import MAX_CHUNK_FRAMES
from lwasr_edge.files import sha256_of
from lwasr_edge.model_info import FORMAT_KEY, FORMAT_VERSION, MODEL_KEY, DecodingSettings
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.features import FRAME_DELAY

CHUNK_FRAMES = (4, 8, 16, 32)  # of 40 ms: the chunks that streaming students are trained with


@dataclass(frozen=True)
class Description:
    """Metadata that a checkpoint does not contain."""

    name: str
    language: str = "en"
    licence: str = ""
    attribution: str = ""
    decoding: DecodingSettings | None = None  # with a language model; None: greedy by default


def describe(model: AcousticModel, description: Description, precision: str, source: str) -> dict[str, str]:
    """The metadata of an exported file.

    Args:
        model: the torch model.
        description: its name, language, licence, attribution and settings of decoding.
        precision: "float32", "float16" or "int8".
        source: SHA-256 of the checkpoint.

    Returns:
        Keys and values for `write_metadata`.
    """
    frontend, encoder = model.config.frontend, model.config.encoder
    streaming = frontend.normalization == "running"
    described: dict[str, Any] = {
        "name": description.name,
        "language": description.language,
        "sample_rate": frontend.sample_rate,
        "samples_per_frame": model.samples_per_frame,
        "frame_delay_samples": FRAME_DELAY,
        "streaming": streaming,
        "chunk_frames": list(CHUNK_FRAMES) if streaming else [],
        "max_chunk_frames": MAX_CHUNK_FRAMES,
        "left_context_frames": encoder.left_context_frames if streaming else None,
        "flush_samples": model.samples_per_frame,
        "blank_id": model.config.blank_id,
        "vocabulary": list(model.config.vocabulary),
        "precision": precision,
        "layers": encoder.n_layers,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiplications": list(model.config.multiplications),
        "licence": description.licence,
        "attribution": description.attribution,
        "created": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "source": source,
    }
    if description.decoding is not None:
        described["decoding"] = dataclasses.asdict(description.decoding)
    return {FORMAT_KEY: str(FORMAT_VERSION), MODEL_KEY: json.dumps(described, ensure_ascii=False)}


def write_metadata(proto: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    """Replace the metadata of a file. Quantisation drops it, so this comes last."""
    del proto.metadata_props[:]
    helper.set_model_props(proto, metadata)
    return proto


def interface(proto: onnx.ModelProto, path: Path) -> dict[str, Any]:
    """What a program must know of a model file, for languages whose onnxruntime shows no metadata (JavaScript).

    Args:
        proto: with its metadata.
        path: where it was written.

    Returns:
        The file's name, size and SHA-256, the version of the model format, the fields of `describe`, and name, dtype
        and shape of every input and output; a dimension without a fixed size is its name.
    """
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return {
        "file": {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)},
        "format": int(metadata[FORMAT_KEY]),
        "model": json.loads(metadata[MODEL_KEY]),
        "inputs": [_tensor(value) for value in proto.graph.input],
        "outputs": [_tensor(value) for value in proto.graph.output],
    }


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return {"name": value.name, "dtype": dtype, "shape": shape}
