"""`lwasr-train blank-penalty`: tune the blank bias on held-out speech, to recover deleted words.

A student that is unsure between several tokens splits the probability between them, and the blank wins frames that it
should lose: words are deleted. A penalty on the blank's logit recovers them. No loss tunes it, since greedy decoding is
part of none. It is tuned on recordings that were not trained on and is stored in the bias of the CTC head, where it
costs nothing at run time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.training.loop.device import choose_device
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, refuse_folder, save_checkpoint
from lwasr_edge.training.scoring.decode import BestTokens, collapse, corpus_log_probs, tokens_to_text
from lwasr_edge.training.scoring.dev_sets import CHUNKING, FULL_CONTEXT, STREAM, DevSets
from lwasr_edge.training.scoring.scores import Score, score
from lwasr_edge.wer import normalize_text

PENALTIES = tuple(step / 4 for step in range(-4, 13))  # nats


def scores_by_penalty(model: AcousticModel, dev_sets: DevSets) -> dict[float, dict[str, Score]]:
    """Scores by penalty and "set/mode", with full context and, where the model streams, in chunks."""
    blank_id, vocabulary = model.config.blank_id, model.config.vocabulary
    modes = (FULL_CONTEXT, STREAM) if model.config.frontend.normalization == "running" else (FULL_CONTEXT,)
    scores: dict[float, dict[str, Score]] = {penalty: {} for penalty in PENALTIES}
    for name, corpus in dev_sets.corpora.items():
        references = [utterance.text for utterance in corpus.utterances]
        for mode in modes:
            found = corpus_log_probs(model, corpus, dev_sets.stores[name], CHUNKING[mode])
            best = {index: BestTokens.of(log_probs, blank_id) for index, log_probs in found}
            for penalty in PENALTIES:
                paths = [best[index].path(penalty, blank_id) for index in range(len(references))]
                hypotheses = [tokens_to_text(collapse(path, blank_id), vocabulary) for path in paths]
                scores[penalty][f"{name}/{mode}"] = score(references, hypotheses)
    return scores


def best_penalty(scores: dict[float, dict[str, Score]]) -> float:
    """The penalty with the lowest WER averaged over the sets; of equals the one nearest to 0."""
    means = {penalty: sum(one.wer for one in sets.values()) for penalty, sets in scores.items()}
    return min(means, key=lambda penalty: (means[penalty], abs(penalty)))


def table(scores: dict[float, dict[str, Score]], best: float) -> str:
    """WER (%) of every set by penalty; an arrow marks the best."""
    names = list(next(iter(scores.values())))
    lines = [f"{'penalty':>7}  " + "  ".join(names)]
    for penalty, sets in scores.items():
        rates = "  ".join(f"{100 * sets[name].wer:{len(name)}.2f}" for name in names)
        lines.append(f"{penalty:7.2f}  {rates}{'  <-' if penalty == best else ''}")
    return "\n".join(lines)


def tune_blank_penalty(
    checkpoint: Path, dev: list[Path], n_utterances: int | None, output: Path, device: str | None
) -> float:
    """Find the blank penalty, print WER by penalty, and write the checkpoint with the best one.

    Args:
        checkpoint: of any model; only the blank's bias changes.
        dev: manifests of speech that was not trained on.
        n_utterances: utterances of each to use; None for all.
        output: float16 checkpoint to write.
        device: "cpu" or "cuda"; None for cuda where there is one.

    Returns:
        The penalty, nats.

    Raises:
        CheckpointError, ManifestError: a file that cannot be read.
        OptionError: a set without transcripts, or what `DevSets` refuses; ``output`` is a folder.
    """
    refuse_folder(output)
    model, tokenizer = load_checkpoint(checkpoint)
    chosen_device = choose_device(device)
    dev_sets = DevSets(dev, chosen_device, n_utterances)
    for name, corpus in dev_sets.corpora.items():
        if not any(normalize_text(utterance.text) for utterance in corpus.utterances):
            raise OptionError(f"--dev must be speech with transcripts, got none in {name}: errors cannot be counted")
    scores = scores_by_penalty(model.to(chosen_device), dev_sets)
    penalty = best_penalty(scores)
    print(table(scores, penalty))
    if penalty in (PENALTIES[0], PENALTIES[-1]):
        print(f"{penalty:g} is the end of the range: run the command on its result again, or train longer first")
    with torch.no_grad():
        model.head.bias[model.config.blank_id] -= penalty
    notes = checkpoint_notes(checkpoint)
    notes["blank_penalty"] = f"{float(notes.get('blank_penalty', 0)) + penalty:g}"  # with earlier penalties
    save_checkpoint(output, model, tokenizer, notes, half=True)
    print(f"{output}: blank penalty of {penalty:g} nats")
    return penalty


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train blank-penalty`."""
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--dev", nargs="+", type=Path, required=True, metavar="MANIFEST", help="speech that was not trained on")
    add("--dev-utterances", type=int, metavar="N", help="use N evenly spaced utterances of each --dev (default: all)")
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors, in float16")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train blank-penalty`."""
    tune_blank_penalty(args.checkpoint, args.dev, args.dev_utterances, args.output, args.device)
