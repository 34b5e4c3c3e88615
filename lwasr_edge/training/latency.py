"""How fast a student that does not exist yet will run: arithmetic, scaled by models that were measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lwasr_edge.bench.recordings import built_in
from lwasr_edge.bench.results import read_report
from lwasr_edge.bench.runner import Settings, run_benchmark
from lwasr_edge.catalog import installed_models
from lwasr_edge.errors import OptionError
from lwasr_edge.training.baselines import n_parameters_of
from lwasr_edge.training.config import EncoderConfig, ModelConfig


def multiplications(config: ModelConfig) -> tuple[float, float]:
    """Multiply-accumulate operations for a second of audio: of front and head, and of all layers.

    Attention scores are left out: they depend on the chunk, and are a few per cent.
    """
    encoder, frontend = config.encoder, config.frontend
    frames = frontend.sample_rate / frontend.hop_length / 4  # encoder frames a second
    width, channels = encoder.d_model, encoder.subsampling_channels
    bands = (frontend.n_mels + 1) // 2, ((frontend.n_mels + 1) // 2 + 1) // 2
    front = 2 * bands[0] * channels * 9 + bands[1] * channels * channels * 9 + bands[1] * channels * width
    head = width * len(config.vocabulary)
    attention, convolution = 5 * width * encoder.attention_width, 3 * width * width + width * encoder.conv_kernel
    layer = 4 * width * encoder.d_feed_forward + attention + convolution
    return frames * (front + head), frames * encoder.n_layers * layer


@dataclass(frozen=True)
class LatencyModel:
    """RTF = a x operations of front and head + b x operations of the layers, per operation a second."""

    front_cost: float
    layer_cost: float
    source: str  # where the measurements are from

    def rtf(self, config: ModelConfig) -> float:
        """Real-time factor expected of a model."""
        front, layers = multiplications(config)
        return self.front_cost * front + self.layer_cost * layers

    @classmethod
    def fit(
        cls, report: dict[str, Any], family: ModelConfig, threads: int, precision: str, source: str
    ) -> LatencyModel:
        """Fit to the whole-file RTF of models in a report of `lwasr bench`.

        With models of one depth alone, front and layers cost alike. Files do not tell widths: feed-forward modules are
        taken to be as wide as a model's parameters make them, up to the family's; where that does not explain the
        parameters, operations are taken to be fewer or more as these are.

        Args:
            report: see docs/bench.md.
            family: the reference's config.
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
                if wanted and model["precision"] == precision and model["layers"]:
                    rows.append(operations_of(family, model["layers"], model.get("parameters")))
                    rtfs.append(measured["rtf"]["median"])
        if not rows:
            raise OptionError(f"{source}: no whole-file measurement of a {precision} model with {threads} thread(s)")
        operations, measured_rtf = np.array(rows), np.array(rtfs)
        if len(set(rows)) > 1:
            costs = np.linalg.lstsq(operations, measured_rtf, rcond=None)[0]
            if (costs > 0).all():
                return cls(float(costs[0]), float(costs[1]), source)
        cost = float((measured_rtf / operations.sum(1)).mean())
        return cls(cost, cost, source)


def operations_of(family: ModelConfig, n_layers: int, n_parameters: int | None) -> tuple[float, float]:
    """`multiplications` of a model of which only layers and parameters are known; None: it is as wide as the family."""
    widest = family.encoder.d_feed_forward
    if not n_parameters:
        return multiplications(of_shape(family, n_layers, widest))
    one, all_of_them = (n_parameters_of(of_shape(family, n_layers, units)) for units in (1, widest))
    units = 1 + round((widest - 1) * (n_parameters - one) / max(1, all_of_them - one))
    alike = of_shape(family, n_layers, min(max(1, units), widest))
    ratio = n_parameters / n_parameters_of(alike)
    front, layers = multiplications(alike)
    return ratio * front, ratio * layers


def of_shape(config: ModelConfig, n_layers: int, d_feed_forward: int) -> ModelConfig:
    """The config of so many layers and feed-forward units."""
    encoder: EncoderConfig = dataclasses.replace(config.encoder, n_layers=n_layers, d_feed_forward=d_feed_forward)
    return dataclasses.replace(config, encoder=encoder)


def read_profile(path: Path, family: ModelConfig, threads: int, precision: str) -> LatencyModel:
    """A latency model from a report that `lwasr bench --json` wrote, on the board or elsewhere."""
    return LatencyModel.fit(read_report(path), family, threads, precision, str(path))


def measure_here(family: ModelConfig, threads: int, precision: str) -> LatencyModel:
    """A latency model from the installed models, measured on this machine for some seconds."""
    paths = [model.path for model in installed_models()]
    settings = Settings(threads=(threads,), chunk_ms=(), look_ahead_ms=None, repeat=5, startups=1)
    report = run_benchmark(paths, built_in(), settings, "lwasr-train search", lambda message: None)
    return LatencyModel.fit(dataclasses.asdict(report), family, threads, precision, "this machine")
