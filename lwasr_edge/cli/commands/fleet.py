"""`lwasr models keygen`, `publish`, `available` and `update`: models for many devices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lwasr_edge.cli.options import Commands
from lwasr_edge.cli.progress import ProgressLine
from lwasr_edge.cli.streams import say
from lwasr_edge.errors import CatalogError, LwasrError
from lwasr_edge.validate import printable

if TYPE_CHECKING:
    from lwasr_edge.hub.fleet.device import Updates
    from lwasr_edge.hub.fleet.index import Release
    from lwasr_edge.hub.fleet.signing import PublicKey
    from lwasr_edge.hub.fleet.update import Fleet, Outcome


def add_actions(actions: Commands, common: argparse.ArgumentParser) -> None:
    """Add the actions to `lwasr models`."""
    action = actions.add_parser("keygen", parents=[common], help="make a pair of keys to sign models for many devices")
    action.add_argument("file", type=Path, metavar="FILE", help="for the secret key; the public key is FILE.pub")
    action.set_defaults(run=run_keygen)

    action = actions.add_parser(
        "publish", parents=[common], help="copy models into a folder for many devices, and sign its index"
    )
    action.add_argument("folder", type=Path, metavar="FOLDER", help="that devices read, from a server or a share")
    action.add_argument(
        "models", nargs="+", metavar="NAME|DIR", help="an installed model, or a folder with a card.json"
    )
    action.add_argument("--key", type=Path, required=True, metavar="FILE", help="secret key of `lwasr models keygen`")
    action.add_argument(
        "--share", type=float, default=1.0, metavar="X", help="of the devices that take it, 0 to 1 (default: 1)"
    )
    action.set_defaults(run=run_publish)

    action = actions.add_parser("available", parents=[common], help="list the models of a folder or URL")
    _add_source(action)
    action.set_defaults(run=run_available)

    action = actions.add_parser(
        "update", parents=[common], help="install what a signed folder or URL has for this device"
    )
    _add_source(action)
    default = "those of config.json, else the installed ones that the index has"
    action.add_argument("--model", action="append", metavar="NAME", help=f"to install or update (default: {default})")
    action.add_argument("--save", action="store_true", help="store source, keys and models in config.json")
    action.add_argument(
        "--replace", action="store_true", help="also replace a model of the package, or one that came from elsewhere"
    )
    action.set_defaults(run=run_update)


def _add_source(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "source", nargs="?", metavar="DIR|URL", help="with an index.json (default: that of config.json)"
    )
    action.add_argument(
        "--key", action="append", metavar="PUBLIC", help="public key, or its file; several times for several keys"
    )


def run_keygen(args: argparse.Namespace) -> int:
    """Make keys and print the public one."""
    from lwasr_edge.hub.fleet.signing import PUBLIC_SUFFIX, make_keys

    print(make_keys(args.file).line)
    say(f"keep {args.file} secret, with a copy elsewhere; devices get {args.file}{PUBLIC_SUFFIX}")
    return 0


def run_publish(args: argparse.Namespace) -> int:
    """Publish and print the index."""
    from lwasr_edge.hub.fleet.publish import publish_models
    from lwasr_edge.hub.fleet.signing import read_secret

    index = publish_models(args.folder, args.models, read_secret(args.key), args.share)
    for release in index.releases:
        print(_release_line(release))
    return 0


def run_available(args: argparse.Namespace) -> int:
    """List the releases, with what they are to this device."""
    from lwasr_edge.hub.fleet.update import open_fleet

    source, keys, _ = _settings(args)
    fleet = open_fleet(source, keys or None)
    index = fleet.index
    if not index.key_id:
        say("lwasr: warning: the signature of the index was not checked: add --key PUBLIC")
    print(f"index of {index.created}, number {index.serial}, key {index.key_id or 'not checked'}")
    for release in index.releases:
        print(f"{_release_line(release)}{_notes(fleet, release)}")
    return 0


def run_update(args: argparse.Namespace) -> int:
    """Update the models of this device; status 2 if one could not be."""
    from lwasr_edge.hub.fleet.device import Updates, write_updates
    from lwasr_edge.hub.fleet.update import names_to_update, open_fleet

    source, keys, settings = _settings(args)
    if not keys:
        raise CatalogError("a public key must be given to check the signature, got none: add --key PUBLIC")
    fleet = open_fleet(source, keys)
    names = names_to_update(fleet.index, args.model or settings.models)
    failed = False
    for name in names:
        try:
            outcome = _update(fleet, name, args.replace)
        except LwasrError as error:  # the other models are still updated
            say(f"lwasr: error: {printable(str(error))}")
            failed = True
            continue
        print(printable(_outcome_line(outcome)))
    if args.save and not failed:
        base64_keys = tuple(key.line.split()[1] for key in keys)
        path = source if "://" in source else str(Path(source).absolute())
        write_updates(Updates(path, base64_keys, tuple(args.model or settings.models)))
    return 2 if failed else 0


def _update(fleet: Fleet, name: str, replace: bool) -> Outcome:
    from lwasr_edge.hub.fleet.update import update_model

    with ProgressLine(f"fetching {name}", unit="bytes") as line:
        return update_model(fleet, name, replace=replace, progress=lambda _, done, total: line(done, total))


def _settings(args: argparse.Namespace) -> tuple[str, list[PublicKey], Updates]:
    """Source and keys, from the command line or else config.json, and what that has."""
    from lwasr_edge.hub.fleet.device import read_updates
    from lwasr_edge.hub.fleet.signing import read_public

    settings = read_updates()
    source = args.source or settings.source
    if not source:
        raise CatalogError("a folder or URL with an index must be named, got none: add it, or `update URL --save` once")
    return source, [read_public(key) for key in args.key or settings.keys], settings


def _release_line(release: Release) -> str:
    devices = "all devices" if release.share >= 1 else f"{release.share:.3g} of the devices".replace("0 of", "none of")
    return printable(f"{release.name:<20} {release.version:<10} {release.size / 1e6:7.1f} MB  {devices}")


def _notes(fleet: Fleet, release: Release) -> str:
    from lwasr_edge.hub.fetch import installed_card

    is_ours = fleet.release(release.name) == release
    installed = installed_card(release.name)
    is_installed = installed is not None and (installed.version, installed.files) == (release.version, release.files)
    return (", for this one" if is_ours else "") + (", installed" if is_installed else "")


def _outcome_line(outcome: Outcome) -> str:
    from lwasr_edge.hub.fleet import update

    name, offered, installed = outcome.name, outcome.offered, outcome.installed
    back = f"`lwasr models rollback {name}`"
    return {
        update.INSTALLED: f"{name}: version {offered} was installed, before it was {installed or 'none'}",
        update.CURRENT: f"{name}: version {offered} is installed, there is none newer for this device",
        update.NEWER: f"{name}: version {installed} stays, {offered} is older; to go back: {back}",
        update.ROLLED_BACK: f"{name}: version {installed} stays, {offered} was rolled back here; to undo that: {back}",
        update.NONE: f"{name}: there is no version for this device; {installed or 'none'} is installed",
    }[outcome.kind]
