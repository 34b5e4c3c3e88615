"""Students with fewer feed-forward units: which ones go, and how those that stay make up for them.

Optimal Brain Surgeon (Hassibi & Stork 1993) for whole columns, as in Kurtic et al. 2023, arXiv 2302.04089: of the units
that a feed-forward module's second product reads, the one goes whose loss costs the output least once the others are
fitted anew to the output as it was; and so on. Both follow in closed form from the second moments of the units on speech:
no gradients, no transcripts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lwasr_edge.errors import OptionError
from lwasr_edge.training.batches import WaveformStore
from lwasr_edge.training.config import ModelConfig
from lwasr_edge.training.model import AcousticModel

DAMPING = 1e-4  # of the mean second moment, added to each: units that rarely differ are not told apart by noise
MODULES = ("feed_forward1", "feed_forward2")  # of a layer


@torch.inference_mode()
def hidden_moments(model: AcousticModel, store: WaveformStore, n_utterances: int = 256) -> list[dict[str, Tensor]]:
    """Second moments of the feed-forward modules' hidden units, over the frames of utterances heard whole.

    Args:
        model: the reference, on the store's device.
        store: training audio.
        n_utterances: how many to hear, spread over the store; all if there are fewer.

    Returns:
        For each layer and module of it (F + 1, F + 1), float64, of F units and a constant 1, which stands for the bias.
    """
    moments: list[dict[str, Tensor]] = [{} for _ in model.encoder.layers]
    heard = torch.empty(0)

    def collect(place: int, name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_: nn.Module, given: tuple[Tensor]) -> None:
            units = given[0][heard].double()
            units = torch.cat([units, units.new_ones(len(units), 1)], dim=1)
            moments[place][name] = moments[place].get(name, 0.0) + units.T @ units

        return hook

    hooks = [
        layer.get_submodule(f"{name}.linear2").register_forward_pre_hook(collect(place, name))
        for place, layer in enumerate(model.encoder.layers)
        for name in MODULES
    ]
    try:
        for indices in spread(store, n_utterances):
            batch = store.batch(indices)
            features, lengths = model.features(batch.waveform, batch.n_samples)
            heard = torch.arange(features.shape[1] // 4, device=lengths.device) < lengths[:, None]
            model(features, lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return [{name: moment / moment[-1, -1] for name, moment in layer.items()} for layer in moments]


def spread(store: WaveformStore, n_utterances: int) -> list[np.ndarray]:
    """Batches of up to 8 utterances of like length, evenly spread over the store."""
    n_stored = len(store.lengths_s)
    chosen = np.linspace(0, n_stored - 1, min(n_utterances, n_stored)).astype(np.int64)
    ordered = chosen[np.argsort(store.lengths_s[chosen], kind="stable")]
    return np.array_split(ordered, -(-len(ordered) // 8))


def narrowed_config(config: ModelConfig, d_feed_forward: int) -> ModelConfig:
    """The config of a model with ``d_feed_forward`` units in each feed-forward module.

    Raises:
        OptionError: none, or more than there are.
    """
    n_units = config.encoder.d_feed_forward
    if not 1 <= d_feed_forward <= n_units:
        raise OptionError(f"{d_feed_forward} units of a feed-forward module: expected 1 to {n_units}, as there are")
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, d_feed_forward=d_feed_forward))


@torch.no_grad()
def narrow(
    student: AcousticModel, moments: list[dict[str, Tensor]], d_feed_forward: int, dropout: float = 0.0
) -> AcousticModel:
    """A copy of a student with ``d_feed_forward`` hidden units in each feed-forward module.

    Args:
        student: with the reference's own weights, as `students.inherit` gives it.
        moments: of the reference, by `hidden_moments`.
        d_feed_forward: units to keep.
        dropout: of the copy.

    Raises:
        OptionError: see `narrowed_config`.
    """
    narrowed = AcousticModel(narrowed_config(student.config, d_feed_forward), dropout).to(student.head.weight.device)
    state = student.state_dict()
    for place, kept in enumerate(student.config.reference_layers):
        for name in MODULES:
            module = f"encoder.layers.{place}.{name}"
            columns = torch.cat([state[f"{module}.linear2.weight"], state[f"{module}.linear2.bias"][:, None]], dim=1)
            units, fitted = surgeon(columns.double(), moments[kept][name], d_feed_forward)
            state[f"{module}.linear1.weight"] = state[f"{module}.linear1.weight"][units]
            state[f"{module}.linear1.bias"] = state[f"{module}.linear1.bias"][units]
            state[f"{module}.linear2.weight"] = fitted[:, units].float()
            state[f"{module}.linear2.bias"] = fitted[:, -1].float()
    narrowed.load_state_dict(state)
    return narrowed


def surgeon(weights: Tensor, moments: Tensor, n_kept: int) -> tuple[Tensor, Tensor]:
    """Take units away one at a time, each time the one that the output misses least.

    Without unit j, the others' best weights are W - W[:, j] P[j] / P[j, j] with P the inverse of the moments, and the
    output's mean squared error grows by |W[:, j]|^2 / P[j, j].

    Args:
        weights: (D, F + 1) of the output on F units and the constant, float64.
        moments: (F + 1, F + 1) of these.
        n_kept: units to keep, 1 to F. The constant always stays.

    Returns:
        The units that stay, in rising order (n_kept,), and the weights fitted to them (D, F + 1), 0 for the others.
    """
    damped = moments + DAMPING * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype).to(moments)
    inverse = torch.linalg.inv(damped)
    is_unit = torch.ones(len(moments), dtype=torch.bool, device=moments.device)
    is_unit[-1] = False
    weights = weights.clone()
    for _ in range(len(moments) - 1 - n_kept):
        costs = weights.square().sum(0) / inverse.diagonal()
        unit = int(torch.where(is_unit, costs, torch.inf).argmin())
        row = inverse[unit] / inverse[unit, unit]
        weights -= weights[:, unit, None] * row
        inverse -= inverse[:, unit, None] * row
        weights[:, unit] = 0.0
        inverse[:, unit] = inverse[unit] = 0.0
        inverse[unit, unit] = 1.0
        is_unit[unit] = False
    return is_unit.nonzero()[:, 0], weights
