"""The schedule of a training run: steps, learning rate, batch and chunk sizes."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.validate import number, whole_number


@dataclass(frozen=True)
class Schedule:
    """Steps, rates and sizes of a run.

    Raises:
        OptionError: an impossible value.
    """

    steps: int = 4000  # optimiser steps; with 0, the students are written as they were made
    layer_steps: int = 0  # of these, the first, in which each layer is trained alone
    batch_s: float = 40.0  # s of audio in a batch
    batches_per_step: int = 1  # whose gradients are averaged; with torchrun a multiple of the processes, who share them
    learning_rate: float = 6e-4  # peak
    warmup_steps: int = 200
    final_ratio: float = 0.02  # last learning rate over peak
    weight_decay: float = 1e-3
    max_gradient: float = 1.0  # norm to clip at
    full_context_probability: float = 0.4  # share of steps with full context; the others draw a chunk size
    chunk_frames: tuple[int, ...] = (8, 16, 16, 32, 100)  # chunk sizes to draw from, frames of 40 ms
    look_ahead_frames: tuple[int, ...] = (0, 4, 8, 16)  # to draw from; at most half of the chunk is used
    seed: int = 1
    save_every: int = 500  # steps
    evaluate_every: int = 1000  # steps

    def __post_init__(self) -> None:
        for name in ("batches_per_step", "save_every", "evaluate_every"):
            whole_number(option(name), getattr(self, name), 1)
        for name in ("steps", "layer_steps", "warmup_steps", "seed"):
            whole_number(option(name), getattr(self, name), 0)
        for name in ("batch_s", "learning_rate", "max_gradient"):
            number(option(name), getattr(self, name), above=0)
        number(option("weight_decay"), self.weight_decay, 0)
        for name in ("final_ratio", "full_context_probability"):
            number(option(name), getattr(self, name), 0, 1)
        if self.layer_steps > self.steps:
            raise OptionError(f"--layer-steps must be at most --steps, {self.steps}, got {self.layer_steps}")
        for name, minimum in (("chunk_frames", 1), ("look_ahead_frames", 0)):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < minimum:
                raise OptionError(f"{option(name)} must be one or more whole numbers >= {minimum}, got {sizes}")

    def for_epochs(self, epochs: float, audio_s: float) -> Schedule:
        """This schedule over so many epochs of ``audio_s`` seconds; at most a fifth of the steps are warm-up."""
        number("--epochs", epochs, above=0)
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


def option(field: str) -> str:
    """The option that sets a field, for messages."""
    return f"--{field.replace('_', '-')}"
