"""Export from checkpoint to report (graph, precision, metadata, verification), with one function per format."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from torch import nn

from lwasr_edge.export.graph import OPSET, fuse, store_as_float16, trace
from lwasr_edge.export.metadata import Description, describe, interface, write_metadata
from lwasr_edge.export.ort_format import convert, require_same
from lwasr_edge.export.quantize import quantize, scales_of
from lwasr_edge.export.report import Report, SherpaReport, inspect_graph, measure_speed
from lwasr_edge.export.sensitivity import keep_float
from lwasr_edge.export.sherpa import (
    MODEL_FILE,
    TOKENS_FILE,
    sherpa_agreements,
    sherpa_metadata,
    sherpa_model,
    sherpa_parity,
    trace_sherpa,
    write_tokens,
)
from lwasr_edge.export.streaming import exported_model
from lwasr_edge.export.verify import (
    MAX_WER_LOSS,
    Agreement,
    RecordingSet,
    agreements,
    float_parity,
    read_sets,
    require_agreement,
    synthetic_recordings,
)
from lwasr_edge.files import sha256_of
from lwasr_edge.hub.gzip_blocks import compressed
from lwasr_edge.model import Model
from lwasr_edge.model_info import MODEL_KEY
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint

PARITY_RECORDINGS = 3
LEFT_CONTEXT_FRAMES = 64  # 2.6 s: as accurate as the 128 of the training, with half of the state to copy in every call


def export(
    checkpoint: Path,
    output: Path,
    precision: str,
    description: Description,
    manifests: Sequence[Path] = (),
    max_wer_loss: float | None = None,
) -> Report:
    """Write and verify one ONNX file.

    Args:
        checkpoint: a checkpoint of this project.
        output: path in a staging folder; gzip if it ends in ".gz".
        precision: "float32", "float16" or "int8".
        description: name, language, licence and attribution.
        manifests: recordings with transcripts, a set each; without any, synthetic signals are used.
        max_wer_loss: percent, absolute: linear layers stay in float until int8 loses no more; None: all are int8.

    Raises:
        CheckpointError: not a checkpoint of this project, damaged, or with NaN.
        ManifestError, AudioError: the recordings cannot be used.
        VerificationError: the file does not compute what the checkpoint does.
    """
    model = with_left_context(load_checkpoint(checkpoint)[0], LEFT_CONTEXT_FRAMES)
    sample_rate = model.config.frontend.sample_rate
    sets = read_sets(manifests, sample_rate)
    source = sha256_of(checkpoint)
    exported = exported_model(model)
    float_proto = trace(exported)
    kept: list[str] = []
    with tempfile.TemporaryDirectory(dir=output.parent, prefix="float-") as folder:
        float_path = Path(folder, "model.onnx")
        onnx.save(write_metadata(float_proto, describe(model, description, "float32", source)), float_path)
        parity = float_parity(model, float_path, sets[0].recordings[:PARITY_RECORDINGS])
        metadata = describe(model, description, precision, source)
        if precision == "int8" and max_wer_loss is not None:
            kept = keep_float(exported, float_proto, float_path, metadata, sets, max_wer_loss)
        proto = stored(exported, float_proto, precision, kept)
        if precision == "int8":
            proto = fuse(proto)
        save_model(write_metadata(proto, metadata), output)
        write_interface(proto, output)
        found: list[Agreement] = []
        if precision != "float32":
            found = agreements(float_path, output, sets)
            require_agreement(found, MAX_WER_LOSS if max_wer_loss is None else max_wer_loss)
    return Report(
        model=description.name,
        precision=precision,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes=output.stat().st_size,
        unpacked_bytes=proto.ByteSize(),
        opset=OPSET,
        ir_version=proto.ir_version,
        graph=inspect_graph(proto, model.samples_per_frame),
        parity=parity,
        agreement=found,
        kept_float=kept,
        rtf=measure_speed(output),
        rounded=model.config.qat,
    )


def with_left_context(model: AcousticModel, most_frames: int) -> AcousticModel:
    """The model, with at most ``most_frames`` frames of left context; as given if it has no more."""
    if model.config.encoder.left_context_frames <= most_frames:
        return model
    shorter = copy.deepcopy(model)
    shorter.encoder.config = dataclasses.replace(model.config.encoder, left_context_frames=most_frames)
    shorter.config = dataclasses.replace(model.config, encoder=shorter.encoder.config)
    return shorter


def save_model(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model, as gzip if the name ends in ".gz"."""
    data = proto.SerializeToString()
    path.write_bytes(compressed(data) if path.suffix == ".gz" else data)


def write_interface(proto: onnx.ModelProto, path: Path) -> Path:
    """Write `interface` beside a model file, under its name with .json for .onnx or .onnx.gz; return its path."""
    output = path.with_name(path.name.removesuffix(".gz").removesuffix(".onnx") + ".json")
    output.write_text(json.dumps(interface(proto, path), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return output


def stored(model: nn.Module, proto: onnx.ModelProto, precision: str, kept: Sequence[str] = ()) -> onnx.ModelProto:
    """The float32 graph of a model in another precision; with int8, the linear layers in ``kept`` stay in float."""
    if precision == "int8":
        return quantize(proto, kept, scales_of(model))
    return store_as_float16(proto) if precision == "float16" else proto


def export_ort(
    checkpoint: Path,
    output: Path,
    precision: str,
    description: Description,
    manifests: Sequence[Path] = (),
    max_wer_loss: float | None = None,
) -> Report:
    """Write and verify one file in onnxruntime's own format, and a list of its operators beside it.

    Args:
        output: the .ort file; for the others see `export`.

    Raises:
        CheckpointError, ManifestError, AudioError, VerificationError: as `export`.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix="onnx-") as folder:
        path = Path(folder, "model.onnx")
        report = export(checkpoint, path, precision, description, manifests, max_wer_loss)
        convert(path, output)
        sample_rate = Model(path).info.sample_rate
        recordings = synthetic_recordings(sample_rate)
        if manifests:
            recordings += read_sets(manifests[:1], sample_rate)[0].recordings[:PARITY_RECORDINGS]
        require_same(path, output, [RecordingSet("signals", recordings)])
    return dataclasses.replace(report, format="ort", bytes=output.stat().st_size, unpacked_bytes=output.stat().st_size)


def export_sherpa(
    checkpoint: Path,
    output: Path,
    precision: str,
    description: Description,
    manifests: Sequence[Path] = (),
    max_wer_loss: float | None = None,
) -> SherpaReport:
    """Write and verify a model.onnx and a tokens.txt for sherpa-onnx.

    Args:
        output: an existing folder; for the others see `export`, but no linear layer stays in float: a larger WER loss
            than ``max_wer_loss`` is an error.

    Raises:
        OptionError: sherpa-onnx does not compute the features of this model.
        CheckpointError, ManifestError, AudioError, VerificationError: as `export`.
    """
    model, _ = load_checkpoint(checkpoint)
    sample_rate = model.config.frontend.sample_rate
    sets = read_sets(manifests, sample_rate)
    described = describe(model, description, precision, sha256_of(checkpoint))
    metadata = sherpa_metadata(model, {MODEL_KEY: described[MODEL_KEY]})
    exported = sherpa_model(model)
    proto = trace_sherpa(exported)
    path = output / MODEL_FILE
    found: list[Agreement] = []
    with tempfile.TemporaryDirectory(dir=output, prefix="float-") as folder:
        float_path = Path(folder, MODEL_FILE)
        onnx.save(write_metadata(proto, metadata), float_path)
        parity = sherpa_parity(model, float_path)
        onnx.save(write_metadata(stored(exported, proto, precision), metadata), path)
        write_tokens(output / TOKENS_FILE, model)
        if precision != "float32":
            found = sherpa_agreements(model, float_path, path, sets)
            require_agreement(found, MAX_WER_LOSS if max_wer_loss is None else max_wer_loss)
    return SherpaReport(
        model=description.name,
        precision=precision,
        normalize_type=metadata["normalize_type"],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes=path.stat().st_size,
        parity=parity,
        agreement=found,
    )
