"""Several processes that train one family together: `torchrun` starts them, each step adds up their gradients."""

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
    """The processes that train together, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes the log and the checkpoints."""
        return self.rank == 0

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors of one dtype over all processes, in place."""
        if self.size == 1 or not tensors:
            return
        flat = _flatten_dense_tensors(tensors)
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
            tensor.copy_(total)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        if self.size == 1:
            return
        with torch.no_grad():
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so."""
        if self.size == 1:
            return flag
        said = torch.tensor(float(flag), device=device)
        distributed.all_reduce(said)
        return bool(said > 0)

    def barrier(self) -> None:
        """Go on when every process has come here."""
        if self.size > 1:
            distributed.barrier()


def join_world(device: torch.device) -> World:
    """Meet the processes that `torchrun` started; alone without it.

    Raises:
        OptionError: torchrun's variables are incomplete, or the others do not come.
    """
    if "WORLD_SIZE" not in os.environ:
        return World()
    try:
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise OptionError(f"the processes that torchrun starts did not meet: {error}") from error
    return World(distributed.get_rank(), distributed.get_world_size())


def leave_world() -> None:
    """Part from the other processes, so that none waits for this one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process among its machine's, where a device was given without a number."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device
