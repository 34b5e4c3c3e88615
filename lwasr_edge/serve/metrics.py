"""Counters and times of a service, as Prometheus text. None of them has words or names of clients."""

from __future__ import annotations

import asyncio
import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
FILE_SECONDS = (*SECONDS, 30.0, 60.0, 300.0)


class Metrics:
    """What is counted, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, file descriptors, processor time; on Linux
        threads = Gauge("lwasr_threads", "Threads of the program", registry=registry)
        threads.set_function(threading.active_count)
        tasks = Gauge("lwasr_tasks", "Tasks of the event loop", registry=registry)
        tasks.set_function(_tasks)
        self.open_streams = Gauge("lwasr_streams_open", "Streams now", registry=registry)
        self.streams = Counter("lwasr_streams", "Streams that were opened", ["protocol"], registry=registry)
        self.files = Counter("lwasr_files", "Uploaded files", ["result"], registry=registry)
        self.refused = Counter("lwasr_refused", "Refused requests", ["reason"], registry=registry)
        self.audio = Counter("lwasr_audio_seconds", "Recognised audio", ["source"], registry=registry)
        self.block_s = Histogram(
            "lwasr_block_seconds", "From a block of audio to its events", registry=registry, buckets=SECONDS
        )
        self.final_s = Histogram(
            "lwasr_final_seconds", "From the end of a stream to its text", registry=registry, buckets=SECONDS
        )
        self.file_s = Histogram(
            "lwasr_file_seconds", "Recognition of one file", registry=registry, buckets=FILE_SECONDS
        )

    def text(self) -> bytes:
        """All of them in the Prometheus text format."""
        return generate_latest(self._registry)


def _tasks() -> int:
    """Those that are not done; 0 outside of an event loop."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0
