"""The machine of a benchmark: its hardware, and its present clock, temperature and load.

Everything is read from /proc and /sys of Linux; missing values are None. On a Raspberry Pi, the firmware reports
throttling (`vcgencmd get_throttled`).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# MIDR part numbers of Arm's own cores (implementer 0x41), as /proc/cpuinfo prints them.
ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
}
# Instruction sets for fast 8-bit matrix multiplication.
INT8_FEATURES = ("asimddp", "i8mm", "sve", "avx2", "avx_vnni", "avx512_vnni", "amx_int8")
THROTTLE_FLAGS = {
    0: "under-voltage now",
    1: "clock capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since boot",
    17: "clock capped since boot",
    18: "throttled since boot",
    19: "soft temperature limit since boot",
}


@dataclass(frozen=True)
class Board:
    """Properties that do not change during a benchmark."""

    name: str  # of the board or computer
    processor: str
    architecture: str  # "aarch64", "x86_64"
    cores: int  # that this process may use
    int8_features: tuple[str, ...]  # of INT8_FEATURES
    memory_bytes: int | None
    system: str
    kernel: str
    python: str


@dataclass(frozen=True)
class Condition:
    """Properties that change; read before and after a benchmark."""

    governor: str | None  # "performance", "ondemand", ...
    clock_mhz: float | None  # of the fastest core, now
    temperature_c: float | None  # of the warmest sensor of the system on chip
    throttling: tuple[str, ...] | None  # as the firmware reports it; None without such firmware
    load: float | None  # runnable processes, mean of one minute: other load distorts the figures


def read_board(root: Path = Path("/")) -> Board:
    """Describe the machine; `root` holds /proc and /sys."""
    cpuinfo = _read(root / "proc/cpuinfo") or ""
    memory = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo") or "")
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read(root / "etc/os-release") or "", re.MULTILINE)
    flags = set(_cpuinfo_field(cpuinfo, "flags", "Features").split())
    return Board(
        name=_read(root / "proc/device-tree/model") or _read(root / "sys/class/dmi/id/product_name") or platform.node(),
        processor=_processor(cpuinfo) or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        int8_features=tuple(name for name in INT8_FEATURES if name in flags),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
        system=system[1] if system else platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
    )


def read_condition(root: Path = Path("/")) -> Condition:
    """The present condition of the machine; `root` holds /proc and /sys."""
    cpus = root / "sys/devices/system/cpu"
    clocks = [int(text) / 1000 for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq") if (text := _read(path))]
    if not clocks:
        clocks = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*: ([\d.]+)", _read(root / "proc/cpuinfo") or "", re.M)]
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    temperatures = [int(text) / 1000 for path in zones if (text := _read(path)) and text.lstrip("-").isdigit()]
    load = (_read(root / "proc/loadavg") or "").split()
    return Condition(
        governor=_read(cpus / "cpu0/cpufreq/scaling_governor"),
        clock_mhz=max(clocks, default=None),
        temperature_c=max(temperatures, default=None),
        throttling=_throttling(),
        load=float(load[0]) if load else None,
    )


def decode_throttled(printed: str) -> tuple[str, ...] | None:
    """Parse the output of `vcgencmd get_throttled`, "throttled=0x50000"; None if it is something else."""
    value = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)", printed.strip())
    if value is None:
        return None
    bits = int(value[1], 16)
    return tuple(name for bit, name in THROTTLE_FLAGS.items() if bits >> bit & 1)


def _throttling() -> tuple[str, ...] | None:
    try:
        ended = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return decode_throttled(ended.stdout)


def _processor(cpuinfo: str) -> str:
    name = _cpuinfo_field(cpuinfo, "model name")
    if name:
        return name
    parts = re.findall(r"^CPU part\s*: (\w+)", cpuinfo, re.MULTILINE)
    return " + ".join(f"{parts.count(part)} x {ARM_CORES.get(part, part)}" for part in sorted(set(parts)))


def _cpuinfo_field(cpuinfo: str, *names: str) -> str:
    found = re.search(rf"^(?:{'|'.join(names)})\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace").strip(" \n\0") or None
    except OSError:
        return None
