"""Data-parallel training: `torchrun` starts the processes, and each step sums their gradients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from lwasr_edge.errors import OptionError


@dataclass(frozen=True)
class World:
    """The processes of a run (torch.distributed's world), and the rank of this one."""

    rank: int = 0
    size: int = 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of one dtype over all processes, in place."""
        if self.size == 1 or not tensors:
            return
        flat = _flatten_dense_tensors(tensors)
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
            tensor.copy_(total)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Copy the values of rank 0 to all processes, in place."""
        if self.size == 1:
            return
        with torch.no_grad():
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        count = torch.tensor(float(flag), device=device)
        distributed.all_reduce(count)
        return bool(count > 0)

    def barrier(self) -> None:
        """Wait until every process has reached this point."""
        if self.size > 1:
            distributed.barrier()


def join_world(device: torch.device) -> World:
    """Join the processes that `torchrun` started; without it, a world of one.

    Raises:
        OptionError: torchrun's variables are incomplete, or the other processes do not join.
    """
    if "WORLD_SIZE" not in os.environ:
        return World()
    try:
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise OptionError(f"the processes that torchrun started could not connect: {error}") from error
    return World(distributed.get_rank(), distributed.get_world_size())


def leave_world() -> None:
    """Leave the process group, so that no process waits for this one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process among its machine's, where a device was given without a number."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device
