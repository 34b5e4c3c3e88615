"""`lwasr models`: list, locate, verify, fetch, choose, roll back, remove and distribute models."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from lwasr_edge.cli.commands import fleet
from lwasr_edge.cli.options import Commands, default_model_name
from lwasr_edge.cli.progress import ProgressLine
from lwasr_edge.cli.streams import say
from lwasr_edge.hub.preference import VARIABLE
from lwasr_edge.validate import printable

if TYPE_CHECKING:
    from lwasr_edge.hub.versions import Change


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its actions to the parser."""
    parser = commands.add_parser("models", help="list, fetch, choose, roll back, remove and distribute models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    action = actions.add_parser("list", parents=[common], help="list the installed models")
    action.set_defaults(run=run_list)

    action = actions.add_parser("path", parents=[common], help="print the path of a model file")
    action.add_argument("name", nargs="?", metavar="NAME", help=f"default: {default_model_name()}")
    action.set_defaults(run=run_path)

    action = actions.add_parser(
        "verify", parents=[common], help="compare model files with the checksums in their cards"
    )
    action.add_argument("name", nargs="?", metavar="NAME", help="default: all models")
    action.set_defaults(run=run_verify)

    action = actions.add_parser(
        "fetch", aliases=["install"], parents=[common], help="install a model from a directory or an http(s) URL"
    )
    action.add_argument("source", metavar="DIR|URL", help="folder of its card.json")
    action.add_argument(
        "--sha256", metavar="HEX", help="SHA-256 that the model file must have, from a source you trust"
    )
    action.add_argument(
        "--replace",
        action="store_true",
        help="also replace a model of the package, one that came from elsewhere, or a newer one",
    )
    action.set_defaults(run=run_fetch)

    action = actions.add_parser("use", parents=[common], help="make a model the default")
    action.add_argument("name", metavar="NAME", help="see `lwasr models list`")
    action.set_defaults(run=run_use)

    action = actions.add_parser("rollback", parents=[common], help="return to the version, or the default, before")
    action.add_argument(
        "name", nargs="?", metavar="NAME", help="default: undo the last `use`, or replacement by `fetch`"
    )
    action.set_defaults(run=run_rollback)

    action = actions.add_parser("remove", parents=[common], help="remove a model that was installed, and its versions")
    action.add_argument("name", metavar="NAME", help="see `lwasr models list`")
    action.set_defaults(run=run_remove)

    fleet.add_actions(actions, common)


def run_list(args: argparse.Namespace) -> int:
    """Print one line per model; the default has a star."""
    from lwasr_edge.errors import ModelNotFoundError
    from lwasr_edge.hub.catalog import default_model, installed_models, user_models_dir
    from lwasr_edge.hub.versions import previous_version

    models = installed_models()
    if not models:
        print(f"no models are installed; `lwasr models fetch DIR|URL` installs them in {user_models_dir()}")
        return 0
    try:
        default_name = default_model().card.name
    except ModelNotFoundError:
        default_name = ""
    for model in models:
        mark = "*" if model.card.name == default_name else " "
        megabytes = model.card.model_file.size / 1e6
        version = printable(model.card.version)
        previous = previous_version(model.directory)
        note = "" if previous is None else f"  (before: {printable(previous.version)})"
        print(f"{mark} {model.card.name:<20} {version:<8} {megabytes:7.1f} MB  {printable(str(model.directory))}{note}")
    return 0


def run_path(args: argparse.Namespace) -> int:
    """Print the path of the model file."""
    from lwasr_edge.hub.catalog import find_model, installed_model

    print(installed_model(args.name).path if args.name else find_model())
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Check sizes and checksums; status 2 if one is wrong."""
    from lwasr_edge.hub.catalog import installed_model, installed_models, verify_model

    all_ok = True
    for model in [installed_model(args.name)] if args.name else installed_models():
        for file, verdict in verify_model(model):
            print(f"{model.card.name}/{file.path}: {verdict}")
            all_ok = all_ok and verdict == "ok"
    return 0 if all_ok else 2


def run_fetch(args: argparse.Namespace) -> int:
    """Fetch a model and print its directory."""
    from lwasr_edge.hub.fetch import fetch_model

    with ProgressLine("fetching", unit="bytes") as line:
        directory = fetch_model(
            args.source,
            sha256=args.sha256,
            replace=args.replace,
            progress=lambda _, done, total: line(done, total),
        )
    print(directory)
    return 0


def run_use(args: argparse.Namespace) -> int:
    """Make a model the default, and say so."""
    from lwasr_edge.hub.versions import use_model

    _report(use_model(args.name))
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Go back, and say to what."""
    from lwasr_edge.hub.versions import roll_back

    _report(roll_back(args.name))
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Remove a model and print its folder."""
    from lwasr_edge.hub.versions import remove_model

    print(f"removed {printable(str(remove_model(args.name)))}; the default model is now {default_model_name()}")
    return 0


def _report(change: Change) -> None:
    if change.kind == "version":
        print(printable(f"{change.name} is now version {change.after}, before it was {change.before}"))
        return
    before = "" if change.before in (None, change.after) else f", before it was {change.before}"
    print(printable(f"the default model is now {default_model_name()}{before}"))
    if os.environ.get(VARIABLE):
        say(f"lwasr: warning: {VARIABLE} is set and names the default: unset it")
