"""`lwasr-train calibrate`: by how much a blank must beat the best token before greedy decoding writes nothing.

A student that hesitates between several tokens shares their probability out, and the blank, which has no rivals, wins
frames that it should lose: words are missing. A penalty on the blank's logit gives them back. It is a number that
training does not see, since greedy decoding is no part of any loss: it is found on recordings that the student has not
learnt from, and goes into the bias of the CTC head, where it costs nothing.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lwasr_edge.errors import OptionError
from lwasr_edge.training.loop.device import choose_device
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, refuse_folder, save_checkpoint
from lwasr_edge.training.scoring.decode import collapse, corpus_log_probs, tokens_to_text
from lwasr_edge.training.scoring.dev_sets import CHUNKING, STREAM, DevSets
from lwasr_edge.training.scoring.dev_sets import FULL_CONTEXT as WHOLE
from lwasr_edge.training.scoring.scores import Score, score
from lwasr_edge.wer import normalize_text

PENALTIES = tuple(step / 4 for step in range(-4, 13))  # nats


class Rivals(NamedTuple):
    """What greedy decoding with any penalty needs to know of an utterance of U frames."""

    blank: Tensor  # (U,) its log-probability
    best: Tensor  # (U,) that of the best token beside it
    tokens: Tensor  # (U,) that token

    @classmethod
    def of(cls, log_probs: Tensor, blank_id: int) -> Rivals:
        """Of an utterance's log-probabilities, (U, V)."""
        others = log_probs.clone()
        others[:, blank_id] = -math.inf
        return cls(log_probs[:, blank_id].clone(), *others.max(1))

    def path(self, penalty: float, blank_id: int) -> Tensor:
        """(U,) the token that wins each frame."""
        return torch.where(self.blank - penalty > self.best, blank_id, self.tokens)


def curve(model: AcousticModel, dev_sets: DevSets) -> dict[float, dict[str, Score]]:
    """Errors by penalty on the blank, on each set whole and, where the model streams, in chunks: "set/mode"."""
    blank_id, vocabulary = model.config.blank_id, model.config.vocabulary
    modes = (WHOLE, STREAM) if model.config.frontend.normalization == "running" else (WHOLE,)
    scores: dict[float, dict[str, Score]] = {penalty: {} for penalty in PENALTIES}
    for name, corpus in dev_sets.corpora.items():
        said = [utterance.text for utterance in corpus.utterances]
        for mode in modes:
            found = corpus_log_probs(model, corpus, dev_sets.stores[name], CHUNKING[mode])
            rivals = {index: Rivals.of(log_probs, blank_id) for index, log_probs in found}
            for penalty in PENALTIES:
                paths = [rivals[index].path(penalty, blank_id) for index in range(len(said))]
                heard = [tokens_to_text(collapse(path, blank_id), vocabulary) for path in paths]
                scores[penalty][f"{name}/{mode}"] = score(said, heard)
    return scores


def best_penalty(scores: dict[float, dict[str, Score]]) -> float:
    """The one with the fewest errors over all sets, each counted by its rate; of equals the one nearest to 0."""
    means = {penalty: sum(one.wer for one in sets.values()) for penalty, sets in scores.items()}
    return min(means, key=lambda penalty: (means[penalty], abs(penalty)))


def table(scores: dict[float, dict[str, Score]], best: float) -> str:
    """WER (%) of every set by penalty; an arrow at the best."""
    names = list(next(iter(scores.values())))
    lines = [f"{'penalty':>7}  " + "  ".join(names)]
    for penalty, sets in scores.items():
        rates = "  ".join(f"{100 * sets[name].wer:{len(name)}.2f}" for name in names)
        lines.append(f"{penalty:7.2f}  {rates}{'  <-' if penalty == best else ''}")
    return "\n".join(lines)


def calibrate(checkpoint: Path, dev: list[Path], n_utterances: int | None, output: Path, device: str | None) -> float:
    """Find the penalty on the blank, print the curve, and write the checkpoint with it.

    Args:
        checkpoint: of any model; its weights stay as they are but for the blank's bias.
        dev: manifests that the model has not learnt from.
        n_utterances: so many of each; None for all.
        output: float16 checkpoint to write.
        device: "cpu" or "cuda"; None for cuda where there is one.

    Returns:
        The penalty, nats.

    Raises:
        CheckpointError, ManifestError: what cannot be read.
        OptionError: a set without transcripts, or what `DevSets` refuses; ``output`` is a folder.
    """
    refuse_folder(output)
    model, tokenizer = load_checkpoint(checkpoint)
    place = choose_device(device)
    dev_sets = DevSets(dev, place, n_utterances)
    for name, corpus in dev_sets.corpora.items():
        if not any(normalize_text(utterance.text) for utterance in corpus.utterances):
            raise OptionError(f"{name}: no transcript in it: expected speech whose words are known, to count errors")
    scores = curve(model.to(place), dev_sets)
    penalty = best_penalty(scores)
    print(table(scores, penalty))
    if penalty in (PENALTIES[0], PENALTIES[-1]):
        print(f"{penalty:g} is the last one tried: calibrate the result again, or train the student longer first")
    with torch.no_grad():
        model.head.bias[model.config.blank_id] -= penalty
    notes = checkpoint_notes(checkpoint)
    notes["blank_penalty"] = f"{float(notes.get('blank_penalty', 0)) + penalty:g}"  # of this time and those before
    save_checkpoint(output, model, tokenizer, notes, half=True)
    print(f"{output}: {penalty:g} nats taken off the blank")
    return penalty


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train calibrate`."""
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--dev", nargs="+", type=Path, required=True, metavar="MANIFEST", help="that the model has not learnt from")
    add("--dev-utterances", type=int, metavar="N", help="use so many of each --dev, evenly spaced; default: all")
    add("--device", help="cpu or cuda; default: cuda where there is one")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors, in float16")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train calibrate`."""
    calibrate(args.checkpoint, args.dev, args.dev_utterances, args.output, args.device)
