"""Removal of whole modules: each time the one that changes the posteriors least for the time that it takes.

Time, unlike bytes, is spent by the number of modules, however narrow they are. A removed module leaves its mean output
behind, as a part of the bias before it. A feed-forward module of one layer and the attention of another are removed
before all of a third layer is: at the same time, the posteriors are much closer to the teacher's.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lwasr_edge.training.compress.pruning import Augment, augmented, valid_frames
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import MODULES
from lwasr_edge.training.model.conformer import MEL_CONTEXT, ConformerLayer, Limits
from lwasr_edge.validate import number

# Share of a layer's time that a module takes: assumed; measured ones differ by up to a third
# (docs/decisions/module-removal.md)
TIMES = {"feed_forward1": 0.2, "attention": 0.4, "conv": 0.2, "feed_forward2": 0.2}
SPOKEN_WEIGHT = 6.0  # of frames in which the teacher gives a token, over blank ones
REMOVED_AT_ONCE = 3  # modules, between two measurements of all
Module = tuple[int, str]  # layer, name


class Removal:
    """A greedy search over the modules of one model, on some utterances.

    Args:
        model: in evaluation mode, on the store's device; it is not changed.
        store: audio.
        n_utterances: how many to compare posteriors on, evenly spaced.
        augment: of the audio.
    """

    @torch.no_grad()
    def __init__(
        self, model: AcousticModel, store: WaveformStore, n_utterances: int = 16, augment: Augment | None = None
    ) -> None:
        self._model = model
        self._batches: list[tuple[Tensor, Limits, Tensor]] = []  # the layers' input, limits and mask of valid frames
        encoder = model.encoder
        for indices in store.spread(n_utterances):
            batch = store.batch(indices)
            features, lengths = model.features(augmented(batch, augment), batch.n_samples)
            embedded = encoder.embed(F.pad(features, (0, 0, MEL_CONTEXT, 0)))
            limits = encoder.limits(embedded, lengths, None)
            self._batches.append((embedded, limits, valid_frames(features, lengths)))
        self.means: dict[Module, Tensor] = {}
        self.removed: list[Module] = []
        self._teacher = [self._posteriors(inputs[0], index, 0) for index, inputs in enumerate(self._recorded())]

    @property
    def left(self) -> list[Module]:
        """The modules that are not removed yet."""
        config = self._model.config.encoder
        every = [(layer, name) for layer in range(config.n_layers) for name in MODULES if config.has(layer, name)]
        return [module for module in every if module not in self.removed]

    @property
    def time(self) -> float:
        """Share of the time of full layers that the modules left take."""
        return sum(TIMES[name] for _, name in self.left) / self._model.config.encoder.n_layers

    @torch.no_grad()
    def remove(self, share: float) -> None:
        """Remove modules until those left take at most ``share`` of the time of full layers.

        Raises:
            OptionError: ``share`` is not above 0 and below 1.
        """
        number("the share of time of a student", share, above=0, below=1)
        with tqdm(desc="modules", unit="module", mininterval=1, leave=False) as progress:
            while self.time > share:
                inputs = list(self._recorded())
                before = self._divergence(inputs, None)
                costs = {one: (self._divergence(inputs, one) - before) / TIMES[one[1]] for one in self.left}
                for module in sorted(costs, key=costs.__getitem__)[:REMOVED_AT_ONCE]:
                    if self.time > share:
                        self.removed.append(module)
                        progress.update()
                progress.set_postfix(
                    time=f"{self.time:.2f}", kl=f"{self._divergence(list(self._recorded()), None):.3f}"
                )

    def take(self, removed: Iterable[Module]) -> None:
        """Remove the modules that an earlier search has found; their means are those beside all others."""
        config = self._model.config.encoder
        self.removed = [module for module in removed if config.has(*module)]

    def _recorded(self) -> Iterator[list[Tensor]]:
        """The input of every layer for each batch; the means of the modules' outputs are taken again."""
        sums: dict[Module, Tensor] = {}
        n_frames = 0
        for embedded, limits, valid in self._batches:
            x, inputs = embedded, [embedded]
            n_frames += int(valid.sum())
            for index in range(len(self._model.encoder.layers)):
                x = self._layer(index, x, limits, None, (sums, valid))
                inputs.append(x)
            yield inputs
        self.means |= {module: total / n_frames for module, total in sums.items()}

    def _layer(
        self,
        index: int,
        x: Tensor,
        limits: Limits,
        without: Module | None,
        record: tuple[dict[Module, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """One layer, with the means of removed modules in their stead."""
        layer = self._model.encoder.layers[index]
        assert isinstance(layer, ConformerLayer)
        for name in MODULES:
            module = index, name
            if module in self.removed or module == without:
                x = x + self.means[module]
            elif getattr(layer, name) is not None:
                out = output(layer, name, x, limits)
                x = x + out
                if record is not None:
                    sums, valid = record
                    sums[module] = sums.get(module, torch.zeros_like(out[0, 0])) + out[valid].sum(0)
        return layer.norm(x)

    def _posteriors(self, x: Tensor, batch: int, start: int, without: Module | None = None) -> Tensor:
        """Log-posteriors of the valid frames of a batch, from the input ``x`` of layer ``start``."""
        _, limits, valid = self._batches[batch]
        for index in range(start, len(self._model.encoder.layers)):
            x = self._layer(index, x, limits, without)
        return self._model.head(x)[valid].log_softmax(1)

    def _divergence(self, inputs: list[list[Tensor]], without: Module | None) -> float:
        """KL from the teacher's posteriors, in nats a frame, frames with tokens weighted by `SPOKEN_WEIGHT`."""
        total = weights = 0.0
        start = 0 if without is None else without[0]
        for index, teacher in enumerate(self._teacher):
            own = self._posteriors(inputs[index][start], index, start, without)
            is_spoken = teacher.argmax(1) != self._model.config.blank_id
            weight = torch.where(is_spoken, SPOKEN_WEIGHT, 1.0)
            total += float(((teacher.exp() * (teacher - own)).sum(1) * weight).sum())
            weights += float(weight.sum())
        return total / weights


def modules_without_weights(names: Iterable[str]) -> tuple[Module, ...]:
    """The modules that a student lacks, by the names of its weights."""
    found = [re.search(r"encoder\.layers\.(\d+)\.(\w+)", name) for name in names]
    present = {(int(match[1]), match[2]) for match in found if match}
    depth = 1 + max((layer for layer, _ in present), default=-1)
    return tuple((layer, name) for layer in range(depth) for name in MODULES if (layer, name) not in present)


def output(layer: ConformerLayer, name: str, x: Tensor, limits: Limits) -> Tensor:
    """What a module adds to its input. (B, U, D) -> (B, U, D)"""
    module = getattr(layer, name)
    if name in ("attention", "conv"):
        return module(x, limits)[0]
    return 0.5 * module(x)


@torch.no_grad()
def removed_from(model: AcousticModel, removal: Removal, dropout: float = 0.0) -> AcousticModel:
    """A copy of a model without the modules that a search has removed from it."""
    encoder = model.config.encoder
    names = tuple(f"{layer}.{name}" for layer, name in removal.removed)
    removed = tuple(sorted({*encoder.removed, *names}, key=lambda one: (int(one.split(".")[0]), one)))
    config = dataclasses.replace(model.config, encoder=dataclasses.replace(encoder, removed=removed))
    folded = copy.deepcopy(model)
    for module in removal.removed:
        bias, factor = bias_before(folded, module, {*removal.removed})
        bias += removal.means[module] / factor
    student = AcousticModel(config, dropout).to(next(model.parameters()).device)
    own = student.state_dict()
    student.load_state_dict({name: value for name, value in folded.state_dict().items() if name in own})
    return student


def bias_before(model: AcousticModel, module: Module, removed: set[Module]) -> tuple[Tensor, float]:
    """The bias that is added last before a removed module's output would be, and its factor on the way."""
    layer, name = module
    encoder = model.encoder
    before = encoder.layers[layer]
    assert isinstance(before, ConformerLayer)
    for earlier in reversed(MODULES[: MODULES.index(name)]):
        part = getattr(before, earlier)
        if part is not None and (layer, earlier) not in removed:
            last = {"attention": "out", "conv": "pointwise2"}.get(earlier, "linear2")
            return part.get_submodule(last).bias, 0.5 if last == "linear2" else 1.0
    if layer:
        norm = encoder.layers[layer - 1].norm
        assert isinstance(norm, nn.LayerNorm)
        return norm.bias, 1.0
    return encoder.subsampling.linear.bias, encoder.input_scale
