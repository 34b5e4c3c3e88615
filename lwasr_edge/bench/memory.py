"""Resident memory of this process."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResidentMemory:
    """Bytes of RAM in use, shared libraries included."""

    now: int | None  # VmRSS
    peak: int | None  # VmHWM


def resident_memory() -> ResidentMemory:
    """Read /proc; systems other than Linux report the peak only, or nothing."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ResidentMemory(None, _peak_elsewhere())
    now, peak = (re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
    return ResidentMemory(int(now[1]) * 1024 if now else None, int(peak[1]) * 1024 if peak else None)


def _peak_elsewhere() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
