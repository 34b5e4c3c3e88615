"""`lwasr-export CHECKPOINT -o MODEL.onnx`: write one self-contained model file, after verifying it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lwasr_edge.cli.command import run_command
from lwasr_edge.cli.outputs import is_same_file
from lwasr_edge.errors import LwasrError, OptionError, OutputError

if TYPE_CHECKING:
    from lwasr_edge.model_info import DecodingSettings

SUFFIXES = {"onnx": (".onnx", ".onnx.gz"), "ort": (".ort",), "sherpa-onnx": ()}  # of the output; none: a folder

DECODING_FILE = "decoding.json"


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="lwasr-export", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint of lwasr-train, FILE.safetensors"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="MODEL",
        help="MODEL.onnx, MODEL.onnx.gz (compressed; the runtime reads both), MODEL.ort, or a folder",
    )
    parser.add_argument(
        "--format",
        choices=SUFFIXES,
        default="onnx",
        help="onnx: for this runtime (default); ort: onnxruntime's format, with the operators of a minimal build; "
        "sherpa-onnx: a folder with model.onnx and tokens.txt for sherpa-onnx",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--fp32", dest="precision", action="store_const", const="float32", help="float32 weights (default)"
    )
    precision.add_argument(
        "--fp16",
        dest="precision",
        action="store_const",
        const="float16",
        help="float16 weights, half the file size; float32 arithmetic",
    )
    precision.add_argument(
        "--int8",
        dest="precision",
        action="store_const",
        const="int8",
        help="int8 linear layers, a quarter of the file size, and faster",
    )
    parser.set_defaults(precision="float32")
    parser.add_argument(
        "--verify",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="also measure WER on these recordings; may be repeated, each set must be within the limit",
    )
    parser.add_argument(
        "--max-wer-loss",
        type=float,
        metavar="PERCENT",
        help="WER (absolute) that int8 may add on each manifest; the most sensitive linear layers stay in float",
    )
    parser.add_argument("--name", help="name of the model (default: that of the output file)")
    parser.add_argument("--language", default="en", help="language code (default: en)")
    parser.add_argument("--licence", default="", help="licence of the weights")
    parser.add_argument("--attribution", default="", help="attribution that the licence requires")
    parser.add_argument(
        "--decoding",
        type=Path,
        metavar="FILE",
        help="settings of decoding with a language model, of `lwasr lm tune --json` "
        f"(default: {DECODING_FILE} beside the checkpoint, if there is one)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--debug", action="store_true", help="show a traceback for errors")
    return parser


def run(args: argparse.Namespace) -> None:
    """Export, verify, and move the files to the output.

    Raises:
        LwasrError: an option, a checkpoint or an output that cannot be used, or a file that fails its verification.
    """
    check_output(
        args.output,
        args.format,
        args.force,
        inputs=[args.checkpoint, *args.verify, *([args.decoding] if args.decoding else [])],
    )
    if args.max_wer_loss is not None and (not args.verify or args.precision != "int8"):
        raise OptionError("--max-wer-loss needs --int8 and --verify MANIFEST: add them, or leave it out")
    from lwasr_edge.export import pipeline
    from lwasr_edge.export.metadata import Description
    from lwasr_edge.export.staging import staging_folder as workplace

    write = {"onnx": pipeline.export, "ort": pipeline.export_ort, "sherpa-onnx": pipeline.export_sherpa}[args.format]
    suffix = next((suffix for suffix in SUFFIXES[args.format] if args.output.name.endswith(suffix)), "")
    stem = args.output.name.removesuffix(suffix)
    decoding = decoding_settings(args.decoding, args.checkpoint)
    description = Description(args.name or stem, args.language, args.licence, args.attribution, decoding)
    is_folder = args.format == "sherpa-onnx"
    report_name = "report.json" if is_folder else f"{stem}.report.json"
    try:
        with workplace(args.output) as temporary:
            folder = temporary / "files"
            folder.mkdir()
            path = folder if is_folder else folder / args.output.name
            report = write(args.checkpoint, path, args.precision, description, args.verify, args.max_wer_loss)
            (folder / report_name).write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
            move_into(folder, args.output if is_folder else args.output.parent, args.output.name)
    except OSError as error:
        if isinstance(error, LwasrError):
            raise
        raise OutputError(f"{args.output} cannot be written: {error.strerror or error}") from error
    print(report)


def decoding_settings(path: Path | None, checkpoint: Path) -> DecodingSettings | None:
    """The settings in a file, or in the one beside the checkpoint; None without one.

    Raises:
        ModelError: a file without valid settings.
    """
    from lwasr_edge.model_info import DecodingSettings

    beside = checkpoint.parent / DECODING_FILE
    if path is None and not beside.is_file():
        return None
    return DecodingSettings.read(path or beside)


def move_into(folder: Path, target: Path, last: str) -> None:
    """Move finished files from ``folder`` to ``target`` on the same disk, the one named ``last`` after the others."""
    if not target.exists():
        os.replace(folder, target)
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name == last):
        os.replace(path, target / path.name)


def check_output(path: Path, file_format: str, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output that cannot be written, before the work.

    Raises:
        OutputError: a name that does not fit the format, no such folder, no permission, an existing output without
            `force`, or an output that is one of the inputs.
    """
    suffixes = SUFFIXES[file_format]
    if suffixes and not path.name.endswith(suffixes):
        raise OutputError(f"output must end in {' or '.join(suffixes)}, got {path}: rename it")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist: create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}: choose another folder")
    if suffixes and path.is_dir():
        raise OutputError(f"output must be a file, got the folder {path}: name a file")
    if not suffixes and path.exists() and not path.is_dir():
        raise OutputError(f"output must be a folder, got the file {path}: name a folder")
    if path.exists() and not force:
        raise OutputError(f"output must not exist, got {path}: replace it with --force, or choose another name")
    for name in inputs:
        if is_same_file(path, name):
            raise OutputError(f"output must not be an input, got {path}, which is {name}: choose another name")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(
        "lwasr-export",
        lambda: run(build_parser().parse_args(arguments)),
        arguments,
        extra="export",
        interrupted_note="stopped; nothing was written",
        memory_hint="free some, or close other programs",
    )


if __name__ == "__main__":
    sys.exit(main())
