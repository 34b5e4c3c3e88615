"""The figures of a benchmark, and their JSON (docs/bench.md describes every field)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lwasr_edge.bench.board import Board, Condition
from lwasr_edge.bench.schema import REPORT, fault_of
from lwasr_edge.errors import OptionError
from lwasr_edge.files import read_regular, write_file
from lwasr_edge.validate import shown

FORMAT = "lwasr-bench"
MAX_REPORT_BYTES = 1 << 26
SCHEMA_VERSION = 2  # raised when a field changes its meaning or is removed; new fields do not raise it


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one figure."""

    median: float
    p95: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        median, p95 = np.percentile(values, [50, 95])
        return cls(float(median), float(p95), tuple(values))


@dataclass(frozen=True)
class Latency:
    """Many latencies of one kind, in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int

    @classmethod
    def of_seconds(cls, seconds: Sequence[float]) -> Latency | None:
        """Summarise; None without values, as for recordings shorter than a hop."""
        if not seconds:
            return None
        p50, p95, p99, largest = (float(value) for value in np.percentile(seconds, [50, 95, 99, 100]) * 1000)
        return cls(p50, p95, p99, largest, len(seconds))


@dataclass(frozen=True)
class Memory:
    """Resident bytes of the measuring process; None where the system does not report them."""

    loaded: int | None  # after loading the model
    warm: int | None  # after the first recording
    steady: int | None  # at the end
    peak: int | None  # maximum


@dataclass(frozen=True)
class Accuracy:
    """Word errors against the manifest's texts."""

    wer: float  # fraction
    substitutions: int
    deletions: int
    insertions: int
    words: int


@dataclass(frozen=True)
class Startup:
    """From the start of a process to the text of a recording, in seconds."""

    python: Spread  # until the interpreter runs the first line of this package
    imports: Spread  # numpy, onnxruntime, soundfile, soxr and this package
    load: Spread  # the model
    first_text: Spread  # the recording
    total: Spread


@dataclass(frozen=True)
class Measurement:
    """One model in one mode and number of threads, in a process of its own."""

    mode: str  # "file" or "stream"
    hop_ms: float | None  # of a stream: how often the newest audio is recognised
    right_context_ms: float | None  # of a stream
    threads: int
    rtf: Spread  # processing time / audio time, one value per run over the recordings
    cpu_s_per_audio_s: float  # of all threads
    idle_cpu_s_per_audio_s: dict[str, float] | None  # of a stream in silence and in steady noise
    hop_latency_ms: Latency | None  # from the end of a hop to its events
    final_latency_ms: Latency | None  # from the end of a recording to the return of `flush`
    memory: Memory
    accuracy: Accuracy | None  # with a manifest
    text: str | None  # of the first recording, without a manifest


@dataclass(frozen=True)
class ModelResult:
    """All figures of one model."""

    name: str
    file: str  # without its directory, which is private when a report is published
    sha256: str
    bytes: int
    precision: str
    layers: int | None
    parameters: int | None
    multiplications: tuple[int, int] | None  # MACs per second of audio: of subsampling and head, and of the layers
    startup: Startup
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Report:
    """One run of `lwasr bench`."""

    created: str  # ISO 8601, UTC
    command: str
    versions: dict[str, str]  # of lwasr-edge, onnxruntime, numpy, libsndfile
    board: Board
    before: Condition
    after: Condition
    audio: dict[str, Any]  # source, recordings, seconds
    repeat: int  # runs over the recordings
    models: tuple[ModelResult, ...]

    def to_json(self) -> str:
        """The report as JSON."""
        fields = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def write_report(report: Report, path: Path) -> None:
    """Write the JSON.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, report.to_json())


def read_report(path: Path) -> dict[str, Any]:
    """Read a report as plain JSON; what `comparison_text` needs is checked.

    Raises:
        OptionError: it cannot be read, is not a report, is damaged, or was written by another version.
    """
    expected = f"{path} must be a file written by `lwasr bench --json`"
    try:
        report = json.loads(read_regular(path, MAX_REPORT_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{expected}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise OptionError(f"{expected}, got other JSON")
    if report.get("schema_version") != SCHEMA_VERSION:
        raise OptionError(
            f"{path} must have schema version {SCHEMA_VERSION}, got {shown(report.get('schema_version'))}: compare "
            "with the version that wrote it"
        )
    fault = fault_of(report, REPORT)
    if fault is not None:
        raise OptionError(f"{path} is damaged: {fault}: measure again with `lwasr bench --json`")
    return report
