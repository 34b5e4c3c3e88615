"""Which products must stay in float so that int8 keeps its words."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from lwasr_edge.errors import VerificationError
from lwasr_edge.export.layers import MatMulLinear
from lwasr_edge.export.metadata import write_metadata
from lwasr_edge.export.quantize import matmul_names, quantize, scales_of, weight_scale
from lwasr_edge.export.streaming import StreamingModel, WholeModel
from lwasr_edge.export.verify import Recording, RecordingSet, agreements, typical_divergence
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR

PROBE_RECORDINGS = 8  # spread over all sets: enough to rank the products
PROBE_SECONDS = 8.0  # of each


def keep_float(
    model: StreamingModel | WholeModel,
    proto: onnx.ModelProto,
    float_path: Path,
    metadata: dict[str, str],
    sets: Sequence[RecordingSet],
    max_wer_loss: float,
) -> list[str]:
    """Keep the products that hurt most in float until int8 loses no more than ``max_wer_loss``.

    Products are ranked by `damage`; 0, 1, 2, 4, 8 ... of them are kept, and the first number that suffices is taken.

    Args:
        model, proto, float_path: the float model as a module, as a graph (`trace`) and as a file.
        metadata: for the files that are tried.
        sets: calibration recordings with transcripts.
        max_wer_loss: percent, absolute, on each set.

    Returns:
        Names of products; empty if int8 is good enough as it is.

    Raises:
        VerificationError: a set has no transcripts, or int8 loses more whatever is kept.
    """
    for one in sets:
        if any(recording.text is None for recording in one.recordings):
            raise VerificationError(f"{one.name}: has no transcripts, so --max-wer-loss cannot be found out")
    steps = scales_of(model)
    if wer_loss(proto, steps, float_path, metadata, sets, ()) <= max_wer_loss:
        return []
    recordings = [recording for one in sets for recording in one.recordings]
    picked = np.linspace(0, len(recordings) - 1, min(PROBE_RECORDINGS, len(recordings))).round().astype(int)
    ranked = list(damage(model, matmul_names(proto), [recordings[i] for i in picked]))
    n_kept = 1
    while n_kept < len(ranked):
        if wer_loss(proto, steps, float_path, metadata, sets, ranked[:n_kept]) <= max_wer_loss:
            return ranked[:n_kept]
        n_kept *= 2
    raise VerificationError(
        f"with {n_kept // 2} of {len(ranked)} products in float, int8 still loses more than {max_wer_loss:g} % WER: "
        "allow more, or write float16"
    )


def wer_loss(
    proto: onnx.ModelProto,
    steps: Mapping[str, np.ndarray],
    float_path: Path,
    metadata: dict[str, str],
    sets: Sequence[RecordingSet],
    kept: Collection[str],
) -> float:
    """WER that int8 adds with ``kept`` in float on the worst set, percent, absolute."""
    with tempfile.TemporaryDirectory(dir=float_path.parent, prefix="try-") as folder:
        path = Path(folder, "int8.onnx")
        onnx.save(write_metadata(quantize(proto, kept, steps), metadata), path)
        losses = [found.wer_loss for found in agreements(float_path, path, sets)]
    return max(loss for loss in losses if loss is not None)


@torch.inference_mode()
def damage(
    model: StreamingModel | WholeModel, names: Sequence[str], recordings: Sequence[Recording]
) -> dict[str, float]:
    """How far each product alone, with the rounding of int8, moves the posteriors.

    Args:
        model: in float32.
        names: of the products.
        recordings: a few of the calibration recordings.

    Returns:
        `typical_divergence` for each product, in nats, worst first.
    """
    frontend = model.config.frontend
    samples_per_frame = frontend.hop_length * SUBSAMPLING_FACTOR
    waveforms = []
    for recording in recordings:
        n_samples = min(len(recording.waveform), round(PROBE_SECONDS * frontend.sample_rate))
        waveforms.append(torch.from_numpy(recording.waveform[: n_samples // samples_per_frame * samples_per_frame]))
    beginning = model.beginning()
    wanted = [model(waveform, *beginning)[3].numpy() for waveform in waveforms]
    moved = {}
    for name in names:
        with rounded_to_int8(model.get_submodule(name)):
            found = [model(waveform, *beginning)[3].numpy() for waveform in waveforms]
        moved[name] = typical_divergence(zip(wanted, found, strict=True), model.config.blank_id)
    return dict(sorted(moved.items(), key=lambda item: -item[1]))


@contextlib.contextmanager
def rounded_to_int8(product: MatMulLinear) -> Iterator[None]:
    """Within this, ``product`` has the rounding errors of dynamic int8: weights by output, input as a whole."""

    def round_input(_: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        lowest, highest = inputs[0].min().clamp(max=0), inputs[0].max().clamp(min=0)
        step = ((highest - lowest) / 255).clamp(min=1e-12)
        zero = torch.round(-lowest / step)
        return ((torch.round(inputs[0] / step) + zero).clamp(0, 255).sub(zero) * step,)

    weight = product.weight.data
    scale = torch.from_numpy(weight_scale(weight.numpy())) if product.step is None else product.step
    hook = product.register_forward_pre_hook(round_input)
    product.weight.data = torch.round(weight / scale) * scale
    try:
        yield
    finally:
        product.weight.data = weight
        hook.remove()
