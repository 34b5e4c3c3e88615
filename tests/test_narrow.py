"""Feed-forward modules lose the units that the output misses least; those that stay make up for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_model, two_utterances

from lwasr_edge.errors import OptionError
from lwasr_edge.training.batches import WaveformStore
from lwasr_edge.training.narrow import hidden_moments, narrow, surgeon
from lwasr_edge.training.students import Shape, begin_students, inherit, student_config


@pytest.fixture
def store(tmp_path: Path) -> WaveformStore:
    return WaveformStore(two_utterances(tmp_path, 3.0), torch.device("cpu"))


def squared_error(wanted: torch.Tensor, weights: torch.Tensor, moments: torch.Tensor) -> float:
    """Mean over the frames, summed over the outputs."""
    difference = wanted - weights
    return float(((difference @ moments) * difference).sum())


def random_weights(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def correlated_moments(n_units: int, seed: int = 3) -> torch.Tensor:
    """Of units that partly repeat each other, and the constant."""
    generator = torch.Generator().manual_seed(seed)
    units = torch.randn(4000, n_units, generator=generator, dtype=torch.float64)
    units = units @ torch.randn(n_units, n_units, generator=generator, dtype=torch.float64) + 0.3
    units = torch.cat([units, units.new_ones(len(units), 1)], dim=1)
    return units.T @ units / len(units)


def test_units_that_stay_are_fitted_by_least_squares() -> None:
    """No other weights of the same units are nearer to the output as it was."""
    moments, wanted = correlated_moments(10), random_weights(6, 11)
    kept, fitted = surgeon(wanted, moments, 4)
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


def test_the_unit_that_goes_first_is_missed_least() -> None:
    moments, wanted = correlated_moments(8), random_weights(5, 9)
    errors = []
    for unit in range(8):
        columns = [i for i in range(9) if i != unit]
        best = torch.zeros_like(wanted)
        best[:, columns] = torch.linalg.solve(moments[columns][:, columns], moments[columns] @ wanted.T).T
        errors.append(squared_error(wanted, best, moments))
    kept, _ = surgeon(wanted, moments, 7)
    assert set(range(8)) - set(kept.tolist()) == {int(np.argmin(errors))}


def test_moments_are_of_the_frames_that_were_heard(store: WaveformStore) -> None:
    """Padding counts nowhere: moments of a batch are those of its utterances, each weighed by its frames."""
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
    moment = together[1]["feed_forward2"]
    torch.testing.assert_close(moment, units.T @ units / len(units), rtol=1e-4, atol=1e-6)
    assert float(moment[-1, -1]) == 1.0


@torch.no_grad()
def test_units_that_repeat_others_go_at_no_cost(store: WaveformStore) -> None:
    """A reference whose every unit is there twice is the same with half of them."""
    reference = small_model(n_layers=3)
    for layer in reference.encoder.layers:
        for module in (layer.feed_forward1, layer.feed_forward2):
            for tensor in (module.linear1.weight, module.linear1.bias):
                tensor[16:] = tensor[:16]
    shapes = {"whole": Shape((0, 2)), "narrow": Shape((0, 2), 16)}
    students = begin_students(reference, shapes, store)
    assert students["narrow"].config.encoder.d_feed_forward == 16
    assert students["narrow"].config == student_config(reference.config, shapes["narrow"])
    batch = store.batch(np.array([0, 1]))
    whole, narrowed = (one.log_probs(batch.waveform, batch.n_samples)[0] for one in students.values())
    torch.testing.assert_close(narrowed, whole, rtol=0.0, atol=1e-2)
    assert (narrowed.argmax(2) == whole.argmax(2)).float().mean() > 0.98


@pytest.mark.parametrize("units", [0, 33, -1])
def test_units_that_are_not_there_are_refused(units: int) -> None:
    reference = small_model(n_layers=2)
    with pytest.raises(OptionError, match="expected 1 to 32, as there are"):
        narrow(inherit(reference, (0, 1)), [], units)
    with pytest.raises(OptionError, match="expected 1 to 32, as there are"):
        student_config(reference.config, Shape((0,), units))
