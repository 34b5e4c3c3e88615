"""The training loop of both steps. A step of the method is a set of losses, a schedule and a command."""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.training.compress.students import check_family
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.batches import Batches, WaveformStore
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.loop.device import Hardware
from lwasr_edge.training.loop.logs import LOG_EVERY, Log, LossMeans
from lwasr_edge.training.loop.losses import Example, LossWeights, end_to_end_losses, layerwise_losses
from lwasr_edge.training.loop.precision import ComputeCopies, in_precision
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.state import StopRequest, read_state, remove_leftovers, write_state
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import save_checkpoint
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR

Evaluate = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Run:
    """What a training run needs beside models and losses; `lwasr_edge.training.run` assembles it from the options."""

    corpus: Corpus
    store: WaveformStore  # the corpus's audio on the training device
    targets: list[list[int]]  # token ids of each utterance; empty without a transcript
    augmenter: Augmenter
    schedule: Schedule
    hardware: Hardware
    folder: Path  # for students, state and logs
    tensorboard: bool = False
    compared: list[bool] | None = None  # utterances whose outputs are compared with the reference's; None: all


class Family:
    """The students that are trained together, by name, and how they are saved."""

    def __init__(
        self,
        students: dict[str, AcousticModel],
        tokenizer: bytes,
        notes: dict[str, str],
        masks: dict[str, dict[str, Tensor]] | None = None,
    ) -> None:
        """Gather.

        Args:
            students: by name.
            tokenizer: the serialised SentencePiece model of all students.
            notes: how they were made; saved in their checkpoints.
            masks: for students with pruned weights: by parameter, 0 at weights that stay zero and 1 elsewhere.
        """
        self.students = students
        self.tokenizer = tokenizer
        self.notes = notes
        self.masks = masks or {}

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set pruned weights back to zero."""
        for name, masks in self.masks.items():
            for parameter, mask in masks.items():
                self.students[name].get_parameter(parameter).mul_(mask)

    def save(self, folder: Path) -> None:
        """Write every student as a checkpoint of its name."""
        for name, student in self.students.items():
            save_checkpoint(folder / f"{name}.safetensors", student, self.tokenizer, self.notes)


class Trainer:
    """Trains a family of students on one stream of batches; the reference, if any, runs once a batch.

    Args:
        run: data, schedule, hardware and folder.
        family: the students; they move to the run's device.
        weights: of the losses.
        reference: the frozen teacher; may be None where no loss compares with it.

    Attributes:
        step: optimiser steps done.
        audio_s: seconds of audio trained on, padding left out.
        elapsed_s: seconds spent in training; evaluation and saving are left out.

    Raises:
        OptionError: models that cannot be trained together, or losses without the reference they compare with.
    """

    def __init__(self, run: Run, family: Family, weights: LossWeights, reference: AcousticModel | None = None) -> None:
        compares = weights.needs_reference or run.schedule.layer_steps > 0
        if compares and reference is None:
            raise OptionError("losses that compare with a reference need one: pass --reference")
        world, device = run.hardware.world, run.hardware.device
        if run.schedule.batches_per_step % world.size:
            n_batches = run.schedule.batches_per_step
            raise OptionError(f"--batches-per-step must be a multiple of the {world.size} processes, got {n_batches}")
        by_layer = weights.compares_layers or run.schedule.layer_steps > 0
        check_family(family.students, reference if compares else None, by_layer=by_layer)
        self.run, self.family, self.weights = run, family, weights
        self.schedule, self.folder, self.world, self.device = run.schedule, run.folder, world, device
        self.batches = Batches(run.corpus, run.schedule.batch_s, run.schedule.seed)
        self.logs = Log(run.folder, run.schedule.steps, run.tensorboard and world.is_rank_zero)
        self.models = nn.ModuleDict({name: student.to(device) for name, student in family.students.items()}).train()
        self.reference: AcousticModel | None = None
        if compares and reference is not None:
            self.reference = in_precision(reference.to(device), run.hardware.precision).eval().requires_grad_(False)
        world.broadcast([*self.models.parameters(), *self.models.buffers()])
        self.initial_digest = digest(self.models)
        self.copies = ComputeCopies(family.students, run.hardware.precision)
        self.optimizer = torch.optim.AdamW(
            self.models.parameters(),
            lr=run.schedule.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=run.schedule.weight_decay,
            fused=True,
        )
        self.targets = Targets(run.targets, device)
        self.compared = None if run.compared is None else torch.tensor(run.compared, device=device)
        self.step = 0
        self.audio_s = 0.0
        self.elapsed_s = 0.0
        self.loss_means = LossMeans(device)

    def train(self, evaluate: Evaluate | None = None) -> None:
        """Train from the present step to the last, logging, saving and evaluating on the way.

        Args:
            evaluate: returns WER by name; called every `evaluate_every` steps and at the end, and logged.

        Raises:
            OptionError: the loss is not finite; the state saved last is a good one.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the state is saved.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with StopRequest() as stop, self.progress_bar() as progress:
            if not self.schedule.steps:
                self.save()
            self.evaluate(evaluate)  # run the evaluation that an interrupted run skipped
            for batches in self.remaining_batches():
                began = time.monotonic()
                self.loss_means.add(self.train_step(batches))
                self.step += 1
                stops = self.world.any(stop.wanted, self.device)
                saves = stops or self.schedule.saves_after(self.step)
                means = self.loss_means.take(self.step) if saves or self.step % LOG_EVERY == 0 else {}
                self.elapsed_s += time.monotonic() - began
                progress.update()
                if means:
                    self.log(means)
                    progress.set_postfix({name: f"{value:.3f}" for name, value in list(means.items())[:4]})
                if saves:
                    self.save()
                if stops:
                    raise KeyboardInterrupt
                self.evaluate(evaluate)
                if saves:
                    self.world.barrier()

    def train_step(self, batches: list[np.ndarray]) -> dict[str, Tensor]:
        """One optimiser step on batches of utterance indices; returns the mean of each loss of each student."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        logged: dict[str, Tensor] = {}
        for position, indices in enumerate(batches):
            self.audio_s += float(self.run.store.lengths_s[indices].sum())
            if position % self.world.size != self.world.rank:
                continue
            # a resumed run, and any number of processes, draw the random numbers of one unbroken run
            torch.manual_seed((self.schedule.seed * 1_000_003 + self.step) * len(batches) + position)
            example = self.example(indices)
            for name, student in self.copies.models.items():
                losses = self.losses(student, example)
                (torch.stack(list(losses.values())).sum() / len(batches)).backward()
                for loss, value in losses.items():
                    key = f"{name}/{loss}"
                    logged[key] = logged.get(key, 0.0) + value.detach() / len(batches)
        self.world.all_reduce(list(logged.values()))
        self.update()
        return logged

    def step_s(self) -> float:
        """Seconds that a step takes here, measured on the second of two batches, without updating the students."""
        first, second = itertools.islice(self.batches.endless(), 2)
        for indices in (first, second):
            began = time.monotonic()
            example = self.example(indices)
            for student in self.copies.models.values():
                torch.stack(list(self.losses(student, example).values())).sum().backward()
                student.zero_grad(set_to_none=True)
        return (time.monotonic() - began) * self.schedule.batches_per_step

    def example(self, indices: np.ndarray) -> Example:
        """A batch, augmented, with the reference's outputs on the audio before augmentation."""
        batch, augmenter = self.run.store.batch(indices), self.run.augmenter
        chunking = self.schedule.draw_chunking(self.step)
        student = next(iter(self.family.students.values()))
        with torch.no_grad():
            waveform, n_samples = augmenter.for_both(batch.waveform, batch.n_samples)
            reference = None
            if self.reference is not None:
                features, lengths = self.reference.features(waveform, n_samples)
                reference = self.reference(features.to(self.run.hardware.precision), lengths)
            augmented = augmenter.for_student(waveform, n_samples)
            features, lengths = student.features(augmented, n_samples, chunking)
            features = augmenter.mask(features).to(self.run.hardware.precision)
            n_frames = features.shape[1] // SUBSAMPLING_FACTOR
            mask = (torch.arange(n_frames, device=self.device) < lengths[:, None]).float()
            if self.compared is not None:
                mask = mask * self.compared[batch.utterances, None]
        return Example(features, lengths, mask, chunking, reference, *self.targets[batch.utterances])

    def losses(self, student: AcousticModel, example: Example) -> dict[str, Tensor]:
        """The weighted losses of one student, by name."""
        if self.step < self.schedule.layer_steps:
            return layerwise_losses(student, example)
        return end_to_end_losses(student, example, self.weights)

    def update(self) -> None:
        """Update the float32 students with the gradients of all processes, then refresh the copies."""
        self.world.all_reduce(self.copies.gradients())
        self.copies.move_gradients()
        for weights in self.copies.student_weights:
            nn.utils.clip_grad_norm_(weights, self.schedule.max_gradient)
        self.optimizer.step()
        self.family.apply_masks()
        self.copies.refresh()

    def remaining_batches(self) -> Iterator[list[np.ndarray]]:
        """The batches of each step from the present one to the last, epoch after epoch."""
        n_batches = self.schedule.batches_per_step
        upcoming = self.batches.endless(skip=self.step * n_batches)
        while self.step < self.schedule.steps:
            yield list(itertools.islice(upcoming, n_batches))

    def evaluate(self, evaluate: Evaluate | None) -> None:
        """Evaluate and log, if an evaluation is due after the present step and is not in the log."""
        if evaluate is None or self.step == 0 < self.schedule.steps or not self.schedule.evaluates_after(self.step):
            return
        if self.world.is_rank_zero and not self.logs.holds(self.step, "wer"):
            self.models.eval()
            self.log({"wer": evaluate()})
            self.models.train()
        self.world.barrier()

    def log(self, values: dict[str, Any]) -> None:
        """Add a line to the logs: the progress of the run, and `values`."""
        if self.world.is_rank_zero:
            self.logs.write(self.step, self.audio_s, self.elapsed_s, values)

    def progress_bar(self) -> tqdm:
        """A bar with a tick a step, in the first process."""
        return tqdm(
            total=self.schedule.steps,
            initial=self.step,
            desc="train",
            unit="step",
            mininterval=2,
            disable=not self.world.is_rank_zero,
        )

    def save(self) -> None:
        """Write the students, then all that an exact resume needs."""
        if not self.world.is_rank_zero:
            return
        self.family.save(self.folder)
        state = {
            "began_with": self.initial_digest,
            "models": self.models.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "audio_s": self.audio_s,
            "elapsed_s": self.elapsed_s,
        }
        write_state(self.folder, state)

    def resume(self) -> bool:
        """Load the newest good state in the folder; False where there is none.

        The log keeps only the lines up to the state, so that nothing an interrupted run wrote later is believed.

        Raises:
            CheckpointError: every state is damaged, or belongs to other students or other initial weights.
        """
        state = read_state(self.folder, self.device)
        if state is not None:
            if state["began_with"] != self.initial_digest:
                raise CheckpointError(
                    f"{self.folder}: its training began with other students than these, or with other weights of them: "
                    "choose another folder"
                )
            self.models.load_state_dict(state["models"])
            self.optimizer.load_state_dict(state["optimizer"])
            for group in self.optimizer.param_groups:
                group["weight_decay"] = self.schedule.weight_decay
            self.copies = ComputeCopies(self.family.students, self.run.hardware.precision)  # buffers too
            self.step, self.audio_s, self.elapsed_s = state["step"], state["audio_s"], state["elapsed_s"]
            if self.step > self.schedule.steps:
                print(f"{self.folder} is already at step {self.step}: nothing to do", file=sys.stderr)
        self.world.barrier()  # every process has read the state before files are removed
        if self.world.is_rank_zero:
            self.logs.cut(self.step)
            remove_leftovers(self.folder)
        return state is not None


class Targets:
    """Token ids of every utterance, padded, on the training device."""

    def __init__(self, targets: list[list[int]], device: torch.device) -> None:
        self.lengths = torch.tensor([len(one) for one in targets], device=device)
        padded = [torch.tensor(one, dtype=torch.int64) for one in targets]
        self.tokens = nn.utils.rnn.pad_sequence(padded, batch_first=True).to(device)

    def __getitem__(self, utterances: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) token ids and (B,) lengths of utterances (B,)."""
        return self.tokens[utterances], self.lengths[utterances]


def digest(model: nn.Module) -> str:
    """Identifies a model's initial weights: SHA-256 over names and values, in hexadecimal.

    Modules that can have been pruned (`compress.pruning`), and biases, which take what removed modules leave behind
    (`compress.modules`), count by their shapes alone: such weights differ in the last bits from machine to machine, and
    no training changes only them.
    """
    found = hashlib.sha256()
    for name, weight in model.named_parameters():
        found.update(f"{name} {tuple(weight.shape)}".encode())
        if not any(part in name for part in (".feed_forward", ".attention.", ".subsampling.", ".bias")):
            found.update(weight.detach().cpu().numpy().tobytes())
    return found.hexdigest()
