"""Distance of a model's run time from its arithmetic limit, node by node.

    python -m benchmarks.speed.arithmetic [--model NAME|PATH ...] [--hop-ms 320] [--chunk-ms 2560] [--json OUT]

onnxruntime's profiler reports time and shapes of every node; the shapes give the multiply-accumulates (MACs) of matrix
multiplications and convolutions. The limit is the time for these MACs at the peak rate of this core: that of large
matrices (512 x 512 x 512) in onnxruntime, measured separately for float32 and 8-bit integers. The rest is small shapes,
other operators, and onnxruntime's work between nodes. One thread, with the session options of the runtime.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge.audio.reader import load_audio
from lwasr_edge.bench.recordings import CLIP
from lwasr_edge.chunking import STREAM_HOP_MS, Chunking
from lwasr_edge.hub.catalog import find_model
from lwasr_edge.model import Model, source_of
from lwasr_edge.model_info import LOOK_AHEAD

INTEGER_MATMULS = {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"}
FLOAT_MATMULS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
CONVOLUTIONS = {"Conv", "FusedConv", "ConvInteger", "QLinearConv", "NhwcFusedConv"}
GEMM_SIZE = 512
RUNS = 8  # over the packaged recording, the first of which is a warm-up


@dataclass
class Work:
    """Time and MACs of one node, or of all nodes of one operator, over all profiled chunks."""

    seconds: float = 0.0
    mac: float = 0.0
    calls: int = 0

    def add(self, other: Work) -> None:
        """Add the work of another node."""
        self.seconds += other.seconds
        self.mac += other.mac
        self.calls += other.calls


def options() -> ort.SessionOptions:
    """As in lwasr_edge/model.py, one thread."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = chosen.inter_op_num_threads = 1
    chosen.log_severity_level = 4
    chosen.enable_cpu_mem_arena = chosen.enable_mem_pattern = False
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


def gemm_rate(operator: str) -> float:
    """MACs per second of one large matrix multiplication on one core, by "MatMul" (float32) or "MatMulInteger"."""
    rng = np.random.default_rng(0)
    is_float = operator == "MatMul"
    a_type, b_type = (np.float32, np.float32) if is_float else (np.uint8, np.int8)
    out_type = TensorProto.FLOAT if is_float else TensorProto.INT32
    a, b = (rng.integers(0, 100, (GEMM_SIZE, GEMM_SIZE)).astype(dtype) for dtype in (a_type, b_type))
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "gemm",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(np.dtype(a_type)), a.shape)],
        [helper.make_tensor_value_info("c", out_type, a.shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), options(), providers=["CPUExecutionProvider"])
    times_s = []
    for _ in range(20):
        began_s = time.perf_counter()
        session.run(None, {"a": a})
        times_s.append(time.perf_counter() - began_s)
    return GEMM_SIZE**3 / min(times_s)  # the fastest run: the limit is that of an undisturbed core


def macs_of(operator: str, inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """MACs of one node from its input and output shapes; 0 for other operators than matmuls and convolutions."""
    if operator in INTEGER_MATMULS | FLOAT_MATMULS:
        return math.prod(outputs[0]) * inputs[0][-1]
    if operator in CONVOLUTIONS:
        return math.prod(outputs[0]) * math.prod(inputs[1][1:])
    return 0


def profile(
    path: Path, chunk_frames: int, hop_frames: int, waveform: np.ndarray
) -> tuple[dict[tuple[str, str], Work], float, float]:
    """Run the recording chunk by chunk, as the live pass of a stream or the full-context pass does.

    Args:
        chunk_frames: frames of a chunk.
        hop_frames: frames from one chunk to the next; the rest is look-ahead.

    Returns:
        Work by (operator, node); seconds of audio profiled; real-time factor without the profiler.
    """
    model = Model(path)
    size, hop = (frames * model.info.samples_per_frame for frames in (chunk_frames, hop_frames))
    chunks = [waveform[start : start + size] for start in range(0, len(waveform) - size + 1, hop)]
    if not chunks:
        chunks = [np.pad(waveform, (0, size - len(waveform)))]
    profiled = options()
    profiled.enable_profiling = True
    audio_s = len(chunks) * hop / model.info.sample_rate
    with tempfile.TemporaryDirectory() as folder:
        profiled.profile_file_prefix = str(Path(folder, "profile"))
        session = ort.InferenceSession(source_of(path), profiled, providers=["CPUExecutionProvider"])
        look_ahead = chunk_frames - hop_frames
        more = {LOOK_AHEAD: np.array([look_ahead], np.int64)} if model.can_look_ahead else {}
        names = [output.name for output in session.get_outputs() if output.name != "log_probs"]
        for _ in range(RUNS):
            state = model.initial_state()
            for chunk in chunks:
                outputs = dict(zip(names, session.run(names, {"waveform": chunk, **state, **more}), strict=True))
                state = {name: outputs[name.replace("state_", "next_", 1)] for name in state}
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times_s = []
    for _ in range(RUNS):
        state = model.initial_state()
        began_s = time.perf_counter()
        for chunk in chunks:
            state = model.step(chunk, state, look_ahead=look_ahead).state
        times_s.append(time.perf_counter() - began_s)
    return work_of(events, calls_to_skip=len(chunks)), audio_s * (RUNS - 1), float(np.median(times_s[1:])) / audio_s


def work_of(events: list[dict], calls_to_skip: int) -> dict[tuple[str, str], Work]:
    """Work by (operator, node) from the profiler's events, without the first calls of each node."""
    seen: dict[str, int] = defaultdict(int)
    work: dict[tuple[str, str], Work] = defaultdict(Work)
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        name, arguments = event["name"].removesuffix("_kernel_time"), event["args"]
        seen[name] += 1
        if seen[name] <= calls_to_skip:
            continue
        shapes = [
            [shape for typed in arguments[key] for shape in typed.values()]
            for key in ("input_type_shape", "output_type_shape")
        ]
        operator = arguments["op_name"]
        work[operator, name].add(Work(event["dur"] * 1e-6, macs_of(operator, *shapes), 1))
    return work


def chunkings_of(path: Path, hops_ms: list[float], chunks_ms: list[float]) -> list[Chunking]:
    """The model calls of streams with some hops, and of files with some chunks."""
    model = Model(path)
    info, can_look_ahead = model.info, model.can_look_ahead
    streams = [Chunking.of_stream(info.frame_ms, hop_ms, can_look_ahead=can_look_ahead) for hop_ms in hops_ms]
    return streams + [Chunking.for_files(info, chunk_ms, can_look_ahead=can_look_ahead) for chunk_ms in chunks_ms]


def figures_of(path: Path, chunking: Chunking, rates: dict[str, float], waveform: np.ndarray) -> dict:
    """The figures of one model with chunks of one size, times in ms per audio second."""
    model = Model(path)
    work, audio_s, measured_rtf = profile(path, chunking.chunk_frames, chunking.hop_frames, waveform)
    operators: dict[str, Work] = defaultdict(Work)
    limit_s = 0.0
    for (operator, _), done in work.items():
        operators[operator].add(done)
        limit_s += done.mac / rates["int8" if operator in INTEGER_MATMULS else "float32"]
    rows = sorted(operators.items(), key=lambda item: -item[1].seconds)
    nodes = sorted(work.items(), key=lambda item: -item[1].seconds)[:15]

    def row(name: str, operator: str, done: Work) -> dict:
        rate = rates["int8" if operator in INTEGER_MATMULS else "float32"]
        return {
            "name": name,
            "operator": operator,
            "calls_per_s": done.calls / audio_s,
            "ms_per_s": 1e3 * done.seconds / audio_s,
            "mmac_per_s": 1e-6 * done.mac / audio_s,
            "of_limit": done.mac / rate / done.seconds if done.seconds else 0.0,
        }

    return {
        "model": model.info.name,
        "precision": model.info.precision,
        "chunk_ms": chunking.chunk_frames * model.info.frame_ms,
        "hop_ms": chunking.hop_frames * model.info.frame_ms,
        "rtf": measured_rtf,
        "limit_rtf": limit_s / audio_s,
        "in_nodes_rtf": sum(done.seconds for done in operators.values()) / audio_s,
        "mmac_per_s": {
            kind: 1e-6
            * sum(w.mac for op, w in operators.items() if (op in INTEGER_MATMULS) == (kind == "int8"))
            / audio_s
            for kind in ("int8", "float32")
        },
        "operators": [row(operator, operator, done) for operator, done in rows],
        "nodes": [row(name, operator, done) for (operator, name), done in nodes],
    }


def section(figures: dict) -> str:
    """The figures as Markdown."""
    rates = figures["gmac_per_s"]
    lines = [
        f"One core reaches {rates['float32']:.1f} GMAC/s in float32 and {rates['int8']:.1f} GMAC/s in uint8 x int8 "
        f"({GEMM_SIZE} x {GEMM_SIZE} x {GEMM_SIZE}, onnxruntime). {provenance_line(figures)}",
        "",
        table(
            (
                "model",
                "chunk / hop ms",
                "MMAC/s int8",
                "MMAC/s float32",
                "limit RTF",
                "node time RTF",
                "RTF",
                "RTF / limit",
            ),
            [
                (
                    f"{run['model']} {run['precision']}",
                    f"{run['chunk_ms']:g} / {run['hop_ms']:g}",
                    f"{run['mmac_per_s']['int8']:.0f}",
                    f"{run['mmac_per_s']['float32']:.0f}",
                    f"{run['limit_rtf']:.5f}",
                    f"{run['in_nodes_rtf']:.5f}",
                    f"{run['rtf']:.5f}",
                    f"{run['rtf'] / run['limit_rtf']:.1f}",
                )
                for run in figures["runs"]
            ],
        ),
    ]
    for run in figures["runs"][:1]:
        lines += [
            "",
            f"{run['model']} {run['precision']} at {run['chunk_ms']:g} ms by operator, and the slowest nodes:",
        ]
        for key, count in (("operators", 12), ("nodes", 12)):
            rows = [
                (
                    f"`{item['name']}`",
                    f"{item['calls_per_s']:.1f}",
                    f"{item['ms_per_s']:.3f}",
                    f"{0.1 * item['ms_per_s'] / run['in_nodes_rtf']:.1f} %",
                    f"{item['mmac_per_s']:.1f}" if item["mmac_per_s"] else "",
                    f"{100 * item['of_limit']:.0f} %" if item["mmac_per_s"] else "",
                )
                for item in run[key][:count]
            ]
            head = (key[:-1], "calls per s", "ms per audio s", "share", "MMAC per audio s", "of peak")
            lines += ["", table(head, rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the section, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="name or path; may be repeated (default: the default model)")
    parser.add_argument("--hop-ms", type=float, action="append", help="of a stream; may be repeated (default: 320)")
    parser.add_argument("--chunk-ms", type=float, action="append", help="of files; may be repeated (default: none)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    rates = {"float32": gemm_rate("MatMul"), "int8": gemm_rate("MatMulInteger")}
    waveform = load_audio(CLIP)
    runs = [
        figures_of(path, chunking, rates, waveform)
        for path in map(find_model, args.model or [None])
        for chunking in chunkings_of(path, args.hop_ms or [STREAM_HOP_MS], args.chunk_ms or [])
    ]
    figures = {"gmac_per_s": {kind: rate * 1e-9 for kind, rate in rates.items()}, "runs": runs}
    print(section(write_json(args.json, figures)))


if __name__ == "__main__":
    main()
