"""`lwasr models`: which models are there, where, are they whole, and how to get another."""

from __future__ import annotations

import argparse

from lwasr_edge.cli.options import Commands
from lwasr_edge.cli.progress import ProgressLine


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its own commands to the parser."""
    parser = commands.add_parser("models", help="list, find, check and fetch models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    action = actions.add_parser("list", parents=[common], help="the installed models")
    action.set_defaults(run=run_list)

    action = actions.add_parser("path", parents=[common], help="print the path of a model's file")
    action.add_argument("name", nargs="?", metavar="NAME", help="default: the default model")
    action.set_defaults(run=run_path)

    action = actions.add_parser("verify", parents=[common], help="compare the files of models with their cards")
    action.add_argument("name", nargs="?", metavar="NAME", help="default: all")
    action.set_defaults(run=run_verify)

    action = actions.add_parser("fetch", parents=[common], help="copy a model from a directory or an http(s) address")
    action.add_argument("source", metavar="DIR|URL", help="where its card.json lies")
    action.add_argument("--sha256", metavar="HEX", help="what the model file must have, known from elsewhere")
    action.set_defaults(run=run_fetch)


def run_list(args: argparse.Namespace) -> int:
    """Print a line a model; the default has a star."""
    from lwasr_edge.errors import ModelNotFoundError
    from lwasr_edge.hub.catalog import default_model, installed_models, user_models_dir

    models = installed_models()
    if not models:
        print(f"no models are installed; `lwasr models fetch DIR|URL` puts them into {user_models_dir()}")
        return 0
    try:
        default_name = default_model().card.name
    except ModelNotFoundError:
        default_name = ""
    for model in models:
        mark = "*" if model.card.name == default_name else " "
        megabytes = model.card.model_file.size / 1e6
        print(f"{mark} {model.card.name:<20} {model.card.version:<8} {megabytes:7.1f} MB  {model.directory}")
    return 0


def run_path(args: argparse.Namespace) -> int:
    """Print the path of the model's file."""
    from lwasr_edge.hub.catalog import default_model, installed_model

    print((installed_model(args.name) if args.name else default_model()).path)
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Check sizes and sums; status 2 if anything is wrong."""
    from lwasr_edge.hub.catalog import installed_model, installed_models, verify_model

    all_well = True
    for model in [installed_model(args.name)] if args.name else installed_models():
        for file, verdict in verify_model(model):
            print(f"{model.card.name}/{file.path}: {verdict}")
            all_well = all_well and verdict == "ok"
    return 0 if all_well else 2


def run_fetch(args: argparse.Namespace) -> int:
    """Fetch, and print where the model lies."""
    from lwasr_edge.hub.fetch import fetch_model

    with ProgressLine("fetching", unit="bytes") as line:
        directory = fetch_model(args.source, sha256=args.sha256, progress=lambda _, done, total: line(done, total))
    print(directory)
    return 0
