"""A phrase list that may change while the service runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from lwasr_edge.errors import LwasrError

if TYPE_CHECKING:
    from pathlib import Path

    from lwasr_edge.recognizer import Recognizer
    from lwasr_edge.serve.service import Service

log = logging.getLogger("lwasr_edge.serve")

LOOK_EVERY_S = 1.0


async def watch_phrases(service: Service, path: Path, remake: Callable[[], Recognizer]) -> None:
    """Replace the recogniser of new clients whenever the file has changed. Runs until cancelled.

    A file that is missing or has no usable list changes nothing; the log says so once.

    Args:
        service: whose recogniser is replaced.
        path: of the list, which was read just now.
        remake: reads the list again, and returns a recogniser with it.
    """
    seen = _signature(path)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now = _signature(path)
        if now == seen:
            continue
        seen = now
        try:
            service.recognizer = await asyncio.to_thread(remake)
        except (LwasrError, OSError) as error:
            log.warning("the phrases stay as they were: %s", error)
        else:
            log.info("read the phrases in %s again", path)


def _signature(path: Path) -> tuple[int, ...] | None:
    """What is different after a change; None without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, as of mounted configurations
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
