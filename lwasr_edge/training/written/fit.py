"""The training loop of the tagger: a fixed time, in which the learning rate rises and falls to zero; resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lwasr_edge.errors import CheckpointError
from lwasr_edge.training.written.batches import Batch, Encoded, batches
from lwasr_edge.training.written.network import TaggerNetwork
from lwasr_edge.written.tagger import N_CASES, N_MARKS

WARM_UP = 0.03  # share of the training in which the learning rate rises
SAVE_EVERY_S = 60.0
WORD_DROPOUT = 0.04  # other dropout is of no use where a text is read only two or three times
MAX_GRADIENT = 1.0


@dataclass(frozen=True)
class FitOptions:
    """How long and how fast."""

    epochs: float = 6.0  # at most
    minutes: float = 35.0  # at most, over all runs of a training that was interrupted
    learning_rate: float = 4e-3  # the highest
    seed: int = 1


@dataclass
class Progress:
    """What a training that was interrupted goes on from."""

    steps: int = 0
    elapsed_s: float = 0.0
    n_words: int = 0


def fit(
    network: TaggerNetwork,
    corpora: Sequence[tuple[Sequence[Encoded], float]],
    fillers: np.ndarray,
    options: FitOptions,
    state_file: Path,
) -> Progress:
    """Train until the epochs or the minutes are over.

    Args:
        network: changed in place.
        corpora: see `batches`.
        fillers: see `batches`.
        options: of the run that is resumed, unless it is to end at another time.
        state_file: written every minute; read if it exists.

    Raises:
        CheckpointError: the state is of another network or damaged.
    """
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    progress = _restore(state_file, network, optimizer)
    n_words = sum(share * sum(len(one.word_ids) for one in sentences) for sentences, share in corpora)
    network.train()
    saved_at = began = time.monotonic() - progress.elapsed_s
    recent: list[float] = []
    for batch in _endless(corpora, fillers, options.seed + progress.steps):
        progress.elapsed_s = time.monotonic() - began
        done = max(progress.n_words / (options.epochs * n_words), progress.elapsed_s / (60 * options.minutes))
        if done >= 1:
            break
        rate = options.learning_rate * min(done / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 1e-5)
        recent.append(_step(network, optimizer, batch))
        progress.steps += 1
        progress.n_words += int((batch.word_ids >= 0).sum())
        if progress.steps % 50 == 0:
            epoch = progress.n_words / n_words
            print(f"step {progress.steps}  epoch {epoch:.2f}  {done:4.0%}  loss {np.mean(recent):.4f}", flush=True)
            recent = []
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            saved_at = time.monotonic()
            _save(state_file, network, optimizer, progress)
    _save(state_file, network, optimizer, progress)
    network.eval()
    return progress


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of marks plus that of cases, nats per word.

    Args:
        logits: (B, T, 7).
        batch: with the tags.
    """
    marks, cases = logits.split([N_MARKS, N_CASES], dim=-1)
    return F.cross_entropy(marks.flatten(0, 1), batch.marks.flatten(), ignore_index=-1) + F.cross_entropy(
        cases.flatten(0, 1), batch.cases.flatten(), ignore_index=-1
    )


def _step(network: TaggerNetwork, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    loss = loss_of(network(batch.word_ids, word_dropout=WORD_DROPOUT), batch)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
    optimizer.step()
    return loss.item()


def _endless(corpora: Sequence[tuple[Sequence[Encoded], float]], fillers: np.ndarray, seed: int) -> Iterator[Batch]:
    while True:
        yield from batches(corpora, fillers, seed)
        seed += 1


def _save(path: Path, network: TaggerNetwork, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "progress": vars(progress)}
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def _restore(path: Path, network: TaggerNetwork, optimizer: torch.optim.Optimizer) -> Progress:
    if not path.is_file():
        return Progress()
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        return Progress(**state["progress"])
    except Exception as error:  # of torch, zipfile or pickle, depending on the damage
        raise CheckpointError(f"{path} must be a state of this training, got {error!r}: remove it") from error
