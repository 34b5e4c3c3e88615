"""One recogniser in a process of its own: a job as JSON on stdin, its figures as JSON on the last line of stdout."""

from __future__ import annotations

import json
import sys
import time

BEGAN_AT_S = time.monotonic()


def main() -> None:
    """Load, transcribe the packaged recording, then every recording once; recordings are decoded, as .npy."""
    job = json.load(sys.stdin)
    import numpy as np

    from benchmarks.peers.engines import ENGINES
    from lwasr_edge.bench.memory import resident_memory

    first = np.load(job["first"])
    recordings = [np.load(path) for path in job["recordings"]]
    held_before = resident_memory().now or 0
    loading_s = time.monotonic()
    transcribe = ENGINES[job["engine"]](job["model"], job["threads"])
    loaded_s = time.monotonic()
    transcribe(first)
    first_text_s = time.monotonic()
    cpu_began_s, began_s = time.process_time(), time.perf_counter()
    texts = [transcribe(waveform) for waveform in recordings]
    busy_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    figures = {
        # without reading the recordings, which is part of the benchmark, not of start-up
        "startup_s": BEGAN_AT_S - job["spawned_at_s"] + first_text_s - loading_s,
        "load_s": loaded_s - loading_s,
        "busy_s": busy_s,
        "cpu_s": cpu_s,
        "texts": texts,
        "peak_bytes": resident_memory().peak,
        "held_before_bytes": held_before,  # interpreter, numpy and the recordings: the same for all
    }
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
