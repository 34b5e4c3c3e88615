"""Change the metadata of a model file; the graph stays as it is, byte for byte."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from lwasr_edge.errors import ModelError, OutputError
from lwasr_edge.files import read_regular, sha256_of, write_bytes
from lwasr_edge.hub.gzip_blocks import compressed
from lwasr_edge.hub.model_check import Field, top_fields
from lwasr_edge.hub.model_file import ORT_SUFFIX, source_of
from lwasr_edge.model_info import MAX_METADATA, MODEL_KEY, DecodingSettings, ModelInfo

_METADATA_PROPS = 14  # field of a model: entries with a key (field 1) and a value (field 2)


def write_decoding(path: Path, settings: DecodingSettings) -> None:
    """Write the settings of decoding into a model file, which is replaced at once or not at all.

    Raises:
        ModelNotFoundError, ModelError: see `source_of`; or metadata that is not a model's.
        OutputError: the file cannot be written.
    """
    data = source_of(path)
    if path.suffix.lower() == ORT_SUFFIX:
        raise ModelError(f"{path} must be an ONNX model, got onnxruntime's format: change the ONNX file and export it")
    metadata = {key: value for key, value, _ in _entries(data)}
    ModelInfo.from_metadata(metadata)
    described = {**json.loads(metadata[MODEL_KEY]), "decoding": dataclasses.asdict(settings)}
    changed = _with_value(data, MODEL_KEY, json.dumps(described, ensure_ascii=False))
    try:
        write_bytes(path, compressed(changed) if path.suffix == ".gz" else changed)
        _renew_description(path, described)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _renew_description(path: Path, described: dict[str, Any]) -> None:
    """Bring the JSON file that the export wrote beside the model up to date, if there is one."""
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".onnx") + ".json")
    try:
        content = json.loads(read_regular(beside, MAX_METADATA))
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(content, dict) and {"file", "model"} <= content.keys():
        entry = {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        content = {**content, "file": entry, "model": described}
        write_bytes(beside, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def _entries(data: bytes) -> list[tuple[str, str, int]]:
    """Key, value and position among the fields, of each entry of the metadata."""
    found = []
    for position, (number, _, begin, end) in enumerate(top_fields(data)):
        if number == _METADATA_PROPS:
            parts: dict[int, str] = {}
            for field, _, first, last in top_fields(data[begin:end]):
                parts[field] = data[begin + first : begin + last].decode()
            found.append((parts.get(1, ""), parts.get(2, ""), position))
    return found


def _with_value(data: bytes, key: str, value: str) -> bytes:
    """A model with another value of one entry."""
    fields: list[Field] = top_fields(data)
    (position,) = [index for one, _, index in _entries(data) if one == key]
    begin = fields[position - 1][3] if position else 0
    entry = _message(1, key.encode()) + _message(2, value.encode())
    return data[:begin] + _message(_METADATA_PROPS, entry) + data[fields[position][3] :]


def _message(number: int, content: bytes) -> bytes:
    """A field with bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
