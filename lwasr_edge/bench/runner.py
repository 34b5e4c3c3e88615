"""Run each measurement in a process of its own, and collect the figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lwasr_edge import __version__, errors
from lwasr_edge.bench.board import read_board, read_condition
from lwasr_edge.bench.recordings import CLIP, Recordings
from lwasr_edge.bench.results import Accuracy, Latency, Measurement, Memory, ModelResult, Report, Spread, Startup
from lwasr_edge.bench.settings import Settings
from lwasr_edge.files import sha256_of, split_lines
from lwasr_edge.hub.packaged import is_frozen
from lwasr_edge.wer import word_errors

Show = Callable[[str], None]  # called with what is being measured


class MeasurementError(errors.LwasrError, RuntimeError):
    """The measuring process ended without figures."""


def run_benchmark(
    models: Sequence[Path], recordings: Recordings, settings: Settings, command: str, show: Show
) -> Report:
    """Measure every model; models alternate, so that a machine that slows down does not affect only one of them.

    Raises:
        LwasrError: a model, a recording or a setting that cannot be used.
        MeasurementError: a measuring process died.
    """
    before = read_condition()
    startups = [_measure_startup(path, settings, show) for path in models]
    for _, info, _ in startups:
        _check_hops(info, settings)
    measured: list[list[Measurement]] = [[] for _ in models]
    audio_s = 0.0
    for threads in settings.threads:
        for hop_ms in (None, *settings.hop_ms):
            for path, (_, info, _), results in zip(models, startups, measured, strict=True):
                if hop_ms is not None and not info["streaming"]:
                    continue
                show(f"{info['name']}: {_mode_name(hop_ms)}, {threads or 'all'} thread{'s' * (threads != 1)}")
                figures = _measure(path, recordings, threads, hop_ms, settings)
                audio_s = figures["audio_s"]
                results.append(_measurement(figures, recordings, threads, hop_ms))
    versions = {"lwasr-edge": __version__, "numpy": np.__version__}
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        versions={**versions, **startups[0][2]},
        board=read_board(),
        before=before,
        after=read_condition(),
        audio={"source": recordings.source, "recordings": len(recordings.items), "seconds": round(audio_s, 3)},
        repeat=settings.repeat,
        models=tuple(
            ModelResult(
                name=info["name"],
                file=path.name,
                sha256=sha256_of(path),
                bytes=path.stat().st_size,
                precision=info["precision"],
                layers=info["layers"],
                parameters=info["parameters"],
                multiplications=info["multiplications"],
                startup=startup,
                measurements=tuple(results),
            )
            for path, (startup, info, _), results in zip(models, startups, measured, strict=True)
        ),
    )


def run_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a fresh process.

    Raises:
        LwasrError: the error of the worker, of the same kind.
        MeasurementError: the worker died.
    """
    if is_frozen():
        raise errors.OptionError(
            f"bench must run in Python, got the program {sys.executable}: run it where lwasr-edge is installed"
        )
    # The worker imports onnxruntime before model.py sets this variable, which turns its telemetry off. The path is for
    # a package in a zip file.
    environment = {"ORT_DISABLE_TELEMETRY": "1", **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-m", "lwasr_edge.bench.worker"],
        input=json.dumps({**job, "spawned_at_s": time.monotonic()}),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if ended.returncode != 0:
        raise MeasurementError(f"the process that measured {job['model']} ({job['mode']}) {_why_it_died(ended)}")
    figures = json.loads(split_lines(ended.stdout)[-1])
    if "error" in figures:
        raise getattr(errors, figures["kind"])(figures["error"])
    return figures


def _measure_startup(path: Path, settings: Settings, show: Show) -> tuple[Startup, dict[str, Any], dict[str, str]]:
    """Start-up times with the packaged recording, metadata of the model, and versions of libraries."""
    show(f"{path}: start-up")
    job = {
        "mode": "startup",
        "model": str(path),
        "threads": settings.threads[0],
        "recordings": [str(CLIP)],
        "greedy": settings.greedy,
    }
    run_worker(job)  # fills the file cache of the system: the figures are for a warm disk
    runs = [run_worker(job) for _ in range(settings.startups)]
    steps = ("python_s", "import_s", "load_s", "first_text_s", "total_s")
    startup = Startup(*(Spread.of([run[step] for run in runs]) for step in steps))
    return startup, runs[0]["info"], {name: runs[0][name] for name in ("onnxruntime", "libsndfile")}


def _measure(
    path: Path, recordings: Recordings, threads: int, hop_ms: float | None, settings: Settings
) -> dict[str, Any]:
    job = {
        "mode": "file" if hop_ms is None else "stream",
        "model": str(path),
        "threads": threads,
        "hop_ms": hop_ms,
        "recordings": [item.path for item in recordings.items],
        "right_context_ms": settings.right_context_ms,
        "repeat": settings.repeat,
        "greedy": settings.greedy,
    }
    return run_worker(job)


def _measurement(figures: dict[str, Any], recordings: Recordings, threads: int, hop_ms: float | None) -> Measurement:
    passes_s, audio_s, texts = figures["passes_s"], figures["audio_s"], figures["texts"]
    accuracy = None
    if recordings.has_texts:
        counted = word_errors([item.text or "" for item in recordings.items], texts)
        accuracy = Accuracy(counted.wer, **asdict(counted))
    return Measurement(
        mode="file" if hop_ms is None else "stream",
        hop_ms=figures.get("hop_ms"),
        right_context_ms=figures.get("right_context_ms"),
        idle_cpu_s_per_audio_s=figures.get("idle"),
        threads=threads,
        rtf=Spread.of([seconds / audio_s for seconds in passes_s]),
        cpu_s_per_audio_s=figures["cpu_s"] / (audio_s * len(passes_s)),
        hop_latency_ms=Latency.of_seconds(figures.get("hop_latency_s", [])),
        final_latency_ms=Latency.of_seconds(figures.get("final_latency_s", [])),
        memory=Memory(**figures["memory"]),
        accuracy=accuracy,
        text=None if recordings.has_texts else texts[0],
    )


def _check_hops(info: dict[str, Any], settings: Settings) -> None:
    """Refuse an impossible hop or right context before the long measurements."""
    if not info["streaming"]:
        return
    frame_ms, context_ms = info["frame_ms"], settings.right_context_ms or 0.0
    for option, size in [("--right-context", context_ms), *(("--stream", size) for size in settings.hop_ms)]:
        if size % frame_ms:
            raise errors.OptionError(
                f"{option} must be a multiple of {frame_ms:g} ms, the frame of {info['name']}, got {size:g}"
            )


def _mode_name(hop_ms: float | None) -> str:
    return "files" if hop_ms is None else f"stream, every {hop_ms:g} ms"


def _why_it_died(ended: subprocess.CompletedProcess[str]) -> str:
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        hint = ": out of memory?" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    last = ended.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
    return f"failed with status {ended.returncode}: {last[0]}"
