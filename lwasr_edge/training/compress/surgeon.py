"""Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units, as in Kurtic et al. 2023, arXiv 2302.04089."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

DAMPING = 1e-4  # of the mean second moment, added to each: units that rarely differ are not told apart by noise


def with_constant(values: Tensor) -> Tensor:
    """(N, F) -> (N, F + 1) float64: a 1 behind each row, which stands for biases."""
    values = values.double()
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def damped(moments: Tensor) -> Tensor:
    """Second moments that can be inverted."""
    mean = moments.diagonal().mean()
    return moments + DAMPING * mean * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)


def surgeon(weights: Tensor, moments: Tensor, n_kept: int, size: int = 1) -> tuple[Tensor, Tensor]:
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
