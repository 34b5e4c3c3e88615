"""Structured pruning and low-rank factorisation in closed form, from second moments on speech.

Neither gradients nor transcripts are needed. The pruned student is close to the reference before it is trained.

* Feed-forward units and subsampling channels: Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units, as in
  Kurtic et al. 2023, arXiv 2302.04089. The unit whose loss costs the output least, after the others are refitted, is
  removed; then the next.
* Attention: the best low-rank approximation of each head's scores and of its share of the output (Eckart & Young 1936),
  weighted by the covariance of the head's inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.model.conformer import MEL_CONTEXT, Subsampling, relative_positions
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR

DAMPING = 1e-4  # of the mean second moment, added to each: units that rarely differ are not told apart by noise
SMALLEST = 1e-6  # of the largest eigenvalue: directions that a head hardly uses
POSITIONS = 150  # frames either way whose distances count as much as each other
FEED_FORWARDS = ("feed_forward1", "feed_forward2")
READ = (*(f"{name}.linear2" for name in FEED_FORWARDS), "attention.out")  # products whose input counts
WRITTEN = ("attention.query", "attention.key")  # products whose output counts

Moments = list[dict[str, Tensor]]  # of each layer, by the name of the product
TAPS = 9  # of a 3x3 kernel
EVERY = 7  # of the places where the second convolution reads: prime to the bands, so that each of them is heard

Heard = list[tuple[Tensor, Tensor]]  # features (B, MEL_CONTEXT + 4 U, n_mels), which frames are no padding (B, U)


def with_constant(values: Tensor) -> Tensor:
    """(N, F) -> (N, F + 1) float64: a 1 behind each row, which stands for biases."""
    values = values.double()
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def damped(moments: Tensor) -> Tensor:
    """Second moments that can be inverted."""
    mean = moments.diagonal().mean()
    return moments + DAMPING * mean * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)


def optimal_brain_surgeon(weights: Tensor, moments: Tensor, n_kept: int, size: int = 1) -> tuple[Tensor, Tensor]:
    """Take units away one at a time, each time the one that the output misses least.

    Without unit j, the others' best weights are W - W_j P_jj^-1 P_j, with P the inverse of the moments, W_j the unit's
    columns, P_j its rows and P_jj where these meet; the output's mean squared error grows by tr(W_j P_jj^-1 W_j^T).

    Args:
        weights: (D, F size + 1) of the output on F units of ``size`` values each and the constant, float64.
        moments: (F size + 1, F size + 1) of these.
        n_kept: units to keep, 1 to F. The constant always stays.
        size: values of a unit, next to each other.

    Returns:
        The units that stay, in rising order (n_kept,), and the weights fitted to them, 0 for the others.
    """
    inverse, weights = torch.linalg.inv(damped(moments)), weights.clone()
    n_units = (len(moments) - 1) // size
    is_left = torch.ones(n_units, dtype=torch.bool, device=moments.device)
    for _ in tqdm(range(n_units - n_kept), desc="removed", unit="unit", mininterval=1, delay=2, leave=False):
        columns = weights[:, :-1].unflatten(1, (n_units, size))
        met = inverse[:-1, :-1].unflatten(1, (n_units, size)).unflatten(0, (n_units, size))
        metric = torch.linalg.inv(met.diagonal(dim1=0, dim2=2).movedim(2, 0))  # (F, size, size), of each unit
        costs = (torch.einsum("dus,ust->dut", columns, metric) * columns).sum((0, 2))
        unit = int(torch.where(is_left, costs, torch.inf).argmin())
        gone = slice(unit * size, (unit + 1) * size)
        rows = metric[unit] @ inverse[gone]
        weights -= weights[:, gone] @ rows
        inverse.addmm_(inverse[:, gone].clone(), rows, alpha=-1)  # the largest; in its place
        weights[:, gone] = 0.0
        inverse[:, gone] = 0.0
        inverse[gone] = 0.0
        inverse[gone, gone] = torch.eye(size, dtype=inverse.dtype, device=inverse.device)
        is_left[unit] = False
    return is_left.nonzero()[:, 0], weights


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
            heard = torch.arange(features.shape[1] // SUBSAMPLING_FACTOR, device=lengths.device) < lengths[:, None]
            model(features, lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return [{name: moment / moment[-1, -1] for name, moment in layer.items()} for layer in moments]


@torch.no_grad()
def prune_layers(state: dict[str, Tensor], moments: Moments, config: ModelConfig) -> None:
    """Narrow the layers in a model's ``state`` to those of ``config``.

    Args:
        state: weights by name.
        moments: of the model's layers, by `hidden_moments`.
        config: of the narrower model.
    """
    for place, moment in enumerate(tqdm(moments, desc="narrow", unit="layer", mininterval=1, leave=False)):
        prefix = f"encoder.layers.{place}."
        for name in FEED_FORWARDS:
            prune_feed_forward(state, f"{prefix}{name}", moment[f"{name}.linear2"], config)
        if config.encoder.attention_width < len(state[f"{prefix}attention.query.bias"]):
            factorise_attention(state, f"{prefix}attention", moment, config)


def prune_feed_forward(state: dict[str, Tensor], module: str, moments: Tensor, config: ModelConfig) -> None:
    """Leave a feed-forward module in ``state`` the units that `surgeon` keeps."""
    first, second = f"{module}.linear1", f"{module}.linear2"
    columns = torch.cat([state[f"{second}.weight"], state[f"{second}.bias"][:, None]], dim=1)
    units, fitted = optimal_brain_surgeon(columns.double(), moments, config.encoder.d_feed_forward)
    state[f"{first}.weight"], state[f"{first}.bias"] = state[f"{first}.weight"][units], state[f"{first}.bias"][units]
    state[f"{second}.weight"], state[f"{second}.bias"] = fitted[:, units].float(), fitted[:, -1].float()


def factorise_attention(state: dict[str, Tensor], module: str, moments: dict[str, Tensor], config: ModelConfig) -> None:
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


@torch.inference_mode()
def pruned_subsampling(
    model: AcousticModel, store: WaveformStore, n_channels: int, n_utterances: int = 128
) -> Subsampling:
    """A front with fewer channels that does nearly what the model's does.

    Args:
        model: on the store's device.
        store: training audio.
        n_channels: of both convolutions, up to the model's.
        n_utterances: how many to hear, spread over the store; all if there are fewer.
    """
    whole = model.encoder.subsampling
    front = copy.deepcopy(whole)
    heard = features_of(model, store, n_utterances)
    narrow_first(front, heard, n_channels)
    narrow_second(front, whole, heard, n_channels)
    narrowed = Subsampling(model.config.frontend.n_mels, n_channels, model.config.encoder.d_model).to(store.device)
    narrowed.load_state_dict(front.state_dict())
    return narrowed


def features_of(model: AcousticModel, store: WaveformStore, n_utterances: int) -> Heard:
    """What the front is given of some utterances."""
    heard = []
    for indices in store.spread(n_utterances):
        batch = store.batch(indices)
        features, lengths = model.features(batch.waveform, batch.n_samples)
        is_heard = torch.arange(features.shape[1] // SUBSAMPLING_FACTOR, device=lengths.device) < lengths[:, None]
        heard.append((F.pad(features, (0, 0, MEL_CONTEXT, 0)), is_heard))
    return heard


def narrow_first(front: Subsampling, heard: Heard, n_channels: int) -> None:
    """Leave the first convolution the channels that the second misses most, each of its outputs as loud as later."""
    first, second = front.conv1, front.conv2
    moments = torch.zeros(1, dtype=torch.float64, device=second.weight.device)
    for features, is_heard in tqdm(heard, desc="first convolution", unit="batch", mininterval=1, leave=False):
        values = F.unfold(F.relu(first(features.unsqueeze(1))), 3, padding=(0, 1), stride=2)  # (B, 9 C, U bands)
        read = values.unflatten(2, (is_heard.shape[1], -1)).permute(0, 2, 3, 1)[is_heard].flatten(0, 1)[::EVERY]
        read = with_constant(read)
        moments = moments + read.T @ read
    by_channel = front.linear.weight.unflatten(1, (second.out_channels, -1))
    loudness = torch.linalg.vector_norm(by_channel, dim=(0, 2))[:, None].clamp(min=1e-9)
    columns = torch.cat([second.weight.flatten(1), second.get_parameter("bias")[:, None]], dim=1) * loudness
    channels, fitted = optimal_brain_surgeon(columns.double(), moments / moments[-1, -1], n_channels, TAPS)
    fitted = fitted.float() / loudness
    keep_outputs(first, channels)
    second.weight = nn.Parameter(fitted[:, :-1].unflatten(1, (-1, 3, 3))[:, channels])
    second.bias = nn.Parameter(fitted[:, -1])


def narrow_second(front: Subsampling, whole: Subsampling, heard: Heard, n_channels: int) -> None:
    """Leave the second convolution the channels with which the linear layer comes nearest to the whole front."""
    second, linear = front.conv2, front.linear
    moments = torch.zeros(1, dtype=torch.float64, device=second.weight.device)
    products = moments
    for features, is_heard in tqdm(heard, desc="second convolution", unit="batch", mininterval=1, leave=False):
        read = with_constant(front.convolve(features)[is_heard])
        moments = moments + read.T @ read
        products = products + read.T @ whole(features)[is_heard].double()
    n_frames = moments[-1, -1].clone()
    moments, products = moments / n_frames, products / n_frames
    columns = torch.linalg.solve(damped(moments), products).T
    width = linear.in_features // second.out_channels  # values of a channel in a frame
    channels, fitted = optimal_brain_surgeon(columns, moments, n_channels, width)
    keep_outputs(second, channels)
    by_channel = fitted[:, :-1].unflatten(1, (-1, width))
    linear.weight = nn.Parameter(by_channel[:, channels].flatten(1).float())
    linear.bias = nn.Parameter(fitted[:, -1].float())


def keep_outputs(convolution: nn.Conv2d, channels: Tensor) -> None:
    """Leave a convolution some of its outputs."""
    for name in ("weight", "bias"):
        setattr(convolution, name, nn.Parameter(convolution.get_parameter(name)[channels]))
