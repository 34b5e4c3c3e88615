"""The hardware of a run: device, precision, processes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F

from lwasr_edge.errors import OptionError
from lwasr_edge.training.loop.distributed import World, join_world, own_device

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86 with AMX, Arm


@dataclass(frozen=True)
class Hardware:
    """What a run computes on."""

    device: torch.device
    precision: torch.dtype  # of the encoders' arithmetic; weights and the optimiser are float32
    world: World = field(default_factory=World)  # the processes that train together

    @classmethod
    def choose(cls, device: str | None = None, precision: str = "auto") -> Hardware:
        """The hardware that the options name; joins the processes that `torchrun` started.

        Raises:
            OptionError: see `choose_device`, `choose_precision` and `join_world`.
        """
        chosen = own_device(choose_device(device))
        world = join_world(chosen)
        dtype = choose_precision(precision, chosen)
        if world.any(dtype is torch.float32, chosen):  # "auto" measures in each process, and gradients are summed
            dtype = torch.float32
        return cls(chosen, dtype, world)


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name; without one, the GPU where there is one.

    Raises:
        OptionError: no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(f"--device must be cpu, or cuda where there is one, got {name!r} ({reason})") from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of "float32", "bfloat16", or "auto": bfloat16 where the device is no slower in it.

    Raises:
        OptionError: another name.
    """
    if name == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) and not is_slow_in_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise OptionError(f"--precision must be auto, {' or '.join(PRECISIONS)}, got {name!r}")
    return PRECISIONS[name]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16: NVIDIA from Ampere on, CPUs that say so (Linux only)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not CPUINFO.is_file():
        return False
    for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return bool(BFLOAT16_FLAGS & set(flags.split()))
    return False


def is_slow_in_bfloat16(device: torch.device) -> bool:
    """Whether a matmul of a layer's size takes longer in bfloat16, as on processors with AVX512-BF16 and no AMX.

    Measured in turns; the shortest time of each counts, since other programs may use the processor too.
    """
    if device.type != "cpu":
        return False
    dtypes = torch.float32, torch.bfloat16
    pairs = [(torch.zeros(512, 256, dtype=dtype), torch.zeros(512, 256, dtype=dtype)) for dtype in dtypes]
    times: list[list[float]] = [[], []]
    for _ in range(20):
        for taken, (frames, weight) in zip(times, pairs, strict=True):
            began = time.perf_counter()
            F.linear(frames, weight)
            taken.append(time.perf_counter() - began)
    single, half = map(min, times)
    return half > single
