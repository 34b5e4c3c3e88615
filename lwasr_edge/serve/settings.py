"""The limits of a service, and the forms in which it writes results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lwasr_edge.validate import number, whole_number

if TYPE_CHECKING:
    from lwasr_edge.events import Event
    from lwasr_edge.recognizer import Transcript


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Limits:
    """What clients may use. What is beyond a limit is refused; nothing is slowed for it.

    Raises:
        OptionError: a value that is not a positive number.
    """

    clients: int  # streams at the same time
    files: int  # uploads at the same time, from the first byte to the transcript
    upload_mb: float = 100.0  # of one file, in units of a million bytes
    audio_s: float = 14_400.0  # seconds of audio of one file or one stream
    session_s: float = 14_400.0  # seconds from the beginning of a request to its end
    idle_s: float = 30.0  # seconds in which a client neither sends audio nor reads results
    message_kb: float = 4_096.0  # of one message with audio, in units of 1024 bytes
    late_s: float = 0.5  # seconds of waiting for a worker thread, after which new streams are refused for a while

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("clients", "files"):
                whole_number(field.name, value, 1)
            else:
                number(field.name, value, above=0)

    @classmethod
    def default_clients(cls) -> int:
        """Streams that small boards can serve; see benchmarks/speed/serve_load.py for other machines."""
        return 4 * usable_cores()

    @property
    def upload_bytes(self) -> int:
        """Largest file."""
        return int(self.upload_mb * 1_000_000)

    @property
    def message_bytes(self) -> int:
        """Largest message."""
        return int(self.message_kb * 1024)

    @property
    def connections(self) -> int:
        """Open sockets of one server, those without a request included."""
        return 4 * (self.clients + self.files) + 64


@dataclass(frozen=True)
class Forms:
    """The forms of results, which are those of the commands `lwasr listen --json` and `lwasr transcribe`."""

    event: Callable[[Event], object]  # for JSON
    srt: Callable[[Transcript], str]
    vtt: Callable[[Transcript], str]
