"""Where to train, and with which numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from lwasr_edge.errors import OptionError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86 with AMX, Arm


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
        raise OptionError(f"--device {name}: expected cpu, or cuda where there is one ({reason})") from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Numbers to multiply with: "float32", "bfloat16", or "auto" for bfloat16 where the processor multiplies it.

    Elsewhere bfloat16 is emulated, and slower than float32.

    Raises:
        OptionError: another name.
    """
    if name == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise OptionError(f"precision {name}: expected auto, {' or '.join(PRECISIONS)}")
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
