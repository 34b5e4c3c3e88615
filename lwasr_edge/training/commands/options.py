"""Options that the training commands share."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from lwasr_edge.training.data import augment_config

SCHEDULE_HELP = {
    "steps": "optimiser steps",
    "layer_steps": "of these, first ones for each layer alone (represent: a quarter, 0 with --students)",
    "batch_s": "seconds of audio in a batch",
    "batches_per_step": "batches whose gradients make a step; with torchrun, a multiple of its processes",
    "learning_rate": "at its peak",
    "warmup_steps": "steps to the peak",
    "final_ratio": "last learning rate over the peak",
    "weight_decay": "of AdamW",
    "max_gradient": "norm that gradients are clipped at",
    "full_context_probability": "share of steps on whole recordings; the others draw a chunk size",
    "chunk_frames": "chunk sizes to draw from, in frames of 40 ms",
    "look_ahead_frames": "frames at a chunk's end that are context only, to draw from; at most half of the chunk",
    "seed": "of order, distortions and chunk sizes",
    "save_every": "steps between checkpoints",
    "evaluate_every": "steps between measurements on --dev",
}


def add_schedule(parser: argparse.ArgumentParser, defaults: Any) -> None:
    """One option for each field of `Schedule`, which explains them."""
    group = parser.add_argument_group("schedule")
    for field in dataclasses.fields(defaults):
        value = getattr(defaults, field.name)
        kind = int if isinstance(value, tuple) else type(value)
        many = "+" if isinstance(value, tuple) else None
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            nargs=many,
            default=value,
            help=f"{SCHEDULE_HELP[field.name]}; default {shown}",
        )


def add_qat(parser: argparse.ArgumentParser) -> None:
    """The option of commands whose students may have rounded weights."""
    parser.add_argument(
        "--qat",
        action="store_true",
        help="students learn with weights rounded to whole steps: their int8 files, compressed, are a third smaller; "
        "those that began so go on so",
    )


def add_training(parser: argparse.ArgumentParser, defaults: Any, weights: Any, writes: bool = True) -> None:
    """Options that every training command has."""
    train = "JSONL manifests; one that is named twice is heard twice in a pass"
    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="MANIFEST", help=train)
    parser.add_argument("--dev", nargs="*", type=Path, default=[], metavar="MANIFEST", help="to measure WER on")
    noise = "background recordings to mix in: a manifest, or a folder of audio"
    parser.add_argument("--noise", type=Path, metavar="SOURCE", help=noise)
    augment_config.add_arguments(parser)
    if writes:
        resumes = "resumes what it finds there"
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=resumes)
        board = "write TensorBoard's files too, into DIR/tensorboard"
        parser.add_argument("--tensorboard", action="store_true", help=board)
    else:
        parser.set_defaults(output=Path(), tensorboard=False)
    parser.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the processor is as fast in it, else float32",
    )
    parser.add_argument(
        "--freeze-front",
        action="store_true",
        help="leave the convolutions before the layers as they are: a third of a step's time, and less to forget",
    )
    parser.add_argument("--dropout", type=float, default=0.0, help="share of values dropped in training; default 0")
    parser.add_argument(
        "--max-bad",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="stop if more utterances than this cannot be used; fewer are left out by name; default 5",
    )
    parser.add_argument(
        "--max-utterance-s",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="longer utterances cannot be used: the longest decides how much memory a step takes; default 60",
    )
    parser.add_argument(
        "--loss",
        nargs="*",
        default=[],
        metavar="PART=WEIGHT",
        help="parts: mse clip kl hidden ctc; default " + " ".join(f"{k}={v:g}" for k, v in vars(weights).items()),
    )
    parser.set_defaults(qat=False)  # `add_qat`
    add_schedule(parser, defaults)
