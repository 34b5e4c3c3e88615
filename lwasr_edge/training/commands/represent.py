"""`lwasr-train represent`: step 1, students learn the reference's representation, all from the same batches."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.students import init_students, student_config
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.options import REPRESENT_WEIGHTS, TrainingOptions, add_training_options, parse_keep
from lwasr_edge.training.run import load_students, prepare_run, removed_before, train_students


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train represent`."""
    add = parser.add_argument
    add("--reference", type=Path, required=True, metavar="CHECKPOINT", help="the frozen teacher")
    add(
        "--keep",
        default="8",
        metavar="SHAPES",
        help="what each student keeps: numbers of layers, 8,5,3, or layers of the reference, 0+5+9; with feed-forward "
        "units, attention width and subsampling channels: 14x352x96x64; with the share of the layers' time that "
        "is left without the modules that matter least: 16@0.5 (default: 8)",
    )
    add("--students", nargs="*", type=Path, default=[], metavar="CHECKPOINT", help="train these further instead")
    add_training_options(parser, Schedule(), REPRESENT_WEIGHTS)
    parser.set_defaults(layer_steps=None)


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train represent`."""
    if args.layer_steps is None:
        args.layer_steps = 0 if args.students else args.steps // 4
    options = TrainingOptions.from_args(args)
    weights = options.weights(REPRESENT_WEIGHTS)
    reference, tokenizer = load_checkpoint(args.reference)
    students, shapes = {}, {}
    if args.students:
        if options.schedule.layer_steps:
            raise OptionError(
                "--layer-steps must be 0 with --students: trained layers would forget what they learnt together"
            )
        students = load_students(args.students, tokenizer, options.dropout, options.output)
    else:
        shapes = parse_keep(args.keep, reference.config.encoder.n_layers)
        for shape in shapes.values():
            student_config(reference.config, shape)  # refuse impossible shapes before the audio is decoded
    training = prepare_run(options, reference, tokenizer, with_transcripts=weights.ctc > 0)
    if shapes:
        torch.manual_seed(options.schedule.seed)
        augment = training.augmenter.for_student
        if any(shape.time is not None for shape in shapes.values()):
            known = removed_before(options.output)
            shapes = {name: shape._replace(removed=known.get(name)) for name, shape in shapes.items()}
        students = init_students(reference, shapes, training.store, options.dropout, augment)
        for name, student in students.items():
            if shapes[name].time is not None:
                print(f"{name}: without {', '.join(student.config.encoder.removed)}", flush=True)
    train_students(training, students, tokenizer, weights, options, reference)
