"""Build a tiny model in model format 2: tones in, words out.

    python tests/tiny_model.py MODEL.onnx

Piece i of the vocabulary is a tone of `tone_hz(i)`. A frame emits a piece if more than half of its energy is that tone,
whatever the level. The model has the state of a real one: the tail of the audio (frames begin before the chunk) and the
last token (so that a tone across a boundary is one token, not two). So a test knows the expected words, frames and
samples exactly.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = 640
FRAME_DELAY_SAMPLES = 40
TAIL_SAMPLES = 360  # frame u consists of samples u * 640 - 360 to u * 640 + 280: its centre is u * 640 - 40
FLUSH_SAMPLES = 640
PIECES = ["\u2581one", "\u2581two", "\u2581three", "\u2581four", "teen", "s", "<unk>", "\u2581"]
VOCABULARY = [*PIECES, "<blank>"]
BLANK_ID = len(PIECES)

INFO = {
    "name": "tiny",
    "language": "en",
    "sample_rate": SAMPLE_RATE,
    "samples_per_frame": SAMPLES_PER_FRAME,
    "frame_delay_samples": FRAME_DELAY_SAMPLES,
    "streaming": True,
    "chunk_frames": [4, 8, 16, 32],
    "max_chunk_frames": 250,
    "left_context_frames": 1,
    "flush_samples": FLUSH_SAMPLES,
    "blank_id": BLANK_ID,
    "vocabulary": VOCABULARY,
    "precision": "float32",
    "layers": 0,
    "parameters": 0,
    "licence": "Apache-2.0",
    "attribution": "made by tests/tiny_model.py",
    "created": "2026-11-22",
    "source": "",
}


def tone_hz(piece: str) -> float:
    """The tone of a piece: 400, 600, 800 ... Hz, an integer number of periods in a frame."""
    return 400.0 + 200.0 * PIECES.index(piece)


def build_model(
    *, streaming: bool = True, look_ahead: bool = False, contract: str = "2", **info: object
) -> onnx.ModelProto:
    """Make the model.

    Args:
        streaming: False for a model without state, which does not stream.
        look_ahead: add the input of that name; else every frame of a chunk is committed.
        contract: version of the model format in the file.
        **info: fields of the metadata to change.
    """
    nodes = _posterior_nodes(streaming) + _token_nodes(streaming)
    inputs = [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["samples"])]
    if look_ahead:
        inputs.append(helper.make_tensor_value_info("look_ahead", TensorProto.INT64, [1]))
    else:
        nodes.insert(0, helper.make_node("Identity", ["zero"], ["look_ahead"]))
    outputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, ["tokens"]),
        helper.make_tensor_value_info("frames", TensorProto.INT64, ["tokens"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["tokens"]),
        helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["frames", len(VOCABULARY)]),
    ]
    if streaming:
        for prefix, values in (("state_", inputs), ("next_", outputs)):
            values.append(helper.make_tensor_value_info(f"{prefix}tail", TensorProto.FLOAT, [TAIL_SAMPLES]))
            values.append(helper.make_tensor_value_info(f"{prefix}last", TensorProto.INT64, [1]))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer=_constants())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {**INFO, "streaming": streaming, **info}
    helper.set_model_props(model, {"lwasr.contract": contract, "lwasr.model": json.dumps(metadata)})
    onnx.checker.check_model(model)
    return model


def _constants() -> list[onnx.TensorProto]:
    time = np.arange(SAMPLES_PER_FRAME) / SAMPLE_RATE
    angles = 2 * np.pi * np.outer(time, [tone_hz(piece) for piece in PIECES])
    arrays = {
        "cosines": np.cos(angles).astype(np.float32),
        "sines": np.sin(angles).astype(np.float32),
        "no_tail": np.zeros(TAIL_SAMPLES, np.float32),
        "frame_shape": np.array([-1, SAMPLES_PER_FRAME]),
        "minus_tail": np.array([-TAIL_SAMPLES]),
        "tail_samples": np.array([TAIL_SAMPLES]),
        "samples_per_frame": np.array([SAMPLES_PER_FRAME]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "last_index": np.array([-1]),
        "half_frame": np.array(SAMPLES_PER_FRAME / 2, np.float32),  # the square of a matched tone: energy * 640 / 2
        "energy_floor": np.array(1e-4, np.float32),
        "sharpness": np.array(20.0, np.float32),
        "blank_pad": np.array([0, 0, 0, 1]),
        "blank_logit": np.array(10.0, np.float32),  # sharpness / 2: half of the energy
        "blank": np.array(BLANK_ID),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _posterior_nodes(streaming: bool) -> list[onnx.NodeProto]:
    """Waveform (N,) to log_probs (N / 640, V)."""
    node = helper.make_node
    return [
        node("Concat", ["state_tail" if streaming else "no_tail", "waveform"], ["audio"], axis=0),
        node("Shape", ["waveform"], ["n_samples"]),
        node("Div", ["n_samples", "samples_per_frame"], ["n_frames"]),
        node("Sub", ["n_frames", "look_ahead"], ["consumed"]),
        node("Mul", ["consumed", "samples_per_frame"], ["consumed_samples"]),
        node("Add", ["consumed_samples", "tail_samples"], ["tail_end"]),
        node("Slice", ["audio", "consumed_samples", "tail_end", "zero"], ["next_tail"]),
        node("Slice", ["audio", "zero", "minus_tail", "zero"], ["framed_audio"]),
        node("Reshape", ["framed_audio", "frame_shape"], ["frames_of_audio"]),
        node("MatMul", ["frames_of_audio", "cosines"], ["real"]),
        node("MatMul", ["frames_of_audio", "sines"], ["imaginary"]),
        node("Mul", ["real", "real"], ["real_square"]),
        node("Mul", ["imaginary", "imaginary"], ["imaginary_square"]),
        node("Add", ["real_square", "imaginary_square"], ["power"]),
        node("ReduceSumSquare", ["frames_of_audio"], ["energy"], axes=[1], keepdims=1),
        node("Add", ["energy", "energy_floor"], ["energy_plus"]),
        node("Mul", ["energy_plus", "half_frame"], ["full_power"]),
        node("Div", ["power", "full_power"], ["share"]),
        node("Mul", ["share", "sharpness"], ["piece_logits"]),
        node("Pad", ["piece_logits", "blank_pad", "blank_logit"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=1),
    ]


def _token_nodes(streaming: bool) -> list[onnx.NodeProto]:
    """Greedy CTC: best piece of each frame, repeats and blanks removed. `last` is the newest best, plus one."""
    node = helper.make_node
    before_first = (
        [node("Sub", ["state_last", "one"], ["before_first"])]
        if streaming
        else [node("Identity", ["last_index"], ["before_first"])]
    )
    return [
        node("ArgMax", ["log_probs"], ["best"], axis=1, keepdims=0),
        node("ReduceMax", ["log_probs"], ["best_log_prob"], axes=[1], keepdims=0),
        node("Exp", ["best_log_prob"], ["best_prob"]),
        *before_first,
        node("Slice", ["best", "zero", "last_index", "zero"], ["all_but_last"]),
        node("Concat", ["before_first", "all_but_last"], ["previous"], axis=0),
        node("Equal", ["best", "previous"], ["is_repeat"]),
        node("Equal", ["best", "blank"], ["is_blank"]),
        node("Or", ["is_repeat", "is_blank"], ["is_nothing"]),
        node("Not", ["is_nothing"], ["is_new"]),
        node("NonZero", ["is_new"], ["new_indices"]),
        node("Squeeze", ["new_indices", "zero"], ["frames"]),
        node("Gather", ["best", "frames"], ["tokens"]),
        node("Gather", ["best_prob", "frames"], ["scores"]),
        node("Sub", ["consumed", "one"], ["newest"]),
        node("Gather", ["best", "newest"], ["newest_best"]),
        node("Add", ["newest_best", "one"], ["next_last"]),
    ]


if __name__ == "__main__":
    onnx.save(build_model(), sys.argv[1])
