"""The report of an export: printed, and stored as JSON beside the model file."""

from __future__ import annotations

import collections
import dataclasses
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnxruntime as ort

from lwasr_edge.export.run_model import real_time_factor
from lwasr_edge.export.verify import Agreement, Parity
from lwasr_edge.model import Model


@dataclass(frozen=True)
class Graph:
    """Operator counts of a file."""

    nodes: int  # in the file
    nodes_at_load: int  # after onnxruntime's optimisation, with a pinned chunk of 16 frames
    fused: dict[str, int]  # fused operators of onnxruntime, by type


@dataclass(frozen=True)
class Report:
    """Of `--format onnx` and `--format ort`."""

    model: str
    precision: str
    parameters: int
    bytes: int  # of the file
    unpacked_bytes: int  # equal to `bytes` without compression
    opset: int
    ir_version: int
    graph: Graph
    parity: list[Parity]
    agreement: list[Agreement]  # of each set of recordings; none for float32
    kept_float: list[str] = field(default_factory=list)  # MatMul nodes that int8 does not cover
    rtf: dict[str, float] = field(default_factory=dict)  # chunk -> real-time factor on one thread of this machine
    rounded: bool = False  # QAT weights, which compress well; the name in reports
    format: str = "onnx"  # or "ort": then `bytes` is of the ORT file, `graph` and `rtf` of the ONNX file

    def to_dict(self) -> dict[str, object]:
        """The report as values that JSON can hold."""
        return dataclasses.asdict(self) | {"bytes_per_parameter": self.bytes / self.parameters}

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {self.precision}, {self.bytes / 1e6:.2f} MB, "
            f"{self.bytes / self.parameters:.3f} bytes per parameter"
            + (f" ({self.unpacked_bytes / 1e6:.2f} MB unpacked)" if self.unpacked_bytes != self.bytes else ""),
            f"graph: {self.graph.nodes} nodes, {self.graph.nodes_at_load} after loading; fused by onnxruntime: "
            + (", ".join(f"{count} {name}" for name, count in sorted(self.graph.fused.items())) or "none"),
        ]
        for parity in self.parity:
            chunk = "full context" if parity.chunk_frames is None else f"chunks of {parity.chunk_frames}"
            lines.append(
                f"torch against ONNX, {chunk}: {parity.onnx:.1e} (torch in float32: {parity.torch_float32:.1e})"
            )
        lines += _agreement_lines(self.agreement)
        if self.kept_float:
            lines.append("kept in float: " + ", ".join(self.kept_float))
        lines += [f"real-time factor, {chunk}: {factor:.4f}" for chunk, factor in self.rtf.items()]
        is_plain = self.format == "onnx" and self.bytes == self.unpacked_bytes
        if self.rounded and self.precision == "int8" and is_plain:
            lines.append("QAT weights compress: MODEL.onnx.gz, which the runtime reads too, is a third smaller")
        return "\n".join(lines)


@dataclass(frozen=True)
class SherpaReport:
    """Of `--format sherpa-onnx`."""

    model: str
    precision: str
    normalize_type: str  # of the features, by sherpa-onnx: "per_feature", or "" for none
    parameters: int
    bytes: int
    parity: float  # largest difference of log-probabilities, torch against float ONNX
    agreement: list[Agreement]  # of each set of recordings; none for float32

    def to_dict(self) -> dict[str, object]:
        """The report as values that JSON can hold."""
        return dataclasses.asdict(self) | {"format": "sherpa-onnx"}

    def __str__(self) -> str:
        lines = [
            f"{self.model} for sherpa-onnx (OfflineRecognizer.from_nemo_ctc): {self.precision}, "
            f"{self.bytes / 1e6:.2f} MB, {self.bytes / self.parameters:.3f} bytes per parameter",
            f"torch against ONNX: {self.parity:.1e}",
            *_agreement_lines(self.agreement),
        ]
        return "\n".join(lines)


def _agreement_lines(found: list[Agreement]) -> list[str]:
    lines = []
    for one in found:
        lines.append(
            f"{one.name}, {one.recordings} recordings: same best token as float in {100 * one.frames_alike:.2f} % of "
            f"the frames, 80th percentile of the divergence on tokens {one.divergence:.5f} nats"
            + ("" if one.wer is None else f", WER {one.wer:.2f} %, float {one.float_wer:.2f} %")
        )
    return lines


def inspect_graph(proto: onnx.ModelProto, samples_per_frame: int) -> Graph:
    """Count operators before and after onnxruntime's optimisation."""
    with tempfile.TemporaryDirectory(prefix="lwasr-export-") as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.add_free_dimension_override_by_name("samples", 16 * samples_per_frame)
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath)
    domains = ("com.microsoft", "com.microsoft.nchwc")
    fused = collections.Counter(node.op_type for node in optimised.graph.node if node.domain in domains)
    return Graph(len(proto.graph.node), len(optimised.graph.node), dict(fused))


def measure_speed(path: Path) -> dict[str, float]:
    """Real-time factors with the default chunk of streams and of files."""
    info = Model(path).info
    return {
        f"{frames} frames": real_time_factor(path, frames)
        for frames in (([16] if info.streaming else []) + [info.max_chunk_frames])
    }
