"""Run an exported file over full recordings with the runtime's `Model`, for verification."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from lwasr_edge.chunking import Chunking
from lwasr_edge.model import ChunkResult, Model
from lwasr_edge.training.scoring.decode import tokens_to_text


def padded(model: Model, waveform: np.ndarray, n_frames: int | None = None) -> np.ndarray:
    """``waveform`` (N,) followed by zeros: ``n_frames`` frames, or the least number that includes the model's flush."""
    samples_per_frame = model.info.samples_per_frame
    if n_frames is None:
        n_frames = -(-(len(waveform) + model.info.flush_samples) // samples_per_frame)
    return np.pad(waveform, (0, n_frames * samples_per_frame - len(waveform)))


def run_in_chunks(model: Model, waveform: np.ndarray, chunk_frames: int | None) -> list[ChunkResult]:
    """Run a model over one recording, without look-ahead.

    Args:
        model: opened without a pinned chunk size.
        waveform: (N,) float32, N a multiple of samples_per_frame (`padded`).
        chunk_frames: frames in a chunk; None takes the recording as one chunk.

    Returns:
        A result per chunk, with log_probs.
    """
    hop = len(waveform) if chunk_frames is None else chunk_frames * model.info.samples_per_frame
    results, state = [], model.initial_state()
    for start in range(0, len(waveform), hop):
        results.append(model.step(waveform[start : start + hop], state, with_log_probs=True))
        state = results[-1].state
    return results


def log_probs_of(results: list[ChunkResult]) -> np.ndarray:
    """Log-probabilities of the committed frames of all chunks, (U, V) float32."""
    parts = [(result.log_probs, result.committed_frames) for result in results]
    return np.concatenate([log_probs[:count] for log_probs, count in parts if log_probs is not None])


def run_file(model: Model, waveform: np.ndarray) -> list[ChunkResult]:
    """Run a model over one recording as `Recognizer.transcribe` does over one segment: large chunks with look-ahead.

    Args:
        model: opened without a pinned chunk size.
        waveform: (N,) float32 at the model's rate.

    Returns:
        A result per chunk, with log_probs.
    """
    info = model.info
    waveform = padded(model, waveform)
    if not info.streaming:
        return run_in_chunks(model, waveform, None)
    chunking = Chunking.for_files(info, can_look_ahead=model.can_look_ahead)
    chunk_samples = chunking.chunk_frames * info.samples_per_frame
    results, state, start = [], model.initial_state(), 0
    while start < len(waveform):
        chunk = waveform[start : start + chunk_samples]
        is_last = len(chunk) < chunk_samples  # there is no later audio: all of it is consumed
        look_ahead = 0 if is_last else chunking.look_ahead_frames
        results.append(model.step(chunk, state, look_ahead=look_ahead, with_log_probs=True))
        state = results[-1].state
        start += len(chunk) - look_ahead * info.samples_per_frame
    return results


def text_of(model: Model, results: list[ChunkResult]) -> str:
    """The greedy transcript of all chunks."""
    tokens = [token.token for result in results for token in result.timed_tokens(committed=True)]
    return tokens_to_text(tokens, model.info.vocabulary)


def real_time_factor(path: Path, chunk_frames: int, repeats: int = 5) -> float:
    """Median processing time of one chunk over its duration, on one thread, with pinned chunk size."""
    samples = chunk_frames * Model(path).info.samples_per_frame
    model = Model(path, pinned_samples=samples)
    waveform = np.random.default_rng(0).normal(0, 0.05, samples).astype(np.float32)
    state, times = model.initial_state(), []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        state = model.step(waveform, state).state
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:])) * model.info.sample_rate / samples
