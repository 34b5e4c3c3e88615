"""Expected speed of a student that is not trained yet: operations, scaled by measured models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lwasr_edge.bench.recordings import built_in
from lwasr_edge.bench.results import read_report
from lwasr_edge.bench.runner import Settings, run_benchmark
from lwasr_edge.bench.schema import LARGEST
from lwasr_edge.errors import OptionError
from lwasr_edge.hub.catalog import installed_models
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.validate import number


@dataclass(frozen=True)
class LatencyModel:
    """RTF = a x operations of subsampling and head + b x operations of the layers, each per second of audio."""

    subsampling_cost: float
    layer_cost: float
    source: str  # where the measurements are from

    def rtf(self, config: ModelConfig) -> float:
        """Real-time factor expected of a model."""
        subsampling, layers = config.multiplications
        return self.subsampling_cost * subsampling + self.layer_cost * layers

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> LatencyModel:
        """A latency model from JSON.

        Raises:
            OptionError: a cost is missing or is not a number above 0.
        """
        former = fields.get("front_cost")  # the name in files of 0.1.0
        costs: list[Any] = [fields.get("subsampling_cost", former), fields.get("layer_cost")]
        if not all(type(cost) in (int, float) and 0 < cost < LARGEST for cost in costs):
            raise OptionError(f"costs of a latency model must be numbers above 0, got {costs}")
        return cls(float(costs[0]), float(costs[1]), str(fields.get("source", "")))

    @classmethod
    def fit(cls, report: dict[str, Any], threads: int, precision: str, source: str) -> LatencyModel:
        """Fit to the RTF of files in a report of `lwasr bench`.

        Where the two costs cannot be separated, as with a single model, they are equal.

        Args:
            report: see docs/bench.md.
            threads: of the measurements to use.
            precision: of the models to use, as in their files.
            source: named in messages.

        Raises:
            OptionError: the report has no such measurement.
        """
        rows, rtfs = [], []
        for model in report["models"]:
            for measured in model["measurements"]:
                wanted = measured["mode"] == "file" and measured["threads"] == threads
                if wanted and model["precision"] == precision and model.get("multiplications"):
                    rows.append(checked_operations(model["multiplications"], source))
                    rtfs.append(number(f"{source}: rtf", measured["rtf"]["median"], above=0))
        if not rows:
            what = f"{precision} models, exported by this version, with {threads} thread(s)"
            raise OptionError(f"{source} must hold a measurement of files by {what}, got none: run `lwasr bench`")
        operations, measured_rtf = np.array(rows), np.array(rtfs)
        if len(set(rows)) > 1:
            costs = np.linalg.lstsq(operations, measured_rtf, rcond=None)[0]
            if (costs > 0).all():
                return cls(float(costs[0]), float(costs[1]), source)
        cost = float((measured_rtf / operations.sum(1)).mean())
        return cls(cost, cost, source)


def checked_operations(value: Any, source: str) -> tuple[float, float]:
    """Operations per second of audio of subsampling and head, and of the layers, as a report has them.

    Raises:
        OptionError: something else.
    """
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if not is_pair or not all(type(one) in (int, float) and 0 < one < LARGEST for one in value):
        raise OptionError(f"{source}: multiplications must be two numbers above 0, got {value!r}")
    return float(value[0]), float(value[1])


def read_profile(path: Path, threads: int, precision: str) -> LatencyModel:
    """A latency model from a report that `lwasr bench --json` wrote, on the board or elsewhere."""
    return LatencyModel.fit(read_report(path), threads, precision, str(path))


def measure_here(threads: int, precision: str) -> LatencyModel:
    """A latency model from the installed models, measured on this machine for some seconds."""
    paths = [model.path for model in installed_models()]
    settings = Settings(threads=(threads,), hop_ms=(), right_context_ms=None, repeat=5, startups=1)
    report = run_benchmark(paths, built_in(), settings, "lwasr-train search", lambda message: None)
    return LatencyModel.fit(dataclasses.asdict(report), threads, precision, "this machine")
