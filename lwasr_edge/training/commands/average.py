"""`lwasr-train average`: average a model's weights before and after further training.

Further training on little data overfits and forgets; a weighted mean of the weights before and after can be better
than both (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, refuse_folder, save_checkpoint


def average(checkpoints: list[Path], weights: list[float] | None, output: Path) -> None:
    """Write the weighted mean of checkpoints of one model, in float16.

    Args:
        checkpoints: two or more, of one architecture and tokenizer.
        weights: one for each, >= 0, scaled to a sum of 1; None for equal weights.
        output: float16 checkpoint to write.

    Raises:
        CheckpointError: one cannot be read, or belongs to another model.
        OptionError: fewer than two; wrong weights; ``output`` is a folder.
    """
    refuse_folder(output)
    if len(checkpoints) < 2:
        raise OptionError(f"average needs at least two checkpoints, got {len(checkpoints)}")
    shares = [1.0] * len(checkpoints) if weights is None else weights
    are_shares = all(share >= 0 for share in shares) and 0 < sum(shares) < math.inf
    if len(shares) != len(checkpoints) or not are_shares:
        raise OptionError(
            f"--weights must be {len(checkpoints)} numbers >= 0, one for each checkpoint and not all 0, got {shares}"
        )
    shares = [share / sum(shares) for share in shares]
    model, tokenizer = load_checkpoint(checkpoints[0])
    total = {name: shares[0] * value for name, value in model.state_dict().items()}
    for path, share in zip(checkpoints[1:], shares[1:], strict=True):
        other, other_tokenizer = load_checkpoint(path)
        if other.config.qat != model.config.qat:
            raise CheckpointError(
                f"{path} and {checkpoints[0]} must both be quantised, or neither: "
                "run `lwasr-train adapt --qat` on the other"
            )
        if other.config != model.config or other_tokenizer != tokenizer:
            raise CheckpointError(f"{path} and {checkpoints[0]} must be of one architecture and tokenizer, got two")
        for name, value in other.state_dict().items():
            total[name] += share * value
    with torch.no_grad():
        model.load_state_dict(total)
    parts = list(zip(checkpoints, shares, strict=True))
    notes = checkpoint_notes(checkpoints[-1]) | {"average": json.dumps([[str(path), share] for path, share in parts])}
    save_checkpoint(output, model, tokenizer, notes, half=True)
    print(f"{output}: {' + '.join(f'{share:.2f} {path}' for path, share in parts)}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train average`."""
    add = parser.add_argument
    add("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="before and after, or the ends of several runs")
    add("--weights", nargs="+", type=float, metavar="SHARE", help="weight of each (default: equal)")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors, in float16")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train average`."""
    average(args.checkpoints, args.weights, args.output)
