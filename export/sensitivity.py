"""Selection of the linear layers that stay in float so that int8 respects a limit of WER loss."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.errors import VerificationError
from lwasr_edge.export.layers import MatMulLinear
from lwasr_edge.export.metadata import write_metadata
from lwasr_edge.export.quantize import matmul_names, quantize, scales_of, weight_scale
from lwasr_edge.export.streaming import FullContextModel, StreamingModel
from lwasr_edge.export.verify import Recording, RecordingSet, agreements, typical_divergence
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR

PROBE_RECORDINGS = 8  # evenly spaced over all sets: enough to rank the layers
PROBE_SECONDS = 8.0  # of each


def keep_float(
    model: StreamingModel | FullContextModel,
    proto: onnx.ModelProto,
    float_path: Path,
    metadata: dict[str, str],
    sets: Sequence[RecordingSet],
    max_wer_loss: float,
) -> list[str]:
    """Keep the most sensitive linear layers in float until int8 loses no more than ``max_wer_loss``.

    Layers are ranked by `sensitivities`; 0, 1, 2, 4, 8 ... of them are kept, up to the first number that suffices.

    Args:
        model, proto, float_path: the float model as a module, as a graph (`trace`) and as a file.
        metadata: for temporary files.
        sets: recordings with transcripts.
        max_wer_loss: percent, absolute, on each set.

    Returns:
        Names of MatMul nodes; empty if none must stay in float.

    Raises:
        VerificationError: a set has no transcripts, or no number of layers suffices.
    """
    for one in sets:
        if any(recording.text is None for recording in one.recordings):
            raise VerificationError(
                f"{one.name} must have transcripts for --max-wer-loss, got none: add text to the manifest"
            )
    scales = scales_of(model)
    if wer_loss(proto, scales, float_path, metadata, sets, ()) <= max_wer_loss:
        return []
    recordings = [recording for one in sets for recording in one.recordings]
    picked = evenly_spaced(len(recordings), PROBE_RECORDINGS)
    ranked = list(sensitivities(model, matmul_names(proto), [recordings[i] for i in picked]))
    n_kept = 1
    while n_kept < len(ranked):
        if wer_loss(proto, scales, float_path, metadata, sets, ranked[:n_kept]) <= max_wer_loss:
            return ranked[:n_kept]
        n_kept *= 2
    raise VerificationError(
        f"WER loss of int8 must be at most {max_wer_loss:g} %, got more with {n_kept // 2} of {len(ranked)} linear "
        "layers in float: raise --max-wer-loss, or export with --fp16"
    )


def wer_loss(
    proto: onnx.ModelProto,
    scales: Mapping[str, np.ndarray],
    float_path: Path,
    metadata: dict[str, str],
    sets: Sequence[RecordingSet],
    kept: Collection[str],
) -> float:
    """Largest increase of WER by int8 with ``kept`` in float over all sets, percent, absolute."""
    with tempfile.TemporaryDirectory(dir=float_path.parent, prefix="try-") as folder:
        path = Path(folder, "int8.onnx")
        onnx.save(write_metadata(quantize(proto, kept, scales), metadata), path)
        losses = [found.wer_loss for found in agreements(float_path, path, sets)]
    return max(loss for loss in losses if loss is not None)


@torch.inference_mode()
def sensitivities(
    model: StreamingModel | FullContextModel, names: Sequence[str], recordings: Sequence[Recording]
) -> dict[str, float]:
    """Divergence of the posteriors when one linear layer at a time is quantised.

    Args:
        model: in float32.
        names: of the linear layers.
        recordings: a few recordings.

    Returns:
        `typical_divergence` by name, in nats, in falling order.
    """
    frontend = model.config.frontend
    samples_per_frame = frontend.hop_length * SUBSAMPLING_FACTOR
    waveforms = []
    for recording in recordings:
        n_samples = min(len(recording.waveform), round(PROBE_SECONDS * frontend.sample_rate))
        waveforms.append(torch.from_numpy(recording.waveform[: n_samples // samples_per_frame * samples_per_frame]))
    beginning = model.beginning()
    wanted = [model(waveform, *beginning)[3].numpy() for waveform in waveforms]
    divergences = {}
    for name in names:
        with simulated_int8(model.get_submodule(name)):
            found = [model(waveform, *beginning)[3].numpy() for waveform in waveforms]
        divergences[name] = typical_divergence(zip(wanted, found, strict=True), model.config.blank_id)
    return dict(sorted(divergences.items(), key=lambda item: -item[1]))


@contextlib.contextmanager
def simulated_int8(linear: MatMulLinear) -> Iterator[None]:
    """Simulate dynamic int8 in ``linear``: a scale per output for the weights, one scale for the input."""

    def quantise_input(_: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        lowest, highest = inputs[0].min().clamp(max=0), inputs[0].max().clamp(min=0)
        scale = ((highest - lowest) / 255).clamp(min=1e-12)
        zero = torch.round(-lowest / scale)
        return ((torch.round(inputs[0] / scale) + zero).clamp(0, 255).sub(zero) * scale,)

    weight = linear.weight.data
    scale = torch.from_numpy(weight_scale(weight.numpy())) if linear.scale is None else linear.scale
    hook = linear.register_forward_pre_hook(quantise_input)
    linear.weight.data = torch.round(weight / scale) * scale
    try:
        yield
    finally:
        linear.weight.data = weight
        hook.remove()
