"""What `lwasr bench` measures: the user's options, else the defaults, else those of --quick."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

BUILT_IN_REPEAT = 20  # of the packaged recording, 5 s
OWN_REPEAT = 3  # of the user's recordings, which may be long
DEFAULT_HOP_MS = (160.0, 320.0, 640.0)


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    threads: tuple[int, ...]
    hop_ms: tuple[float, ...]  # of streams; empty: files only
    right_context_ms: float | None  # of streams; None for their default
    repeat: int  # runs over the recordings
    startups: int  # fresh processes for the start-up time
    greedy: bool = False  # without the language model


QUICK = Settings(threads=(1,), hop_ms=(320.0,), right_context_ms=None, repeat=3, startups=2)


def chosen_settings(args: argparse.Namespace) -> Settings:
    """The settings for parsed options."""
    is_built_in = args.audio is None and args.manifest is None
    usual = Settings((1,), DEFAULT_HOP_MS, None, BUILT_IN_REPEAT if is_built_in else OWN_REPEAT, startups=7)
    default = QUICK if args.quick else usual
    return Settings(
        args.threads or default.threads,
        default.hop_ms if args.stream is None else args.stream,
        args.right_context,
        args.repeat or default.repeat,
        default.startups,
        args.no_lm,
    )
