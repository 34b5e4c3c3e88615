"""`lwasr transcribe`: read recordings; write text, JSON or subtitles."""

from __future__ import annotations

import argparse
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwasr_edge.cli.command import EXIT_ERROR, report_error
from lwasr_edge.cli.options import (
    Commands,
    add_decoding_options,
    add_model_options,
    open_recognizer,
    positive,
)
from lwasr_edge.cli.outputs import check_text_output
from lwasr_edge.cli.progress import ProgressLine
from lwasr_edge.cli.signals import InterruptiblePipe, Interruption
from lwasr_edge.cli.streams import binary_stdin, say
from lwasr_edge.cli.subtitles import FORMATS, alternatives_to_text, to_json
from lwasr_edge.errors import AudioError, OptionError, OutputError
from lwasr_edge.files import split_lines, write_file

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Recognizer, Transcript

STDIN = "-"
PROGRESS_FROM_S = 20.0  # shorter recordings are finished before a progress line can be read


@dataclass(frozen=True)
class Job:
    """One recording and the file for its transcript; None for stdout."""

    file: str
    output: Path | None


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("transcribe", parents=[common], help="transcribe recordings")
    parser.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, OGG, Opus, MP3 or AIFF; - for stdin")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="format", action="store_const", const="json", help="text and words as JSON")
    form.add_argument("--srt", dest="format", action="store_const", const="srt", help="SubRip subtitles")
    form.add_argument("--vtt", dest="format", action="store_const", const="vtt", help="WebVTT subtitles")
    form.add_argument(
        "--words",
        dest="format",
        action="store_const",
        const="words",
        help="one word per line: start, end, confidence and text, separated by tabs",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the transcript of one FILE to this file"
    )
    where.add_argument("--output-dir", type=Path, metavar="DIR", help="write one transcript per FILE into DIR")
    parser.add_argument(
        "--chunk-ms",
        type=positive,
        metavar="N",
        help="audio of one call of the model: smaller values need less memory and are less accurate (default: 8000 "
        "with the packaged models; larger values are not more accurate)",
    )
    add_model_options(parser)
    add_decoding_options(parser)
    parser.set_defaults(run=run, format="text")


def run(args: argparse.Namespace) -> int:
    """Transcribe every file; a bad one among several is reported and skipped."""
    if args.nbest is not None and args.format not in ("text", "json"):
        raise OptionError(f"--nbest needs text or --json output, got --{args.format}: leave one of them out")
    jobs = plan_jobs(args.files, args.format, args.output, args.output_dir)
    for job in jobs:
        if job.output is not None:
            check_text_output(job.output, [*args.files, args.model, args.phrases, args.lm])
    recognizer = open_recognizer(args)
    failed = False
    with Interruption() as interruption:
        for number, job in enumerate(jobs, 1):
            try:
                transcript = transcribe_file(recognizer, job.file, args.chunk_ms, interruption)
            except AudioError as error:
                if len(jobs) == 1:
                    raise
                failed = True
                if args.debug:
                    say(traceback.format_exc(), end="")
                report_error("lwasr", error)
                continue
            if transcript.words or not interruption.is_stopped:
                write_transcript(transcript, job, args, prefix=len(jobs) > 1)
            if interruption.status:
                report_stop(transcript, job, n_left=len(jobs) - number)
                return interruption.status
    return EXIT_ERROR if failed else 0


def write_transcript(transcript: Transcript, job: Job, args: argparse.Namespace, *, prefix: bool) -> None:
    """Write one transcript to its file or to stdout, there with the name of the recording if `prefix`."""
    written = FORMATS[args.format].write(transcript)
    if args.nbest is not None and args.format == "text":
        written += alternatives_to_text(transcript.alternatives)
    if job.output is not None:
        write_file(job.output, written)
    elif args.format == "json":
        sys.stdout.write(to_json(transcript, file=job.file))
    else:
        sys.stdout.write(prefixed(written, args.format, job.file) if prefix else written)
    sys.stdout.flush()


def report_stop(transcript: Transcript, job: Job, n_left: int) -> None:
    """Say on stderr how far a recording was transcribed before a signal, and how many were not."""
    where = "on stdout" if job.output is None else f"in {job.output}"
    result = f"the text so far is {where}" if transcript.words else "there is no text so far"
    more = f"; {n_left} more not transcribed" if n_left else ""
    say(f"lwasr: {job.file}: stopped at {transcript.duration_s:.1f} s; {result}{more}")


def plan_jobs(files: list[str], form: str, output: Path | None, output_dir: Path | None) -> list[Job]:
    """Choose the output of every transcript; the output directory is created.

    Raises:
        OptionError: two transcripts would go to one file, or stdin is named twice.
        OutputError: the output directory cannot be created.
    """
    if files.count(STDIN) > 1:
        raise OptionError("stdin (-) can be read only once, got it twice: name it once")
    if output is not None:
        if len(files) > 1:
            raise OptionError(f"-o needs one FILE, got {len(files)}: use --output-dir for several")
        return [Job(files[0], output)]
    if output_dir is None:
        if len(files) > 1 and form in ("srt", "vtt"):
            raise OptionError(f"--{form} on stdout needs one FILE, got {len(files)}: use --output-dir")
        return [Job(file, None) for file in files]
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output_dir} cannot be created: {error.strerror}: name another directory") from error
    jobs: dict[Path, Job] = {}
    for file in files:
        target = output_dir / ((Path(file).stem if file != STDIN else "stdin") + FORMATS[form].suffix)
        if target in jobs:
            raise OptionError(
                f"FILEs must have different names, got {jobs[target].file} and {file}, which would both be written to "
                f"{target}: run them separately"
            )
        jobs[target] = Job(file, target)
    return list(jobs.values())


def transcribe_file(
    recognizer: Recognizer,
    file: str,
    chunk_ms: float | None,
    interruption: Interruption,
) -> Transcript:
    """Transcribe one file, up to a signal, with a progress line if it is long."""
    interruption.is_recognising = False
    with ProgressLine(file, unit="s", smallest=PROGRESS_FROM_S) as line:

        def progress(done_s: float, total_s: float) -> bool:
            interruption.is_recognising = True
            line(done_s, total_s)
            return not interruption.is_stopped

        source = stdin_for_recording(interruption) if file == STDIN else file
        return recognizer.transcribe(source, chunk_ms=chunk_ms, progress=progress)


def stdin_for_recording(interruption: Interruption) -> Any:
    """Stdin as a binary file object; a pipe ends with a signal too.

    Raises:
        AudioError: it is a terminal or closed.
    """
    stdin = binary_stdin("a recording", "pipe one in, or name a file")
    return stdin if stdin.seekable() else InterruptiblePipe(stdin, interruption)


def prefixed(written: str, form: str, file: str) -> str:
    """The transcript with the name of its recording before each line."""
    separator = "\t" if form == "words" else ": "
    return "".join(f"{file}{separator}{line}\n" for line in split_lines(written))
