"""The training loop that both steps share: a step is an objective, a schedule and a command."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
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
from lwasr_edge.training.loop.device import choose_precision
from lwasr_edge.training.loop.distributed import World
from lwasr_edge.training.loop.logs import Log
from lwasr_edge.training.loop.losses import Example, LossWeights, end_to_end_losses, layerwise_losses
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.state import StopRequest, read_state, remove_leftovers, write_state
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import save_checkpoint
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR
from lwasr_edge.training.model.quantized import quantize_weights

LOG_EVERY = 50  # steps


class Family:
    """The students that learn together, by name, and how to write them down."""

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
            tokenizer: the serialised SentencePiece model of all.
            notes: how they came to be.
            masks: of students with weights that must stay zero: by parameter, 0 there and 1 elsewhere.
        """
        self.students = students
        self.tokenizer = tokenizer
        self.notes = notes
        self.masks = masks or {}

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Bring pruned weights back to zero."""
        for name, masks in self.masks.items():
            for parameter, mask in masks.items():
                self.students[name].get_parameter(parameter).mul_(mask)

    def save(self, folder: Path, half: bool = False) -> None:
        """Write every student as a checkpoint of its name."""
        for name, student in self.students.items():
            save_checkpoint(folder / f"{name}.safetensors", student, self.tokenizer, self.notes, half)


def in_precision(model: AcousticModel, dtype: torch.dtype) -> AcousticModel:
    """A copy that computes in ``dtype`` behind a float32 front end: fewer bytes to move, and no casts on the way."""
    model = copy.deepcopy(model)
    model.encoder.to(dtype)
    model.head.to(dtype)
    return model


def digest(model: nn.Module) -> str:
    """What tells a model's weights from others: SHA-256 over names and values, in hexadecimal.

    What can have been narrowed (`narrow`, `narrow_front`) counts by its shape alone: it begins the same on the same
    machine only, and no training moves it and nothing else.
    """
    found = hashlib.sha256()
    for name, weight in model.named_parameters():
        found.update(f"{name} {tuple(weight.shape)}".encode())
        if not any(part in name for part in (".feed_forward", ".attention.", ".subsampling.")):
            found.update(weight.detach().cpu().numpy().tobytes())
    return found.hexdigest()


class Trainer:
    """Teaches a family of students from one stream of batches; the reference, if any, runs once a batch.

    The students are float32. Copies of them in ``precision`` compute outputs and gradients; the optimiser moves the
    students by those gradients, and the copies follow.
    """

    def __init__(
        self,
        family: Family,
        reference: AcousticModel | None,
        store: WaveformStore,
        targets: list[list[int]],
        batches: Batches,
        augmenter: Augmenter,
        weights: LossWeights,
        schedule: Schedule,
        folder: Path,
        device: torch.device,
        precision: torch.dtype | None = None,
        world: World | None = None,
        with_tensorboard: bool = False,
    ) -> None:
        """Prepare.

        Args:
            family: the students; they move to ``device``.
            reference: the frozen teacher; may be None where no loss compares with it.
            store: all training audio, on ``device``.
            targets: token ids of each utterance of the corpus; empty where no loss reads transcripts.
            batches: grouping and order.
            augmenter: distortions.
            weights: of the losses.
            schedule: steps, rates, sizes.
            folder: for students, state and log.
            device: where to train.
            precision: what encoders compute in; None for bfloat16 where ``device`` multiplies it, float32 elsewhere.
            world: the processes that train together; None for this one alone.
            with_tensorboard: see `Log`.

        Raises:
            OptionError: models that cannot learn together, or losses without what they compare with.
        """
        compares = weights.needs_reference or schedule.layer_steps > 0
        if compares and reference is None:
            raise OptionError("these losses compare with a reference, and none was given: pass --reference")
        self.world = world or World()
        if schedule.batches_per_step % self.world.size:
            n_batches, n_processes = schedule.batches_per_step, self.world.size
            raise OptionError(f"--batches-per-step {n_batches}: expected a multiple of {n_processes}, the processes")
        check_family(family.students, reference if compares else None)
        self.family, self.store, self.batches = family, store, batches
        self.augmenter, self.weights, self.schedule = augmenter, weights, schedule
        self.folder, self.device = folder, device
        self.logs = Log(folder, schedule.steps, with_tensorboard and self.world.is_rank_zero)
        self.precision = choose_precision("auto", device) if precision is None else precision
        self.models = nn.ModuleDict({name: student.to(device) for name, student in family.students.items()}).train()
        self.reference: AcousticModel | None = None
        if compares and reference is not None:
            self.reference = in_precision(reference.to(device), self.precision).eval().requires_grad_(False)
        self.world.broadcast([*self.models.parameters(), *self.models.buffers()])
        self.began_with = digest(self.models)
        self.make_copies()
        self.optimizer = torch.optim.AdamW(
            self.models.parameters(),
            lr=schedule.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self.target_lengths = torch.tensor([len(one) for one in targets], device=device)
        padded = [torch.tensor(one, dtype=torch.int64) for one in targets]
        self.targets = nn.utils.rnn.pad_sequence(padded, batch_first=True).to(device)
        self.step = 0
        self.audio_s = 0.0  # heard so far, padding left out
        self.elapsed_s = 0.0  # spent in training so far; evaluation and saving are left out
        self.sums: dict[str, Tensor] = {}  # of each part of the loss, since the last line of the log
        self.summed_steps = 0

    def run(self, evaluate: Callable[[], dict[str, float]] | None = None) -> None:
        """Train from the present state to the end, saving on the way.

        Args:
            evaluate: WER by name; called every ``evaluate_every`` steps and at the end. It goes to the log.

        Raises:
            OptionError: the loss is not a number; the state saved last is a good one.
            KeyboardInterrupt: Ctrl-C or SIGTERM came; the state is saved.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = tqdm(
            total=self.schedule.steps,
            initial=self.step,
            desc="train",
            unit="step",
            mininterval=2,
            disable=not self.world.is_rank_zero,
        )
        with StopRequest() as stop, progress:
            self.evaluate(evaluate)  # what a run that was stopped between saving and evaluating still owes
            for batches in self.remaining():
                began = time.monotonic()
                for name, value in self.train_on(batches).items():
                    self.sums[name] = self.sums.get(name, torch.zeros((), device=self.device)) + value
                self.step, self.summed_steps = self.step + 1, self.summed_steps + 1
                stops = self.world.any(stop.wanted, self.device)
                ends = self.step == self.schedule.steps
                saves = ends or stops or self.step % self.schedule.save_every == 0
                means = self.means() if saves or self.step % LOG_EVERY == 0 else {}
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

    def evaluate(self, evaluate: Callable[[], dict[str, float]] | None) -> None:
        """Measure and log, where the present step is one to do so at and it was not done."""
        is_due = self.step == self.schedule.steps or self.step % self.schedule.evaluate_every == 0
        if evaluate is None or not self.step or not is_due:
            return
        if self.world.is_rank_zero and not self.logs.holds(self.step, "wer"):
            self.models.eval()
            self.log({"wer": evaluate()})
            self.models.train()
        self.world.barrier()

    def means(self) -> dict[str, float]:
        """Mean of each part of the loss since the last call; waits for the device."""
        means = {name: round(float(value) / self.summed_steps, 5) for name, value in self.sums.items()}
        self.sums, self.summed_steps = {}, 0
        if not all(math.isfinite(value) for value in means.values()):
            raise OptionError(f"the loss is not a number at step {self.step}: run again with a lower --learning-rate")
        return means

    def remaining(self) -> Iterator[list[np.ndarray]]:
        """The batches of each step from the present one to the last, epoch after epoch."""
        n_batches = self.schedule.batches_per_step
        upcoming = self.batches_from(self.step * n_batches)
        while self.step < self.schedule.steps:
            yield list(itertools.islice(upcoming, n_batches))

    def batches_from(self, number: int) -> Iterator[np.ndarray]:
        """Batches, endless, from the one of that number on."""
        seen = 0
        for epoch in itertools.count():
            order = self.batches.epoch(epoch)
            yield from order[max(0, number - seen) :]
            seen += len(order)

    def train_on(self, batches: list[np.ndarray]) -> dict[str, Tensor]:
        """One optimiser step on batches of utterances; returns each part of each student's loss, their mean."""
        schedule, world = self.schedule, self.world
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.rate(self.step)
        logged: dict[str, Tensor] = {}
        for place, indices in enumerate(batches):
            self.audio_s += float(self.store.lengths_s[indices].sum())
            if place % world.size != world.rank:
                continue
            # a resumed run, and any number of processes, draw what one unbroken run drew
            torch.manual_seed((schedule.seed * 1_000_003 + self.step) * len(batches) + place)
            example = self.example(indices)
            for name, student in self.copies.items():
                if self.step < schedule.layer_steps:
                    parts = layerwise_losses(student, example)
                else:
                    parts = end_to_end_losses(student, example, self.weights)
                (torch.stack(list(parts.values())).sum() / len(batches)).backward()
                for part, value in parts.items():
                    key = f"{name}/{part}"
                    logged[key] = logged.get(key, 0.0) + value.detach() / len(batches)
        world.all_reduce(list(logged.values()))
        self.update()
        return logged

    def update(self) -> None:
        """Move the float32 weights by the copies' gradients, and the copies after them."""
        self.world.all_reduce(
            [copied.grad for _, copies in self.parameters for copied in copies if copied.grad is not None]
        )
        for weights, copies in self.parameters:
            for weight, copied in zip(weights, copies, strict=True):
                weight.grad = None if copied.grad is None else copied.grad.float()
                copied.grad = None
            nn.utils.clip_grad_norm_(weights, self.schedule.max_gradient)
        self.optimizer.step()
        self.family.apply_masks()
        self.renew_copies()

    def make_copies(self) -> None:
        """Copy the students in the precision that trains; whole, with what the optimiser does not move."""
        students = self.family.students
        self.copies = {name: in_precision(student, self.precision) for name, student in students.items()}
        # of each student and its copy; listed once, since walking a model takes as long as a small step
        self.parameters: list[tuple[list[Tensor], list[Tensor]]] = [
            (list(student.parameters()), list(self.copies[name].parameters())) for name, student in students.items()
        ]
        self.renew_copies()

    @torch.no_grad()
    def renew_copies(self) -> None:
        """Bring the copies' weights to the students', rounded where these have few bits."""
        for weights, copies in self.parameters:
            torch._foreach_copy_(copies, weights)
        for name, student in self.family.students.items():
            quantize_weights(self.copies[name], student)

    def example(self, indices: np.ndarray) -> Example:
        """A batch, distorted, with what the reference makes of it."""
        batch = self.store.batch(indices)
        chunking = self.schedule.draw_chunking(self.step)
        first = next(iter(self.family.students.values()))
        with torch.no_grad():
            waveform, n_samples = self.augmenter.for_both(batch.waveform, batch.n_samples)
            reference = None
            if self.reference is not None:
                features, lengths = self.reference.features(waveform, n_samples)
                reference = self.reference(features.to(self.precision), lengths)
            distorted = self.augmenter.for_student(waveform, n_samples)
            features, lengths = first.features(distorted, n_samples, chunking)
            features = self.augmenter.mask(features).to(self.precision)
            n_frames = features.shape[1] // SUBSAMPLING_FACTOR
            heard = (torch.arange(n_frames, device=self.device) < lengths[:, None]).float()
        targets, target_lengths = self.targets[batch.utterances], self.target_lengths[batch.utterances]
        return Example(features, lengths, heard, chunking, reference, targets, target_lengths)

    def log(self, values: dict[str, Any]) -> None:
        """Add a line to the logs: where the run stands, and ``values``."""
        if self.world.is_rank_zero:
            self.logs.write(self.step, self.audio_s, self.elapsed_s, values)

    def save(self) -> None:
        """Write the students, then all that an exact resume needs."""
        if not self.world.is_rank_zero:
            return
        self.family.save(self.folder)
        state = {
            "began_with": self.began_with,
            "models": self.models.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "audio_s": self.audio_s,
            "elapsed_s": self.elapsed_s,
        }
        write_state(self.folder, state)

    def resume(self) -> bool:
        """Take up the newest good state in the folder; False where there is none.

        Raises:
            CheckpointError: every state is damaged, or belongs to other students, or to these with other weights.
        """
        state = read_state(self.folder, self.device)
        if state is None:
            return False
        if state["began_with"] != self.began_with:
            raise CheckpointError(
                f"{self.folder}: the training in it began with other students than these, or with other weights of "
                "them: choose another folder"
            )
        self.models.load_state_dict(state["models"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.schedule.weight_decay
        self.make_copies()
        self.step, self.audio_s, self.elapsed_s = state["step"], state["audio_s"], state["elapsed_s"]
        if self.step > self.schedule.steps:
            print(f"{self.folder} is already at step {self.step}: nothing to do", file=sys.stderr)
        self.world.barrier()  # all have read the state before anything is tidied up
        if self.world.is_rank_zero:
            self.logs.cut(self.step)
            remove_leftovers(self.folder)
        return True
