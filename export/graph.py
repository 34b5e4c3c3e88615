"""Conversion of an exportable torch module to a clean ONNX graph, its fusion, and storage of its weights as float16."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer
from torch import nn

from lwasr_edge.export.streaming import CHUNK_OUTPUTS, MAX_CHUNK_FRAMES, FullContextModel, StreamingModel
from lwasr_edge.model_info import LOOK_AHEAD
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR

OPSET = 18  # onnxruntime 1.18 reads up to 21
IR_VERSION = 8  # onnxruntime 1.18 reads up to 10
EXAMPLE_FRAMES = 8  # any number >= 2: the graph does not depend on it
FOLD_LIMIT = 2048  # elements; larger constants (cosines, positions) are cheaper to compute at load than to store
MIN_FLOAT16 = 96  # elements; smaller tensors gain nothing from float16


class _Flat(nn.Module):
    """A model that takes its state as one list: torch cannot describe the shapes of variable arguments."""

    def __init__(self, model: StreamingModel | FullContextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: torch.Tensor, state: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Run the model; the first of ``state`` is look_ahead, for a streaming model."""
        return self.model(waveform, *state)


def trace(model: StreamingModel | FullContextModel) -> onnx.ModelProto:
    """Convert to ONNX in float32; the dimension of ``waveform`` is dynamic and named "samples".

    torch.export represents shapes symbolically, so the graph has half as many nodes as that of the older tracing
    exporter, and none that compute shapes. Cosines, positions and indices stay operators in the graph: onnxruntime
    computes them once, at load.
    """
    frontend, state = model.config.frontend, model.state_tensors()
    samples_per_frame = frontend.hop_length * SUBSAMPLING_FACTOR
    waveform = torch.zeros(EXAMPLE_FRAMES * samples_per_frame)
    waveform[0] = 1.0
    beginning = model.beginning()
    longest = MAX_CHUNK_FRAMES if state else 1 << 20
    frames = torch.export.Dim("frames", min=2, max=longest)
    proto = to_onnx(
        _Flat(model),
        (waveform, beginning),
        ["waveform", *([LOOK_AHEAD] if state else []), *(f"state_{tensor.name}" for tensor in state)],
        [*CHUNK_OUTPUTS, *(f"next_{tensor.name}" for tensor in state)],
        {"waveform": {0: samples_per_frame * frames}, "state": [{}] * len(beginning)},
    )
    _name_dimensions(proto, model)
    onnx.checker.check_model(proto)
    return proto


def to_onnx(
    module: nn.Module,
    example: tuple[Any, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: dict[str, Any],
) -> onnx.ModelProto:
    """Convert a module for any format. Large constants that are cheap to compute are not stored.

    Args:
        module: in evaluation mode.
        example: its arguments.
        input_names, output_names: of the graph.
        dynamic_shapes: see `torch.onnx.export`.
    """
    with quiet():
        program = torch.onnx.export(
            module,
            example,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        optimizer.optimize_ir(program.model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    proto: onnx.ModelProto = program.model_proto
    tidy(proto)
    return proto


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress lines, and warnings about optional packages that are missing."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def tidy(proto: onnx.ModelProto) -> None:
    """Drop debug information, which contains paths of this machine; name MatMul nodes after their weights."""
    graph = proto.graph
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version, proto.doc_string = "lwasr-edge", "", ""
    del proto.metadata_props[:]
    del proto.functions[:]
    graph.name, graph.doc_string = "lwasr", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    unique: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    rename = {}
    for tensor in list(graph.initializer):
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        if key in unique:
            graph.initializer.remove(tensor)
        else:
            unique[key] = tensor.name.removeprefix("model.")
        rename[tensor.name] = unique[key]
    for tensor in graph.initializer:
        tensor.name = rename[tensor.name]
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    named: set[str] = set()
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.input[:] = [rename.get(name, name) for name in node.input]
        if node.op_type == "MatMul" and node.input[1].endswith(".weight"):
            name = node.input[1].removesuffix(".weight")
            node.name = name if name not in named else f"{name}.{node.output[0]}"  # nodes may share a weight
            named.add(name)
    for value in [*graph.input, *graph.output]:
        del value.metadata_props[:]
        value.doc_string = ""


def _name_dimensions(proto: onnx.ModelProto, model: StreamingModel | FullContextModel) -> None:
    """Set the sizes and dimension names of the model format on inputs and outputs."""
    sizes: dict[str, list[int | str]] = {
        "waveform": ["samples"],
        "tokens": ["tokens"],
        "frames": ["tokens"],
        "scores": ["tokens"],
        "log_probs": ["frames", len(model.config.vocabulary)],
        LOOK_AHEAD: [1],
    }
    for tensor in model.state_tensors():
        sizes[f"state_{tensor.name}"] = sizes[f"next_{tensor.name}"] = list(tensor.shape)
    for value in [*proto.graph.input, *proto.graph.output]:
        kind = value.type.tensor_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind.elem_type, sizes[value.name]))


def store_as_float16(proto: onnx.ModelProto, names: set[str] | None = None) -> onnx.ModelProto:
    """Store float32 weights as float16, each followed by a Cast, which onnxruntime computes at load.

    The arithmetic stays in float32: processors without float16 arithmetic would convert in every run.

    Args:
        proto: changed in place.
        names: of the tensors to store; None for all of `MIN_FLOAT16` elements or more.
    """
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_FLOAT16:
            continue
        if names is not None and tensor.name not in names:
            continue
        name, stored = tensor.name, f"{tensor.name}_float16"
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    prepend(proto, casts)
    return proto


def prepend(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Insert ``nodes`` before all others."""
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *rest])


def fuse(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Apply those of onnxruntime's fusions that are the same for all processors.

    A file that is fused opens in a third of the time, and needs less memory meanwhile. Weights that are stored as
    float16 get the same values in float32, which gzip stores in about as many bytes. Cosines and positions are still
    computed at load: stored, they would be a fifth of the file.

    Args:
        proto: an int8 model; not changed.

    Returns:
        A model with the same results, without metadata.
    """
    with tempfile.TemporaryDirectory(prefix="lwasr-export-") as folder:
        source, target = Path(folder, "model.onnx"), Path(folder, "fused.onnx")
        onnx.save(_with_float32(proto), source)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # the next depends on the CPU
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )
        fused = onnx.load(target)
    domains = {node.domain for node in fused.graph.node} | {""}
    opsets = [opset for opset in fused.opset_import if opset.domain in domains]
    del fused.opset_import[:], fused.graph.value_info[:], fused.metadata_props[:]
    fused.opset_import.extend(opsets)
    return fused


def _with_float32(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which constants that were stored as float16 are float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    stored = {t.name: t for t in wide.graph.initializer if t.data_type == TensorProto.FLOAT16}
    casts = [node for node in wide.graph.node if node.op_type == "Cast" and node.input[0] in stored]
    for cast in casts:
        values = numpy_helper.to_array(stored[cast.input[0]]).astype(np.float32)
        stored[cast.input[0]].CopyFrom(numpy_helper.from_array(values, cast.output[0]))
        wide.graph.node.remove(cast)
    return wide
