"""`lwasr-export CHECKPOINT -o MODEL.onnx`: one self-contained file, verified before it is there."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lwasr_edge.errors import LwasrError, OptionError, OutputError
from lwasr_edge.training.cli import described, is_ours_missing

SUFFIXES = {"onnx": (".onnx", ".onnx.gz"), "ort": (".ort",), "sherpa-onnx": ()}  # of the output; none: a folder


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lwasr-export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
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
        help="onnx: for this runtime (default); ort: onnxruntime's own, with the operators for a minimal build; "
        "sherpa-onnx: a folder with model.onnx and tokens.txt for that runtime",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--fp32", dest="precision", action="store_const", const="float32", help="the default")
    precision.add_argument(
        "--fp16", dest="precision", action="store_const", const="float16", help="half the file; float32 arithmetic"
    )
    precision.add_argument(
        "--int8", dest="precision", action="store_const", const="int8", help="a quarter of the file, and faster"
    )
    parser.set_defaults(precision="float32")
    parser.add_argument(
        "--verify",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="measure WER on these recordings too; may be given several times: each set is held to the limit",
    )
    parser.add_argument(
        "--max-wer-loss",
        type=float,
        metavar="PERCENT",
        help="int8 may add so much WER (absolute) on the manifest; the products that hurt most stay in float",
    )
    parser.add_argument("--name", help="the model's name; default: the output file's")
    parser.add_argument("--language", default="en")
    parser.add_argument("--licence", default="", help="of the weights")
    parser.add_argument("--attribution", default="", help="whom the licence wants named")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def run(args: argparse.Namespace) -> None:
    check_output(args.output, args.format, args.force)
    if args.max_wer_loss is not None and (not args.verify or args.precision != "int8"):
        raise OptionError("--max-wer-loss needs --int8 and --verify MANIFEST")
    from lwasr_edge.export import pipeline
    from lwasr_edge.export.metadata import Description
    from lwasr_edge.export.staging import staging_folder as workplace

    write = {"onnx": pipeline.export, "ort": pipeline.export_ort, "sherpa-onnx": pipeline.export_sherpa}[args.format]
    suffix = next((suffix for suffix in SUFFIXES[args.format] if args.output.name.endswith(suffix)), "")
    stem = args.output.name.removesuffix(suffix)
    description = Description(args.name or stem, args.language, args.licence, args.attribution)
    is_folder = args.format == "sherpa-onnx"
    report_name = "report.json" if is_folder else f"{stem}.report.json"
    try:
        with workplace(args.output) as temporary:
            folder = temporary / "files"
            folder.mkdir()
            path = folder if is_folder else folder / args.output.name
            report = write(args.checkpoint, path, args.precision, description, args.verify, args.max_wer_loss)
            (folder / report_name).write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
            put_in_place(folder, args.output if is_folder else args.output.parent, args.output.name)
    except OSError as error:
        if isinstance(error, LwasrError):
            raise
        raise OutputError(f"{args.output}: cannot be written: {error.strerror or error}") from error
    print(report)


def put_in_place(folder: Path, target: Path, last: str) -> None:
    """Move finished files from ``folder`` to ``target`` on the same disk, the one named ``last`` after the others."""
    if not target.exists():
        os.replace(folder, target)
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name == last):
        os.replace(path, target / path.name)


def check_output(path: Path, file_format: str, force: bool) -> None:
    """Refuse before the work what could not be written after it."""
    suffixes = SUFFIXES[file_format]
    if suffixes and not path.name.endswith(suffixes):
        raise OutputError(f"{path}: the output's name is expected to end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent}: no permission to write there")
    if suffixes and path.is_dir():
        raise OutputError(f"{path}: is a folder; a file name is expected")
    if not suffixes and path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; the name of a folder is expected")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; --force replaces it")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 2 and one line on an error that was foreseen."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        run(build_parser().parse_args(arguments))
    except (LwasrError, ModuleNotFoundError) as error:
        if "--debug" in arguments or is_ours_missing(error):
            raise
        print(f"lwasr-export: error: {described(error, 'export')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lwasr-export: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
