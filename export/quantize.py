"""Dynamic int8: 8-bit weights by output channel, activations of eight bits quantised as they come.

x86 processors without VNNI multiply by vpmaddubsw, which adds the products of two neighbouring inputs in 16 bits and
stops at their end, silently: with plain 8-bit weights en-base had 29.8 % WER there (float 14.5 %). `weight_scale`
therefore limits the sum of each such pair of weights. As large weights are rarely neighbours, its steps are little
larger than those of plain 8 bits, where seven bits for every weight, the usual way out, would double them.

`onnxruntime.quantization` does the replacing (it is what became of onnxruntime-tools). Three things are ours:

* The scales of the weights, see above.
* The large convolution of the subsampling is a product over gathered neighbours (`MatMulSubsampling`), and its input is
  quantised before it is gathered: a ninth of the numbers to quantise and a quarter of the bytes to copy.
* The projections of positions keep float arithmetic on 8-bit weights: they depend on no audio, and onnxruntime
  computes them at load when the chunk size is pinned. So do rounded products that are kept in float: their weights are
  whole steps, and 8 bits lose nothing.
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
MOVES_DATA = ("Reshape", "Gather", "Pad")  # 0 stays 0 under Pad: what is padded is never negative


def matmul_names(proto: onnx.ModelProto) -> list[str]:
    """The products that int8 covers, in the graph's order: those named after their weights, without positions."""
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
    """Steps of the outputs of products whose weights are rounded, by product, of what `trace` is given."""
    return {
        name: module.step.numpy()
        for name, module in model.named_modules()
        if isinstance(module, MatMulLinear) and module.step is not None
    }


def quantize(
    proto: onnx.ModelProto, keep_float: Collection[str] = (), steps: Mapping[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """Quantise a model that `trace` made.

    Args:
        proto: float32; left as it is.
        keep_float: names of products (`matmul_names`) that stay in float; their weights are stored as float16, or as
            whole steps where they are rounded.
        steps: of products with rounded weights, by `scales_of`; the others get what `weight_scale` says.

    Returns:
        The int8 model; without metadata.
    """
    unknown = set(keep_float) - set(matmul_names(proto))
    if unknown:
        raise ValueError(f"no such products: {sorted(unknown)}")
    steps = steps or {}
    covered = [name for name in matmul_names(proto) if name not in keep_float]
    quantized = _quantize_dynamic(proto, covered) if covered else _copy(proto)  # to onnxruntime, no names mean all
    del quantized.graph.value_info[:]  # what moves below changes its type
    replace_weights(quantized, {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}, steps)
    quantize_before_moving(quantized)
    kept_steps = {f"{name}.weight": steps[name] for name in keep_float if name in steps}
    store_as_int8(quantized, position_scales(quantized) | kept_steps)
    store_as_float16(quantized, name_of={t.name for t in quantized.graph.initializer if _stored_small(t)})
    del quantized.metadata_props[:]
    quantized.ir_version = proto.ir_version
    quantized.producer_name, quantized.producer_version = proto.producer_name, ""
    onnx.checker.check_model(quantized)
    return quantized


def _quantize_dynamic(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """onnxruntime's own, which wants files."""
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
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(target)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _stored_small(tensor: onnx.TensorProto) -> bool:
    """What stays float: weights, and the scales, biases and norms of products."""
    return tensor.name.endswith((".weight", ".bias", ".weight_scale"))


def weight_scale(weight: np.ndarray) -> np.ndarray:
    """Steps of the int8 weights of a product, such that no pair of products leaves 16 bits.

    Args:
        weight: (inputs, outputs) float32.

    Returns:
        (outputs,) float32: round(weight / scale) has no pair of more than `LARGEST_PAIR`.
    """
    padded = np.pad(np.abs(weight), ((0, len(weight) % 2), (0, 0)))
    largest_pair = padded.reshape(-1, 2, weight.shape[1]).sum(1).max(0)
    return np.maximum(largest_pair, 1e-12).astype(np.float32) / (LARGEST_PAIR - 1)  # rounding may add 1 to a pair


def replace_weights(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray]) -> None:
    """Give the products of a quantised graph weights in steps of their own, or of `weight_scale`.

    Args:
        proto: from `quantize_dynamic`; changed in place.
        weights: the float ones by name.
        steps: see `quantize`.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "MatMulInteger":
            continue
        name = node.input[1].removesuffix("_quantized")
        scale = steps.get(name.removesuffix(".weight"), None)
        if scale is None:
            scale = weight_scale(weights[name])
        integers = np.round(weights[name] / scale).astype(np.int8)
        stored[f"{name}_quantized"].CopyFrom(numpy_helper.from_array(integers, f"{name}_quantized"))
        stored[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{name}_scale"))


def quantize_before_moving(proto: onnx.ModelProto) -> None:
    """Where a tensor is gathered, reshaped or padded with zeros and then quantised, quantise it first."""
    graph = proto.graph
    producer = {output: node for node in graph.node for output in node.output}
    for quantizer in [node for node in graph.node if node.op_type == "DynamicQuantizeLinear"]:
        chain = []
        tensor = quantizer.input[0]
        while tensor in producer and producer[tensor].op_type in MOVES_DATA:
            chain.append(producer[tensor])
            tensor = chain[-1].input[0]
        if not any(node.op_type == "Gather" for node in chain) or producer[tensor].op_type == "Constant":
            continue
        moved = quantizer.input[0]
        chain[-1].input[0] = quantizer.output[0]
        for node in graph.node:  # consumers of the quantised tensor now take the moved one
            if node is not chain[-1]:
                node.input[:] = [moved if name == quantizer.output[0] else name for name in node.input]
        quantizer.input[0] = tensor
        graph.node.remove(quantizer)
        graph.node.insert(list(graph.node).index(chain[-1]), quantizer)


def position_scales(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Steps of the weights of position projections, by output channel: (H, 1, outputs of a head) float32, by weight."""
    scales = {}
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(f"{POSITION_SUFFIX}.weight"):
            largest = np.abs(numpy_helper.to_array(tensor)).max(axis=1, keepdims=True)
            scales[tensor.name] = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    return scales


def store_as_int8(proto: onnx.ModelProto, scales: Mapping[str, np.ndarray]) -> None:
    """Store float weights in 8 bits, with Cast and Mul behind them, which onnxruntime computes at load.

    Args:
        proto: changed in place.
        scales: steps by weight, of shapes that multiply it.
    """
    restore = []
    for tensor in list(proto.graph.initializer):
        if tensor.name not in scales:
            continue
        weight, scale = numpy_helper.to_array(tensor), scales[tensor.name]
        names = f"{tensor.name}_int8", f"{tensor.name}_scale", f"{tensor.name}_steps"
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
