"""Model files of strangers: what is refused before onnxruntime sees it."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tiny_model
from conftest import speak
from onnx import TensorProto, helper, numpy_helper

from lwasr_edge import Model, ModelError, ModelNotFoundError
from lwasr_edge.hub.catalog import packaged_models_dir
from lwasr_edge.hub.model_check import LIMITS, check_model
from lwasr_edge.hub.ort_check import check_ort

Change = Callable[[onnx.ModelProto], object]
node = helper.make_node


def changed(change: Change) -> bytes:
    model = tiny_model.build_model()
    change(model)
    return model.SerializeToString()


def external(location: str, where: str = "initializer") -> Change:
    """Store the cosines in another file."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "cosines")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        if where == "attribute":
            moved = onnx.TensorProto()
            moved.CopyFrom(tensor)
            model.graph.initializer.remove(tensor)
            model.graph.node.insert(0, node("Constant", [], ["cosines"], value=moved))

    return change


def add_first(*nodes: onnx.NodeProto, **constants: object) -> Change:
    """Add nodes to the graph, the last of which makes `extra`, and use it."""

    def change(model: onnx.ModelProto) -> None:
        for one in reversed(nodes):
            model.graph.node.insert(0, one)
        for name, value in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        for one in model.graph.node:
            if one.op_type == "Mul" and "share" in one.input:
                one.input[1] = "extra"

    return change


def scalar_graph(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [])])


def branch(depth: int) -> onnx.NodeProto:
    """If inside If."""
    graph = scalar_graph("g0", node("Identity", ["sharpness"], ["g0"]))
    for level in range(1, depth):
        other = scalar_graph(f"e{level}", node("Identity", ["sharpness"], [f"e{level}"]))
        inner = node("If", ["yes"], [f"g{level}"], then_branch=graph, else_branch=other)
        graph = scalar_graph(f"g{level}", inner)
    other = scalar_graph("e", node("Identity", ["sharpness"], ["e"]))
    return node("If", ["yes"], ["extra"], then_branch=graph, else_branch=other)


def loop() -> onnx.NodeProto:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["going"], ["goes"]), node("Identity", ["value"], ["next_value"])],
        "body",
        [info("i", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("value", TensorProto.FLOAT, [])],
        [info("goes", TensorProto.BOOL, []), info("next_value", TensorProto.FLOAT, [])],
    )
    return node("Loop", ["many", "yes", "sharpness"], ["extra"], body=body)


def recursive_function(model: onnx.ModelProto) -> None:
    operators = [helper.make_opsetid("", 17), helper.make_opsetid("fn", 1)]
    model.opset_import.append(helper.make_opsetid("fn", 1))
    model.functions.append(
        helper.make_function("fn", "f", ["x"], ["y"], [node("f", ["x"], ["y"], domain="fn")], operators)
    )


def graph_of_another_name(model: onnx.ModelProto) -> None:
    """A graph inside an operator that is not known to have one."""
    graph = scalar_graph("inner", node("Identity", ["sharpness"], ["inner"]))
    add_first(node("Identity", ["sharpness"], ["extra"], body=graph))(model)


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    add_first(node("Run", ["sharpness"], ["extra"], domain="evil"))(model)


def many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        node("Neg", [f"n{index - 1}" if index else "sharpness"], [f"n{index}"]) for index in range(LIMITS["nodes"])
    )


def many_states(model: onnx.ModelProto) -> None:
    for index in range(LIMITS["inputs"]):
        model.graph.input.append(helper.make_tensor_value_info(f"state_{index}", TensorProto.FLOAT, [1]))


def merge(model: onnx.ModelProto, extra: bytes) -> None:
    """Add fields that onnx does not know to the model."""
    model.MergeFromString(extra)


HOSTILE = {
    "external data above the folder": (external("../secret.bin"), "one file, got a tensor with external data"),
    "external data beside the file": (external("secret.bin"), "external data"),
    "external data that is memory": (external("*/_ORT_MEM_ADDR_/*"), "external data"),
    "external data of a constant": (external("../secret.bin", "attribute"), "external data"),
    "a recursive function": (recursive_function, "no functions"),
    "If": (add_first(branch(1), yes=True), "must not run other graphs or code, got 'If'"),
    "If in If in If": (add_first(branch(3), yes=True), "must not run other graphs or code, got 'If'"),
    "a loop": (add_first(loop(), yes=True, many=10**12), "must not run other graphs or code, got 'Loop'"),
    "a hidden graph": (graph_of_another_name, "one graph, got a graph inside another"),
    "a sparse tensor": (sparse, "no sparse tensors"),
    "a foreign operator": (foreign, "operators must be those of ONNX or onnxruntime, got one of 'evil'"),
    "nodes": (many_nodes, "at most 20000 nodes"),
    "states": (many_states, "at most 4000 inputs"),
    "fields without meaning": (lambda model: merge(model, b"\xa8\x06\x00" * 150_000), "at most 100000 fields"),
    "text": (lambda model: setattr(model, "doc_string", "a" * (17 << 20)), "at most 16 MB besides its tensors"),
    "metadata": (
        lambda model: [model.metadata_props.add(key=f"k{index}", value="v") for index in range(1000)],
        "at most 1000 metadata entries",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("suffix", [".onnx", ".onnx.gz"])
def test_hostile_models(tmp_path: Path, case: str, suffix: str) -> None:
    change, message = HOSTILE[case]
    path = tmp_path / f"model{suffix}"
    data = changed(change)
    path.write_bytes(gzip.compress(data, 1) if suffix.endswith(".gz") else data)
    (tmp_path / "secret.bin").write_bytes(bytes(640 * 8 * 4))
    with pytest.raises(ModelError, match=message) as raised:
        Model(path)
    assert str(raised.value).startswith(str(path)) and "lwasr-export" in str(raised.value)


def test_a_file_outside_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is given to onnxruntime as bytes, so that there is no folder to look in."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "m.onnx").write_bytes(tiny_model.build_model().SerializeToString())
    given: list[object] = []
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda source, *a, **k: given.append(source) or real(source, *a, **k))
    Model(tmp_path / "inner" / "m.onnx")
    assert [type(source) for source in given] == [bytes]


def long_form(tag: int, length: int = 5) -> bytes:
    """A tag in more bytes than it needs, which protobuf accepts."""
    return bytes([*((tag >> 7 * index & 0x7F) | 0x80 for index in range(length - 1)), tag >> 7 * (length - 1)])


def nested(*numbers: int, content: bytes) -> bytes:
    """A message inside messages, as fields of these numbers, the outermost first."""
    for number in reversed(numbers):
        size = bytes([*long_form(len(content))])
        content = long_form(number << 3 | 2) + size + content
    return content


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (nested(7, 5, 13, content=b"\x0a\x00"), "external data"),
        (nested(7, 5, content=long_form(14 << 3) + b"\x01"), "external data"),
        (nested(7, 5, content=long_form(14 << 3) + b"\x80\x80\x80\x80\x10"), "external data"),  # 1 << 32
        (nested(7, 1, 5, 5, content=long_form(14 << 3) + b"\x01"), "external data"),
        (nested(7, 1, 4, content=b"Loop"), "got 'Loop'"),
        (nested(7, 1, 7, content=b"evil\x1b[2J"), r"got one of 'evil\\x1b\[2J'"),
        (nested(25, content=b""), "no functions"),
        (nested(7, 1, content=long_form(5 << 3 | 3)), "wire type 3"),
        (nested(7, content=b"\x08"), "cannot be opened as an ONNX model .*a field"),
        (b"\xca\x81\x80\x80\x10" + b"\x00", "field"),  # field 25 after a cut to 32 bits
        # Integers of one byte each become eight, empty names of two bytes forty.
        pytest.param(nested(7, 5, 7, content=bytes(17 << 20)), "at most 16 MB besides its tensors", id="integers"),
        pytest.param(nested(7, 1, content=b"\x0a\x00" * 9_000_000), "at most 16 MB besides its tensors", id="names"),
        pytest.param(nested(7, content=b"\x6a\x00" * 200_000), "at most 100000 fields", id="values"),
        (b"\xff" * 11, "cannot be opened as an ONNX model"),
        (b"\x3a\xff\xff\xff\xff\x0f", "cannot be opened as an ONNX model"),
    ],
)
def test_other_spellings_of_the_same(tmp_path: Path, extra: bytes, message: str) -> None:
    """A second graph is merged with the first, and tags may have more bytes than they need."""
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_model.build_model().SerializeToString() + extra)
    with pytest.raises(ModelError, match=message):
        Model(path)


def test_the_models_of_this_project_pass_and_quickly() -> None:
    paths = sorted(packaged_models_dir().glob("*/*.onnx.gz"))
    assert paths
    for path in paths:
        data = gzip.decompress(path.read_bytes())
        times = []
        for _ in range(5):
            began_at = time.process_time()
            check_model(data, str(path))
            times.append(time.process_time() - began_at)
        assert min(times) < 0.05  # 0.006 s on a quiet PC


def saved_as_ort(model: bytes, path: Path) -> bytes:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return path.read_bytes()


def test_onnxruntimes_own_format(tmp_path: Path) -> None:
    data = saved_as_ort(tiny_model.build_model().SerializeToString(), tmp_path / "m.ort")
    model = Model(tmp_path / "m.ort")
    assert model.run_chunk(speak("\u2581two", 0.04), model.initial_state()).tokens.tolist() == [1]
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="must be an ONNX model, got onnxruntime's own format"):
        Model(tmp_path / "m.onnx")
    for size in (9, 100, len(data) // 2):
        with pytest.raises(ModelError, match="cannot be opened as an ONNX model"):
            check_ort(data[:size], "m.ort")
    saved_as_ort(changed(add_first(loop(), yes=True, many=10**12)), tmp_path / "loop.ort")
    with pytest.raises(ModelError, match=r"loop\.ort: operators must not run other graphs or code, got 'Loop'"):
        Model(tmp_path / "loop.ort")


@pytest.mark.parametrize(
    ("limit", "message"), [("structure", "0 MB besides its tensors"), ("contents", "must not share their contents")]
)
def test_limits_of_onnxruntimes_own_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    data = saved_as_ort(tiny_model.build_model().SerializeToString(), tmp_path / "m.ort")
    if limit == "structure":
        monkeypatch.setattr("lwasr_edge.hub.ort_check.MAX_STRUCTURE", 2000)
    else:
        # Two tensors of 20 kB each; one that both share would be read twice.
        monkeypatch.setattr("lwasr_edge.hub.ort_check.len", lambda _: 30_000, raising=False)
    with pytest.raises(ModelError, match=message):
        check_ort(data, "m.ort")


def test_damaged_files_of_onnxruntimes_own_format(tmp_path: Path) -> None:
    """The walk ends with an answer, whatever the offsets are."""
    data = saved_as_ort(tiny_model.build_model().SerializeToString(), tmp_path / "m.ort")
    random = np.random.default_rng(5)
    for _ in range(300):
        damaged = bytearray(data)
        for position in random.integers(0, len(data) // 4, 8):
            value = random.choice([0, 4, 0xFFFFFFFF, 0x7FFFFFFF, int(random.integers(1 << 32))])
            damaged[4 * position : 4 * position + 4] = int(value).to_bytes(4, "little")
        try:
            check_ort(bytes(damaged), "m.ort")
        except ModelError as error:
            assert str(error).startswith("m.ort")


def test_files_that_are_no_files(tmp_path: Path) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("needs /dev/zero")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    with pytest.raises(ModelNotFoundError, match="which is no regular file"):
        Model(tmp_path / "zero.onnx")


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwasr_edge.hub.model_file.MAX_PLAIN_BYTES", 1000)
    (tmp_path / "m.onnx").write_bytes(bytes(1001))
    with pytest.raises(ModelError, match="must have at most"):
        Model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 10**30}, "sample_rate must be a whole number <= 1000000"),
        ({"sample_rate": 10**400}, "sample_rate must be a whole number <= 1000000, got an integer of 1329 bits"),
        ({"flush_samples": 10**9}, "flush_samples must be a whole number <="),
        ({"flush_samples": 160_001}, "flush_samples must be at most 10 s"),
        ({"frame_delay_samples": -(10**18)}, "frame_delay_samples must be a whole number >="),
        ({"max_chunk_frames": 100_000}, "max_chunk_frames must be chunks of at most 3600 s"),
        ({"chunk_frames": [4] * 1001}, "chunk_frames must be at most 1000 numbers"),
        ({"layers": [1, 2]}, "layers must be a whole number"),
        ({"parameters": -1}, "parameters must be a whole number"),
        ({"left_context_frames": "x"}, "left_context_frames must be a whole number"),
        ({"multiplications": "ab"}, "multiplications must be two whole numbers"),
        ({"multiplications": [1, 2.5]}, "multiplications must be two whole numbers"),
        ({"attribution": "a" * 100_001}, "attribution must be at most 100000 characters"),
        ({"vocabulary": [*tiny_model.PIECES, "a\x1b[2J"]}, "without control characters"),
        ({"vocabulary": [*tiny_model.PIECES, "a\u202e"]}, "without control characters"),
        ({"vocabulary": [*tiny_model.PIECES, "a" * 1001]}, "at most 1000 characters"),
        ({"vocabulary": [*tiny_model.VOCABULARY, "x"]}, "the width of 'log_probs' must be the vocabulary's 10, got 9"),
        ({"vocabulary": ["a"] * 100_001}, "vocabulary must be at most 100000 pieces"),
        ({"licence": ["x" * 5_000_000]}, "at most 4194304 characters"),
    ],
)
def test_bounds_of_the_metadata(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(tiny_model.build_model(**changes), path)
    with pytest.raises(ModelError, match=message) as raised:
        Model(path)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("shape", [[10**10], [2**62], [10**6, 10**6], [0, 2**62], [1] * 70])
def test_states_that_are_too_large(tmp_path: Path, shape: list[int]) -> None:
    model = tiny_model.build_model()
    for value in [*model.graph.input, *model.graph.output]:
        if value.name in ("state_tail", "next_tail"):
            del value.type.tensor_type.shape.dim[:]
            for size in shape:
                value.type.tensor_type.shape.dim.add().dim_value = size
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="state must have at most|cannot be opened"):
        Model(path)


def replaced_output(name: str, *more: str, op_type: str, value: object) -> Change:
    """Change an output by an operator and a constant."""

    def change(model: onnx.ModelProto) -> None:
        for one in model.graph.node:
            for values in (one.input, one.output):
                for index, value_name in enumerate(values):
                    if value_name == name:
                        values[index] = f"true_{name}"
        model.graph.node.append(node(op_type, [f"true_{name}", f"value_{name}", *more], [name]))
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), f"value_{name}"))

    return change


def test_output_that_contradicts_the_format(tmp_path: Path) -> None:
    path, audio = tmp_path / "m.onnx", speak("\u2581two", 0.04)
    path.write_bytes(changed(replaced_output("log_probs", op_type="Mul", value=np.float32("nan"))))
    model = Model(path)
    with pytest.raises(ModelError, match="log_probs must be numbers, got NaN"):
        model.run_chunk(audio, model.initial_state(), with_log_probs=True)
    tiled = tiny_model.build_model()
    for name in ("tokens", "frames", "scores"):
        replaced_output(name, op_type="Tile", value=[10**5])(tiled)
    onnx.save(tiled, path)
    model = Model(path)
    with pytest.raises(ModelError, match="tokens must be at most one") as raised:
        model.run_chunk(audio, model.initial_state())
    assert len(str(raised.value)) < 1000
