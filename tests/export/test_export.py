"""`lwasr-export` end to end: the file, its metadata, its results, and errors."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from export_models import PIECES, random_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from locations import EN_TINY_CHECKPOINT, ROOT
from locations import SPEECH_16K as SPEECH
from onnx import numpy_helper
from small_models import chunking, write_test_manifest
from speech import SHARED_SPEECH

from lwasr_edge import Recognizer
from lwasr_edge.audio.reader import load_audio
from lwasr_edge.errors import VerificationError
from lwasr_edge.export import cli, pipeline
from lwasr_edge.export.graph import fuse, store_as_float16, trace
from lwasr_edge.export.metadata import Description, describe, write_metadata
from lwasr_edge.export.quantize import LARGEST_PAIR, matmul_names, quantize, weight_scale
from lwasr_edge.export.run_model import log_probs_of, padded, run_in_chunks
from lwasr_edge.export.sensitivity import keep_float, sensitivities, simulated_int8
from lwasr_edge.export.streaming import exported_model
from lwasr_edge.export.verify import (
    Agreement,
    Recording,
    RecordingSet,
    agreements,
    divergence,
    read_recordings,
    require_agreement,
    synthetic_recordings,
    typical_divergence,
)
from lwasr_edge.files import sha256_of
from lwasr_edge.model import Model
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.scoring.decode import tokens_to_text
from lwasr_edge.training.study.search import expected_file_bytes


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return load_audio(SPEECH, 16_000)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_checkpoint(path, random_model(), b"no tokenizer")
    return path


@pytest.fixture(scope="module")
def float_proto() -> onnx.ModelProto:
    return trace(exported_model(random_model()))


@pytest.fixture(scope="module")
def metadata() -> dict[str, str]:
    return describe(random_model(), Description("random"), "float32", "")


@pytest.fixture(scope="module")
def float_path(
    tmp_path_factory: pytest.TempPathFactory, float_proto: onnx.ModelProto, metadata: dict[str, str]
) -> Path:
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    onnx.save(write_metadata(copied(float_proto), metadata), path)
    return path


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


@pytest.fixture(scope="module")
def int8_path(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, float_proto: onnx.ModelProto) -> Path:
    """Made by the command, without repeating the slow conversion."""
    path = tmp_path_factory.mktemp("int8") / "random.onnx"
    arguments = [str(checkpoint), "-o", str(path), "--int8", "--name", "tiny-en", "--licence", "CC0-1.0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "trace", lambda _: copied(float_proto))
        assert cli.main([*arguments, "--attribution", "nobody"]) == 0
    return path


def optimised(path: Path, folder: Path, samples: int | None) -> onnx.ModelProto:
    """The graph after onnxruntime's optimisation at load."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    if samples is not None:
        options.add_free_dimension_override_by_name("samples", samples)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 17, 2000])
def test_float_file_equals_torch(float_path: Path, waveform: np.ndarray, n_frames: int) -> None:
    model, torch_model = Model(float_path), random_model()
    n_samples = n_frames * 640 - 40 - 600
    audio = np.resize(waveform, max(n_samples, 1))
    for chunk_frames in (None if n_frames <= model.info.max_chunk_frames else model.info.max_chunk_frames, 16):
        wanted = torch_model.log_probs(
            torch.from_numpy(audio)[None], torch.tensor([len(audio)]), chunking(chunk_frames)
        )[0][0]
        assert len(wanted) == n_frames
        found = log_probs_of(run_in_chunks(model, padded(model, audio, n_frames), chunk_frames))
        # the statistics of 8,000 mel frames are sums in float32, in another order
        np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-3 if n_frames < 1000 else 3e-3)


def test_file_is_readable_by_onnxruntime_1_18(int8_path: Path, float_path: Path) -> None:
    for path in (int8_path, float_path):
        proto = onnx.load(path)
        assert proto.ir_version <= 10
        assert {opset.domain: opset.version for opset in proto.opset_import} == {"": 18, "com.microsoft": 1}
        fused = {"DynamicQuantizeMatMul", "FusedGemm", "FusedMatMul", "MatMulIntegerToFloat", "QuickGelu"}
        fused = fused if path == int8_path else set()
        assert {node.op_type for node in proto.graph.node if node.domain} == {"MultiHeadAttention", *fused}


def test_the_file_has_the_model_format(int8_path: Path, checkpoint: Path) -> None:
    proto = onnx.load(int8_path)
    waveform = proto.graph.input[0]
    assert waveform.name == "waveform"
    assert [dimension.dim_param for dimension in waveform.type.tensor_type.shape.dim] == ["samples"]
    assert [value.name for value in proto.graph.output[:4]] == ["tokens", "frames", "scores", "log_probs"]
    assert proto.graph.input[1].name == "look_ahead"
    states = [value.name.removeprefix("state_") for value in proto.graph.input[2:]]
    assert states == [value.name.removeprefix("next_") for value in proto.graph.output[4:]]
    info = json.loads({entry.key: entry.value for entry in proto.metadata_props}["lwasr.model"])
    assert info["vocabulary"] == [*PIECES, "<blank>"]
    assert info["blank_id"] == len(PIECES)
    wanted = {"name": "tiny-en", "precision": "int8", "layers": 2, "streaming": True, "left_context_frames": 10}
    wanted |= {"licence": "CC0-1.0", "attribution": "nobody", "source": sha256_of(checkpoint)}
    assert {key: info[key] for key in wanted} == wanted


def test_report_beside_the_file(int8_path: Path) -> None:
    report = json.loads(int8_path.with_suffix(".report.json").read_text())
    assert report["bytes"] == int8_path.stat().st_size
    assert report["precision"] == "int8"
    assert report["kept_float"] == []
    assert [one["frames_alike"] > 0.9 for one in report["agreement"]] == [True]
    assert [entry["chunk_frames"] for entry in report["parity"]] == [1, 3, 16, None]
    assert all(entry["onnx"] < 1e-2 for entry in report["parity"])
    assert report["rtf"]["16 frames"] > 0


def test_recognizer_gives_the_greedy_words(float_path: Path, waveform: np.ndarray) -> None:
    model = Model(float_path)
    step = model.info.max_chunk_frames
    log_probs = log_probs_of(run_in_chunks(model, padded(model, waveform), step))
    best = log_probs.argmax(1)
    tokens = [
        int(t) for t, before in zip(best, [-1, *best[:-1]], strict=True) if t not in (before, model.info.blank_id)
    ]
    text = Recognizer(float_path).transcribe((waveform, 16_000)).text
    assert text.split() == tokens_to_text(tokens, model.info.vocabulary).split()
    assert len(text) > 20


def test_the_file_has_no_paths_of_this_machine(int8_path: Path) -> None:
    data = int8_path.read_bytes()
    assert str(ROOT).encode() not in data
    assert b".py" not in data


def test_computable_constants_are_not_stored(float_proto: onnx.ModelProto) -> None:
    n_parameters = sum(parameter.numel() for parameter in random_model().parameters())
    stored = {tensor.name: int(np.prod(tensor.dims)) for tensor in float_proto.graph.initializer}
    filters = stored.pop("log_mel.filters")
    assert filters == 257 * 80
    assert sum(stored.values()) < n_parameters + 2500  # running norm, distances, constants, shapes
    assert not any("depthwise_norm" in name for name in stored)


@pytest.mark.parametrize("samples", [None, 16 * 640])
def test_positions_are_folded_at_load(int8_path: Path, tmp_path: Path, samples: int | None) -> None:
    nodes = optimised(int8_path, tmp_path, samples).graph.node
    assert not {node.op_type for node in nodes} & {"Sin", "Cos", "Mod", *(("Range", "Shape") if samples else ())}
    assert not any(node.name.endswith("position") for node in nodes)


def test_pinned_and_dynamic_agree(float_path: Path, int8_path: Path, waveform: np.ndarray) -> None:
    for path, tolerance in ((float_path, 1e-4), (int8_path, 0.3)):
        models = Model(path), Model(path, pinned_samples=8 * 640)
        audio = np.resize(waveform, 10 * 8 * 640)
        found = [log_probs_of(run_in_chunks(model, audio, 8)) for model in models]
        np.testing.assert_allclose(found[0], found[1], rtol=0, atol=tolerance)


def test_int8_covers_every_linear_layer(float_proto: onnx.ModelProto) -> None:
    names = matmul_names(float_proto)
    assert len(names) == 2 * 8 + 3
    assert {"subsampling.second", "subsampling.linear", "head", "layers.1.attention.projection"} <= set(names)
    quantized = quantize(float_proto)
    operators = [node.op_type for node in quantized.graph.node]
    assert operators.count("MatMulInteger") == len(names)
    assert operators.count("Gemm") <= 1  # the first convolution, on purpose
    scales = {tensor.name: tensor.dims[0] for tensor in quantized.graph.initializer if tensor.name.endswith("_scale")}
    assert max(scales.values()) > 1  # by channel


def test_a_fused_graph_has_the_same_results(
    float_proto: onnx.ModelProto, metadata: dict[str, str], waveform: np.ndarray, tmp_path: Path
) -> None:
    quantized = quantize(float_proto)
    fused = fuse(quantized)
    assert len(fused.graph.node) < 0.75 * len(quantized.graph.node)  # of 16 layers: 0.42
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in fused.graph.initializer)
    assert {opset.domain for opset in fused.opset_import} == {"", "com.microsoft"}
    assert fused.ByteSize() < 1.2 * quantized.ByteSize()  # no table of positions
    found = []
    for name, proto in (("plain.onnx", quantized), ("fused.onnx", fused)):
        onnx.save(write_metadata(copied(proto), metadata), tmp_path / name)
        found.append(log_probs_of(run_in_chunks(Model(tmp_path / name), waveform[: 48 * 640], 16)))
    np.testing.assert_array_equal(*found)


def test_int8_weights_cannot_overflow_16_bits(int8_path: Path) -> None:
    """Two products of an unsigned activation and a weight are added in 16 bits by x86 processors without VNNI."""
    weights = [
        numpy_helper.to_array(tensor).astype(int)
        for tensor in onnx.load(int8_path).graph.initializer
        if tensor.name.endswith("_quantized")
    ]
    assert len(weights) > 10
    pairs = [np.abs(weight[: len(weight) // 2 * 2]).reshape(-1, 2, weight.shape[1]).sum(1) for weight in weights]
    assert all(100 < pair.max() <= LARGEST_PAIR for pair in pairs)
    assert 255 * LARGEST_PAIR < 2**15


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-9, 9, width=32)))
def test_weight_scales_keep_every_pair_in_16_bits(weight: np.ndarray) -> None:
    levels = np.abs(np.round(weight / weight_scale(weight)))
    padded = np.pad(levels, ((0, len(levels) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    assert padded.sum(1).max() <= LARGEST_PAIR


def test_int8_quantises_before_it_gathers(float_proto: onnx.ModelProto) -> None:
    nodes = {output: node for node in quantize(float_proto).graph.node for output in node.output}
    matmul = next(node for node in nodes.values() if node.name == "subsampling.second_quant")
    chain, tensor = [], matmul.input[0]
    while not chain or chain[-1] != "DynamicQuantizeLinear":
        chain.append(nodes[tensor].op_type)
        tensor = nodes[tensor].input[0]
    assert "Gather" in chain


def test_kept_layers_stay_float(float_proto: onnx.ModelProto) -> None:
    quantized = quantize(float_proto, ["head", "layers.0.feed_forward1.linear2"])
    floats = {node.name for node in quantized.graph.node if node.op_type == "MatMul"}
    assert {"head", "layers.0.feed_forward1.linear2"} <= floats
    with pytest.raises(ValueError, match="keep_float must be names of MatMul nodes, got \\['tail'\\]"):
        quantize(float_proto, ["tail"])


def test_float16_halves_the_file(float_proto: onnx.ModelProto, float_path: Path, tmp_path: Path) -> None:
    onnx.save(store_as_float16(copied(float_proto)), tmp_path / "half.onnx")
    weights = sum(4 * int(np.prod(tensor.dims)) for tensor in float_proto.graph.initializer)
    assert (tmp_path / "half.onnx").stat().st_size < float_path.stat().st_size - 0.4 * weights


def test_full_context_model(tmp_path: Path, waveform: np.ndarray) -> None:
    checkpoint, path = tmp_path / "full.safetensors", tmp_path / "full.onnx"
    model = random_model("utterance")
    save_checkpoint(checkpoint, model, b"")
    assert cli.main([str(checkpoint), "-o", str(path)]) == 0
    exported = Model(path)
    assert not exported.info.streaming
    assert exported.state_shapes == {}
    wanted = model.log_probs(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))[0][0].numpy()
    found = log_probs_of(run_in_chunks(exported, padded(exported, waveform), None))[: len(wanted)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-3)


def test_sensitivities_find_the_layer_that_int8_damages(float_proto: onnx.ModelProto, waveform: np.ndarray) -> None:
    model, name = exported_model(random_model()), "layers.1.feed_forward1.linear1"
    model.layers[1].feed_forward1.norm.bias[1] = 300  # one input so large that it uses up the 255 levels ...
    model.layers[1].feed_forward1.linear1.weight[1] = 0  # ... and has no effect on the output
    before = model.state_dict()
    ranked = sensitivities(model, matmul_names(float_proto), [Recording(waveform[:32_000], None)])
    assert next(iter(ranked)) == name
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_simulated_int8_is_that_of_onnxruntime(
    float_proto: onnx.ModelProto, tmp_path: Path, waveform: np.ndarray
) -> None:
    """`sensitivities` ranks by a simulation, which must agree with the file."""
    names, model = matmul_names(float_proto), exported_model(random_model())
    metadata = describe(random_model(), Description("random"), "int8", "")
    audio = waveform[: 640 * 40]

    def run_file(kept: set[str]) -> torch.Tensor:
        onnx.save(write_metadata(quantize(float_proto, kept), metadata), tmp_path / "some.onnx")
        return torch.from_numpy(log_probs_of(run_in_chunks(Model(tmp_path / "some.onnx"), audio, None)))

    def run_torch() -> torch.Tensor:
        return model(torch.from_numpy(audio), *model.beginning())[3]

    # layers on which int8 has more effect than the storage in float16
    for name in ("subsampling.second", "layers.1.attention.projection", "head"):
        moved = run_file(set(names) - {name}) - run_file(set(names))
        with simulated_int8(model.get_submodule(name)):
            simulated = run_torch()
        simulated = simulated - run_torch()
        assert moved.norm() > 1e-3
        assert (moved - simulated).norm() < 0.5 * moved.norm()


def test_keep_float_stops_at_the_limit(
    float_proto: onnx.ModelProto, float_path: Path, metadata: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = ["head", "b", "c", "d", "e"]
    monkeypatch.setattr("lwasr_edge.export.sensitivity.sensitivities", lambda *_: dict.fromkeys(ranked, 1.0))
    losses = {0: 0.9, 1: 0.5, 2: 0.2, 4: 0.05}
    monkeypatch.setattr("lwasr_edge.export.sensitivity.wer_loss", lambda *args: losses[len(args[-1])])
    recordings = synthetic_recordings(16_000, n_recordings=1, duration_s=1)
    sets = [RecordingSet("one", [dataclasses.replace(one, text="word") for one in recordings])]
    model = exported_model(random_model())
    assert keep_float(model, float_proto, float_path, metadata, sets, 0.1) == ranked[:4]
    assert keep_float(model, float_proto, float_path, metadata, sets, 1.0) == []
    with pytest.raises(VerificationError, match="WER loss of int8 must be at most 0.01 %, got more with 4 of 5 linear"):
        keep_float(model, float_proto, float_path, metadata, sets, 0.01)
    with pytest.raises(VerificationError, match="one must have transcripts for --max-wer-loss, got none"):
        keep_float(model, float_proto, float_path, metadata, [RecordingSet("one", recordings)], 1.0)


def test_an_empty_text_among_others_is_an_empty_transcript(tmp_path: Path) -> None:
    manifest = write_test_manifest(tmp_path)
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    for texts in (["", *("word" for _ in entries[1:])], ["" for _ in entries]):
        lines = [json.dumps({**entry, "text": text}) for entry, text in zip(entries, texts, strict=True)]
        manifest.write_text("\n".join(lines))
        found = [recording.text for recording in read_recordings(manifest, 16_000)]
        assert found == (texts if any(texts) else [None for _ in entries])


def test_divergence_of_known_posteriors() -> None:
    sure, even = np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]])
    assert divergence(sure, sure).tolist() == [0]
    assert divergence(sure, even).tolist() == pytest.approx([0.75 * np.log(1.5) + 0.25 * np.log(0.5)])


def test_moved_spikes_and_silence_do_not_dominate_the_divergence() -> None:
    sure = np.array([-1e-3, np.log(1 - np.exp(-1e-3))])  # of the first, blank; reversed, of a token
    blank, token = sure, sure[::-1]
    spikes = np.array([blank, token] * 10)
    moved = np.array([token, blank] + [blank, token] * 9)  # one in ten
    assert divergence(spikes, moved).mean() > 0.5
    assert typical_divergence([(spikes, moved)], blank_id=0) == 0
    silence = np.array([blank] * 1000)
    wrong = np.array([blank, [-0.7, -0.7]] * 10)
    assert typical_divergence([(spikes, wrong), (silence, silence)], blank_id=0) > 0.1
    assert typical_divergence([(silence, silence)], blank_id=0) == 0


def test_the_limit_is_for_every_set() -> None:
    good = Agreement("librispeech-dev", 234, 0.99, 0.001, float_wer=15.95, wer=15.85)
    bad = Agreement("commonvoice-dev", 159, 0.99, 0.001, float_wer=24.45, wer=24.75)
    require_agreement([good], 0.1)
    require_agreement([good, bad], 0.4)
    with pytest.raises(
        VerificationError, match="commonvoice-dev: WER must be at most 0.1 % above the 24.45 % of float, got 24.75 %"
    ):
        require_agreement([good, bad], 0.1)
    with pytest.raises(VerificationError, match="must be at most 0.1 nats, got 0.780"):  # products that overflow
        require_agreement([Agreement("synthetic signals", 3, 0.94, 0.78, None, None)], 1.0)


@pytest.mark.slow
@pytest.mark.real_speech
def test_int8_of_a_trained_model_is_near_float(tmp_path: Path) -> None:
    """On real speech: with overflowing products, a frame in five diverges by 0.8 nats or more."""
    manifest = SHARED_SPEECH / "commonvoice-dev.jsonl"
    if not EN_TINY_CHECKPOINT.is_file() or not manifest.is_file():
        pytest.skip("no trained checkpoint or no real speech here")
    model, _ = load_checkpoint(EN_TINY_CHECKPOINT)
    metadata, proto = describe(model, Description("en-tiny"), "int8", ""), trace(exported_model(model))
    onnx.save(write_metadata(quantize(proto), metadata), tmp_path / "int8.onnx")
    onnx.save(write_metadata(proto, metadata), tmp_path / "float.onnx")
    some = [RecordingSet("some", read_recordings(manifest, 16_000, limit=12))]
    (found,) = agreements(tmp_path / "float.onnx", tmp_path / "int8.onnx", some)
    assert found.divergence < 0.02
    assert found.frames_alike > 0.98
    assert (tmp_path / "int8.onnx").stat().st_size < 1.02 * expected_file_bytes(model.config, "int8")


def refuse(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must fail in one line."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lwasr-export: error: ")
    assert error.count("\n") == 1
    return error


def write_nan(path: Path) -> None:
    model = random_model()
    model.head.weight[0, 0] = float("nan")
    save_checkpoint(path, model, b"")


def write_unknown_layer(path: Path) -> None:
    model = random_model()
    model.register_buffer("mystery", torch.zeros(1))
    save_checkpoint(path, model, b"")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such checkpoint"),
        (lambda path: path.write_bytes(b"RIFF....WAVE"), "not a readable safetensors file"),
        (write_nan, "head.weight holds NaN"),
        (write_unknown_layer, "mystery"),
    ],
)
def test_checkpoints_that_are_refused(
    write: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, folder = tmp_path / "bad.safetensors", tmp_path / "out"
    folder.mkdir()
    write(checkpoint)
    assert message in refuse([checkpoint, "-o", folder / "m.onnx"], capsys)
    assert list(folder.iterdir()) == []


def test_outputs_that_are_refused(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    existing = tmp_path / "there.onnx"
    existing.write_bytes(b"precious")
    assert "--force" in refuse([checkpoint, "-o", existing], capsys)
    assert "does not exist: create it first" in refuse([checkpoint, "-o", tmp_path / "nowhere" / "m.onnx"], capsys)
    assert ".onnx" in refuse([checkpoint, "-o", tmp_path / "model.bin"], capsys)
    assert "needs --int8" in refuse([checkpoint, "-o", tmp_path / "m.onnx", "--max-wer-loss", "0.1"], capsys)
    assert "output must not be an input" in refuse(
        [tmp_path / "." / ".." / tmp_path.name / "there.onnx", "-o", existing, "--force"], capsys
    )
    assert existing.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [existing]


def test_full_disk_leaves_nothing(
    checkpoint: Path,
    float_proto: onnx.ModelProto,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pipeline, "trace", lambda _: float_proto)
    monkeypatch.setattr(pipeline.onnx, "save", full)
    assert "No space left on device" in refuse([checkpoint, "-o", tmp_path / "m.onnx"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_results_is_not_kept(
    checkpoint: Path,
    float_proto: onnx.ModelProto,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proto = copied(float_proto)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "layers.0.conv.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
    monkeypatch.setattr(pipeline, "trace", lambda _: proto)
    old = tmp_path / "m.onnx"
    old.write_bytes(b"the old one")
    assert "log-probabilities of the exported graph must be those of torch" in refuse(
        [checkpoint, "-o", old, "--force"], capsys
    )
    assert old.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [old]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(args: object) -> None:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(cli, "run", missing)
    assert cli.main(["checkpoint.safetensors", "-o", "model.onnx"]) == 2
    assert capsys.readouterr().err == "lwasr-export: error: onnx is not installed: pip install '.[export]'\n"
