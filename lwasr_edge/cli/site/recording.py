"""`lwasr site record`: sentences, a level meter, keys, and consent."""

from __future__ import annotations

import argparse
import math
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from lwasr_edge.cli.streams import is_terminal, say
from lwasr_edge.errors import AudioError, OptionError
from lwasr_edge.site.consent import Consent
from lwasr_edge.site.reports.language import Strings
from lwasr_edge.site.sound import measure_sound, sound_advice
from lwasr_edge.site.takes import (
    MAX_TAKE_S,
    Take,
    add_consent,
    find_consent,
    missing_prompts,
    read_prompts,
    record_take,
    save_take,
)
from lwasr_edge.validate import printable

METER_WIDTH = 40
METER_LOWEST_DB = -60.0
METER_EVERY_S = 0.1
AGAIN, SKIP, QUIT = "r", "s", "q"


class Keys:
    """Keys of a terminal without Enter; lines of a pipe, of which the first letter counts. Use as a context manager."""

    def __init__(self) -> None:
        self._is_terminal = is_terminal(sys.stdin)
        self._descriptor = sys.stdin.fileno()
        self._settings: Any = None
        self._buffer = b""

    def __enter__(self) -> Keys:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cooked()

    def line(self, question: str) -> str:
        """The answer to a question, without blanks around it.

        Raises:
            OptionError: the input has ended.
        """
        say(question, end=" ")
        while b"\n" not in self._buffer:
            data = os.read(self._descriptor, 4096)
            if not data:
                raise OptionError("the questions must be answered, got the end of the input: nothing was recorded")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    def key(self, question: str) -> str:
        """Wait for a key; "" is Enter, and the end of the input is `QUIT`."""
        say(question)
        while (key := self.pressed(None)) is None:
            pass
        return key

    def pressed(self, timeout_s: float | None = 0.0) -> str | None:
        """The key that was pressed, if one was within the time."""
        self._raw()
        if not self._buffer:
            if not select.select([self._descriptor], [], [], timeout_s)[0]:
                return None
            data = os.read(self._descriptor, 1 if self._is_terminal else 4096)
            if not data:
                return QUIT
            self._buffer += data
        if self._is_terminal:
            key, self._buffer = self._buffer[:1], self._buffer[1:]
            return key.decode("latin-1").strip().lower()
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return None
        self._buffer = rest
        return line.decode("latin-1").strip().lower()[:1]

    def _raw(self) -> None:
        if self._is_terminal and self._settings is None:
            import termios
            import tty

            self._settings = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)

    def _cooked(self) -> None:
        if self._settings is not None:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._settings)
            self._settings = None


class Meter:
    """The level of the microphone on one line of the terminal."""

    def __init__(self) -> None:
        self._is_terminal = is_terminal(sys.stderr)
        self._shown_at = 0.0
        self._peak = 0.0

    def show(self, peak: float) -> None:
        """Show the highest peak, 0..1, since the last time."""
        self._peak = max(self._peak, peak)
        now = time.monotonic()
        if self._is_terminal and now - self._shown_at >= METER_EVERY_S:
            say(f"\r\x1b[K{meter(self._peak)}", end="")
            self._shown_at, self._peak = now, 0.0

    def clear(self) -> None:
        """Empty the line."""
        if self._is_terminal:
            say("\r\x1b[K", end="")


def meter(peak: float) -> str:
    """A bar for a peak of 0..1; good speech reaches its last third."""
    level_db = 20 * math.log10(max(peak, 1e-6))
    filled = round(METER_WIDTH * min(1.0, max(0.0, 1 - level_db / METER_LOWEST_DB)))
    note = "  too loud" if peak >= 0.99 else ""
    return f"[{'#' * filled}{'-' * (METER_WIDTH - filled)}] {max(level_db, METER_LOWEST_DB):4.0f} dB{note}"


def record(args: argparse.Namespace) -> int:
    """Ask for consent, then record the sentences that are missing.

    Raises:
        LwasrError: a folder, list of sentences or microphone that cannot be used, or no consent.
    """
    prompts = read_prompts(args.prompts)
    with Keys() as keys:
        consent = _consent(args, keys)
        folder = args.folder / consent.folder
        missing = missing_prompts(folder, prompts)
        n_done = len(prompts) - len(missing)
        for number, prompt in enumerate(missing, n_done + 1):
            saved = _record_prompt(prompt, f"{number} of {len(prompts)}", folder, args.device, keys)
            if saved is None:
                break
        left = len(missing_prompts(folder, prompts))
    print(printable(f"{folder}: {len(prompts) - left} of {len(prompts)} sentences are recorded"))
    return 0


def _consent(args: argparse.Namespace, keys: Keys) -> Consent:
    speaker = " ".join((args.speaker or keys.line("name or number of the speaker:")).split())
    found = find_consent(args.folder, speaker)
    if found is not None:
        say(f"{found.speaker} agreed on {found.agreed_at[:10]}: {found.purpose}; kept until {found.keep_until}")
        return found
    purpose = args.purpose or keys.line("what the recordings are for:")
    keep_until = args.keep_until or keys.line("kept until (YYYY-MM-DD):")
    say(f"Recordings of {speaker} and their texts are stored in {args.folder}, on this machine alone, for: {purpose}.")
    say(f"They are kept until {keep_until}; `lwasr site erase` removes them. Nothing is sent anywhere.")
    if keys.line("does the speaker agree? [y/N]").lower() not in ("y", "yes"):
        raise OptionError("the speaker must agree, got another answer: nothing was recorded")
    return add_consent(args.folder, speaker, purpose, keep_until)


def _record_prompt(prompt: str, count: str, folder: Path, device: str | None, keys: Keys) -> bool | None:
    """Record one sentence; whether it was saved, None to end."""
    while True:
        say(f"\n{count}:  {printable(prompt)}")
        key = keys.key("Enter: record   s: skip   q: quit")
        if key in (SKIP, QUIT):
            return None if key == QUIT else False
        take, is_over = _take(device, keys)
        say(_judged(take))
        key = QUIT if is_over else keys.key("Enter: keep   r: again   s: skip   q: quit")
        if key in (SKIP, QUIT):
            return None if key == QUIT else False
        if key != AGAIN:
            save_take(folder, take, prompt)
            return True


def _take(device: str | None, keys: Keys) -> tuple[Take, bool]:
    """One recording, and whether the user wants to quit."""
    bar = Meter()
    pressed: list[str] = []
    say(f"speak now; Enter ends the recording, {MAX_TAKE_S:.0f} s at most")

    def ended() -> bool:
        key = keys.pressed()
        if key is not None:
            pressed.append(key)
        return bool(pressed)

    take = record_take(device, ended, bar.show)
    bar.clear()
    return take, QUIT in pressed


def _judged(take: Take) -> str:
    """What is good or bad about a recording."""
    try:
        sound = measure_sound(take.samples(), take.sample_rate)
    except AudioError as error:
        return f"not good: {error}"
    advice = [Strings("en").render(remark) for remark in sound_advice(sound)]
    if not sound.has_sound:
        advice = ["no speech: is the microphone switched off?"]
    if take.lost_samples:
        advice.append(f"{take.lost_samples / take.sample_rate:.1f} s were lost: record it again")
    about = f"{sound.duration_s:.1f} s, speech {sound.level_db:.0f} dB, noise {sound.noise_db:.0f} dB"
    return f"{about}: {'; '.join(advice) or 'good'}"
