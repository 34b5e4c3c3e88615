"""`lwasr listen`: transcribe a microphone, or samples from a pipe, with a live line in the terminal."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lwasr_edge.cli.options import (
    Commands,
    add_decoding_options,
    add_model_options,
    add_written_option,
    count,
    is_english,
    not_negative,
    open_recognizer,
    positive,
)
from lwasr_edge.cli.signals import stopped_by_signals
from lwasr_edge.cli.streams import is_terminal, json_text, say
from lwasr_edge.cli.subtitles import alternatives_to_text, rounded
from lwasr_edge.errors import OptionError

if TYPE_CHECKING:
    from lwasr_edge.events import Event
    from lwasr_edge.microphone.listener import Listener


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "listen",
        parents=[common],
        help="transcribe a microphone live",
        description="Transcribe a microphone live. In a terminal, the current utterance is shown as it grows and "
        "becomes a line when it ends. Ctrl-C prints the last words and exits with status 0.",
    )
    parser.add_argument("--list-devices", action="store_true", help="print the recording devices and exit")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--device", metavar="N|NAME", help="number or part of the name (default: the system default)")
    source.add_argument(
        "--raw",
        type=int,
        metavar="HZ",
        help="read signed 16-bit little-endian samples of this rate from stdin instead of a device",
    )
    parser.add_argument(
        "--channels",
        type=count,
        metavar="N",
        help="interleaved channels of the --raw samples, which are mixed (default: 1)",
    )
    parser.add_argument(
        "--hop-ms",
        type=positive,
        metavar="N",
        help="recognise the newest audio every N ms: smaller values show words sooner and use more CPU (default: 320)",
    )
    parser.add_argument(
        "--right-context-ms",
        type=not_negative,
        metavar="N",
        help="later audio that makes a word stable: larger values revise fewer of the words shown and use more CPU; "
        "final texts do not depend on it (default: 640)",
    )
    endpoint = parser.add_mutually_exclusive_group()
    endpoint.add_argument("--no-endpoint", action="store_true", help="one utterance until Ctrl-C, regardless of pauses")
    endpoint.add_argument(
        "--silence-s", type=positive, metavar="S", help="silence after speech that ends an utterance (default: 0.8)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per event and line")
    add_written_option(parser, "finished utterances are written in a terminal, as recognised elsewhere")
    add_model_options(parser)
    add_decoding_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Recognise until Ctrl-C or the end of stdin; the last words are still printed."""
    if args.list_devices:
        return list_devices()
    from lwasr_edge.audio.samples import MAX_CHANNELS
    from lwasr_edge.utterance import EndpointRules

    rules = EndpointRules(silence_after_speech_s=args.silence_s) if args.silence_s else EndpointRules()
    settings: dict[str, Any] = {
        "hop_ms": args.hop_ms,
        "right_context_ms": args.right_context_ms,
        "endpoint": None if args.no_endpoint else rules,
    }
    if args.channels is not None and (args.raw is None or args.channels > MAX_CHANNELS):
        raise OptionError(
            f"--channels must be a number up to {MAX_CHANNELS} beside --raw, got {args.channels}: leave it out for "
            "devices"
        )
    recognizer = open_recognizer(args)
    if args.written is None:
        args.written = not args.json and is_english(recognizer) and is_terminal(sys.stdout)
    shown = {"as_json": args.json, "with_alternatives": args.nbest is not None, "written": args.written}
    if args.raw is not None:
        from lwasr_edge.cli.raw import RawInput, stdin_for_samples

        samples = RawInput(stdin_for_samples(), recognizer.stream(args.raw, **settings), args.channels or 1)
        say("listening to stdin; Ctrl-C or its end stops")
        with stopped_by_signals(samples.stop):
            show_events(samples, **shown)
        return 0
    listener = recognizer.listen(args.device, **settings)
    with listener, stopped_by_signals(listener.stop):
        say(f"listening to {listener.device.name!r}; Ctrl-C stops")
        show_events(listener, **shown, listener=listener)
    return 0


def list_devices() -> int:
    """Print one line per device; the default has a star."""
    from lwasr_edge.microphone.devices import list_devices as find_devices

    devices = find_devices()
    for device in devices:
        mark = "*" if device.is_default else " "
        channels = "1 channel" if device.channels == 1 else f"{device.channels} channels"
        print(f"{mark} {device.index:3d}  {device.name}  ({channels}, {device.sample_rate} Hz)")
    if not devices:
        say("no recording device was found: is a microphone plugged in? --raw reads samples from a pipe instead")
    return 0


def show_events(
    events: Iterable[Event],
    *,
    as_json: bool,
    with_alternatives: bool = False,
    written: bool = False,
    listener: Listener | None = None,
) -> None:
    """Print events as they arrive; after an utterance, its alternatives if wanted, and a warning of lost audio."""
    from lwasr_edge.events import Final

    line = LiveLine(written=written)
    overflows_reported = 0

    def report_losses() -> None:
        nonlocal overflows_reported
        if listener is not None and listener.overflow_count > overflows_reported:
            overflows_reported = listener.overflow_count
            say(f"lwasr: warning: {lost_audio(listener)}")

    try:
        for event in events:
            if as_json:
                print(json_text(event_to_dict(event, written=written)), flush=True)
            else:
                line.show(event)
                if with_alternatives and isinstance(event, Final):
                    print(alternatives_to_text(event.alternatives), end="", flush=True)
            if isinstance(event, Final):
                report_losses()
    finally:
        line.clear()
        report_losses()


def lost_audio(listener: Listener) -> str:
    """The warning about lost audio."""
    times = "once" if listener.overflow_count == 1 else f"{listener.overflow_count} times"
    lost_s = listener.lost_samples / listener.device.sample_rate
    behind = f", {lost_s:.1f} s of it because recognition was too slow" if lost_s else ""
    return f"audio was lost {times}{behind}"


class LiveLine:
    """The current utterance on one terminal line, finished ones above it; without a terminal, only finished ones.

    Args:
        written: finished utterances as people write them.
    """

    def __init__(self, *, written: bool = False) -> None:
        self._written = written
        self._is_terminal = is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"

    def show(self, event: Event) -> None:
        """Show one event."""
        from lwasr_edge.events import Final

        if isinstance(event, Final):
            self.clear()
            print(event.written if self._written else event.text, flush=True)
        elif self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            text = event.text
            shown = text if len(text) <= width else "\u2026" + text[len(text) - width + 1 :]
            sys.stdout.write(f"\r\x1b[K{shown}")
            sys.stdout.flush()

    def clear(self) -> None:
        """Empty the live line."""
        if self._is_terminal:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


def event_to_dict(event: Event, *, written: bool = False) -> object:
    """An event for JSON: its kind, text, words, and times; of a final, also as people write it if `written`."""
    from lwasr_edge.events import Final

    fields: dict[str, Any]
    if isinstance(event, Final):
        fields = {"kind": "final", "start_s": event.start_s, "end_s": event.end_s, "reason": event.reason}
        if event.heard is not None:
            fields["heard"] = event.heard
            fields["alternatives"] = [asdict(alternative) for alternative in event.alternatives]
        if written:
            fields["written"] = event.written
            fields["written_words"] = [word.to_dict() for word in event.written_words]
    else:
        fields = {"kind": "partial", "stable_text": event.stable_text, "time_s": event.time_s}
    return rounded({**fields, "text": event.text, "words": [asdict(word) for word in event.words]})
