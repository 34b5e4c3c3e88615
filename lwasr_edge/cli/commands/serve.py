"""`lwasr serve`: recognition for other programs, over the network."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lwasr_edge.cli.command import install_line
from lwasr_edge.cli.commands.listen import event_to_dict
from lwasr_edge.cli.options import (
    Commands,
    add_decoding_options,
    add_model_options,
    count,
    decoding_options,
    open_recognizer,
    positive,
)
from lwasr_edge.cli.signals import stopped_by_signals
from lwasr_edge.cli.streams import say
from lwasr_edge.cli.subtitles import to_srt, to_vtt
from lwasr_edge.errors import MissingExtraError, OptionError
from lwasr_edge.files import read_regular
from lwasr_edge.validate import printable

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Recognizer
    from lwasr_edge.serve.settings import Limits

MAX_TOKEN_BYTES = 65_536
MIN_TOKEN_LENGTH = 8
TOKEN_VARIABLE = "LWASR_TOKEN"


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        parents=[common],
        help="serve other programs: Home Assistant (Wyoming), WebSockets, OpenAI's clients",
        description="Serve other programs over the network until Ctrl-C or SIGTERM. Needs the extra `serve`. "
        "docs/serve.md describes the protocols.",
    )
    parser.add_argument(
        "--wyoming", metavar="URI", help="serve the Wyoming protocol: tcp://HOST:PORT, unix:///PATH or stdio://"
    )
    parser.add_argument(
        "--http",
        metavar="HOST:PORT",
        help="serve HTTP: WebSocket /v1/stream, POST /v1/audio/transcriptions, /v1/models, /health, /metrics",
    )
    parser.add_argument("--zeroconf", metavar="NAME", help="announce the Wyoming server on the local network")
    parser.add_argument(
        "--end-commands",
        action="store_true",
        help="Wyoming: send the transcript when the speaker stops, without waiting for the client",
    )
    parser.add_argument(
        "--silence-s", type=positive, metavar="S", help="silence after speech that ends an utterance (default: 0.8)"
    )
    _add_access_options(parser)
    _add_limits(parser)
    parser.add_argument("--log-transcripts", action="store_true", help="write recognised text to the log")
    parser.add_argument("--quiet", action="store_true", help="log warnings and errors only")
    add_model_options(parser)
    add_decoding_options(parser)
    parser.set_defaults(run=run)


def _add_access_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("access to the HTTP server")
    token = group.add_mutually_exclusive_group()
    token.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"that clients must send as `Authorization: Bearer TOKEN` (also in ${TOKEN_VARIABLE}, which, unlike this "
        "option, other users of the machine cannot see)",
    )
    token.add_argument("--token-file", type=Path, metavar="FILE", help="read the token from a file")
    token.add_argument("--no-token", action="store_true", help="let other machines use it without a token")
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="web page whose scripts may use the service, as in https://example.org; * for all",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits", "Requests beyond them are refused.")
    group.add_argument(
        "--max-clients", type=count, metavar="N", help="streams at a time (default: 4 for each processor core)"
    )
    group.add_argument(
        "--max-files", type=count, metavar="N", help="uploaded files at a time (default: 2 for each processor core)"
    )
    group.add_argument("--max-upload-mb", type=positive, metavar="N", help="size of a file (default: 100)")
    group.add_argument("--max-audio-s", type=positive, metavar="S", help="audio of a file or stream (default: 14400)")
    group.add_argument("--max-session-s", type=positive, metavar="S", help="time of a connection (default: 14400)")
    group.add_argument("--max-message-kb", type=positive, metavar="N", help="one message of audio (default: 4096)")
    group.add_argument(
        "--idle-s", type=positive, metavar="S", help="close clients that send or read nothing for S s (default: 30)"
    )
    group.add_argument(
        "--grace-s", type=positive, default=5, metavar="S", help="for clients after a signal (default: 5)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal.

    Raises:
        LwasrError: an option, model or address that cannot be used; MissingExtraError without the extra.
    """
    require_extra()
    from lwasr_edge.serve.program import Plan, serve
    from lwasr_edge.serve.service import Service
    from lwasr_edge.serve.settings import Forms
    from lwasr_edge.utterance import EndpointRules

    rules = EndpointRules(silence_after_speech_s=args.silence_s) if args.silence_s else EndpointRules()
    plan = Plan(
        wyoming=args.wyoming,
        http=args.http,
        rules=rules,
        ends_commands=args.end_commands,
        zeroconf=args.zeroconf,
        token=read_token(args),
        is_open=args.no_token,
        origins=frozenset(origin.rstrip("/") for origin in args.allow_origin),
        phrases=args.phrases,
        grace_s=args.grace_s,
    )
    limits = chosen_limits(args)
    start_log(quiet=args.quiet)
    recognizer = open_recognizer(args)
    recognizer.stream().close()  # refuses models that do not stream, and warms up
    service = Service(recognizer, limits, Forms(event_to_dict, to_srt, to_vtt), log_transcripts=args.log_transcripts)

    def remake() -> Recognizer:
        return recognizer.with_decoding(**decoding_options(args))

    serve(service, plan, remake, stopped_by_signals)
    return 0


def require_extra() -> None:
    """Check that the libraries of the service are installed.

    Raises:
        MissingExtraError: one is not.
    """
    for name in ("aiohttp", "prometheus_client", "wyoming", "zeroconf"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"{name} is not installed: {install_line('serve')}")


def chosen_limits(args: argparse.Namespace) -> Limits:
    """The limits of the options."""
    from lwasr_edge.serve.settings import Limits, usable_cores

    given = {
        "upload_mb": args.max_upload_mb,
        "audio_s": args.max_audio_s,
        "session_s": args.max_session_s,
        "message_kb": args.max_message_kb,
        "idle_s": args.idle_s,
    }
    return Limits(
        clients=args.max_clients or Limits.default_clients(),
        files=args.max_files or 2 * usable_cores(),
        **{name: value for name, value in given.items() if value is not None},
    )


def read_token(args: argparse.Namespace) -> str | None:
    """The token of the options or of the environment; None without one.

    Raises:
        OptionError: a token that is too short or has spaces, or a file that cannot be read.
    """
    if args.no_token:
        return None
    token = args.token if args.token is not None else os.environ.get(TOKEN_VARIABLE)
    if args.token_file is not None:
        try:
            token = read_regular(args.token_file, MAX_TOKEN_BYTES).decode().strip()
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OptionError(f"--token-file {args.token_file} cannot be read: {reason}") from error
    if token is not None and (len(token) < MIN_TOKEN_LENGTH or not token.isascii() or " " in token):
        raise OptionError(
            f"a token must have at least {MIN_TOKEN_LENGTH} ASCII characters without spaces, got {len(token)} "
            "characters: `openssl rand -hex 32` makes one"
        )
    return token


class _Log(logging.Handler):
    """Lines on stderr, in the form of the other messages."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = self.format(record)
        say(f"lwasr serve: {level}{printable(text, keep=chr(10))}")


def start_log(*, quiet: bool) -> None:
    """Write the log of the service, and warnings of its libraries, to stderr."""
    handler = _Log()
    for name, level in (("lwasr_edge", logging.INFO), ("aiohttp", logging.ERROR), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING if quiet and level == logging.INFO else level)
        logger.propagate = False
