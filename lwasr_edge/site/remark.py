"""What is said about a recording, in any language: a key of the tables in `language`, and its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Remark:
    """One remark; `language.Strings.render` gives its text."""

    key: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A recording, or a row of a table, that is not used, and why."""

    name: str  # relative to the folder; of a row, "table.csv, row 3"
    reason: Remark
