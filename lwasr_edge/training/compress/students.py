"""Students: the reference's architecture with fewer layers and units, beginning with the reference's own weights."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.pruning import Moments, hidden_moments, prune_layers, pruned_subsampling
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import EncoderConfig, ModelConfig
from lwasr_edge.training.model.conformer import Subsampling
from lwasr_edge.training.model.features import RunningNorm, UtteranceNorm

# Order in which layers of the 16-layer NeMo Conformer-CTC small are missed least: the greedy choice by KL divergence
# of the posteriors
LEAST_DAMAGE_DEPTH = 16
LEAST_DAMAGE = (3, 2, 6, 11, 13, 4, 8, 10, 12, 1, 9, 14, 7)


def layers_to_keep(n_reference: int, n_student: int) -> tuple[int, ...]:
    """The reference's layers that a student of ``n_student`` layers inherits, in rising order.

    Raises:
        OptionError: none, or more than the reference has.
    """
    if not 1 <= n_student <= n_reference:
        raise OptionError(f"a student of {n_student} layers: expected 1 to {n_reference}, as many as the reference has")
    if n_reference == LEAST_DAMAGE_DEPTH and n_student >= n_reference - len(LEAST_DAMAGE):
        removed = LEAST_DAMAGE[: n_reference - n_student]
        return tuple(i for i in range(n_reference) if i not in removed)
    if n_student == 1:
        return (n_reference - 1,)
    return tuple(round(i * (n_reference - 1) / (n_student - 1)) for i in range(n_student))  # evenly spaced


class Shape(NamedTuple):
    """What a student keeps of the reference."""

    layers: tuple[int, ...]  # in rising order
    d_feed_forward: int | None = None  # hidden units of each feed-forward module; None for all
    d_attention: int | None = None  # width of all attention heads together; None for all
    channels: int | None = None  # of the front's convolutions; None for all


def student_config(reference: ModelConfig, shape: Shape) -> ModelConfig:
    """The config of a streaming student, whose weights are not rounded, whatever the reference's are.

    Raises:
        OptionError: layers, units or a width that the reference does not have.
    """
    keep, depth = shape.layers, reference.encoder.n_layers
    if not keep or any(not 0 <= layer < depth for layer in keep) or list(keep) != sorted(set(keep)):
        raise OptionError(f"a student of layers {keep}: expected different ones of 0 to {depth - 1}, in rising order")
    config = dataclasses.replace(
        reference,
        frontend=dataclasses.replace(reference.frontend, normalization="running"),
        encoder=dataclasses.replace(reference.encoder, n_layers=len(keep)),
        reference_layers=keep,
        qat=False,
    )
    return dataclasses.replace(config, encoder=pruned_encoder_config(config.encoder, shape))


def pruned_encoder_config(encoder: EncoderConfig, shape: Shape) -> EncoderConfig:
    """The config of an encoder as narrow as ``shape``.

    Raises:
        OptionError: nothing left, more than there is, or a width that does not divide into the heads.
    """
    units = encoder.d_feed_forward if shape.d_feed_forward is None else shape.d_feed_forward
    if not 1 <= units <= encoder.d_feed_forward:
        most = encoder.d_feed_forward
        raise OptionError(f"{units} units of a feed-forward module: expected 1 to {most}, as there are")
    width = encoder.attention_width if shape.d_attention is None else shape.d_attention
    if not 1 <= width <= encoder.attention_width or width % encoder.n_heads:
        multiple = f"a multiple of {encoder.n_heads}, the heads, up to {encoder.attention_width}"
        raise OptionError(f"attention of width {width}: expected {multiple}")
    channels = encoder.subsampling_channels if shape.channels is None else shape.channels
    if not 1 <= channels <= encoder.subsampling_channels:
        most = encoder.subsampling_channels
        raise OptionError(f"{channels} channels of the front: expected 1 to {most}, as there are")
    d_attention = shape.d_attention or encoder.d_attention
    return dataclasses.replace(encoder, d_feed_forward=units, d_attention=d_attention, subsampling_channels=channels)


def init_from_reference(reference: AcousticModel, keep: tuple[int, ...], dropout: float = 0.0) -> AcousticModel:
    """A streaming student with the front, the layers ``keep`` and the CTC head of the reference.

    Its features are the reference's where that streams itself, and not fitted yet elsewhere (`fit_running_norm`).

    Args:
        reference: the teacher.
        keep: layers, in rising order.
        dropout: of the student.
    """
    student = AcousticModel(student_config(reference.config, Shape(keep)), dropout)
    if isinstance(reference.norm, RunningNorm):
        student.norm.load_state_dict(reference.norm.state_dict())
    student.encoder.subsampling.load_state_dict(reference.encoder.subsampling.state_dict())
    for layer, index in zip(student.encoder.layers, keep, strict=True):
        weights = reference.encoder.layers[index].state_dict()
        layer.load_state_dict({name: value for name, value in weights.items() if not name.endswith(".step")})
    student.head.load_state_dict(reference.head.state_dict())
    return student


def init_students(
    reference: AcousticModel, shapes: dict[str, Shape], store: WaveformStore, dropout: float = 0.0
) -> dict[str, AcousticModel]:
    """Students as they are before they learn, by the names of ``shapes``, on the store's device.

    Args:
        reference: the teacher; it moves to the store's device.
        shapes: of the students.
        store: training audio, which fits their features, and their modules where these are narrower.
        dropout: of the students.
    """
    reference = reference.to(store.device)
    moments: Moments = []
    fronts: dict[int, Subsampling] = {}  # by their channels
    students = {}
    for name, shape in shapes.items():
        student = AcousticModel(student_config(reference.config, shape), dropout).to(store.device)
        state = init_from_reference(reference, shape.layers).to(store.device).state_dict()
        if shape.d_feed_forward or shape.d_attention:
            moments = moments or hidden_moments(reference, store)
            prune_layers(state, [moments[layer] for layer in shape.layers], student.config)
        channels = student.config.encoder.subsampling_channels
        if channels < reference.config.encoder.subsampling_channels:
            if channels not in fronts:
                fronts[channels] = pruned_subsampling(reference, store, channels)
            state |= fronts[channels].state_dict(prefix="encoder.subsampling.")
        student.load_state_dict(state)
        if not isinstance(reference.norm, RunningNorm):
            fit_running_norm(student, store)
        students[name] = student
    return students


@torch.inference_mode()
def fit_running_norm(student: AcousticModel, store: WaveformStore, n_utterances: int = 256) -> None:
    """Set the prior and the scale of the student's `RunningNorm` from training audio.

    The prior is the average of the utterances' own statistics. Gain and offset of each band are the least-squares line
    from running-normalised to utterance-normalised features, which the inherited layers were trained on.
    """
    norm = student.norm
    if not isinstance(norm, RunningNorm):
        return
    n_stored = len(store.lengths_s)
    chosen = np.linspace(0, n_stored - 1, min(n_utterances, n_stored)).astype(np.int64)
    batches = [spoken_log_mel(student, store, indices) for indices in np.array_split(chosen, -(-len(chosen) // 16))]
    statistics = [own_statistics(norm, log_mel, mel_frames) for log_mel, mel_frames in batches if len(log_mel)]
    if not statistics:
        raise OptionError("the training audio is digital silence")
    shapes, variances = (torch.cat(values) for values in zip(*statistics, strict=True))
    norm.prior_shape.copy_(shapes.mean(0))
    norm.prior_variance.copy_(variances.mean(0))
    moments = torch.zeros(5, len(norm.gain), dtype=torch.float64, device=norm.gain.device)
    for log_mel, mel_frames in batches:
        heard = torch.arange(log_mel.shape[1], device=log_mel.device) < mel_frames[:, None]
        running = norm(log_mel, mel_frames)[heard].double()
        wanted = UtteranceNorm(student.config.frontend)(log_mel, mel_frames)[heard].double()
        products = torch.ones_like(running), running, wanted, running.square(), running * wanted
        moments += torch.stack([product.sum(0) for product in products])
    running, wanted, squares, products = moments[1:] / moments[0]
    gain = (products - running * wanted) / (squares - running.square()).clamp(min=1e-12)
    norm.gain.copy_(gain)
    norm.offset.copy_(wanted - gain * running)


def spoken_log_mel(student: AcousticModel, store: WaveformStore, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Log-mel features (B, T, n_mels) and their lengths (B,) of utterances that are not digital silence."""
    batch = store.batch(indices)
    log_mel = student.padded_log_mel(batch.waveform)
    mel_frames = (batch.n_samples // student.config.frontend.hop_length).clamp(min=1)
    spoken = batch.waveform.abs().amax(1) > 0
    return log_mel[spoken], mel_frames[spoken]


def own_statistics(norm: RunningNorm, log_mel: Tensor, mel_frames: Tensor) -> tuple[Tensor, Tensor]:
    """Spectral shape and variance of each utterance, (B, n_mels) each, frames weighed as `RunningNorm` does."""
    heard = torch.arange(log_mel.shape[1], device=log_mel.device) < mel_frames[:, None]
    weight = norm.moments(log_mel)[:, :, :1] * heard.unsqueeze(2)
    weight = weight / weight.sum(1, keepdim=True)
    mean = (weight * log_mel).sum(1)
    return mean - mean.mean(1, keepdim=True), (weight * log_mel.square()).sum(1) - mean.square()


def check_family(students: dict[str, AcousticModel], reference: AcousticModel | None) -> None:
    """Refuse models that cannot learn together: from the same features, over the same vocabulary, from this reference.

    Raises:
        OptionError: what differs.
    """
    if not students:
        raise OptionError("there is no student to train")
    first_name, first = next(iter(students.items()))
    front = first.norm.state_dict()
    for name, student in students.items():
        own = student.norm.state_dict()
        same = student.config.frontend == first.config.frontend
        if not same or not all(torch.equal(own[key].cpu(), front[key].cpu()) for key in front):
            raise OptionError(f"{name} and {first_name} have different front ends: train them in separate runs")
        if student.config.vocabulary != first.config.vocabulary:
            raise OptionError(f"{name} and {first_name} have different vocabularies: train them in separate runs")
        if reference is not None:
            check_student(name, student, reference)


def check_student(name: str, student: AcousticModel, reference: AcousticModel) -> None:
    """Refuse a student whose outputs cannot be compared with the reference's."""
    own, theirs = student.config, reference.config
    if own.vocabulary != theirs.vocabulary:
        raise OptionError(f"{name} and the reference have different vocabularies: it is not of this reference")
    if own.encoder.d_model != theirs.encoder.d_model:
        widths = f"{own.encoder.d_model} and {theirs.encoder.d_model}"
        raise OptionError(f"{name} and the reference are of different width, {widths}: it is not of this reference")
    kept = own.reference_layers
    if len(kept) != own.encoder.n_layers or max(kept) >= theirs.encoder.n_layers:
        raise OptionError(
            f"{name} has {own.encoder.n_layers} layers and names {len(kept)} of a reference of "
            f"{theirs.encoder.n_layers}: a student that `lwasr-train represent` made is expected"
        )
