"""Variants of int8 quantisation of a model's linear layers, compared on this processor.

    python -m benchmarks.speed.int8 CHECKPOINT --manifest commonvoice-dev.jsonl --calibrate commonvoice-train.jsonl

Dynamic quantisation measures the range of each activation at run time; static quantisation (QDQ) calibrates it.
"pairs": the method of the exporter (`lwasr_edge.export.quantize`). Divergence is between the posteriors of the int8 and
the float file, in nats: the 80th percentile over frames with a token. Times are relative to the float file: medians
over rounds in which all files alternate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from benchmarks.page.markdown import provenance_line, table
from benchmarks.page.provenance import write_json
from lwasr_edge.export.graph import quiet, trace
from lwasr_edge.export.metadata import Description, describe, write_metadata
from lwasr_edge.export.quantize import (
    matmul_names,
    position_scales,
    quantize,
    quantize_before_moving,
    scales_of,
    store_as_int8,
)
from lwasr_edge.export.streaming import exported_model
from lwasr_edge.export.verify import Recording, RecordingSet, agreements, read_recordings
from lwasr_edge.model import Model
from lwasr_edge.model_info import LOOK_AHEAD
from lwasr_edge.training.model.checkpoint import load_checkpoint

CALIBRATION_RECORDINGS = 24
CHUNKS = (24, 200)  # frames: a stream's (hop and right context) and a file's
Write = Callable[[onnx.ModelProto, Path], None]


class Chunks(CalibrationDataReader):
    """Chunks of recordings with the states of a stream, as calibration data."""

    def __init__(self, float_path: Path, recordings: list[Recording], chunk_frames: int = 50) -> None:
        self.inputs = self.all_inputs(Model(float_path), recordings, chunk_frames)

    @staticmethod
    def all_inputs(model: Model, recordings: list[Recording], chunk_frames: int) -> Iterator[dict[str, np.ndarray]]:
        """Inputs of the graph, chunk by chunk."""
        n_samples = chunk_frames * model.info.samples_per_frame
        for recording in recordings:
            state = model.initial_state()
            for start in range(0, len(recording.waveform) - n_samples + 1, n_samples):
                waveform = recording.waveform[start : start + n_samples]
                yield {"waveform": waveform, LOOK_AHEAD: np.zeros(1, np.int64), **state}
                state = model.step(waveform, state).state

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next chunk; None after the last."""
        return next(self.inputs, None)


def dynamic(**options: object) -> Write:
    """`quantize_dynamic` with these options, and the exporter's order of Gather and quantisation."""

    def write(proto: onnx.ModelProto, target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, quiet():
            source = Path(folder, "float.onnx")
            onnx.save(proto, source)
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=matmul_names(proto),
                per_channel=True,
                extra_options={"MatMulConstBOnly": True},
                **options,
            )
        quantized = onnx.load(target)
        del quantized.graph.value_info[:]
        quantize_before_moving(quantized)
        store_as_int8(quantized, position_scales(quantized))
        onnx.save(quantized, target)

    return write


def static(float_path: Path, recordings: list[Recording], method: CalibrationMethod, reduce_range: bool) -> Write:
    """`quantize_static` to QDQ, ranges of activations from ``recordings``."""

    def write(proto: onnx.ModelProto, target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, quiet():
            source = Path(folder, "float.onnx")
            onnx.save(proto, source)
            quantize_static(
                source,
                target,
                Chunks(float_path, recordings),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=matmul_names(proto),
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=method,
                extra_options={"MatMulConstBOnly": True, "CalibPercentile": 99.99, "CalibMovingAverage": False},
            )
        quantized = onnx.load(target)
        store_as_int8(quantized, position_scales(quantized))
        onnx.save(quantized, target)

    return write


def seconds(models: dict[str, Model], n_frames: int, rounds: int = 15) -> dict[str, float]:
    """Median time of one chunk in each model; models alternate."""
    samples_per_frame = next(iter(models.values())).info.samples_per_frame
    waveform = np.random.default_rng(0).normal(0, 0.05, n_frames * samples_per_frame).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 2):
        for name, model in models.items():
            began_s = time.perf_counter()
            model.step(waveform, model.initial_state())
            if turn > 1:
                times[name].append(time.perf_counter() - began_s)
    return {name: float(np.median(values)) for name, values in times.items()}


def section(figures: dict) -> str:
    """Markdown of the figures."""
    rows = [
        [
            row["name"],
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['wer']:.2f}",
            f"{row['divergence']:.4f}",
            *(f"{time:.2f}" for time in row["time"].values()),
        ]
        for row in figures["ways"]
    ]
    times = [f"time, {n_frames} frames" for n_frames in figures["ways"][0]["time"]]
    header = ["linear layers", "MB", f"WER on {figures['set']}", "divergence", *times]
    return f"{table(header, rows)}\n\nTimes are relative to the float file. {provenance_line(figures)}\n"


def main() -> None:
    """Write and measure every file, print the table, and write the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--manifest", type=Path, required=True, help="recordings to measure on")
    parser.add_argument("--calibrate", type=Path, required=True, help="recordings to calibrate static ranges on")
    parser.add_argument("--limit", type=int, help="recordings to measure on (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    model, _ = load_checkpoint(args.checkpoint)
    exported = exported_model(model)
    proto, metadata, scales = trace(exported), describe(model, Description("int8"), "int8", ""), scales_of(exported)
    rate = model.config.frontend.sample_rate
    measured_on = RecordingSet(args.manifest.stem, read_recordings(args.manifest, rate, args.limit))
    with tempfile.TemporaryDirectory() as folder:
        float_path = Path(folder, "float.onnx")
        onnx.save(write_metadata(proto, metadata), float_path)
        calibration = read_recordings(args.calibrate, rate, CALIBRATION_RECORDINGS)
        percentile, min_max = CalibrationMethod.Percentile, CalibrationMethod.MinMax
        variants: dict[str, Write] = {
            "float": lambda proto, target: onnx.save(proto, target),
            "dynamic, QAT scales": lambda proto, target: onnx.save(quantize(proto, scales=scales), target),
            "dynamic, pairs": lambda proto, target: onnx.save(quantize(proto), target),
            "dynamic, 7 bits": dynamic(weight_type=QuantType.QInt8, reduce_range=True),
            "dynamic, 8 bits": dynamic(weight_type=QuantType.QInt8),
            "dynamic, 8 bits unsigned": dynamic(weight_type=QuantType.QUInt8),
            "static, 7 bits, min/max": static(float_path, calibration, min_max, True),
            "static, 7 bits, 99.99 %": static(float_path, calibration, percentile, True),
            "static, 8 bits, min/max": static(float_path, calibration, min_max, False),
        }
        if not scales:
            del variants["dynamic, QAT scales"]
        rows, models = [], {}
        for number, (name, write) in enumerate(variants.items()):
            path = Path(folder, f"{number}.onnx")
            write(proto, path)
            onnx.save(write_metadata(onnx.load(path), metadata), path)
            models[name] = Model(path)
            (found,) = agreements(float_path, path, [measured_on])
            rows.append({"name": name, "bytes": path.stat().st_size, "wer": found.wer, "divergence": found.divergence})
            print(rows[-1], flush=True)
        for row in rows:
            row["time"] = {}
        for n_frames in CHUNKS:
            times = seconds(models, n_frames)
            for row in rows:
                row["time"][str(n_frames)] = times[row["name"]] / times["float"]
    print(section(write_json(args.json, {"set": measured_on.name, "ways": rows})))


if __name__ == "__main__":
    main()
