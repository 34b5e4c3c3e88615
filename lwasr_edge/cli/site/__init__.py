"""`lwasr site`: measure the model on a company's own recordings, record more, and erase them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lwasr_edge.cli.options import Commands, add_model_options, positive
from lwasr_edge.cli.outputs import check_text_output
from lwasr_edge.cli.progress import ProgressLine
from lwasr_edge.cli.streams import is_terminal, json_text, say
from lwasr_edge.errors import LwasrError, OptionError
from lwasr_edge.files import write_file
from lwasr_edge.validate import printable

LANGUAGES = ("en", "ja")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its actions to the parser."""
    parser = commands.add_parser("site", help="measure the model on your own recordings; record and erase them")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_check(actions, common)
    _add_record(actions, common)
    _add_erase(actions, common)


def _add_check(actions: Commands, common: argparse.ArgumentParser) -> None:
    action = actions.add_parser(
        "check",
        parents=[common],
        help="measure the model on a folder of recordings",
        description="Measure the model on a folder of recordings: x.wav with x.txt beside it, a CSV with the columns "
        "file and text, Kaldi's wav.scp and text, or NeMo's JSON lines. Nothing is sent anywhere.",
    )
    action.add_argument("folder", type=Path, metavar="FOLDER", help="recordings, with or without texts")
    action.add_argument("--words", type=Path, metavar="FILE", help="names and terms of the site: one phrase per line")
    action.add_argument("--report", type=Path, metavar="PAGE.html", help="write a page with charts and the worst texts")
    action.add_argument(
        "--with-audio", action="store_true", help="put the voices of the worst recordings into the page"
    )
    action.add_argument("--language", choices=LANGUAGES, default="en", help="of the report (default: en)")
    action.add_argument("--json", action="store_true", help="print every figure and text as JSON")
    action.add_argument("--texts", action="store_true", help="also print what was said and recognised")
    action.add_argument(
        "--target", type=positive, default=10, metavar="X", help="errors in a hundred words to allow (default: 10)"
    )
    action.add_argument("--no-lm", action="store_true", help="without the general language model")
    add_model_options(action)
    action.set_defaults(run=run_check)


def _add_record(actions: Commands, common: argparse.ArgumentParser) -> None:
    action = actions.add_parser(
        "record",
        parents=[common],
        help="record sentences that a speaker reads",
        description="Show sentences and record them, with a level meter. Consent is asked once for each speaker and "
        "written into FOLDER/consent.json. Run it again to continue.",
    )
    action.add_argument("folder", type=Path, metavar="FOLDER", help="where recordings and texts go")
    action.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="one sentence per line")
    action.add_argument("--device", metavar="N|NAME", help="microphone (default: the system default)")
    action.add_argument("--speaker", metavar="NAME", help="name or number of the speaker (default: asked)")
    action.add_argument("--purpose", metavar="TEXT", help="what the recordings are for (default: asked)")
    action.add_argument("--keep-until", metavar="DATE", help="end of the retention, YYYY-MM-DD (default: asked)")
    action.set_defaults(run=run_record)


def _add_erase(actions: Commands, common: argparse.ArgumentParser) -> None:
    action = actions.add_parser(
        "erase",
        parents=[common],
        help="remove recordings, texts, consents and reports of a folder",
        description="Remove the recordings, texts, consents and reports of a folder, and print what remains. Links are "
        "not followed.",
    )
    action.add_argument("folder", type=Path, metavar="FOLDER", help="recordings")
    action.add_argument("--dry-run", action="store_true", help="list what would be removed")
    action.add_argument("--yes", action="store_true", help="do not ask")
    action.set_defaults(run=run_erase)


def run_check(args: argparse.Namespace) -> int:
    """Measure, print the report, and write the page.

    Raises:
        LwasrError: a folder, model or word list that cannot be used, or a page that cannot be written.
    """
    from lwasr_edge.recognizer import Recognizer
    from lwasr_edge.site.check import check_folder, to_dict
    from lwasr_edge.site.derived import remember_report
    from lwasr_edge.site.reports.language import Strings
    from lwasr_edge.site.reports.page import html_page
    from lwasr_edge.site.reports.summary import text_report
    from lwasr_edge.site.word_list import read_list

    if args.with_audio and args.report is None:
        raise OptionError("--with-audio needs --report PAGE.html, got none: add it")
    if args.report is not None:
        if args.report.suffix.lower() not in (".html", ".htm"):
            raise OptionError(f"--report must be a name that ends in .html, got {args.report}")
        check_text_output(args.report, [args.words, args.model, args.folder])
    phrases = None if args.words is None else read_list(args.words)
    lm = None if args.no_lm else "general"
    recognizer = Recognizer(args.model, threads=args.threads, lm=lm)
    lines = {}

    def show(what: str, done: float, total: float) -> None:
        if what not in lines:
            lines[what] = ProgressLine(f"lwasr site check: {what}", unit="s")
        lines[what](done, total)

    check = check_folder(args.folder, recognizer, phrases=phrases, lm=lm, target=args.target, progress=show)
    for line in lines.values():
        line.__exit__()
    strings = Strings(args.language)
    if args.json:
        print(json_text(to_dict(check, strings.render), indent=1))
    else:
        sys.stdout.write(text_report(check, strings, with_texts=args.texts))
    if args.report is not None:
        try:  # before it is written: a run that is killed leaves no page that nobody knows
            remember_report(args.folder, args.report)
        except LwasrError as error:
            say(f"lwasr: warning: `lwasr site erase` will not know {args.report}: {error}")
        write_file(args.report, html_page(check, strings, page_path=args.report, with_audio=args.with_audio))
        if is_terminal(sys.stderr):
            say(f"lwasr site check: the page is {args.report}")
    return 0


def run_record(args: argparse.Namespace) -> int:
    """Record the sentences that are missing.

    Raises:
        LwasrError: a folder, list of sentences or microphone that cannot be used.
    """
    from lwasr_edge.cli.site.recording import record

    return record(args)


def run_erase(args: argparse.Namespace) -> int:
    """List and remove; status 2 if something could not be removed.

    Raises:
        OptionError: a folder that must not be erased, or no answer.
    """
    from lwasr_edge.site.erase import erase, plan_erasure

    plan = plan_erasure(args.folder)
    for kind, names in plan.by_kind().items():
        for name in names:
            print(printable(f"{kind}: {name}"))
    remaining = plan.remaining()
    left = [f"{name} (cannot be looked at: {reason})" for name, reason in plan.unreadable.items()]
    for one in left:
        say(f"lwasr: error: {printable(one)}")
    if args.dry_run or not plan.count:
        print(f"nothing was removed; files to remove: {plan.count}")
    else:
        if not args.yes:
            _ask_to_erase(plan.count, args.folder)
        for fault in erase(plan):
            say(f"lwasr: error: {printable(fault)}")
        present = plan.left()
        left += present
        print(f"removed: {plan.count - len(present)} of {plan.count}")
    for name in [*left, *remaining]:
        print(printable(f"remains: {name}"))
    return 2 if left else 0


def _ask_to_erase(count: int, folder: Path) -> None:
    if not is_terminal(sys.stdin):
        raise OptionError("erasing must be confirmed in a terminal, got other input: add --yes, or --dry-run to list")
    say(f"remove these {count} files of {printable(str(folder))}? They cannot be brought back. [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise OptionError("nothing was removed")
