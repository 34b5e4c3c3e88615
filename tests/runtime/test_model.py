"""Model files: the checks when one is opened, and the output of one chunk."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_model
from conftest import speak
from onnx import TensorProto, helper

from lwasr_edge import Model, ModelError, ModelNotFoundError, ModelVersionError, OptionError
from lwasr_edge.hub.model_file import source_of
from lwasr_edge.model_info import ModelInfo

Build = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Build:
    def save_model(model: onnx.ModelProto) -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return save_model


def test_description(model_path: Path) -> None:
    model = Model(model_path)
    assert model.info.name == "tiny"
    assert model.info.vocabulary[model.info.blank_id] == "<blank>"
    assert model.info.chunk_frames == (4, 8, 16, 32)
    assert model.info.frame_ms == 40.0
    assert model.state_shapes == {"state_tail": (360,), "state_last": (1,)}
    assert model.state_bytes == 360 * 4 + 8


def test_one_chunk(model_path: Path) -> None:
    model = Model(model_path)
    result = model.run_chunk(speak(0.16, "\u2581two", "teen", 0.12), model.initial_state())
    assert result.tokens.tolist() == [1, 4]
    assert result.frames.tolist() == [5, 8]
    assert result.tokens.dtype == result.frames.dtype == np.int64
    assert result.scores.dtype == np.float32
    assert (result.scores > 0.99).all()
    assert result.log_probs is None


def test_log_probs_only_when_asked(model_path: Path) -> None:
    model = Model(model_path)
    result = model.run_chunk(speak(0.16, "\u2581two", 0.12), model.initial_state(), with_log_probs=True)
    assert result.log_probs.shape == (10, 9)
    np.testing.assert_allclose(np.exp(result.log_probs).sum(axis=1), 1.0, rtol=1e-5)
    assert result.log_probs.argmax(axis=1).tolist() == [8, 8, 8, 8, 8, 1, 1, 1, 8, 8]


def test_state_carries_a_token_over_the_border(model_path: Path) -> None:
    model = Model(model_path)
    audio = speak(0.16, "\u2581two", 0.12)
    first = model.run_chunk(audio[:3840], model.initial_state())
    second = model.run_chunk(audio[3840:], first.state)
    assert (first.tokens.tolist(), second.tokens.tolist()) == ([1], [])  # the tone goes on: not a second token
    assert model.run_chunk(audio[3840:], model.initial_state()).tokens.tolist() == [1]  # without the state, it would be


def test_the_initial_state_stays_zero(model_path: Path) -> None:
    model = Model(model_path)
    state = model.initial_state()
    model.run_chunk(speak("\u2581two", 0.04), state)
    assert not any(tensor.any() for tensor in state.values())
    with pytest.raises(ValueError, match="read-only"):
        state["state_tail"][0] = 1.0


@pytest.mark.parametrize("n_samples", [0, 1, 639, 641])
def test_chunks_of_an_invalid_size(model_path: Path, n_samples: int) -> None:
    model = Model(model_path)
    with pytest.raises(ModelError, match="chunk length must be a positive multiple of 640 samples, got shape"):
        model.run_chunk(np.zeros(n_samples, np.float32), model.initial_state())


def test_pinned_chunk_size(model_path: Path) -> None:
    model = Model(model_path, pinned_samples=6400)
    result = model.run_chunk(speak(0.16, "\u2581two", 0.12), model.initial_state())
    assert (result.tokens.tolist(), result.frames.tolist()) == ([1], [5])
    with pytest.raises(ModelError, match="chunk length must be pinned_samples=6400, got 640"):
        model.run_chunk(np.zeros(640, np.float32), model.initial_state())


@pytest.mark.parametrize("threads", [-1, 1.5, True, "2", np.float64(1), np.int64(-1)])
def test_invalid_threads(model_path: Path, threads: object) -> None:
    with pytest.raises(OptionError, match="threads must be a whole number >= 0, got .*: None uses all cores"):
        Model(model_path, threads=threads)


def test_numpy_numbers_are_options_too(model_path: Path) -> None:
    model = Model(model_path, threads=np.int32(1), pinned_samples=np.int64(640))
    assert model.run_chunk(np.zeros(640, np.float32), model.initial_state()).tokens.tolist() == []
    with pytest.raises(OptionError, match="pinned_samples must be a whole number >= 1, got 0"):
        Model(model_path, pinned_samples=0)


def test_step_is_another_name_of_run_chunk(model_path: Path) -> None:
    model = Model(model_path)
    samples = speak("\u2581two", 0.04)
    found, expected = (run(samples, model.initial_state()) for run in (model.step, model.run_chunk))
    assert found.tokens.tolist() == expected.tokens.tolist() == [1]


def test_all_cores(model_path: Path) -> None:
    assert Model(model_path, threads=None).info.name == "tiny"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        Model(tmp_path / "no.onnx")
    with pytest.raises(FileNotFoundError, match="which is a folder"):
        Model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model at all" * 20, bytes(1000)])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be opened as an ONNX model"):
        Model(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(model_path: Path, tmp_path: Path, kept: float) -> None:
    data = model_path.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match="damaged"):
        Model(path)


@pytest.mark.parametrize("name", ["a.onnx.gz", "a.onnx"])
def test_compressed_file_is_the_same_model(model_path: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(model_path.read_bytes()))
    compressed, plain = Model(path), Model(model_path)
    assert compressed.info == plain.info
    waveform = np.random.default_rng(0).normal(0, 0.1, 6400).astype(np.float32)
    found, wanted = (
        model.run_chunk(waveform, model.initial_state(), with_log_probs=True) for model in (compressed, plain)
    )
    np.testing.assert_array_equal(found.log_probs, wanted.log_probs)


@pytest.mark.parametrize("after", [b"", bytes(700)])
def test_gzip_files_of_several_members(model_path: Path, tmp_path: Path, after: bytes) -> None:
    data = model_path.read_bytes()
    path = tmp_path / "members.onnx.gz"
    path.write_bytes(gzip.compress(data[:1000]) + gzip.compress(b"") + gzip.compress(data[1000:]) + after)
    assert source_of(path) == data


def test_bytes_after_a_compressed_model(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.onnx.gz"
    path.write_bytes(gzip.compress(model_path.read_bytes()) + b"more")
    with pytest.raises(ModelError, match="damaged or incomplete gzip file"):
        Model(path)


@pytest.mark.parametrize("kept", [0.001, 0.5, 0.999])
def test_truncated_compressed_file(model_path: Path, tmp_path: Path, kept: float) -> None:
    data = gzip.compress(model_path.read_bytes())
    path = tmp_path / "cut.onnx.gz"
    path.write_bytes(data[: max(2, int(len(data) * kept))])
    with pytest.raises(ModelError, match=r"cut\.onnx\.gz is a damaged or incomplete gzip file"):
        Model(path)


def test_compressed_file_with_a_changed_byte(model_path: Path, tmp_path: Path) -> None:
    data = bytearray(gzip.compress(model_path.read_bytes()))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "changed.onnx.gz"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged or incomplete"):
        Model(path)


def test_compressed_file_that_holds_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwasr_edge.hub.model_file.MAX_MODEL_BYTES", 1 << 20)
    path = tmp_path / "bomb.onnx.gz"
    for n_members in (1, 4):
        path.write_bytes(n_members * gzip.compress(bytes((2 << 20) // n_members)))
        with pytest.raises(ModelError, match="decompresses to more than 1 MB"):
            Model(path)


def test_a_model_opens_where_no_thread_can_start(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert Model(model_path).info.sample_rate == 16_000


@pytest.mark.parametrize("name", [b"tokens", b"state_last", b"samples_per_frame"])
def test_names_that_are_not_text(
    model_path: Path, tmp_path: Path, name: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(model_path.read_bytes().replace(name, b"\xff" + name[1:]))
    with pytest.raises(ModelError, match=r"bad\.onnx.*damaged"):
        Model(path)
    assert capfd.readouterr() == ("", "")


def test_another_projects_model(save: Build) -> None:
    model = tiny_model.build_model()
    del model.metadata_props[:]
    with pytest.raises(ModelError, match="lwasr-export CHECKPOINT -o MODEL.onnx"):
        Model(save(model))


def test_newer_format(save: Build) -> None:
    with pytest.raises(
        ModelVersionError,
        match=r"model format 3 is newer than this version supports \(2\): pip install --upgrade lwasr-edge",
    ):
        Model(save(tiny_model.build_model(contract="3")))


def test_older_format(save: Build) -> None:
    with pytest.raises(
        ModelVersionError,
        match=r"model format 1 is older than this version reads \(2\): fetch the model again, or export its checkpoint",
    ):
        Model(save(tiny_model.build_model(contract="1")))


@pytest.mark.parametrize("version", ["9" * 20, "9" * 5000])
def test_a_much_newer_format(version: str) -> None:
    with pytest.raises(ModelVersionError, match="model format 9999"):
        ModelInfo.from_metadata({"lwasr.contract": version, "lwasr.model": "{}"})


@pytest.mark.parametrize("version", ["", "0", "00", "one", "1.5", "-1", "\u00b2"])
def test_format_version_that_is_not_a_number(save: Build, version: str) -> None:
    with pytest.raises(ModelError, match="'lwasr.contract' must be a whole number >= 1, got"):
        Model(save(tiny_model.build_model(contract=version)))


def test_format_version_of_the_file() -> None:
    text = json.dumps({**tiny_model.INFO, "format_version": 99})  # ignored
    assert ModelInfo.from_metadata({"lwasr.contract": "2", "lwasr.model": text}).format_version == 2
    assert ModelInfo.from_metadata({"lwasr.contract": "02", "lwasr.model": text}).format_version == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_per_frame": 0}, "samples_per_frame must be a whole number >= 1, got 0: export it again"),
        ({"sample_rate": "16000"}, "sample_rate must be a whole number >= 1, got '16000'"),
        ({"flush_samples": -1}, "flush_samples"),
        ({"frame_delay_samples": None}, "frame_delay_samples"),
        ({"blank_id": 99}, "blank_id must be less than 9, the size of its vocabulary, got 99"),
        ({"blank_id": 9}, "blank_id must be less than 9, the size of its vocabulary, got 9"),
        ({"vocabulary": []}, "at least two strings"),
        ({"vocabulary": [1, 2, 3]}, "at least two strings"),
        ({"vocabulary": "abc"}, "vocabulary must be a list, got 'abc'"),
        ({"vocabulary": None}, "vocabulary must be a list, got None"),
        ({"vocabulary": {"a": 1, "b": 2}}, "vocabulary must be a list"),
        ({"chunk_frames": [0]}, "chunk_frames"),
        ({"chunk_frames": 5}, "chunk_frames must be a list, got 5"),
        ({"chunk_frames": [[1]]}, "chunk_frames must be a whole number"),
        ({"streaming": "false"}, "streaming must be true or false, got 'false'"),
        ({"name": None}, "name must be a string, got None"),
        ({"licence": ["MIT"]}, "licence must be a string"),
        ({"max_chunk_frames": 2.5}, "max_chunk_frames must be a whole number >= 1, got 2.5"),
    ],
)
def test_invalid_metadata(save: Build, changes: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Model(save(tiny_model.build_model(**changes)))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "3", "[" * 100_000, "\ud800"])
def test_metadata_that_is_not_a_json_object(text: str) -> None:
    with pytest.raises(ModelError, match="export it again"):
        ModelInfo.from_metadata({"lwasr.contract": "2", "lwasr.model": text})
    with pytest.raises(ModelError, match="export it again"):
        ModelInfo.from_metadata({"lwasr.contract": "2"})


def test_unknown_fields_of_the_metadata_are_ignored() -> None:
    text = json.dumps({**tiny_model.INFO, "mood": "fine"})
    assert ModelInfo.from_metadata({"lwasr.contract": "2", "lwasr.model": text}).name == "tiny"


@pytest.mark.parametrize("name", ["tokens", "frames", "scores", "log_probs", "next_tail", "next_last"])
def test_missing_output(save: Build, name: str) -> None:
    model = tiny_model.build_model()
    kept = [output for output in model.graph.output if output.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    with pytest.raises(ModelError, match=name):
        Model(save(model))


def test_state_of_another_shape_than_the_next(save: Build) -> None:
    model = tiny_model.build_model()
    state = next(value for value in model.graph.input if value.name == "state_last")
    state.type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ModelError, match=r"next_last.*(float32|int64) \[2\]"):
        Model(save(model))


def test_state_of_open_size(save: Build) -> None:
    model = tiny_model.build_model()
    state = next(value for value in model.graph.input if value.name == "state_tail")
    state.type.tensor_type.shape.dim[0].dim_param = "any"
    with pytest.raises(ModelError, match="'state_tail' must be float32 or int64 of fixed size"):
        Model(save(model))


def test_input_that_is_neither_waveform_nor_state(save: Build) -> None:
    model = tiny_model.build_model()
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, [1]))
    with pytest.raises(ModelError, match="got 'lengths'"):
        Model(save(model))


def test_waveform_missing(save: Build) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"lwasr.contract": "2", "lwasr.model": json.dumps(tiny_model.INFO)})
    with pytest.raises(ModelError, match=r"'waveform', float32 \(samples,\), got x tensor\(float\) \[1\]"):
        Model(save(model))


@pytest.mark.parametrize(("built", "declared"), [(True, False), (False, True)])
def test_streaming_that_contradicts_the_inputs(save: Build, built: bool, declared: bool) -> None:
    model = tiny_model.build_model(streaming=built)
    described = next(prop for prop in model.metadata_props if prop.key == "lwasr.model")
    described.value = json.dumps({**tiny_model.INFO, "streaming": declared})
    with pytest.raises(ModelError, match="stream"):
        Model(save(model))


def replace_scores(model: onnx.ModelProto, value: float) -> None:
    """Make every score `value`, by dividing by it twice over: x / x * value."""
    node = next(node for node in model.graph.node if "scores" in node.output)
    node.output[0] = "true_scores"
    constant = onnx.numpy_helper.from_array(np.array(value, np.float32), "value")
    model.graph.initializer.append(constant)
    model.graph.node.append(helper.make_node("Mul", ["true_scores", "value"], ["scores"]))


def test_scores_that_are_not_numbers(save: Build) -> None:
    built = tiny_model.build_model()
    replace_scores(built, np.nan)
    model = Model(save(built))
    with pytest.raises(ModelError, match="scores must be finite, got NaN"):
        model.run_chunk(speak("\u2581two", 0.04), model.initial_state())


def test_tokens_outside_the_vocabulary(save: Build) -> None:
    built = tiny_model.build_model()
    node = next(node for node in built.graph.node if "tokens" in node.output)
    node.output[0] = "true_tokens"
    built.graph.initializer.append(onnx.numpy_helper.from_array(np.array(9), "offset"))
    built.graph.node.append(helper.make_node("Add", ["true_tokens", "offset"], ["tokens"]))
    model = Model(save(built))
    with pytest.raises(ModelError, match=r"tokens must be less than the vocabulary's 9, got \[11\]"):
        model.run_chunk(speak("\u2581three", 0.04), model.initial_state())


def test_a_failing_graph_names_the_file(model_path: Path) -> None:
    model = Model(model_path)
    with pytest.raises(ModelError, match=r"tiny\.onnx: the model failed on a chunk of 640 samples"):
        model.run_chunk(np.zeros(640, np.float32), {})
