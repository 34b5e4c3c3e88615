"""Students: the reference's architecture with fewer layers and units, initialised from the reference's weights."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.feature_norm import fit_running_norm
from lwasr_edge.training.compress.modules import Module, Removal, removed_from
from lwasr_edge.training.compress.pruning import (
    Augment,
    Moments,
    hidden_moments,
    prune_layers,
    pruned_subsampling,
)
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import SCALE, AcousticModel
from lwasr_edge.training.model.config import MODULES, EncoderConfig, ModelConfig
from lwasr_edge.training.model.conformer import Subsampling
from lwasr_edge.training.model.features import RunningNorm

# Layers of the 16-layer NeMo Conformer-CTC small in the order of removal: greedy search by the KL divergence of the
# posteriors
REMOVAL_ORDER_DEPTH = 16
REMOVAL_ORDER = (3, 2, 6, 11, 13, 4, 8, 10, 12, 1, 9, 14, 7)


class Shape(NamedTuple):
    """The parts of the reference that a student keeps."""

    layers: tuple[int, ...]  # in rising order
    d_feed_forward: int | None = None  # hidden units of each feed-forward module; None for all
    d_attention: int | None = None  # width of all attention heads together; None for all
    channels: int | None = None  # of the subsampling's convolutions; None for all
    time: float | None = None  # share of the layers' time that modules may take; None for all modules
    removed: tuple[Module, ...] | None = None  # where they are known already; None to search for them


def layers_to_keep(n_reference: int, n_student: int) -> tuple[int, ...]:
    """The reference's layers that a student of ``n_student`` layers keeps, in rising order.

    Raises:
        OptionError: ``n_student`` is not between 1 and ``n_reference``.
    """
    if not 1 <= n_student <= n_reference:
        raise OptionError(f"layers of a student must be 1 to {n_reference}, as the reference has, got {n_student}")
    if n_reference == REMOVAL_ORDER_DEPTH and n_student >= n_reference - len(REMOVAL_ORDER):
        removed = REMOVAL_ORDER[: n_reference - n_student]
        return tuple(i for i in range(n_reference) if i not in removed)
    if n_student == 1:
        return (n_reference - 1,)
    return evenly_spaced_layers(n_reference, n_student)


def evenly_spaced_layers(n_reference: int, n_student: int) -> tuple[int, ...]:
    """Layers from the first to the last, in rising order; of one layer, the first."""
    return tuple(round(i * (n_reference - 1) / max(1, n_student - 1)) for i in range(n_student))


def student_config(reference: ModelConfig, shape: Shape) -> ModelConfig:
    """The config of a streaming student without QAT, also where the reference has it.

    Raises:
        OptionError: layers, units or a width that the reference does not have.
    """
    keep, depth = shape.layers, reference.encoder.n_layers
    if not keep or any(not 0 <= layer < depth for layer in keep) or list(keep) != sorted(set(keep)):
        raise OptionError(f"layers of a student must be different ones of 0 to {depth - 1} in rising order, got {keep}")
    removed = tuple(
        f"{own}.{name}" for own, layer in enumerate(keep) for name in MODULES if not reference.encoder.has(layer, name)
    )
    config = dataclasses.replace(
        reference,
        frontend=dataclasses.replace(reference.frontend, normalization="running"),
        encoder=dataclasses.replace(reference.encoder, n_layers=len(keep), removed=removed),
        reference_layers=keep,
        qat=False,
    )
    return dataclasses.replace(config, encoder=pruned_encoder_config(config.encoder, shape))


def pruned_encoder_config(encoder: EncoderConfig, shape: Shape) -> EncoderConfig:
    """The config of an encoder pruned to the widths of ``shape``.

    Raises:
        OptionError: a width is not positive, more than the encoder's, or not a multiple of the heads.
    """
    units = encoder.d_feed_forward if shape.d_feed_forward is None else shape.d_feed_forward
    if not 1 <= units <= encoder.d_feed_forward:
        raise OptionError(f"feed-forward units must be 1 to {encoder.d_feed_forward}, got {units}")
    width = encoder.attention_width if shape.d_attention is None else shape.d_attention
    if not 1 <= width <= encoder.attention_width or width % encoder.n_heads:
        multiple = f"a multiple of {encoder.n_heads}, the heads, up to {encoder.attention_width}"
        raise OptionError(f"attention width must be {multiple}, got {width}")
    channels = encoder.subsampling_channels if shape.channels is None else shape.channels
    if not 1 <= channels <= encoder.subsampling_channels:
        raise OptionError(f"subsampling channels must be 1 to {encoder.subsampling_channels}, got {channels}")
    d_attention = shape.d_attention or encoder.d_attention
    return dataclasses.replace(encoder, d_feed_forward=units, d_attention=d_attention, subsampling_channels=channels)


def init_from_reference(reference: AcousticModel, keep: tuple[int, ...], dropout: float = 0.0) -> AcousticModel:
    """A streaming student with the subsampling, the layers ``keep`` and the CTC head of the reference.

    Its feature normalisation is the reference's if that streams, and must be fitted (`fit_running_norm`) otherwise.

    Args:
        reference: the teacher.
        keep: layers, in rising order.
        dropout: of the student.

    Raises:
        OptionError: layers that the reference does not have.
    """
    student = AcousticModel(student_config(reference.config, Shape(keep)), dropout)
    if isinstance(reference.norm, RunningNorm):
        student.norm.load_state_dict(reference.norm.state_dict())
    student.encoder.subsampling.load_state_dict(reference.encoder.subsampling.state_dict())
    for layer, index in zip(student.encoder.layers, keep, strict=True):
        weights = reference.encoder.layers[index].state_dict()
        layer.load_state_dict({name: value for name, value in weights.items() if not name.endswith(f".{SCALE}")})
    student.head.load_state_dict(reference.head.state_dict())
    return student


def init_students(
    reference: AcousticModel,
    shapes: dict[str, Shape],
    store: WaveformStore,
    dropout: float = 0.0,
    augment: Augment | None = None,
) -> dict[str, AcousticModel]:
    """Students before training, by the names of ``shapes``, on the store's device.

    Args:
        reference: the teacher; it moves to the store's device.
        shapes: of the students.
        store: training audio, to fit the feature normalisation and to prune the layers.
        dropout: of the students.
        augment: of the audio to prune with: what is pruned in clean speech is missed in noise.

    Raises:
        OptionError: a shape that does not fit the reference, or audio that is digital silence.
    """
    reference = reference.to(store.device)
    moments: Moments = []
    subsamplings: dict[int, Subsampling] = {}  # by their channels
    students = {}
    for name, shape in shapes.items():
        student = AcousticModel(student_config(reference.config, shape), dropout).to(store.device)
        state = init_from_reference(reference, shape.layers).to(store.device).state_dict()
        if shape.d_feed_forward or shape.d_attention:
            moments = moments or hidden_moments(reference, store, augment=augment)
            prune_layers(state, [moments[layer] for layer in shape.layers], student.config)
        channels = student.config.encoder.subsampling_channels
        if channels < reference.config.encoder.subsampling_channels:
            if channels not in subsamplings:
                subsamplings[channels] = pruned_subsampling(reference, store, channels, augment=augment)
            state |= subsamplings[channels].state_dict(prefix="encoder.subsampling.")
        student.load_state_dict(state)
        if not isinstance(reference.norm, RunningNorm):
            fit_running_norm(student, store)
        students[name] = student
    removals: dict[Shape, Removal] = {}  # a student of less time is found where the search for one of more has ended
    for name, shape in sorted(shapes.items(), key=lambda item: -(item[1].time or 1.0)):
        if shape.time is not None:
            whole = shape._replace(time=None, removed=None)
            removals[whole] = removals.get(whole) or Removal(students[name].eval(), store, augment=augment)
            if shape.removed is None:
                removals[whole].remove(shape.time)
            else:
                removals[whole].take(shape.removed)
            students[name] = removed_from(students[name], removals[whole], dropout)
    return students


def check_family(students: dict[str, AcousticModel], reference: AcousticModel | None, *, by_layer: bool = True) -> None:
    """Check that models can be trained together: the same features and vocabulary, and students of this reference.

    Args:
        students: by name.
        reference: None where no loss compares with it.
        by_layer: whether a loss compares more than the posteriors.

    Raises:
        OptionError: they differ.
    """
    if not students:
        raise OptionError("students must be at least one, got none")
    first_name, first = next(iter(students.items()))
    norm = first.norm.state_dict()
    for name, student in students.items():
        own = student.norm.state_dict()
        same = student.config.frontend == first.config.frontend
        if not same or not all(torch.equal(own[key].cpu(), norm[key].cpu()) for key in norm):
            raise OptionError(
                f"students of a run must have the same feature normalisation, got different ones in {first_name} and "
                f"{name}: train them in separate runs"
            )
        if student.config.vocabulary != first.config.vocabulary:
            raise OptionError(
                f"students of a run must have the same vocabulary, got different ones in {first_name} and {name}: "
                "train them in separate runs"
            )
        if reference is not None:
            check_student(name, student, reference, by_layer=by_layer)


def check_student(name: str, student: AcousticModel, reference: AcousticModel, *, by_layer: bool = True) -> None:
    """Check that a student's outputs can be compared with the reference's.

    Raises:
        OptionError: its vocabulary, width or layers are not those of a student of this reference.
    """
    own, theirs = student.config, reference.config
    hint = "pass the reference that it was made from"
    if own.vocabulary != theirs.vocabulary:
        raise OptionError(f"{name} must have the reference's vocabulary, got another: {hint}")
    if own.encoder.d_model != theirs.encoder.d_model:
        widths = f"{theirs.encoder.d_model}, got {own.encoder.d_model}"
        raise OptionError(f"{name} must have the reference's width, {widths}: {hint}")
    if not by_layer:
        return
    kept = own.reference_layers
    if len(kept) != own.encoder.n_layers or max(kept) >= theirs.encoder.n_layers:
        raise OptionError(
            f"{name} must be a student that `lwasr-train represent` made, with layers of a reference of "
            f"{theirs.encoder.n_layers}, got {own.encoder.n_layers} layers of which {len(kept)} are the reference's: "
            f"{hint}"
        )
