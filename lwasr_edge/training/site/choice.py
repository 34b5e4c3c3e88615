"""When a training ends and which weights are kept: chosen on recordings that are neither trained on nor reported."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lwasr_edge.decoding.decoder import Decoder
from lwasr_edge.files import write_bytes
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.loop.logs import read_log
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.quantized import quantized_copy
from lwasr_edge.training.scoring.decode import corpus_log_probs, greedy_tokens, tokens_to_text
from lwasr_edge.training.scoring.scores import score

SITE, NOISE, GENERAL = "site", "noise", "general"  # sets of recordings
SHARES = (1.0, 0.8, 0.6, 0.4, 0.25)  # of the way from the weights before to those after (arXiv 2109.01903)
# Taken from the logit of the blank after training in noise, which makes a model unsure: an unsure one emits blanks,
# and words are deleted. See `lwasr-train blank-penalty`. Without noise, nothing is taken.
PENALTIES = (0.0, 0.5, 1.0, 1.5)  # nats
PATIENCE = 2  # evaluations that are worse by more than `TOLERANCE` end a training
TOLERANCE = 0.1  # of the cost: few recordings, and a learning rate that is still high, make it look worse than it is
ALLOWED = 0.5  # share of what general speech may lose that it may lose here: the recordings are few
LOSS_WEIGHT = 2.0  # of each error in a hundred words beyond that, where 1 is all errors at the site
MEMORY_S = 60.0  # s of audio recognised at a time


@dataclass(frozen=True)
class Criteria:
    """How models are judged."""

    decoder: Decoder | None = None  # the one that the site will use; None for greedy decoding
    max_general_loss: float = 0.5  # errors in a hundred words


@dataclass(frozen=True)
class DevSet:
    """Recordings to choose with."""

    corpus: Corpus
    store: WaveformStore

    def wers(
        self, model: AcousticModel, penalties: Sequence[float] = PENALTIES, decoder: Decoder | None = None
    ) -> dict[float, float]:
        """Errors in a hundred words by the penalty, with full context; greedy without a decoder."""
        references = [one.text for one in self.corpus.utterances]
        found = dict(corpus_log_probs(model, self.corpus, self.store, batch_s=MEMORY_S, quiet=True))
        wers = {}
        for penalty in penalties:
            texts = [_text(found[index], model, penalty, decoder) for index in range(len(references))]
            wers[penalty] = round(100 * score(references, texts).wer, 3)
        return wers


def _text(log_probs: Tensor, model: AcousticModel, penalty: float, decoder: Decoder | None) -> str:
    """The text of an utterance, (U, V) log-probabilities."""
    blank_id, vocabulary = model.config.blank_id, model.config.vocabulary
    if penalty:
        log_probs = log_probs.clone()
        log_probs[:, blank_id] -= penalty
        log_probs = log_probs.log_softmax(1)
    if decoder is None or not len(log_probs):
        return tokens_to_text(greedy_tokens(log_probs, blank_id), vocabulary)
    return tokens_to_text([one.token for one in decoder.decode(log_probs.numpy()).tokens], vocabulary)


class Choice:
    """Measures a student in the course of its training, and chooses its weights.

    Args:
        folder: of the run; the student is saved there at each evaluation.
        sets: by `SITE`, `NOISE` and `GENERAL`; those that there are.
        before: the model before adaptation.
        criteria: how models are judged.
    """

    def __init__(
        self, folder: Path, sets: dict[str, Corpus], before: AcousticModel, criteria: Criteria | None = None
    ) -> None:
        cpu = torch.device("cpu")
        self.folder, self.model_before, self.criteria = folder, before, criteria or Criteria()
        self.sets = {name: DevSet(corpus, WaveformStore(corpus, cpu)) for name, corpus in sets.items()}
        self.penalties = PENALTIES if NOISE in sets else PENALTIES[:1]
        self.before = {name: one.wers(before, (0.0,), self.criteria.decoder)[0.0] for name, one in self.sets.items()}

    def measure(self, model: AcousticModel) -> dict[float, dict[str, float]]:
        """Errors in a hundred words of each set, by the penalty."""
        training = model.training
        model.eval()
        found = {name: one.wers(model, self.penalties, self.criteria.decoder) for name, one in self.sets.items()}
        model.train(training)
        return {penalty: {name: wers[penalty] for name, wers in found.items()} for penalty in self.penalties}

    def best_penalty(self, measured: dict[float, dict[str, float]]) -> float:
        """The penalty of the lowest cost; of equals the smallest."""
        return min(measured, key=lambda penalty: (self.cost(measured[penalty]), penalty))

    def site_cost(self, wers: dict[str, float]) -> float:
        """Errors at the site relative to those before."""
        wanted = [name for name in (SITE, NOISE) if name in wers]
        return sum(wers[name] / max(self.before[name], 0.5) for name in wanted) / max(1, len(wanted))

    def cost(self, wers: dict[str, float]) -> float:
        """`site_cost`, and much for what general speech lost beyond what it may; less is better."""
        lost = wers.get(GENERAL, 0.0) - self.before.get(GENERAL, 0.0)
        return self.site_cost(wers) + LOSS_WEIGHT * max(0.0, lost - ALLOWED * self.criteria.max_general_loss)

    def evaluate(self, student: AcousticModel, step: int) -> dict[str, float]:
        """Measure a student, and save its weights, those before quantisation, in the run's folder."""
        buffer = io.BytesIO()
        torch.save(student.state_dict(), buffer)
        write_bytes(self.weights(step), buffer.getvalue())
        measured = self.measure(quantized_copy(student))
        return measured[self.best_penalty(measured)]

    def weights(self, step: int) -> Path:
        """Where the weights of a step are saved."""
        return self.folder / f"weights{step}.pt"

    def costs(self) -> list[tuple[float, int]]:
        """`site_cost` and step of each evaluation so far, of this run and of those that it resumed.

        What general speech loses does not count yet: an average of the weights before and after loses less.
        """
        entries = [(one["wer"], one["step"]) for one in read_log(self.folder) if isinstance(one.get("wer"), dict)]
        return [(self.site_cost(wers), step) for wers, step in entries if set(wers) == set(self.before)]

    @property
    def is_over(self) -> bool:
        """Whether the last evaluations were clearly worse than those before."""
        costs = [1.0, *(cost for cost, _ in self.costs())]
        return len(costs) > PATIENCE and min(costs[-PATIENCE:]) > (1 + TOLERANCE) * min(costs[:-PATIENCE])

    def best(self) -> tuple[AcousticModel | None, dict[str, Any]]:
        """The best average of the weights before and after, and how it was chosen; None if none is better."""
        _, step = min(self.costs())
        after = copy.deepcopy(self.model_before)
        after.load_state_dict(torch.load(self.weights(step), weights_only=True))
        found = []
        for share in SHARES:
            model = mixed(self.model_before, after, share)
            measured = self.measure(quantized_copy(model))
            penalty = self.best_penalty(measured)
            found.append((self.cost(measured[penalty]), -share, penalty, measured[penalty], model))
        cost, share, penalty, wers, model = min(found, key=lambda one: one[:2])
        with torch.no_grad():
            model.head.bias[model.config.blank_id] -= penalty
        how = {"step": step, "share": -share, "blank_penalty": penalty, "before": self.before, "after": wers}
        return (model if cost < 1 else None), how


def mixed(before: AcousticModel, after: AcousticModel, share: float) -> AcousticModel:
    """The weighted mean of two models of one architecture; buffers are those of `after`."""
    model = copy.deepcopy(after)
    with torch.no_grad():
        own = dict(model.named_parameters())
        for name, value in before.named_parameters():
            own[name].lerp_(value, 1 - share)
    return model
