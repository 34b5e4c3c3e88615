"""Pruning removes the units and directions with the least effect on the output, and refits the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_model, two_utterances

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.pruning import (
    feature_batches,
    hidden_moments,
    low_rank,
    main_directions,
    optimal_brain_surgeon,
    pruned_subsampling,
)
from lwasr_edge.training.compress.students import Shape, init_students, student_config
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel


@pytest.fixture
def store(tmp_path: Path) -> WaveformStore:
    return WaveformStore(two_utterances(tmp_path, 3.0), torch.device("cpu"))


def squared_error(wanted: torch.Tensor, weights: torch.Tensor, moments: torch.Tensor) -> float:
    """Mean over the frames, summed over the outputs."""
    difference = wanted - weights
    return float(((difference @ moments) * difference).sum())


def random_weights(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated_moments(n_units: int, seed: int = 3) -> torch.Tensor:
    """Of units that partly repeat each other, and the constant."""
    generator = torch.Generator().manual_seed(seed)
    units = torch.randn(4000, n_units, generator=generator, dtype=torch.float64)
    units = units @ torch.randn(n_units, n_units, generator=generator, dtype=torch.float64) + 0.3
    units = torch.cat([units, units.new_ones(len(units), 1)], dim=1)
    return units.T @ units / len(units)


def test_kept_units_are_fitted_by_least_squares() -> None:
    """No other weights of the same units are nearer to the original output."""
    moments, wanted = correlated_moments(10), random_weights(6, 11)
    kept, fitted = optimal_brain_surgeon(wanted, moments, 4)
    columns = [*kept.tolist(), 10]
    best = torch.zeros_like(wanted)
    best[:, columns] = torch.linalg.solve(moments[columns][:, columns], moments[columns] @ wanted.T).T
    assert len(kept) == 4 and kept.tolist() == sorted(kept.tolist())
    assert not fitted[:, [i for i in range(10) if i not in columns]].any()
    least = squared_error(wanted, best, moments)
    assert least <= squared_error(wanted, fitted, moments) < 1.01 * least  # the damping costs the rest
    unfitted = torch.zeros_like(wanted)
    unfitted[:, columns] = wanted[:, columns]
    assert squared_error(wanted, fitted, moments) < 0.7 * squared_error(wanted, unfitted, moments)


def test_the_first_removed_unit_has_the_least_error() -> None:
    moments, wanted = correlated_moments(8), random_weights(5, 9)
    errors = []
    for unit in range(8):
        columns = [i for i in range(9) if i != unit]
        best = torch.zeros_like(wanted)
        best[:, columns] = torch.linalg.solve(moments[columns][:, columns], moments[columns] @ wanted.T).T
        errors.append(squared_error(wanted, best, moments))
    kept, _ = optimal_brain_surgeon(wanted, moments, 7)
    assert set(range(8)) - set(kept.tolist()) == {int(np.argmin(errors))}


def test_moments_are_of_valid_frames(store: WaveformStore) -> None:
    """Padding is left out: moments of a batch are those of its utterances, each weighted by its frames."""
    model = small_model(n_layers=2)
    together = hidden_moments(model, store)
    seen: list[torch.Tensor] = []
    hook = model.encoder.layers[1].feed_forward2.linear2.register_forward_pre_hook(lambda _, x: seen.append(x[0][0]))
    with torch.no_grad():
        for index in (0, 1):
            batch = store.batch(np.array([index]))
            features, lengths = model.features(batch.waveform, batch.n_samples)
            model(features, lengths)
    hook.remove()
    units = torch.cat(seen).double()
    units = torch.cat([units, units.new_ones(len(units), 1)], dim=1)
    moment = together[1]["feed_forward2.linear2"]
    torch.testing.assert_close(moment, units.T @ units / len(units), rtol=1e-4, atol=1e-6)
    assert float(moment[-1, -1]) == 1.0


@torch.no_grad()
def test_duplicate_units_are_removed_without_loss(store: WaveformStore) -> None:
    """A reference with two copies of every unit is unchanged with half of them."""
    reference = small_model(n_layers=3)
    for layer in reference.encoder.layers:
        for module in (layer.feed_forward1, layer.feed_forward2):
            for tensor in (module.linear1.weight, module.linear1.bias):
                tensor[16:] = tensor[:16]
    shapes = {"full": Shape((0, 2)), "pruned": Shape((0, 2), 16)}
    students = init_students(reference, shapes, store)
    assert students["pruned"].config.encoder.d_feed_forward == 16
    assert students["pruned"].config == student_config(reference.config, shapes["pruned"])
    batch = store.batch(np.array([0, 1]))
    full, pruned = (one.log_probs(batch.waveform, batch.n_samples)[0] for one in students.values())
    torch.testing.assert_close(pruned, full, rtol=0.0, atol=1e-2)
    assert (pruned.argmax(2) == full.argmax(2)).float().mean() > 0.98


@torch.no_grad()
def test_low_rank_attention_is_factorised_without_loss(store: WaveformStore) -> None:
    """A reference whose heads use three of their eight directions is unchanged with heads of width three."""
    reference = small_model(n_layers=3)
    torch.manual_seed(1)
    for layer in reference.encoder.layers:
        attention = layer.attention
        attention.content_bias.mul_(3)  # large enough that an error in them shows
        attention.position_bias.mul_(3)
        for head in (slice(0, 8), slice(8, 16)):
            directions = torch.linalg.qr(torch.randn(8, 3)).Q
            onto = directions @ directions.T
            for name in ("key", "position"):
                linear = attention.get_submodule(name)
                linear.weight[head] = 3 * onto @ linear.weight[head]
            attention.key.bias[head] = onto @ attention.key.bias[head]
            attention.out.weight[:, head] = attention.out.weight[:, head] @ onto
    shapes = {"full": Shape((0, 2)), "pruned": Shape((0, 2), None, 6)}
    students = init_students(reference, shapes, store)
    student = students["pruned"]
    assert student.config.encoder.d_attention == 6
    assert student.encoder.layers[0].attention.out.weight.shape == (16, 6)
    batch = store.batch(np.array([0, 1]))
    for chunking in (None, Chunking(16, 8)):
        full, pruned = (one.log_probs(batch.waveform, batch.n_samples, chunking)[0] for one in students.values())
        torch.testing.assert_close(pruned, full, rtol=0.0, atol=1e-3)
    smaller = init_students(reference, {"smaller": Shape((0, 2), None, 4)}, store)["smaller"]
    difference = (smaller.log_probs(batch.waveform, batch.n_samples)[0] - full).abs().max()
    assert float(difference) > 1e-2  # two of three directions are not enough


def second_moments(n_values: int, seed: int) -> torch.Tensor:
    mixed = random_weights(n_values, 3 * n_values, seed=seed)
    return mixed @ mixed.T


def test_low_rank_is_nearer_than_the_directions_of_either_side() -> None:
    query, key = second_moments(6, 7), second_moments(6, 8)

    def error(left: torch.Tensor, right: torch.Tensor) -> float:
        difference = torch.eye(6, dtype=torch.float64) - left @ right.T
        return float(torch.trace(query @ difference @ key @ difference.T))

    best = error(*low_rank(query, key, 3))
    singular = torch.linalg.svdvals(torch.linalg.cholesky(query).T @ torch.linalg.cholesky(key))
    assert best == pytest.approx(float(singular[3:].square().sum()), rel=1e-6)
    for moments in (query, key):
        directions = torch.linalg.eigh(moments)[1][:, -3:]
        assert error(directions, directions) > best
    assert error(*low_rank(query, key, 6)) == pytest.approx(0, abs=1e-6 * float(torch.trace(query @ key)))


def test_main_directions_preserve_the_output_of_the_linear_layer() -> None:
    moments, weights = second_moments(6, 9), random_weights(4, 6)

    def error(projection: torch.Tensor) -> float:
        """Of the best linear layer on the projected values."""
        kept = projection.T @ moments @ projection
        fitted = weights @ moments @ projection @ torch.linalg.inv(kept) @ projection.T
        return squared_error(weights, fitted, moments)

    best = error(main_directions(moments, weights.T @ weights, 2))
    singular = torch.linalg.svdvals(weights @ torch.linalg.cholesky(moments))
    assert best == pytest.approx(float(singular[2:].square().sum()), rel=1e-6)


@pytest.mark.parametrize("units", [0, 33, -1])
def test_impossible_units_are_refused(units: int) -> None:
    with pytest.raises(OptionError, match=f"feed-forward units must be 1 to 32, got {units}"):
        student_config(small_model().config, Shape((0,), units))


@pytest.mark.parametrize("width", [0, 18, 7, -2])
def test_impossible_widths_are_refused(width: int) -> None:
    with pytest.raises(OptionError, match=f"attention width must be a multiple of 2, the heads, up to 16, got {width}"):
        student_config(small_model().config, Shape((0,), None, width))


def test_a_pruned_config_stays_pruned() -> None:
    config = student_config(small_model().config, Shape((0, 1), 16, 8))
    again = student_config(config, Shape((0, 1)))
    assert again == config and again.encoder.attention_width == 8


def test_units_of_several_values_are_removed_together() -> None:
    """All values of a unit are kept or removed, the first removed has the least error, and the others are fitted."""
    moments, wanted = correlated_moments(12), random_weights(5, 13)
    errors = []
    for unit in range(4):
        columns = [i for i in range(13) if i // 3 != unit]
        best = torch.zeros_like(wanted)
        best[:, columns] = torch.linalg.solve(moments[columns][:, columns], moments[columns] @ wanted.T).T
        errors.append(squared_error(wanted, best, moments))
    kept, fitted = optimal_brain_surgeon(wanted, moments, 3, size=3)
    removed = int(np.argmin(errors))
    assert kept.tolist() == [unit for unit in range(4) if unit != removed]
    assert not fitted[:, 3 * removed : 3 * removed + 3].any()
    assert errors[removed] <= squared_error(wanted, fitted, moments) < 1.01 * errors[removed]


def subsampling_error(model: AcousticModel, store: WaveformStore, n_channels: int) -> float:
    """Mean squared error of the pruned subsampling's output, over the variance."""
    pruned = pruned_subsampling(model, store, n_channels)
    assert pruned.conv1.out_channels == pruned.conv2.in_channels == pruned.conv2.out_channels == n_channels
    wanted, given = [], []
    for features, valid in feature_batches(model, store, 2):
        wanted.append(model.encoder.subsampling(features)[valid])
        given.append(pruned(features)[valid])
    difference = torch.cat(wanted) - torch.cat(given)
    return float(difference.square().mean() / torch.cat(wanted).var(0).mean())


@torch.no_grad()
def test_duplicate_channels_are_removed_without_loss(store: WaveformStore) -> None:
    """A subsampling with two copies of every channel is unchanged with half of them, and worse with fewer."""
    model = small_model(n_layers=1)
    subsampling = model.encoder.subsampling
    assert subsampling.conv1.out_channels == 8
    for convolution in (subsampling.conv1, subsampling.conv2):
        for name in ("weight", "bias"):
            parameter = convolution.get_parameter(name)
            parameter[4:] = parameter[:4]
    assert subsampling_error(model, store, 4) < 1e-3
    assert subsampling_error(model, store, 2) > 1e-2
    student = init_students(model, {"student": Shape((0,), None, None, 4)}, store)["student"]
    assert student.config.encoder.subsampling_channels == 4
    assert student.encoder.layers[0].feed_forward1.linear1.weight.equal(
        model.encoder.layers[0].feed_forward1.linear1.weight
    )


@torch.no_grad()
def test_a_student_of_a_student_has_the_same_features(store: WaveformStore) -> None:
    """They were fitted once, and its layers were trained on them."""
    first = init_students(small_model(n_layers=3), {"first": Shape((0, 1, 2))}, store)["first"]
    first.norm.gain.mul_(1.5)
    second = init_students(first, {"second": Shape((0, 2), 16, 8, 4)}, store)["second"]
    for name, value in first.norm.state_dict().items():
        assert torch.equal(second.norm.state_dict()[name], value), name


@pytest.mark.parametrize("channels", [0, 9, -1])
def test_impossible_channels_are_refused(channels: int) -> None:
    with pytest.raises(OptionError, match=f"subsampling channels must be 1 to 8, got {channels}"):
        student_config(small_model().config, Shape((0,), None, None, channels))


def test_moments_are_of_the_augmented_audio(store: WaveformStore) -> None:
    model = small_model(n_layers=1)
    plain = hidden_moments(model, store)[0]["attention.out"]
    same = hidden_moments(model, store, augment=lambda waveform, _: waveform)[0]["attention.out"]
    noisy = hidden_moments(model, store, augment=lambda waveform, _: waveform + 0.1 * torch.randn_like(waveform))[0]
    assert torch.equal(plain, same)
    assert float((noisy["attention.out"] - plain).abs().max()) > 0.01 * float(plain.abs().max())
