"""The process of one measurement: a job as JSON on stdin, its figures as JSON on stdout.

    python -m lwasr_edge.bench.worker

Every measurement has a process of its own, so that its peak memory is not that of another model or mode. Imports at the
top of this module are only those that take no time, because the time of the others is measured.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.recognizer import Recognizer

BEGAN_AT_S = time.monotonic()  # a system-wide clock, comparable with the parent's

IDLE = {"silence": -120.0, "noise": -50.0}  # dBFS
IDLE_S = 34
IDLE_AFTER_S = 4  # the stream has measured the noise by then

Job = dict[str, Any]
Figures = dict[str, Any]


def main() -> int:
    """Run one job."""
    job = json.load(sys.stdin)
    figures: Figures
    try:
        figures = {"startup": measure_startup, "file": measure_file, "stream": measure_stream}[job["mode"]](job)
    except Exception as error:
        from lwasr_edge.errors import LwasrError

        if not isinstance(error, LwasrError):
            raise
        figures = {"error": str(error), "kind": type(error).__name__}
    print(json.dumps(figures))
    return 0


def language_model(job: Job) -> str | None:
    """The default one, or none for greedy decoding."""
    return None if job.get("greedy") else "general"


def measure_startup(job: Job) -> Figures:
    """Times from the start of the process to the text of a recording, and the metadata of the model."""
    import onnxruntime
    import soundfile
    import soxr  # noqa: F401 - loaded here so that the import is timed as one

    from lwasr_edge import Recognizer

    imported_s = time.monotonic()
    recognizer = Recognizer(job["model"], threads=job["threads"], lm=language_model(job))
    loaded_s = time.monotonic()
    recognizer.transcribe(job["recordings"][0])
    done_s = time.monotonic()
    info = recognizer.info
    return {
        "python_s": BEGAN_AT_S - job["spawned_at_s"],
        "import_s": imported_s - BEGAN_AT_S,
        "load_s": loaded_s - imported_s,
        "first_text_s": done_s - loaded_s,
        "total_s": done_s - job["spawned_at_s"],
        "onnxruntime": onnxruntime.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "info": {
            "name": info.name,
            "precision": info.precision,
            "layers": info.layers,
            "parameters": info.parameters,
            "multiplications": info.multiplications,
            "streaming": info.streaming,
            "frame_ms": info.frame_ms,
        },
    }


def measure_file(job: Job) -> Figures:
    """Runs over the recordings as files, with opening, decoding and resampling."""
    from lwasr_edge import Recognizer
    from lwasr_edge.bench.memory import resident_memory

    recognizer = Recognizer(job["model"], threads=job["threads"], lm=language_model(job))
    loaded = resident_memory()
    recognizer.transcribe(job["recordings"][0])
    if recognizer.info.streaming:
        recognizer.transcribe(two_chunks(recognizer.info))
    warm = resident_memory()
    passes_s, texts, audio_s = [], [], 0.0
    cpu_began_s = time.process_time()
    for number in range(job["repeat"]):
        began_s = time.perf_counter()
        transcripts = [recognizer.transcribe(path) for path in job["recordings"]]
        passes_s.append(time.perf_counter() - began_s)
        if number == 0:
            texts = [transcript.text for transcript in transcripts]
            audio_s = sum(transcript.duration_s for transcript in transcripts)
    cpu_s = time.process_time() - cpu_began_s
    end = resident_memory()
    return {
        "passes_s": passes_s,
        "audio_s": audio_s,
        "cpu_s": cpu_s,
        "texts": texts,
        "memory": {"loaded": loaded.now, "warm": warm.now, "steady": end.now, "peak": end.peak},
    }


def two_chunks(info: ModelInfo) -> tuple[np.ndarray, int]:
    """Silence of two of the largest chunks, so that the peak is that of long files even for short recordings."""
    import numpy as np

    return np.zeros(2 * info.max_chunk_frames * info.samples_per_frame, np.float32), info.sample_rate


def measure_stream(job: Job) -> Figures:
    """Runs over the recordings as streams, one hop at a time, with the default endpoint rules."""
    from lwasr_edge import Recognizer, load_audio
    from lwasr_edge.bench.memory import resident_memory
    from lwasr_edge.bench.streaming import run_stream

    recognizer = Recognizer(job["model"], threads=job["threads"], hop_ms=job["hop_ms"], lm=language_model(job))
    rate = recognizer.info.sample_rate
    loaded = resident_memory()
    first = run_stream(recognizer, load_audio(job["recordings"][0], target_hz=rate), job["right_context_ms"])
    warm = resident_memory()
    passes_s, texts, hop_latency_s, final_latency_s = [], [], [], []
    audio_s = cpu_s = 0.0
    for number in range(job["repeat"]):
        busy_s = 0.0
        for path in job["recordings"]:
            waveform = load_audio(path, target_hz=rate)
            cpu_began_s = time.process_time()
            done = run_stream(recognizer, waveform, job["right_context_ms"])
            cpu_s += time.process_time() - cpu_began_s
            busy_s += done.busy_s
            hop_latency_s += done.hop_latency_s
            final_latency_s.append(done.final_latency_s)
            if number == 0:
                texts.append(done.text)
                audio_s += len(waveform) / rate
        passes_s.append(busy_s)
    end = resident_memory()
    return {
        "passes_s": passes_s,
        "audio_s": audio_s,
        "cpu_s": cpu_s,
        "texts": texts,
        "hop_ms": first.hop_ms,
        "right_context_ms": first.right_context_ms,
        "idle": {name: idle_cpu(recognizer, level_db, rate) for name, level_db in IDLE.items()},
        "hop_latency_s": hop_latency_s,
        "final_latency_s": final_latency_s,
        "memory": {"loaded": loaded.now, "warm": warm.now, "steady": end.now, "peak": end.peak},
    }


def idle_cpu(recognizer: Recognizer, level_db: float, rate: int) -> float:
    """Processor seconds per second of audio of a stream in which nobody speaks: white noise of a level in dBFS."""
    import numpy as np

    noise = np.random.default_rng(0).normal(0, 10 ** (level_db / 20), IDLE_S * rate).astype(np.float32)
    with recognizer.stream(rate) as stream:
        stream.accept(noise[: IDLE_AFTER_S * rate])
        began_s = time.process_time()
        for start in range(IDLE_AFTER_S * rate, len(noise), rate // 10):
            stream.accept(noise[start : start + rate // 10])
        return (time.process_time() - began_s) / (IDLE_S - IDLE_AFTER_S)


if __name__ == "__main__":
    sys.exit(main())
