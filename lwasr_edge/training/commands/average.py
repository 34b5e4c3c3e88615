"""`lwasr-train average`: the mean of a model's weights before and after it learnt more.

A student that goes on learning from little data learns it by heart and forgets the rest; on the straight line between
its weights before and after there may be models better than both (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).
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
    """Write the weighted mean of checkpoints that come from one another, in float16.

    Args:
        checkpoints: two or more, of one architecture and tokenizer.
        weights: what each counts, 0 or more; scaled to a sum of 1. None: all alike.
        output: float16 checkpoint to write.

    Raises:
        CheckpointError: one cannot be read, or is of another model.
        OptionError: fewer than two; weights not one a checkpoint, negative, or all 0; ``output`` is a folder.
    """
    refuse_folder(output)
    if len(checkpoints) < 2:
        raise OptionError("average: expected at least two checkpoints")
    shares = [1.0] * len(checkpoints) if weights is None else weights
    are_shares = all(share >= 0 for share in shares) and 0 < sum(shares) < math.inf
    if len(shares) != len(checkpoints) or not are_shares:
        raise OptionError(f"--weights: expected {len(checkpoints)} numbers, one a checkpoint, 0 or more, not all 0")
    shares = [share / sum(shares) for share in shares]
    model, tokenizer = load_checkpoint(checkpoints[0])
    total = {name: shares[0] * value for name, value in model.state_dict().items()}
    for path, share in zip(checkpoints[1:], shares[1:], strict=True):
        other, other_tokenizer = load_checkpoint(path)
        if other.config.qat != model.config.qat:
            raise CheckpointError(
                f"{path} and {checkpoints[0]}: the weights of one are rounded, the other's are not: adapt both with or "
                "without --rounded"
            )
        if other.config != model.config or other_tokenizer != tokenizer:
            raise CheckpointError(f"{path} and {checkpoints[0]} are different models: there is nothing between them")
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
    add("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="before and after, or several runs' ends")
    add("--weights", nargs="+", type=float, metavar="SHARE", help="what each counts; default: all alike")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors, in float16")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train average`."""
    average(args.checkpoints, args.weights, args.output)
