"""`lwasr-train import-nemo`: read a NeMo Conformer-CTC archive into a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from lwasr_edge.files import sha256_of
from lwasr_edge.training.model.checkpoint import refuse_folder, save_checkpoint
from lwasr_edge.training.model.nemo import import_nemo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train import-nemo`."""
    parser.add_argument("archive", type=Path, help="a .nemo file of an EncDecCTCModelBPE with a Conformer encoder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors")


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train import-nemo`."""
    refuse_folder(args.output)
    model, tokenizer = import_nemo(args.archive)
    notes = {"imported_from": args.archive.name, "archive_sha256": sha256_of(args.archive)}
    save_checkpoint(args.output, model, tokenizer, notes)
    encoder = model.config.encoder
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{args.output}: {encoder.n_layers} layers of width {encoder.d_model}, {len(model.config.vocabulary)} tokens, "
        f"{count / 1e6:.2f} million parameters"
    )
