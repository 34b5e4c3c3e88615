"""Try a model in a process of its own, before it is installed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lwasr_edge.errors import CatalogError

TRIAL_S = 120.0  # en-base needs 1 s on a PC
TRIAL_BYTES = 4 << 30  # address space
# The limits are those of the process: a graph may ask for any time and memory.
_PROGRAM = """
import sys
if sys.path[0] == "":  # the working directory may have modules of any name
    del sys.path[0]
sys.path.append(sys.argv[3])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
except (ImportError, OSError, ValueError):
    pass
import numpy
from lwasr_edge import LwasrError, Recognizer
try:
    recognizer = Recognizer(sys.argv[1])
    rate = recognizer.info.sample_rate
    recognizer.transcribe(numpy.zeros(rate, "float32"), rate)
except LwasrError as error:
    sys.exit(str(error))
"""


def try_model(path: Path, name: str) -> None:
    """Open a model and transcribe a second of silence.

    Args:
        path: the model file.
        name: of the model, for messages.

    Raises:
        CatalogError: the model cannot be opened or run, ends its process, or takes too long or too much memory.
    """
    if not sys.executable or getattr(sys, "frozen", False):  # no interpreter: the model is tried when it is first used
        return
    package_parent = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _PROGRAM, str(path.absolute()), str(TRIAL_BYTES), str(package_parent)]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CatalogError(f"{name} must run within {TRIAL_S:g} s, got none of it: it was not installed") from None
    if ended.returncode == 0:
        return
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit status {ended.returncode}"
    if ended.returncode < 0:
        reason = f"it ends its process ({signal.Signals(-ended.returncode).name})"
    reason = reason.replace(f"{path.absolute()}", path.name)
    raise CatalogError(f"{name} cannot be used and was not installed: {reason}")
