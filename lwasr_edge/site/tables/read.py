"""Look the recordings of tables up in the folder; Kaldi's wav.scp and text, NeMo's JSON lines."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from lwasr_edge.bench.manifest import ManifestEntry, parse_manifest_entry
from lwasr_edge.errors import ManifestError
from lwasr_edge.site.folder import AUDIO_SUFFIXES, Files, Sample, key_of
from lwasr_edge.site.part import Part
from lwasr_edge.site.remark import Refused, Remark
from lwasr_edge.site.tables.row import MAX_TABLE_BYTES, Row
from lwasr_edge.site.tables.sheet import read_sheet
from lwasr_edge.site.texts import MAX_TEXT, read_text

MAX_ROWS = 200_000
SHEETS = (".xls", ".xlsx", ".ods", ".numbers")


@dataclass
class Rows:
    """Recordings with texts by name, and the parts of recordings by the name of their recording."""

    full: dict[str, Sample] = field(default_factory=dict)
    parts: dict[str, list[Sample]] = field(default_factory=dict)


class _Collector:
    """Looks the files of rows up in the folder; keeps the first text of each, and the faults of the others."""

    def __init__(self, files: Files) -> None:
        self.rows = Rows()
        self._by_name: dict[str, Sample] = {}
        self.refused: list[Refused] = []
        self._files = files
        self._audio = {key_of(name): (name, path) for name, path in files.audio()}
        self._by_file: dict[str, list[str]] = {}  # file name, and without its suffix -> keys of `_audio`
        for key in self._audio:
            file = PurePosixPath(key)
            for short in {file.name, file.stem}:
                self._by_file.setdefault(short, []).append(key)

    def add(self, row: Row, folder: Path) -> None:
        """Add a row of a table in `folder`."""
        written, text, speaker, source, part = row
        found, fault = self.locate(written, folder)
        if part is not None and not part.is_possible:
            fault = Remark("part_impossible", {"part": str(part)})
        if fault is not None:
            self.refused.append(Refused(source, fault))
            return
        name, path = found
        if len(text) > MAX_TEXT:
            self.refused.append(Refused(source, Remark("text_too_long", {"file": source, "most": MAX_TEXT})))
            return
        shown = name if part is None else f"{name} [{part}]"
        sample = Sample(shown, path, " ".join(text.split()), " ".join(speaker.split())[:100], source, part)
        before = self._by_name.setdefault(shown, sample)
        if before is not sample:
            if before.text != sample.text:
                self.refused.append(Refused(source, Remark("two_texts", {"file": shown, "other": before.source})))
        elif part is None:
            self.rows.full[name] = sample
        else:
            self.rows.parts.setdefault(name, []).append(sample)

    def locate(self, written: str, folder: Path) -> tuple[tuple[str, Path], Remark | None]:
        """The recording that a table means: by its path in the folder, else by its file name alone."""
        nothing = ("", folder)
        path = written.strip().strip("\"'")
        if path.startswith("file://"):
            path = unquote(path.removeprefix("file://"))
        path = key_of(path.replace("\\", "/"))
        if not path:
            return nothing, Remark("row_without_file")
        base = key_of(folder.relative_to(self._files.root).as_posix())
        root = key_of(self._files.root.absolute().as_posix())
        for candidate in (f"{base}/{path}", path, path.removeprefix(f"{root}/")):
            key = os.path.normpath(candidate).replace(os.sep, "/")
            if key in self._audio:
                return self._audio[key], None
        file = PurePosixPath(path)
        keys = self._by_file.get(file.name) or (
            self._by_file.get(file.stem, []) if file.suffix in AUDIO_SUFFIXES else []
        )
        if len(keys) == 1:
            return self._audio[keys[0]], None
        shown = {"file": written[:200]}
        return nothing, Remark("row_ambiguous", {**shown, "count": len(keys)}) if keys else Remark("row_no_file", shown)


def read_tables(files: Files) -> tuple[Rows, list[Refused], list[Remark]]:
    """The texts of all tables of a folder.

    Returns:
        Recordings and parts with texts, rows that cannot be used, and remarks about files that are no tables.
    """
    collector, remarks = _Collector(files), []
    for path in files.paths.values():
        reader = _reader(path)
        if path.suffix.lower() in SHEETS:
            remarks.append(Remark("spreadsheet", {"file": files.name(path)}))
        if reader is None:
            continue
        try:
            for number, row in enumerate(reader(path, files)):
                if number >= MAX_ROWS:
                    remarks.append(Remark("table_too_long", {"file": files.name(path), "most": MAX_ROWS}))
                    break
                if isinstance(row, Refused):
                    collector.refused.append(row)
                elif isinstance(row, Remark):
                    remarks.append(row)
                else:
                    collector.add(row, path.parent)
        except (OSError, csv.Error) as error:
            why = getattr(error, "strerror", None) or str(error)
            remarks.append(Remark("table_unreadable", {"file": files.name(path), "why": why}))
    return collector.rows, collector.refused, remarks


def is_table(path: Path, files: Files) -> bool:
    """Whether a file has rows that describe recordings, which need not exist.

    Raises:
        OSError, csv.Error: it cannot be read.
    """
    reader = _reader(path)
    rows = () if reader is None else reader(path, files)
    return any(not isinstance(row, Remark) or row.key == "table_columns" for row in rows)


def _reader(path: Path) -> Callable[[Path, Files], Iterable[Row | Refused | Remark]] | None:
    if path.name.lower() == "wav.scp":
        return _read_kaldi
    return {
        ".csv": read_sheet,
        ".tsv": read_sheet,
        ".tab": read_sheet,
        ".jsonl": _read_nemo,
        ".json": _read_nemo,
        ".ndjson": _read_nemo,
    }.get(path.suffix.lower())


def _read_kaldi(path: Path, files: Files) -> Iterator[Row | Refused]:
    tables = {}
    for name in ("text", "utt2spk", "segments"):
        table = files.paths.get(key_of((PurePosixPath(files.name(path)).parent / name).as_posix()))
        tables[name] = dict(_keyed_lines(table)) if table is not None else {}
    recordings = dict(_keyed_lines(path))
    for key, value in recordings.items():
        if value.endswith("|"):
            yield Refused(f"{files.name(path)}, {key[:100]}", Remark("kaldi_command"))
    for key, value in (tables["segments"] or recordings).items():
        source = f"{files.name(path)}, {key[:100]}"
        file, part = _kaldi_part(value) if tables["segments"] else (key, None)
        location = recordings.get(file, file)
        if key in tables["text"] and not location.endswith("|"):
            yield Row(location, tables["text"][key], tables["utt2spk"].get(key, ""), source, part)


def _kaldi_part(value: str) -> tuple[str, Part]:
    """Recording and part of a line of `segments` without its key: "recording 1.5 3.25", -1 for the end."""
    recording, *times = [*value.split(), "", ""][:3]
    try:
        start_s, end_s = (float(time) for time in times)
    except ValueError:
        return recording, Part(math.nan, None)
    return recording, Part(start_s, None if end_s == -1 else end_s)


def _keyed_lines(path: Path) -> Iterator[tuple[str, str]]:
    text, _ = read_text(path, MAX_TABLE_BYTES)
    for line in text.split("\n"):
        key, *rest = line.split(maxsplit=1)[:2] or [""]
        if key:
            yield key, rest[0].strip() if rest else ""


def _read_nemo(path: Path, files: Files) -> Iterator[Row | Refused]:
    text, _ = read_text(path, MAX_TABLE_BYTES)
    name = files.name(path)
    is_json = path.suffix.lower() == ".json"
    entries: list[tuple[str, str, ManifestEntry]] = []  # source and file
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if is_json and not entries and not (isinstance(value, dict) and "audio_filepath" in value):
                break  # JSON of something else
            entry = parse_manifest_entry(value, Path(), ("audio_filepath",))
        except (ValueError, RecursionError, ManifestError) as error:
            if is_json and not entries:
                break
            yield Refused(f"{name}, row {number}", Remark("row_no_entry", {"why": str(error)[:200]}))
            continue
        if "text" in value:
            entries.append((f"{name}, row {number}", str(value["audio_filepath"]), entry))
    cut = {file for _, file, entry in entries if entry.offset_s}  # offset 0 alone is the usual one of full recordings
    for source, file, entry in entries:
        yield Row(file, entry.text, entry.speaker, source, _nemo_part(entry) if file in cut else None)


def _nemo_part(entry: ManifestEntry) -> Part:
    start_s = entry.offset_s or 0.0
    return Part(start_s, None if math.isnan(entry.duration_s) else start_s + entry.duration_s)
