"""Readers of published corpora: LibriSpeech, TED-LIUM and Kaldi directories through lhotse, and JSONL manifests.

lhotse stops at a recording that it cannot read, and silently drops utterances without a recording. Therefore recordings
are checked first, and utterances that cannot be used are returned as faults.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lwasr_edge.errors import AudioError, ManifestError
from lwasr_edge.files import read_text_lines
from lwasr_edge.training.data.corpus import recording_s
from lwasr_edge.training.data.manifest import Fault, Utterance, duration_fault, read_manifest

TEDLIUM_PARTS = ("train", "dev", "test")
_MARK = re.compile(r"\[[^\]]*\]|\{[^}]*\}|<[^>]*>|\(\d+\)")  # TED-LIUM's [NOISE], {SMACK}, <unk>, and the 2 of A(2)
_UNPACKERS = {"cat", "flac", "sph2pipe"}  # commands of wav.scp that only unpack one file


@dataclass
class Split:
    """A part of a corpus: the utterances that can be used, and those that cannot."""

    utterances: list[Utterance] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_librispeech(source: Path) -> dict[str, Split]:
    """LibriSpeech or any part of it: PART/SPEAKER/CHAPTER with SPEAKER-CHAPTER.trans.txt and a FLAC per utterance.

    Args:
        source: the folder LibriSpeech, its parent, or a single part.

    Raises:
        ManifestError: there are no such files.
    """
    folders = [source, *children(source), *children(source / "LibriSpeech")]
    parts = [folder for folder in folders if next(folder.glob("*/*/*.trans.txt"), None)]
    if not parts:
        raise ManifestError(f"{source} must contain PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, got none")
    return {part.name: read_librispeech_part(part) for part in parts}


def read_librispeech_part(part: Path) -> Split:
    """One part of LibriSpeech; each line of its ``*.trans.txt`` is an utterance."""
    from lhotse.recipes.librispeech import parse_utterance

    def read(transcript: tuple[Path, str]) -> Utterance | Fault:
        folder, line = transcript
        name = line.split(maxsplit=1)[0]
        unread = Utterance(name, folder / f"{name}.flac", math.nan, "", name.partition("-")[0])
        try:
            if not unread.path.is_file():
                return Fault(unread, f"no such audio file: {unread.path}")
            recording, supervision = parse_utterance(part, line, {})
        except Exception as error:  # of the library that lhotse reads with
            return Fault(unread, f"{unread.path}: {last_line(error)}")
        return Utterance(name, unread.path, recording.duration, supervision.text, supervision.speaker)

    lines = [
        (path.parent, line)
        for path in sorted(part.glob("*/*/*.trans.txt"))
        for line in read_text_lines(path, ManifestError)
        if line.strip()
    ]
    with sound_file_headers():
        return split_of(in_parallel(read, lines, part.name))


def read_tedlium(source: Path) -> dict[str, Split]:
    """TED-LIUM release 3 (legacy/PART/sph and stm) or 2 (PART/sph and stm); an utterance is a segment of a talk.

    Raises:
        ManifestError: there are no such folders, or lhotse cannot read them.
    """
    for root in (source / "legacy", source):
        parts = [root / part for part in TEDLIUM_PARTS if (root / part / "stm").is_dir()]
        if parts:
            return {part.name: read_tedlium_part(part) for part in parts}
    raise ManifestError(f"{source} must contain TED-LIUM's train, dev and test with sph and stm, or legacy with them")


def read_tedlium_part(part: Path) -> Split:
    """One part of TED-LIUM.

    lhotse's recipe requires release 3 with all files of every talk: it gets a folder of links to complete talks.
    """
    from lhotse.recipes import prepare_tedlium

    split, durations_s = Split(), {}
    with tempfile.TemporaryDirectory(prefix="lwasr-tedlium-") as folder:
        complete = Path(folder, "legacy", part.name)
        (complete / "sph").mkdir(parents=True)
        (complete / "stm").mkdir()
        for name in sorted({path.stem for kind in ("sph", "stm") for path in (part / kind).glob(f"*.{kind}")}):
            sph, stm = part / "sph" / f"{name}.sph", part / "stm" / f"{name}.stm"
            talk = Utterance(name, sph, math.nan, "", name)
            try:
                durations_s[name] = recording_s(sph)
            except AudioError as error:
                split.faults.append(Fault(talk, str(error)))
            else:
                if stm.is_file():
                    (complete / "sph" / sph.name).symlink_to(sph.resolve())
                    (complete / "stm" / stm.name).symlink_to(stm.resolve())
                else:
                    split.faults.append(Fault(talk, f"no such transcript: {stm}"))
        if next((complete / "stm").iterdir(), None) is None:
            return split
        with sound_file_headers(), lhotse_reads("TED-LIUM", part):
            read = prepare_tedlium(folder, dataset_parts=[part.name], normalize_text="kaldi")[part.name]
        found = {supervision.id: supervision for supervision in read["supervisions"]}
        for stm in sorted((complete / "stm").iterdir()):
            for index, line in enumerate(read_text_lines(stm, ManifestError)):  # lhotse counts alike
                add_stm_line(line, f"{stm.stem}-{index}", part / "sph" / f"{stm.stem}.sph", found, split)
    return split


def add_stm_line(line: str, name: str, sph: Path, found: dict[str, Any], split: Split) -> None:
    """Add a line of an STM file to the split: as lhotse read it, or as a fault if lhotse dropped or shortened it."""
    talk, _, speaker, start, end, _, *words = line.split()
    if words == ["ignore_time_segment_in_scoring"]:
        return
    start_s, end_s = float(start), float(end)
    text = _MARK.sub(" ", found[name].text) if name in found else ""
    utterance = Utterance(name, sph, round(end_s - start_s, 4), text, speaker, start_s)
    if talk != sph.stem or name not in found:
        split.faults.append(Fault(utterance, f"segment must be within {sph.name}, got {start} to {end} s of {talk}"))
    elif reason := duration_fault(utterance, found[name].duration):
        split.faults.append(Fault(utterance, reason))
    else:
        split.utterances.append(utterance)


def read_kaldi(source: Path) -> dict[str, Split]:
    """A Kaldi data directory: wav.scp, text, utt2spk, and optionally segments.

    Raises:
        ManifestError: it is not one, runs other commands than unpackers, or lhotse cannot read it.
    """
    if not (source / "wav.scp").is_file():
        raise ManifestError(f"{source} must be a Kaldi data directory with wav.scp, got none")
    rows = [line.split(maxsplit=1) for line in read_text_lines(source / "wav.scp", ManifestError) if line.strip()]
    paths = {row[0]: kaldi_audio(row[-1], source) for row in rows}
    lengths = dict(zip(paths, in_parallel(duration_or_reason, paths.values(), source.name), strict=True))
    has_segments = (source / "segments").is_file()
    split = Split()
    for one in kaldi_supervisions(source, paths, lengths):
        length = lengths.get(one.recording_id, f"recording must be in wav.scp, got {one.recording_id}")
        path = paths.get(one.recording_id, source / "wav.scp")
        offset_s = one.start if has_segments else None
        utterance = Utterance(one.id, path, one.duration, one.text or "", one.speaker or "", offset_s)
        reason = length if isinstance(length, str) else duration_fault(utterance, min(one.duration, length - one.start))
        if reason:
            split.faults.append(Fault(utterance, reason))
        else:
            split.utterances.append(utterance)
    return {source.resolve().name: split}


def kaldi_supervisions(source: Path, paths: dict[str, Path], lengths: dict[str, float | str]) -> Iterable[Any]:
    """The utterances of a Kaldi data directory as lhotse reads them, in a folder of links.

    Args:
        source: the directory.
        paths: the file of each recording.
        lengths: the duration in seconds of each recording, or the reason that it cannot be used.

    Raises:
        ManifestError: lhotse cannot read it, or finds no utterances.
    """
    from lhotse.kaldi import load_kaldi_data_dir

    with tempfile.TemporaryDirectory(prefix="lwasr-kaldi-") as folder:
        # without reco2dur, lhotse would start a process to measure each recording, and stop at the first missing one
        for name in ("text", "segments", "utt2spk", "spk2gender", "utt2lang"):
            if (source / name).is_file():
                Path(folder, name).symlink_to((source / name).resolve())
        known_s = {name: one if isinstance(one, float) else 0.0 for name, one in lengths.items()}
        Path(folder, "wav.scp").write_text("".join(f"{name} {path}\n" for name, path in paths.items()), "utf-8")
        Path(folder, "reco2dur").write_text("".join(f"{name} {one}\n" for name, one in known_s.items()), "utf-8")
        with lhotse_reads("Kaldi data", source):
            _, supervisions, _ = load_kaldi_data_dir(folder, sampling_rate=16000)
    if supervisions is None:
        raise ManifestError(f"{source} must contain segments or utt2spk in addition to wav.scp, got neither")
    return supervisions


def kaldi_audio(entry: str, folder: Path) -> Path:
    """The file of an entry of wav.scp, also of a pipe that unpacks it (``flac -c -d -s FILE |``).

    Raises:
        ManifestError: another command. None is ever run.
    """
    if entry.rstrip().endswith("|"):
        try:
            command = shlex.split(entry.rstrip().rstrip("|"))
        except ValueError:  # an unbalanced quote
            command = []
        files = [word for word in command[1:] if Path(word).suffix.lower() in (".flac", ".sph", ".wav")]
        if not command or Path(command[0]).name not in _UNPACKERS or len(files) != 1:
            expected = "entry must be a file, or a pipe of flac, sph2pipe or cat that unpacks one"
            raise ManifestError(f"{folder / 'wav.scp'}: {expected}, got {entry}: write its audio to a file")
        entry = files[0]
    path = Path(entry)
    return path if path.is_absolute() or path.is_file() else folder / path


def read_jsonl(source: Path) -> dict[str, Split]:
    """A JSONL manifest; its durations are compared with those of the recordings.

    Raises:
        ManifestError: it cannot be read.
    """
    utterances = read_manifest(source)
    paths = list(dict.fromkeys(utterance.path for utterance in utterances))
    lengths = dict(zip(paths, in_parallel(duration_or_reason, paths, source.stem), strict=True))

    def check(utterance: Utterance) -> Utterance | Fault:
        length = lengths[utterance.path]
        if isinstance(length, str):
            return Fault(utterance, length)
        if utterance.offset_s is not None:
            length = min(utterance.duration_s, length - utterance.offset_s)
        reason = duration_fault(utterance, length)
        return Fault(utterance, reason) if reason else utterance

    return {source.stem: split_of(map(check, utterances))}


def duration_or_reason(path: Path) -> float | str:
    """Duration of a recording in seconds, or the reason that it cannot be used."""
    try:
        return recording_s(path)
    except AudioError as error:
        return str(error)


def in_parallel(work: Callable[[Any], Any], items: Iterable[Any], name: str) -> list[Any]:
    """The result of ``work`` for each item, in order; more threads than cores, which wait for the disk."""
    items = list(items)
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        return list(tqdm(pool.map(work, items), total=len(items), desc=name, unit="file", mininterval=1))


def split_of(results: Iterable[Utterance | Fault]) -> Split:
    """Utterances and faults, separated."""
    split = Split()
    for one in results:
        if isinstance(one, Fault):
            split.faults.append(one)
        else:
            split.utterances.append(one)
    return split


@contextmanager
def sound_file_headers() -> Iterator[None]:
    """Let lhotse read headers through libsndfile only: for .sph it would need the program sph2pipe."""
    from lhotse.audio import backend

    class Headers(backend.LibsndfileBackend):
        def info(self, path_or_fd: Any, force_opus_sampling_rate: int | None = None) -> Any:
            return backend.soundfile_info(path_or_fd)

    before = backend.get_current_audio_backend()
    backend.set_current_audio_backend(Headers())
    try:
        yield
    finally:
        backend.set_current_audio_backend(before)


@contextmanager
def lhotse_reads(kind: str, folder: Path) -> Iterator[None]:
    """Raise errors of lhotse as ManifestError."""
    try:
        yield
    except (ArithmeticError, AssertionError, LookupError, ValueError) as error:
        raise ManifestError(f"{folder} must be {kind}, got an error of lhotse: {error!r}") from error


def last_line(error: Exception) -> str:
    """The last line of an error: lhotse's messages contain tracebacks of all attempts."""
    return (str(error).strip() or repr(error)).splitlines()[-1]


def children(folder: Path) -> list[Path]:
    """Sub-folders by name; none of a missing folder."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


READERS: dict[str, Callable[[Path], dict[str, Split]]] = {
    "librispeech": read_librispeech,
    "tedlium": read_tedlium,
    "kaldi": read_kaldi,
    "manifest": read_jsonl,
}
