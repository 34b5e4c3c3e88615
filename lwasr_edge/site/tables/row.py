"""A row of a table, whatever its form."""

from __future__ import annotations

from typing import NamedTuple

from lwasr_edge.site.part import Part

MAX_TABLE_BYTES = 1 << 26


class Row(NamedTuple):
    """A recording, or a part of one, and its text."""

    file: str
    text: str
    speaker: str
    source: str
    part: Part | None = None
