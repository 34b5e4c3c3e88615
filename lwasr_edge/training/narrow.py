"""Students with fewer feed-forward units and narrower attention, nearly the reference before they have learnt anything.

Both follow in closed form from second moments on speech: no gradients, no transcripts.

* Feed-forward modules, by Optimal Brain Surgeon (Hassibi & Stork 1993) for whole columns, as in Kurtic et al. 2023,
  arXiv 2302.04089: of the units that the second product reads, the one goes whose loss costs the output least once the
  others are fitted anew to the output as it was; and so on.
* Attention: of each head's scores q k and of its share in the output, the best approximation of lower rank (Eckart &
  Young 1936), in the metric of what the head hears.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lwasr_edge.errors import OptionError
from lwasr_edge.training.batches import WaveformStore
from lwasr_edge.training.config import ModelConfig
from lwasr_edge.training.conformer import relative_positions
from lwasr_edge.training.model import AcousticModel

DAMPING = 1e-4  # of the mean second moment, added to each: units that rarely differ are not told apart by noise
SMALLEST = 1e-6  # of the largest eigenvalue: directions that a head hardly uses
POSITIONS = 150  # frames either way whose distances count as much as each other
FEED_FORWARDS = ("feed_forward1", "feed_forward2")
READ = (*(f"{name}.linear2" for name in FEED_FORWARDS), "attention.out")  # products whose input counts
WRITTEN = ("attention.query", "attention.key")  # products whose output counts

Moments = list[dict[str, Tensor]]  # of each layer, by the name of the product


@torch.inference_mode()
def hidden_moments(model: AcousticModel, store: WaveformStore, n_utterances: int = 256) -> Moments:
    """Second moments of what the layers' products read or write, over the frames of utterances heard whole.

    Args:
        model: the reference, on the store's device.
        store: training audio.
        n_utterances: how many to hear, spread over the store; all if there are fewer.

    Returns:
        For each layer, by product, (F + 1, F + 1) float64 of F values and a constant 1, which stands for biases.
    """
    moments: Moments = [{} for _ in model.encoder.layers]
    heard = torch.empty(0)

    def add(place: int, name: str, values: Tensor) -> None:
        values = values[heard].double()
        values = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
        moments[place][name] = moments[place].get(name, 0.0) + values.T @ values

    def reads(place: int, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, given: add(place, name, given[0])

    def writes(place: int, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, written: add(place, name, written)

    hooks = []
    for place, layer in enumerate(model.encoder.layers):
        hooks += [layer.get_submodule(name).register_forward_pre_hook(reads(place, name)) for name in READ]
        hooks += [layer.get_submodule(name).register_forward_hook(writes(place, name)) for name in WRITTEN]
    try:
        for indices in tqdm(spread(store, n_utterances), desc="moments", unit="batch", mininterval=1, leave=False):
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


def narrowed_config(config: ModelConfig, d_feed_forward: int | None, d_attention: int | None) -> ModelConfig:
    """The config of a model with so many units in each feed-forward module, and attention of that width.

    Args:
        config: of the wider model.
        d_feed_forward: units; None for all.
        d_attention: of all heads together; None for all.

    Raises:
        OptionError: none, more than there are, or a width that does not divide into the heads.
    """
    encoder = config.encoder
    units = encoder.d_feed_forward if d_feed_forward is None else d_feed_forward
    if not 1 <= units <= encoder.d_feed_forward:
        most = encoder.d_feed_forward
        raise OptionError(f"{units} units of a feed-forward module: expected 1 to {most}, as there are")
    width = encoder.attention_width if d_attention is None else d_attention
    if not 1 <= width <= encoder.attention_width or width % encoder.n_heads:
        multiple = f"a multiple of {encoder.n_heads}, the heads, up to {encoder.attention_width}"
        raise OptionError(f"attention of width {width}: expected {multiple}")
    narrowed = dataclasses.replace(encoder, d_feed_forward=units, d_attention=d_attention or encoder.d_attention)
    return dataclasses.replace(config, encoder=narrowed)


@torch.no_grad()
def narrow(student: AcousticModel, moments: Moments, config: ModelConfig, dropout: float = 0.0) -> AcousticModel:
    """A narrower copy of a student.

    Args:
        student: with the reference's own weights, as `students.inherit` gives it.
        moments: of the reference, by `hidden_moments`.
        config: of the copy, by `narrowed_config`.
        dropout: of the copy.
    """
    narrowed = AcousticModel(config, dropout).to(student.head.weight.device)
    state = student.state_dict()
    layers = tqdm(student.config.reference_layers, desc="narrow", unit="layer", mininterval=1, leave=False)
    for place, kept in enumerate(layers):
        prefix = f"encoder.layers.{place}."
        for name in FEED_FORWARDS:
            narrow_feed_forward(state, f"{prefix}{name}", moments[kept][f"{name}.linear2"], config)
        if config.encoder.attention_width < student.config.encoder.attention_width:
            narrow_attention(state, f"{prefix}attention", moments[kept], config)
    narrowed.load_state_dict(state)
    return narrowed


def narrow_feed_forward(state: dict[str, Tensor], module: str, moments: Tensor, config: ModelConfig) -> None:
    """Leave a feed-forward module in ``state`` the units that `surgeon` keeps."""
    first, second = f"{module}.linear1", f"{module}.linear2"
    columns = torch.cat([state[f"{second}.weight"], state[f"{second}.bias"][:, None]], dim=1)
    units, fitted = surgeon(columns.double(), moments, config.encoder.d_feed_forward)
    state[f"{first}.weight"], state[f"{first}.bias"] = state[f"{first}.weight"][units], state[f"{first}.bias"][units]
    state[f"{second}.weight"], state[f"{second}.bias"] = fitted[:, units].float(), fitted[:, -1].float()


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


def narrow_attention(state: dict[str, Tensor], module: str, moments: dict[str, Tensor], config: ModelConfig) -> None:
    """Leave each head of an attention module in ``state`` the directions of scores and output that count most."""
    n_heads, width = config.encoder.n_heads, config.encoder.attention_width // config.encoder.n_heads
    own = {name.removeprefix(f"{module}."): weight for name, weight in state.items() if name.startswith(f"{module}.")}
    full = len(own["query.bias"]) // n_heads
    sinusoids = relative_positions(POSITIONS, POSITIONS, config.encoder.d_model, own["position.weight"])
    distances = (sinusoids @ own["position.weight"].T).double()
    queries, keys, values = torch.zeros(3, n_heads * full, n_heads * width, dtype=torch.float64).to(distances)
    for head in range(n_heads):
        here, there = slice(head * full, (head + 1) * full), slice(head * width, (head + 1) * width)
        biases = torch.stack([own["content_bias"][head], own["position_bias"][head]]).double()
        heard_key, heard_query = (moments[f"attention.{name}"] for name in ("key", "query"))
        mean = heard_query[here, -1]
        query = heard_query[here, here] + (torch.outer(mean, biases.mean(0)) + torch.outer(biases.mean(0), mean))
        query = query + biases.T @ biases / 2
        # what all keys of a query share, softmax does not see
        key = covariance(heard_key, here) + torch.cov(distances[:, here].T, correction=0)
        queries[here, there], keys[here, there] = low_rank(query, key, width)
        out = own["out.weight"][:, here].double()
        values[here, there] = main_directions(covariance(moments["attention.out"], here), out.T @ out, width)
    scale = (width / full) ** 0.5  # scores are divided by the root of a head's width
    for name, projection in (("query", queries * scale), ("key", keys), ("position", keys)):
        state[f"{module}.{name}.weight"] = (projection.T @ own[f"{name}.weight"].double()).float()
        if name != "position":
            state[f"{module}.{name}.bias"] = (projection.T @ own[f"{name}.bias"].double()).float()
    for name in ("content_bias", "position_bias"):
        biases = own[name].flatten().double() @ (queries * scale)
        state[f"{module}.{name}"] = biases.unflatten(0, (n_heads, -1)).float()
    state[f"{module}.value.weight"] = (values.T @ own["value.weight"].double()).float()
    state[f"{module}.value.bias"] = (values.T @ own["value.bias"].double()).float()
    with_constant = torch.block_diag(values, torch.ones(1, 1).to(values))
    columns = torch.cat([own["out.weight"], own["out.bias"][:, None]], dim=1).double()
    heard = moments["attention.out"] @ with_constant
    fitted = torch.linalg.solve(with_constant.T @ heard, (columns @ heard).T).T
    state[f"{module}.out.weight"], state[f"{module}.out.bias"] = fitted[:, :-1].float(), fitted[:, -1].float()


def covariance(moments: Tensor, values: slice) -> Tensor:
    """Of some values, by the second moments of all and the constant."""
    mean = moments[values, -1]
    return moments[values, values] - torch.outer(mean, mean)


def root(moments: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root of second moments, and its inverse."""
    sizes, directions = torch.linalg.eigh(moments)
    sizes = sizes.clamp(min=SMALLEST * float(sizes.max()))
    return directions * sizes.sqrt() @ directions.T, directions * sizes.rsqrt() @ directions.T


def low_rank(query: Tensor, key: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Projections A, B (d, rank) such that (A^T q) (B^T k) is nearest to q k in the mean square, q and k independent.

    Args:
        query: (d, d) second moments of q.
        key: (d, d) those of k.
        rank: up to d.
    """
    (query_root, query_inverse), (key_root, key_inverse) = root(query), root(key)
    left, sizes, right = torch.linalg.svd(query_root @ key_root)
    shares = sizes[:rank].sqrt()
    return query_inverse @ left[:, :rank] * shares, key_inverse @ right[:rank].T * shares


def main_directions(moments: Tensor, importance: Tensor, rank: int) -> Tensor:
    """Projection (d, rank) of values that keeps most of what a product makes of them.

    Args:
        moments: (d, d) of the values, their means taken off.
        importance: (d, d), the product's weights W as W^T W.
        rank: up to d.
    """
    moments_root, inverse = root(moments)
    _, directions = torch.linalg.eigh(moments_root @ importance @ moments_root)
    return inverse @ directions[:, -rank:]
