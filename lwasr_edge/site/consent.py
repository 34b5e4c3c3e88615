"""consent.json of a folder: who agreed to be recorded, what for, and until when the recordings are kept."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.errors import ManifestError, OptionError
from lwasr_edge.files import read_regular, write_file
from lwasr_edge.validate import shown

CONSENT_FILE = "consent.json"
MAX_BYTES = 1 << 20
MAX_ENTRY = 200  # characters
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Consent:
    """The consent of one speaker."""

    speaker: str  # name or number
    purpose: str
    keep_until: str  # ISO date
    agreed_at: str  # ISO 8601
    folder: str  # of the speaker's recordings, in that of consent.json

    def __post_init__(self) -> None:
        for name in ("speaker", "purpose"):
            value = getattr(self, name)
            if not isinstance(value, str) or not 0 < len(value) <= MAX_ENTRY or not value.isprintable():
                raise OptionError(f"{name} must be a text of at most {MAX_ENTRY} characters, got {shown(value)}")
        checked_date(self.keep_until)
        if not isinstance(self.folder, str) or not _FOLDER.fullmatch(self.folder):
            raise OptionError(f"folder must be a plain name, got {shown(self.folder)}")


def checked_date(text: Any) -> str:
    """An ISO date.

    Raises:
        OptionError: it is something else.
    """
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except (ValueError, TypeError):
        raise OptionError(f"the date must be YYYY-MM-DD, as in 2027-06-30, got {shown(text)}") from None


def folder_name(speaker: str, taken: Collection[str]) -> str:
    """A plain name for a speaker's folder, which no other speaker has."""
    base = re.sub(r"[^A-Za-z0-9_]+", "-", speaker).strip("-")[:80] or "speaker"
    names = [base, *(f"{base}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name.lower() not in {one.lower() for one in taken})


def read_consents(folder: Path) -> list[Consent]:
    """The consents of a folder; none if there is no such file.

    Raises:
        ManifestError: the file is something else.
    """
    path = folder / CONSENT_FILE
    if not path.exists():
        return []
    try:
        value = json.loads(read_regular(path, MAX_BYTES))
        return [Consent(*(entry[name] for name in Consent.__annotations__)) for entry in value["speakers"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path} must be a list of consents, got other content ({error}): move it away") from error


def write_consents(folder: Path, consents: list[Consent]) -> None:
    """Replace the file.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps({"speakers": [asdict(consent) for consent in consents]}, ensure_ascii=False, indent=1)
    write_file(folder / CONSENT_FILE, text + "\n")


def ended_retentions(value: Any, today: datetime.date | None = None) -> list[str]:
    """Dates of the retention that are over, of the JSON value of a file."""
    today = today or datetime.date.today()
    entries = value.get("speakers") if isinstance(value, dict) else None
    dates = (
        [entry.get("keep_until") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
    return sorted({date for date in dates if isinstance(date, str) and date < today.isoformat()})
