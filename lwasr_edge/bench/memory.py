"""Memory of this process, as Linux accounts for it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResidentMemory:
    """Bytes of RAM that the process holds, shared libraries included."""

    now: int | None  # VmRSS
    peak: int | None  # VmHWM: the most it ever held


def resident_memory() -> ResidentMemory:
    """Ask the kernel. Other systems than Linux tell the peak only, if anything."""
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
