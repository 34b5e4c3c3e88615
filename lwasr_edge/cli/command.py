"""One `main` for the three programs: `lwasr`, `lwasr-train` and `lwasr-export`.

    def main(argv: Sequence[str] | None = None) -> int:
        arguments = list(sys.argv[1:] if argv is None else argv)
        return run_command(
            "lwasr-train", lambda: run(build_parser().parse_args(arguments)), arguments, extra="train"
        )

Errors are one line on stderr, "PROGRAM: error: MESSAGE"; --debug shows the traceback before it. Exit status: 2 for
what the user can change, 1 for a bug of this package, 130 after Ctrl-C or when the reader of stdout is gone.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from lwasr_edge.cli.streams import discard_stdout, prepare_streams, say
from lwasr_edge.errors import AudioWarning, CatalogWarning, LwasrError
from lwasr_edge.validate import printable

EXIT_BUG = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
MAX_MESSAGE = 2_000  # characters of an error or a warning


def run_command(
    program: str,
    run: Callable[[], int | None],
    arguments: Sequence[str],
    *,
    extra: str = "",
    interrupted_note: str = "",
    memory_hint: str = "",
) -> int:
    """Run a program; return its exit status. `SystemExit`, with which argparse ends, passes through.

    Args:
        program: its name, for messages.
        run: does the work and returns the exit status; None is 0.
        arguments: of the command line, to look for --debug.
        extra: of the package, which installs what the program imports; "" for the package without extras.
        interrupted_note: printed after Ctrl-C, as in "stopped; nothing was written".
        memory_hint: what to do when memory is short, as in "free some or use a smaller --model".
    """
    prepare_streams()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", AudioWarning)
            warnings.showwarning = functools.partial(_show_warning, program)
            try:
                status = run() or 0
            except SystemExit:  # argparse, after --help
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # the reader of our output is gone, as `head` does
        discard_stdout()
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        if interrupted_note:
            say(f"{program}: {interrupted_note}")
        return EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            say(traceback.format_exc(), end="")
        status, message = explain(error, extra, memory_hint)
        report_error(program, message)
        try:
            sys.stdout.flush()
        except OSError:  # a full disk: the interpreter would fail on the same text again when it exits
            discard_stdout()
        return status


def report_error(program: str, message: object) -> None:
    """Print one line, whatever white space and control characters the message has, and however long it is."""
    say(f"{program}: error: {_one_line(message)}")


def explain(error: Exception, extra: str = "", memory_hint: str = "") -> tuple[int, str]:
    """Exit status and message of an error; the arguments are those of `run_command`."""
    if isinstance(error, LwasrError):
        return EXIT_ERROR, str(error)
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] != "lwasr_edge":
        return EXIT_ERROR, f"{error.name} is not installed: {install_line(extra)}"
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return EXIT_ERROR, reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return EXIT_ERROR, f"not enough memory: {memory_hint or 'free some'}"
    return EXIT_BUG, f"unexpected {type(error).__name__}: {error}: please report it, with the output of --debug"


def install_line(extra: str = "") -> str:
    """The command that installs this package from its checkout; it is on no package index."""
    return f"pip install '.[{extra}]'" if extra else "pip install ."


def _show_warning(program: str, message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    kind = "warning" if issubclass(category, (AudioWarning, CatalogWarning)) else category.__name__
    say(f"{program}: {kind}: {_one_line(message)}")


def _one_line(text: object) -> str:
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 200]} ... {line[-200:]}"
