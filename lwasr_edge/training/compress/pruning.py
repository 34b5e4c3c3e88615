"""Students with fewer feed-forward units and narrower attention, nearly the reference before they have learnt anything.

Both follow in closed form from second moments on speech: no gradients, no transcripts. The front: `narrow_front`.

* Feed-forward modules, by Optimal Brain Surgeon (`surgeon`): of the units that the second product reads, the one goes
  whose loss costs the output least once the others are fitted anew to the output as it was; and so on.
* Attention: of each head's scores q k and of its share in the output, the best approximation of lower rank (Eckart &
  Young 1936), in the metric of what the head hears.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lwasr_edge.training.compress.surgeon import surgeon, with_constant
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.model.conformer import relative_positions

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
        values = with_constant(values[heard])
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
        for indices in tqdm(store.spread(n_utterances), desc="moments", unit="batch", mininterval=1, leave=False):
            batch = store.batch(indices)
            features, lengths = model.features(batch.waveform, batch.n_samples)
            heard = torch.arange(features.shape[1] // 4, device=lengths.device) < lengths[:, None]
            model(features, lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return [{name: moment / moment[-1, -1] for name, moment in layer.items()} for layer in moments]


@torch.no_grad()
def narrow_layers(state: dict[str, Tensor], moments: Moments, config: ModelConfig) -> None:
    """Narrow the layers in a model's ``state`` to those of ``config``.

    Args:
        state: weights by name.
        moments: of the model's layers, by `hidden_moments`.
        config: of the narrower model.
    """
    for place, moment in enumerate(tqdm(moments, desc="narrow", unit="layer", mininterval=1, leave=False)):
        prefix = f"encoder.layers.{place}."
        for name in FEED_FORWARDS:
            narrow_feed_forward(state, f"{prefix}{name}", moment[f"{name}.linear2"], config)
        if config.encoder.attention_width < len(state[f"{prefix}attention.query.bias"]):
            narrow_attention(state, f"{prefix}attention", moment, config)


def narrow_feed_forward(state: dict[str, Tensor], module: str, moments: Tensor, config: ModelConfig) -> None:
    """Leave a feed-forward module in ``state`` the units that `surgeon` keeps."""
    first, second = f"{module}.linear1", f"{module}.linear2"
    columns = torch.cat([state[f"{second}.weight"], state[f"{second}.bias"][:, None]], dim=1)
    units, fitted = surgeon(columns.double(), moments, config.encoder.d_feed_forward)
    state[f"{first}.weight"], state[f"{first}.bias"] = state[f"{first}.weight"][units], state[f"{first}.bias"][units]
    state[f"{second}.weight"], state[f"{second}.bias"] = fitted[:, units].float(), fitted[:, -1].float()


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
