"""Baselines of the two-step method. A baseline is an initialisation, losses and a schedule; the loop is the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.feature_norm import fit_running_norm
from lwasr_edge.training.compress.modules import Module
from lwasr_edge.training.compress.students import (
    Shape,
    evenly_spaced_layers,
    init_students,
    layers_to_keep,
    student_config,
)
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.options import CTC_WEIGHTS


def only(**weights: float) -> LossWeights:
    """Losses with these weights and no others."""
    return dataclasses.replace(CTC_WEIGHTS, **({"ctc": 0.0} | weights))


@dataclass(frozen=True)
class Phase:
    """A part of a method's budget."""

    share: float  # of the steps, 0 to 1
    weights: LossWeights
    by_layer: bool = False  # each layer is trained alone, on the reference's hidden states


@dataclass(frozen=True)
class Method:
    """How a light-weight model is made."""

    title: str
    phases: tuple[Phase, ...]
    # "inherited": some layers of the reference; "narrowed": half as many again, with half of the attention width and
    # fewer feed-forward units; "modules": the modules that matter most, of all layers, which take as much time;
    # "pruned": all layers, small weights zero; "random": no weights of the reference
    start: str = "inherited"
    layers: str = "least damage"  # which layers are inherited: "least damage", "evenly spaced" or "first"


def step1(title: str, layers: str = "least damage", **weights: float) -> Method:
    """An ablation of step 1: the same initialisation and budget, other losses or layers; then the same step 2."""
    return Method(title, (Phase(0.8, only(**weights)), Phase(0.2, CTC_WEIGHTS)), layers=layers)


BASELINES = {
    "scratch": Method("from scratch, CTC", (Phase(1.0, CTC_WEIGHTS),), start="random"),
    "pruned": Method("reference pruned by magnitude, CTC", (Phase(1.0, CTC_WEIGHTS),), start="pruned"),
    "dropped": Method("layers dropped, CTC", (Phase(1.0, CTC_WEIGHTS),)),
    "narrowed": Method(
        "fewer layers dropped, those that stay narrower, CTC", (Phase(1.0, CTC_WEIGHTS),), start="narrowed"
    ),
    "modules": Method("modules removed, CTC", (Phase(1.0, CTC_WEIGHTS),), start="modules"),
    "logits": Method("layers dropped, logit distillation", (Phase(1.0, only(kl=1.0)),)),
    "encrl": step1("EncRL (CLIP + MSE), then CTC", mse=1.0, clip=1.0),
    "two-step": Method(
        "layer by layer, MSE + CLIP + KL + inner layers, then CTC + KL",
        (
            Phase(0.3, only(mse=1.0), by_layer=True),
            Phase(0.5, only(mse=1.0, clip=0.1, kl=1.0, hidden=0.5)),
            Phase(0.2, only(ctc=1.0, kl=1.0)),
        ),
    ),
}
ABLATIONS = {
    "ctc+kl": Method("layers dropped, CTC + logit distillation", (Phase(1.0, only(ctc=1.0, kl=1.0)),)),
    "modules+kl": Method(
        "modules removed, KL without transcripts, then CTC",
        (Phase(0.5, only(kl=1.0)), Phase(0.5, CTC_WEIGHTS)),
        start="modules",
    ),
    "clip": step1("step 1: CLIP", clip=1.0),
    "mse": step1("step 1: MSE", mse=1.0),
    "kl": step1("step 1: KL", kl=1.0),
    "mse+kl": step1("step 1: MSE + KL", mse=1.0, kl=1.0),
    "mse+clip+kl+hidden": step1("step 1: MSE + CLIP + KL + inner layers", mse=1.0, clip=0.1, kl=1.0, hidden=0.5),
    "even layers": step1("step 1: CLIP + MSE, layers evenly spaced", "evenly spaced", mse=1.0, clip=1.0),
    "first layers": step1("step 1: CLIP + MSE, first layers", "first", mse=1.0, clip=1.0),
}
METHODS = BASELINES | ABLATIONS


def init_sizes(
    method: Method,
    reference: AcousticModel,
    sizes: Sequence[int],
    store: WaveformStore,
    seed: int,
    dropout: float = 0.0,
    removed: dict[int, tuple[Module, ...]] | None = None,
) -> dict[int, tuple[AcousticModel, dict[str, Tensor]]]:
    """The initial model of a method at each size, and the masks of its pruned weights (see `loop.trainer.Family`).

    Args:
        method: one of `METHODS`.
        reference: the teacher.
        sizes: layers of the students; a method that keeps more layers keeps as many weights as such a student has, or
            modules that take as much time.
        store: training audio.
        seed: of random weights.
        dropout: of the models.
        removed: by size, modules that an earlier search has found; those of other sizes are searched for.
    """
    if method.start == "random":
        return {size: (_random_student(reference, size, method, store, seed, dropout), {}) for size in sizes}
    known = removed or {}
    shapes = {str(size): _shape(method, reference, size, known.get(size)) for size in sizes}
    students = init_students(reference, shapes, store, dropout)
    found = {}
    for size in sizes:
        student, masks = students[str(size)], {}
        if method.start == "pruned":
            masks = magnitude_masks(student, count_parameters(student) - _budget(method, reference, size))
        found[size] = student, masks
    return found


def _layers(method: Method, reference: AcousticModel, size: int) -> tuple[int, ...]:
    return chosen_layers(method.layers, reference.config.encoder.n_layers, size)


def _budget(method: Method, reference: AcousticModel, size: int) -> int:
    """Parameters of a student with so many whole layers."""
    return n_parameters_of(student_config(reference.config, Shape(_layers(method, reference, size))))


def _shape(method: Method, reference: AcousticModel, size: int, removed: tuple[Module, ...] | None) -> Shape:
    depth = reference.config.encoder.n_layers
    if method.start == "narrowed":
        layers = layers_to_keep(depth, min(depth, -(-3 * size // 2)))
        return narrowed_shape(reference.config, layers, _budget(method, reference, size))
    if method.start == "modules":
        return Shape(tuple(range(depth)), time=size / depth if size < depth else None, removed=removed)
    if method.start == "pruned":
        return Shape(tuple(range(depth)))
    return Shape(_layers(method, reference, size))


def _random_student(
    reference: AcousticModel, size: int, method: Method, store: WaveformStore, seed: int, dropout: float
) -> AcousticModel:
    torch.manual_seed(seed)
    config = student_config(reference.config, Shape(_layers(method, reference, size)))
    student = AcousticModel(config, dropout).to(store.device)
    fit_running_norm(student, store)
    return student


def narrowed_shape(reference: ModelConfig, layers: tuple[int, ...], budget: int) -> Shape:
    """A student of these layers with half of the attention width and the units that ``budget`` parameters allow."""
    encoder = reference.encoder
    width = encoder.n_heads * -(-encoder.attention_width // encoder.n_heads // 2)
    sizes = [n_parameters_of(student_config(reference, Shape(layers, units, width))) for units in (1, 2)]
    units = 1 + (budget - sizes[0]) // (sizes[1] - sizes[0])
    return Shape(layers, max(1, min(units, encoder.d_feed_forward)), width)


def chosen_layers(rule: str, n_reference: int, n_student: int) -> tuple[int, ...]:
    """Layers of the reference that a student is initialised from under a rule of `Method.layers`."""
    if rule == "first":
        return tuple(range(n_student))
    if rule == "evenly spaced":
        return evenly_spaced_layers(n_reference, n_student)
    return layers_to_keep(n_reference, n_student)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def n_parameters_of(config: ModelConfig) -> int:
    """Parameters of a model of this config, which is built without storage."""
    with torch.device("meta"):
        return count_parameters(AcousticModel(config))


def magnitude_masks(model: AcousticModel, n_removed: int) -> dict[str, Tensor]:
    """Masks that zero the ``n_removed`` smallest weights of the linear layers (Han et al. 2015, arXiv 1506.02626).

    Returns:
        By parameter name, 0 at the removed weights and 1 elsewhere.

    Raises:
        OptionError: the linear layers do not have so many weights.
    """
    weights = {
        f"{name}.weight": module.weight.detach()
        for name, module in model.encoder.layers.named_modules(prefix="encoder.layers")
        if isinstance(module, nn.Linear)
    }
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    if not 0 <= n_removed < len(sizes):
        raise OptionError(f"weights to prune must be fewer than the {len(sizes)} of the linear layers, got {n_removed}")
    if n_removed == 0:
        return {name: torch.ones_like(weight) for name, weight in weights.items()}
    threshold = sizes.kthvalue(n_removed).values
    return {name: (weight.abs() > threshold).to(weight.dtype) for name, weight in weights.items()}
