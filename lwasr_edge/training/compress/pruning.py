"""Structured pruning and low-rank factorisation in closed form, from second moments on speech.

Neither gradients nor transcripts are needed. The pruned student is close to the reference before it is trained.

* Feed-forward units and subsampling channels: Optimal Brain Surgeon (Hassibi & Stork 1993) for groups of weights, as in
  Kurtic et al. 2023, arXiv 2302.04089: remove the unit whose removal increases the output error least after the other
  weights are refitted, and repeat.
* Attention: the best low-rank approximation of each head's scores and of its output (Eckart & Young 1936), weighted by
  the covariance of the head's inputs.

Every weight matrix is extended by its bias, and every input by a constant 1: shape letters F + 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lwasr_edge.training.data.batches import Batch, WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.model.conformer import MEL_CONTEXT, Subsampling, relative_positions
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR

DAMPING = 1e-4  # of the mean second moment, added to each: units that rarely differ are not told apart by noise
SMALLEST_EIGENVALUE = 1e-6  # of the largest: a lower bound, for directions that a head hardly uses
MAX_DISTANCE = 150  # frames; the distances up to it, either way, have equal weight
KERNEL_SIZE = 9  # of a 3x3 convolution
POSITION_STRIDE = 7  # share of the second convolution's positions used; prime to the bands, so that all are sampled
FEED_FORWARDS = ("feed_forward1", "feed_forward2")
INPUT_MOMENTS = (*(f"{name}.linear2" for name in FEED_FORWARDS), "attention.out")  # layers whose input is measured
OUTPUT_MOMENTS = ("attention.query", "attention.key")  # layers whose output is measured

Moments = list[dict[str, Tensor]]  # for each Conformer layer, (F + 1, F + 1) by the name of the linear layer
Augment = Callable[[Tensor, Tensor], Tensor]  # (B, N) and (B,) samples of each -> (B, N)
FeatureBatches = list[tuple[Tensor, Tensor]]  # features (B, MEL_CONTEXT + 4 U, n_mels) and mask of valid frames (B, U)


def augmented(batch: Batch, augment: Augment | None) -> Tensor:
    """The samples of a batch, (B, N), augmented."""
    return batch.waveform if augment is None else augment(batch.waveform, batch.n_samples)


def with_constant(values: Tensor) -> Tensor:
    """Append a column of ones. (N, F) -> (N, F + 1) float64"""
    values = values.double()
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def with_bias(weight: Tensor, bias: Tensor) -> Tensor:
    """Append the bias as a column. (D, F) and (D,) -> (D, F + 1)"""
    return torch.cat([weight, bias[:, None]], dim=1)


def damped(moments: Tensor) -> Tensor:
    """Second moments with `DAMPING` on the diagonal, which makes them invertible."""
    mean = moments.diagonal().mean()
    return moments + DAMPING * mean * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)


def valid_frames(features: Tensor, lengths: Tensor) -> Tensor:
    """Mask of the encoder frames that are not padding. (B, 4 U, n_mels) and (B,) frames -> (B, U) bool"""
    return torch.arange(features.shape[1] // SUBSAMPLING_FACTOR, device=lengths.device) < lengths[:, None]


def optimal_brain_surgeon(weights: Tensor, moments: Tensor, n_kept: int, size: int = 1) -> tuple[Tensor, Tensor]:
    """Remove units one at a time, each time the one whose removal increases the output error least.

    Without unit j, the best weights of the others are W - W_j P_jj^-1 P_j, with P the inverse of the moments, W_j the
    unit's columns, P_j its rows and P_jj their intersection; the output's mean squared error grows by
    tr(W_j P_jj^-1 W_j^T).

    Args:
        weights: (D, F size + 1) float64, of the output on F units of ``size`` values each and the constant.
        moments: (F size + 1, F size + 1) float64, second moments of these values.
        n_kept: units to keep, 1 to F. The constant is always kept.
        size: values of a unit, next to each other.

    Returns:
        The kept units in rising order, (n_kept,), and the refitted weights, 0 for removed units.
    """
    inverse, weights = torch.linalg.inv(damped(moments)), weights.clone()
    n_units = (len(moments) - 1) // size
    is_left = torch.ones(n_units, dtype=torch.bool, device=moments.device)
    for _ in tqdm(range(n_units - n_kept), desc="prune", unit="unit", mininterval=1, delay=2, leave=False):
        columns = weights[:, :-1].unflatten(1, (n_units, size))
        blocks = inverse[:-1, :-1].unflatten(1, (n_units, size)).unflatten(0, (n_units, size))
        metric = torch.linalg.inv(
            blocks.diagonal(dim1=0, dim2=2).movedim(2, 0)
        )  # P_jj^-1 of each unit, (F, size, size)
        costs = (torch.einsum("dus,ust->dut", columns, metric) * columns).sum((0, 2))
        unit = int(torch.where(is_left, costs, torch.inf).argmin())
        removed = slice(unit * size, (unit + 1) * size)
        rows = metric[unit] @ inverse[removed]
        weights -= weights[:, removed] @ rows
        inverse.addmm_(inverse[:, removed].clone(), rows, alpha=-1)  # in place: it is the largest tensor
        weights[:, removed] = 0.0
        inverse[:, removed] = 0.0
        inverse[removed] = 0.0
        inverse[removed, removed] = torch.eye(size, dtype=inverse.dtype, device=inverse.device)
        is_left[unit] = False
    return is_left.nonzero()[:, 0], weights


def has(layer: nn.Module, linear: str) -> bool:
    """Whether a layer has the module of a linear layer, as "attention.out"."""
    return getattr(layer, linear.split(".")[0]) is not None


@torch.inference_mode()
def hidden_moments(
    model: AcousticModel, store: WaveformStore, n_utterances: int = 256, augment: Augment | None = None
) -> Moments:
    """Second moments of inputs and outputs of the layers' linear layers, over the frames of utterances in full context.

    Args:
        model: the reference, on the store's device.
        store: training audio.
        n_utterances: how many to use, evenly spaced; all if there are fewer.
        augment: of every batch; None: as recorded.

    Returns:
        For each Conformer layer, by name of the linear layer, (F + 1, F + 1) float64 of F values and a constant 1.
    """
    moments: Moments = [{} for _ in model.encoder.layers]
    valid = torch.empty(0)

    def add(index: int, name: str, values: Tensor) -> None:
        values = with_constant(values[valid])
        moments[index][name] = moments[index].get(name, 0.0) + values.T @ values

    def add_input(index: int, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: add(index, name, inputs[0])

    def add_output(index: int, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: add(index, name, output)

    hooks = []
    for index, layer in enumerate(model.encoder.layers):
        for name in (one for one in INPUT_MOMENTS if has(layer, one)):
            hooks.append(layer.get_submodule(name).register_forward_pre_hook(add_input(index, name)))
        for name in (one for one in OUTPUT_MOMENTS if has(layer, one)):
            hooks.append(layer.get_submodule(name).register_forward_hook(add_output(index, name)))
    try:
        for indices in tqdm(store.spread(n_utterances), desc="moments", unit="batch", mininterval=1, leave=False):
            batch = store.batch(indices)
            features, lengths = model.features(augmented(batch, augment), batch.n_samples)
            valid = valid_frames(features, lengths)
            model(features, lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return [{name: moment / moment[-1, -1] for name, moment in layer.items()} for layer in moments]


@torch.no_grad()
def prune_layers(state: dict[str, Tensor], moments: Moments, config: ModelConfig) -> None:
    """Prune the layers in a model's state dict to the sizes of ``config``, in place.

    Args:
        state: weights by name.
        moments: of the model's layers, from `hidden_moments`.
        config: of the pruned model.
    """
    for index, moment in enumerate(tqdm(moments, desc="prune", unit="layer", mininterval=1, leave=False)):
        prefix = f"encoder.layers.{index}."
        for name in (one for one in FEED_FORWARDS if f"{one}.linear2" in moment):
            prune_feed_forward(state, f"{prefix}{name}", moment[f"{name}.linear2"], config.encoder.d_feed_forward)
        has_attention = "attention.out" in moment
        if has_attention and config.encoder.attention_width < len(state[f"{prefix}attention.query.bias"]):
            factorise_attention(state, f"{prefix}attention", moment, config)


def prune_feed_forward(state: dict[str, Tensor], module: str, moments: Tensor, n_units: int) -> None:
    """Prune the hidden units of a feed-forward module in ``state`` to ``n_units``, in place."""
    first, second = f"{module}.linear1", f"{module}.linear2"
    weights = with_bias(state[f"{second}.weight"], state[f"{second}.bias"])
    units, fitted = optimal_brain_surgeon(weights.double(), moments, n_units)
    state[f"{first}.weight"], state[f"{first}.bias"] = state[f"{first}.weight"][units], state[f"{first}.bias"][units]
    state[f"{second}.weight"], state[f"{second}.bias"] = fitted[:, units].float(), fitted[:, -1].float()


def factorise_attention(state: dict[str, Tensor], module: str, moments: dict[str, Tensor], config: ModelConfig) -> None:
    """Reduce the width of each head of an attention module in ``state`` by low-rank factorisation, in place.

    Args:
        state: weights by name.
        module: name of the attention module.
        moments: of its layer, see `hidden_moments`.
        config: of the pruned model.
    """
    n_heads, width = config.encoder.n_heads, config.encoder.attention_width // config.encoder.n_heads
    own = {name.removeprefix(f"{module}."): weight for name, weight in state.items() if name.startswith(f"{module}.")}
    queries, keys, values = head_projections(own, moments, n_heads, width, config.encoder.d_model)
    queries = queries * (width / (len(queries) // n_heads)) ** 0.5  # scores are divided by the root of a head's width
    for name, projection in (("query", queries), ("key", keys), ("value", values)):
        state[f"{module}.{name}.weight"] = (projection.T @ own[f"{name}.weight"].double()).float()
        state[f"{module}.{name}.bias"] = (projection.T @ own[f"{name}.bias"].double()).float()
    state[f"{module}.position.weight"] = (keys.T @ own["position.weight"].double()).float()
    for name in ("content_bias", "position_bias"):
        biases = own[name].flatten().double() @ queries
        state[f"{module}.{name}"] = biases.unflatten(0, (n_heads, -1)).float()
    with_ones = torch.block_diag(values, torch.ones(1, 1).to(values))
    cross = moments["attention.out"] @ with_ones
    weights = with_bias(own["out.weight"], own["out.bias"]).double()
    fitted = torch.linalg.solve(with_ones.T @ cross, (weights @ cross).T).T
    state[f"{module}.out.weight"], state[f"{module}.out.bias"] = fitted[:, :-1].float(), fitted[:, -1].float()


def head_projections(
    own: dict[str, Tensor], moments: dict[str, Tensor], n_heads: int, width: int, d_model: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of queries, keys and values to ``width`` dimensions per head.

    Args:
        own: weights of the attention module by name.
        moments: of its layer, see `hidden_moments`.
        n_heads: H.
        width: of a head after the projection.
        d_model: D.

    Returns:
        Three (A, H width) float64, block-diagonal by head.
    """
    full = len(own["query.bias"]) // n_heads
    sinusoids = relative_positions(MAX_DISTANCE, MAX_DISTANCE, d_model, own["position.weight"])
    distances = (sinusoids @ own["position.weight"].T).double()
    queries, keys, values = torch.zeros(3, n_heads * full, n_heads * width, dtype=torch.float64).to(distances)
    for head in range(n_heads):
        old, new = slice(head * full, (head + 1) * full), slice(head * width, (head + 1) * width)
        biases = torch.stack([own["content_bias"][head], own["position_bias"][head]]).double()
        mean = moments["attention.query"][old, -1]
        query = moments["attention.query"][old, old]
        query = query + (torch.outer(mean, biases.mean(0)) + torch.outer(biases.mean(0), mean))
        query = query + biases.T @ biases / 2
        # softmax is invariant to a constant added to all scores, so only the covariance of the keys matters
        key = covariance(moments["attention.key"], old) + torch.cov(distances[:, old].T, correction=0)
        queries[old, new], keys[old, new] = low_rank(query, key, width)
        out = own["out.weight"][:, old].double()
        values[old, new] = main_directions(covariance(moments["attention.out"], old), out.T @ out, width)
    return queries, keys, values


def covariance(moments: Tensor, values: slice) -> Tensor:
    """Covariance of some values, from the second moments of all values and the constant."""
    mean = moments[values, -1]
    return moments[values, values] - torch.outer(mean, mean)


def square_root(moments: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root of second moments, and its inverse."""
    eigenvalues, directions = torch.linalg.eigh(moments)
    eigenvalues = eigenvalues.clamp(min=SMALLEST_EIGENVALUE * float(eigenvalues.max()))
    return directions * eigenvalues.sqrt() @ directions.T, directions * eigenvalues.rsqrt() @ directions.T


def low_rank(query: Tensor, key: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Projections A, B (d, rank) that minimise the mean squared error of (A^T q) (B^T k) to q k, q and k independent.

    Args:
        query: (d, d) second moments of q.
        key: (d, d) second moments of k.
        rank: up to d.
    """
    (query_root, query_inverse), (key_root, key_inverse) = square_root(query), square_root(key)
    left, sizes, right = torch.linalg.svd(query_root @ key_root)
    shares = sizes[:rank].sqrt()
    return query_inverse @ left[:, :rank] * shares, key_inverse @ right[:rank].T * shares


def main_directions(moments: Tensor, importance: Tensor, rank: int) -> Tensor:
    """Projection (d, rank) of values that preserves the output of the linear layer after them best.

    Args:
        moments: (d, d) covariance of the values.
        importance: (d, d), W^T W of the linear layer's weights W.
        rank: up to d.
    """
    root, inverse = square_root(moments)
    _, directions = torch.linalg.eigh(root @ importance @ root)
    return inverse @ directions[:, -rank:]


@torch.inference_mode()
def pruned_subsampling(
    model: AcousticModel,
    store: WaveformStore,
    n_channels: int,
    n_utterances: int = 128,
    augment: Augment | None = None,
) -> Subsampling:
    """A copy of the model's subsampling with fewer channels and nearly the same output.

    Args:
        model: on the store's device.
        store: training audio.
        n_channels: of both convolutions, up to the model's.
        n_utterances: how many to use, evenly spaced; all if there are fewer.
        augment: of every batch; None: as recorded.
    """
    full = model.encoder.subsampling
    subsampling = copy.deepcopy(full)
    batches = feature_batches(model, store, n_utterances, augment)
    prune_first_convolution(subsampling, batches, n_channels)
    prune_second_convolution(subsampling, full, batches, n_channels)
    pruned = Subsampling(model.config.frontend.n_mels, n_channels, model.config.encoder.d_model).to(store.device)
    pruned.load_state_dict(subsampling.state_dict())
    return pruned


def feature_batches(
    model: AcousticModel, store: WaveformStore, n_utterances: int, augment: Augment | None = None
) -> FeatureBatches:
    """Input of the subsampling for some utterances, evenly spaced."""
    batches = []
    for indices in store.spread(n_utterances):
        batch = store.batch(indices)
        features, lengths = model.features(augmented(batch, augment), batch.n_samples)
        batches.append((F.pad(features, (0, 0, MEL_CONTEXT, 0)), valid_frames(features, lengths)))
    return batches


def prune_first_convolution(subsampling: Subsampling, batches: FeatureBatches, n_channels: int) -> None:
    """Prune the first convolution's channels and refit the second, in place.

    The error of each output of the second is weighted by the norm of the linear layer's weights for it.
    """
    first, second = subsampling.conv1, subsampling.conv2
    moments = torch.zeros(1, dtype=torch.float64, device=second.weight.device)
    for features, valid in tqdm(batches, desc="first convolution", unit="batch", mininterval=1, leave=False):
        values = F.unfold(F.relu(first(features.unsqueeze(1))), 3, padding=(0, 1), stride=2)  # (B, 9 C, U bands)
        values = values.unflatten(2, (valid.shape[1], -1)).permute(0, 2, 3, 1)[valid].flatten(0, 1)[::POSITION_STRIDE]
        values = with_constant(values)
        moments = moments + values.T @ values
    by_channel = subsampling.linear.weight.unflatten(1, (second.out_channels, -1))
    importance = torch.linalg.vector_norm(by_channel, dim=(0, 2))[:, None].clamp(min=1e-9)
    weights = with_bias(second.weight.flatten(1), second.get_parameter("bias")) * importance
    channels, fitted = optimal_brain_surgeon(weights.double(), moments / moments[-1, -1], n_channels, KERNEL_SIZE)
    fitted = fitted.float() / importance
    select_outputs(first, channels)
    second.weight = nn.Parameter(fitted[:, :-1].unflatten(1, (-1, 3, 3))[:, channels])
    second.bias = nn.Parameter(fitted[:, -1])


def prune_second_convolution(
    subsampling: Subsampling, full: Subsampling, batches: FeatureBatches, n_channels: int
) -> None:
    """Prune the second convolution's channels and refit the linear layer to the output of ``full``, in place."""
    second, linear = subsampling.conv2, subsampling.linear
    moments = torch.zeros(1, dtype=torch.float64, device=second.weight.device)
    cross = moments
    for features, valid in tqdm(batches, desc="second convolution", unit="batch", mininterval=1, leave=False):
        values = with_constant(subsampling.convolve(features)[valid])
        moments = moments + values.T @ values
        cross = cross + values.T @ full(features)[valid].double()
    n_frames = moments[-1, -1].clone()
    moments, cross = moments / n_frames, cross / n_frames
    weights = torch.linalg.solve(damped(moments), cross).T
    width = linear.in_features // second.out_channels  # values of a channel in a frame
    channels, fitted = optimal_brain_surgeon(weights, moments, n_channels, width)
    select_outputs(second, channels)
    by_channel = fitted[:, :-1].unflatten(1, (-1, width))
    linear.weight = nn.Parameter(by_channel[:, channels].flatten(1).float())
    linear.bias = nn.Parameter(fitted[:, -1].float())


def select_outputs(convolution: nn.Conv2d, channels: Tensor) -> None:
    """Reduce a convolution to some of its output channels, in place."""
    for name in ("weight", "bias"):
        setattr(convolution, name, nn.Parameter(convolution.get_parameter(name)[channels]))
