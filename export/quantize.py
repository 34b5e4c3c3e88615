"""Dynamic int8 quantisation: int8 weights with a scale per output channel, uint8 activations quantised at run time.

x86 processors without VNNI multiply by vpmaddubsw, which adds the products of two neighbouring inputs in 16 bits and
saturates silently: with plain 8-bit weights en-base had 29.8 % WER there (float 14.5 %). `weight_scale` therefore
limits the sum of each such pair of weights. As large weights are rarely neighbours, its scales are little larger than
those of plain 8 bits; seven bits for every weight, the usual solution, would double them.

`onnxruntime.quantization` replaces the operators. Three things are our own:

* The scales of the weights, see above.
* The large convolution of the subsampling is a MatMul over gathered patches (`MatMulSubsampling`), whose input is
  quantised before it is gathered: a ninth of the numbers to quantise and a quarter of the bytes to copy.
* The projections of positions are stored in 8 bits and computed in float: they do not depend on audio, and onnxruntime
  computes them at load when the chunk size is pinned. So are QAT weights that stay in float, without loss: they are
  integers times a scale.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from lwasr_edge.export.graph import prepend, quiet, store_as_float16
from lwasr_edge.export.layers import MatMulLinear

LARGEST_PAIR = 128  # |w1| + |w2| of inputs 2 i and 2 i + 1: 255 x 128 is within 16 bits
POSITION_SUFFIX = ".attention.position"
FRONTEND_WEIGHTS = ("log_mel.filters",)
MOVES_DATA = (
    "Reshape",
    "Gather",
    "Pad",
    "Slice",
    "Concat",
)  # Pad inserts 0, which quantises to 0: the padded input is never negative


def matmul_names(proto: onnx.ModelProto) -> list[str]:
    """MatMul nodes that int8 covers, in the graph's order: those with weights, except projections of positions."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type == "MatMul"
        and node.input[1] in weights
        and node.input[1] not in FRONTEND_WEIGHTS
        and not node.input[1].endswith(f"{POSITION_SUFFIX}.weight")
    ]


def scales_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Quantisation scales (outputs,) of the QAT weights of an exportable model, by MatMul node."""
    return {
        name: module.scale.numpy()
        for name, module in model.named_modules()
        if isinstance(module, MatMulLinear) and module.scale is not None
    }


def quantize(
    proto: onnx.ModelProto, keep_float: Collection[str] = (), scales: Mapping[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """Quantise a graph that `trace` made.

    Args:
        proto: float32; not changed.
        keep_float: MatMul nodes (`matmul_names`) that stay in float; their weights are stored as float16, QAT weights
            as int8.
        scales: of QAT weights, from `scales_of`; other weights get scales from `weight_scale`.

    Returns:
        The int8 model, without metadata.

    Raises:
        ValueError: an unknown name in ``keep_float``.
    """
    unknown = set(keep_float) - set(matmul_names(proto))
    if unknown:
        raise ValueError(f"keep_float must be names of MatMul nodes, got {sorted(unknown)}")
    scales = scales or {}
    covered = [name for name in matmul_names(proto) if name not in keep_float]
    quantized = _quantize_dynamic(proto, covered) if covered else _copy(proto)  # no names would mean all nodes
    del quantized.graph.value_info[:]  # types change below
    replace_weights(quantized, {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}, scales)
    quantize_before_moving(quantized)
    kept_scales = {f"{name}.weight": scales[name] for name in keep_float if name in scales}
    store_as_int8(quantized, position_scales(quantized) | kept_scales)
    store_as_float16(quantized, names={t.name for t in quantized.graph.initializer if _is_float_parameter(t)})
    del quantized.metadata_props[:]
    quantized.ir_version = proto.ir_version
    quantized.producer_name, quantized.producer_version = proto.producer_name, ""
    onnx.checker.check_model(quantized)
    return quantized


def _quantize_dynamic(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Quantise some MatMul nodes by onnxruntime, which reads and writes files."""
    with tempfile.TemporaryDirectory(prefix="lwasr-export-") as folder, quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=names,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
        return onnx.load(target)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _is_float_parameter(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is a parameter that stays in float: a weight, bias or scale."""
    return tensor.name.endswith((".weight", ".bias", ".weight_scale"))


def weight_scale(weight: np.ndarray) -> np.ndarray:
    """Scales of int8 weights such that no sum of two neighbouring products exceeds 16 bits.

    Args:
        weight: (inputs, outputs) float32.

    Returns:
        (outputs,) float32: no pair of round(weight / scale) is larger than `LARGEST_PAIR`.
    """
    padded = np.pad(np.abs(weight), ((0, len(weight) % 2), (0, 0)))
    largest_pair = padded.reshape(-1, 2, weight.shape[1]).sum(1).max(0)
    return np.maximum(largest_pair, 1e-12).astype(np.float32) / (LARGEST_PAIR - 1)  # rounding may add 1 to a pair


def replace_weights(
    proto: onnx.ModelProto, weights: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]
) -> None:
    """Quantise the weights of a quantised graph again, with the scales of QAT or of `weight_scale`.

    Args:
        proto: from `quantize_dynamic`; changed in place.
        weights: float weights by name.
        scales: see `quantize`.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "MatMulInteger":
            continue
        name = node.input[1].removesuffix("_quantized")
        scale = scales.get(name.removesuffix(".weight"))
        if scale is None:
            scale = weight_scale(weights[name])
        integers = np.round(weights[name] / scale).astype(np.int8)
        stored[f"{name}_quantized"].CopyFrom(numpy_helper.from_array(integers, f"{name}_quantized"))
        stored[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{name}_scale"))


def quantize_before_moving(proto: onnx.ModelProto) -> None:
    """Quantise tensors before they are sliced, gathered, reshaped or padded with zeros, instead of after."""
    graph = proto.graph
    producer = {output: node for node in graph.node for output in node.output}
    for quantizer in [node for node in graph.node if node.op_type == "DynamicQuantizeLinear"]:
        moved, moving, sources = quantizer.input[0], [], set()
        pending = [moved]
        while pending:
            name = pending.pop()
            node = producer.get(name)
            if node is None or node.op_type not in MOVES_DATA:
                sources.add(name)
            elif node not in moving:
                moving.append(node)
                pending += node.input if node.op_type == "Concat" else node.input[:1]
        if not any(node.op_type == "Gather" for node in moving) or len(sources) != 1:
            continue
        (source,) = sources
        for node in graph.node:  # consumers of the quantised tensor
            node.input[:] = [moved if name == quantizer.output[0] else name for name in node.input]
        for node in moving:
            node.input[:] = [quantizer.output[0] if name == source else name for name in node.input]
        quantizer.input[0] = source
        graph.node.remove(quantizer)
        graph.node.insert(min(list(graph.node).index(node) for node in moving), quantizer)


def position_scales(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Scales (H, 1, outputs of a head) float32 of the weights of position projections, by name of the weight."""
    scales = {}
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(f"{POSITION_SUFFIX}.weight"):
            largest = np.abs(numpy_helper.to_array(tensor)).max(axis=1, keepdims=True)
            scales[tensor.name] = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    return scales


def store_as_int8(proto: onnx.ModelProto, scales: Mapping[str, np.ndarray]) -> None:
    """Store float weights as int8, each followed by Cast and Mul, which onnxruntime computes at load.

    Args:
        proto: changed in place.
        scales: by name of the weight, of a shape that broadcasts to it.
    """
    restore = []
    for tensor in list(proto.graph.initializer):
        if tensor.name not in scales:
            continue
        weight, scale = numpy_helper.to_array(tensor), scales[tensor.name]
        names = f"{tensor.name}_int8", f"{tensor.name}_scale", f"{tensor.name}_steps"  # names in model files
        proto.graph.initializer.remove(tensor)
        proto.graph.initializer.extend(
            [
                numpy_helper.from_array(np.round(weight / scale).astype(np.int8), names[0]),
                numpy_helper.from_array(scale, names[1]),
            ]
        )
        restore += [
            helper.make_node("Cast", [names[0]], [names[2]], name=names[2], to=TensorProto.FLOAT),
            helper.make_node("Mul", [names[2], names[1]], [tensor.name], name=tensor.name),
        ]
    prepend(proto, restore)
