"""How long a training run takes, how fast it learns, how much it hears at a time."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, how much at a time."""

    steps: int = 4000  # optimiser steps
    layer_steps: int = 0  # of these, first steps in which each layer learns alone
    batch_s: float = 40.0  # s of audio in a batch
    batches_per_step: int = 1  # whose gradients are averaged; with torchrun a multiple of the processes, who share them
    learning_rate: float = 6e-4  # peak
    warmup_steps: int = 200
    final_ratio: float = 0.02  # last learning rate over peak
    weight_decay: float = 1e-3
    max_gradient: float = 1.0  # norm to clip at
    full_context_probability: float = 0.4  # of steps on whole recordings; the others draw a chunk size
    chunk_frames: tuple[int, ...] = (8, 16, 16, 32, 100)  # that a chunk hears, of 40 ms
    look_ahead_frames: tuple[int, ...] = (0, 4, 8, 16)  # of these, context only: at most half of a chunk
    seed: int = 1
    save_every: int = 500  # steps
    evaluate_every: int = 1000  # steps

    def __post_init__(self) -> None:
        sizes = ("steps", "batch_s", "batches_per_step", "save_every", "evaluate_every")
        for name in (*sizes, "learning_rate", "max_gradient"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name} is {getattr(self, name)}: expected a positive number")
        for name in ("layer_steps", "warmup_steps", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} is {getattr(self, name)}: expected 0 or more")
        for name in ("final_ratio", "full_context_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}: expected a number from 0 to 1")
        if self.layer_steps > self.steps:
            raise OptionError(f"layer_steps {self.layer_steps} is more than all steps, {self.steps}")
        if not self.chunk_frames or min(self.chunk_frames) < 1:
            raise OptionError(f"chunk_frames are {self.chunk_frames}: expected positive numbers, at least one")
        if not self.look_ahead_frames or min(self.look_ahead_frames) < 0:
            raise OptionError(f"look_ahead_frames are {self.look_ahead_frames}: expected 0 or more, at least one")

    def for_epochs(self, epochs: float, audio_s: float) -> Schedule:
        """This schedule over so many passes through ``audio_s`` seconds of audio; a fifth of it warms up at most."""
        if not 0 < epochs < math.inf:
            raise OptionError(f"--epochs {epochs}: expected a positive number")
        steps = max(1, round(epochs * audio_s / (self.batch_s * self.batches_per_step)))
        return dataclasses.replace(self, steps=steps, layer_steps=0, warmup_steps=min(self.warmup_steps, steps // 5))

    def saves_after(self, step: int) -> bool:
        """Whether the state is saved after so many steps."""
        return step == self.steps or step % self.save_every == 0

    def evaluates_after(self, step: int) -> bool:
        """Whether the students are evaluated after so many steps."""
        return step == self.steps or step % self.evaluate_every == 0

    def draw_chunking(self, step: int) -> Chunking | None:
        """How a step cuts its recordings; None for full context."""
        draw = random.Random(self.seed * 1_000_003 + step)
        if draw.random() < self.full_context_probability:
            return None
        chunk_frames = draw.choice(self.chunk_frames)
        return Chunking(chunk_frames, min(draw.choice(self.look_ahead_frames), chunk_frames // 2))

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        return self.learning_rate * (self.final_ratio + (1 - self.final_ratio) * cosine)
