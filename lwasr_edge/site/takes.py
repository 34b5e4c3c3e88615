"""Recordings of sentences: what is missing, one take from the microphone, and its files."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lwasr_edge.audio.mixing import Mixer
from lwasr_edge.audio.samples import to_float32
from lwasr_edge.errors import OptionError, OutputError
from lwasr_edge.files import write_bytes
from lwasr_edge.microphone.listener import Listener
from lwasr_edge.site.consent import Consent, checked_date, folder_name, read_consents, write_consents
from lwasr_edge.site.texts import read_text

MAX_PROMPTS = 10_000
MAX_PROMPT = 500  # characters
MAX_TAKE_S = 60.0


class Take:
    """Collects what a microphone delivers; a `Listener` calls it as it calls a `Stream`.

    Attributes:
        sample_rate: Hz.
        lost_samples: that the microphone did not deliver.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.lost_samples = 0
        self._mixer = Mixer(sample_rate, None)
        self._blocks: list[np.ndarray] = []
        self.n_samples = 0

    def accept(self, block: np.ndarray) -> list[float]:
        """Keep a block, (N,) or (N, channels); return its highest peak, 0..1."""
        mono = self._mixer.process(to_float32(block))
        self._blocks.append(mono)
        self.n_samples += len(mono)
        return [float(np.abs(mono).max(initial=0.0))]

    def skip(self, n_samples: int) -> list[float]:
        """Note samples that were lost."""
        self.lost_samples += n_samples
        return []

    def flush(self) -> list[float]:
        """Keep what the mixer still has."""
        self._blocks.append(self._mixer.flush())
        return []

    def close(self) -> None:
        """Nothing is open."""

    def samples(self) -> np.ndarray:
        """(N,) float32 mono."""
        return np.concatenate([*self._blocks, np.zeros(0, np.float32)])


def record_take(device: int | str | None, ended: Callable[[], bool], show: Callable[[float], object]) -> Take:
    """Record from a microphone until `ended` is true, or for `MAX_TAKE_S`.

    Args:
        device: see `Recognizer.listen`.
        ended: called after every block, about every 25 ms.
        show: called with the highest peak of each block.

    Raises:
        MissingExtraError, AudioDeviceError: see `Listener`.
    """
    takes: list[Take] = []

    def open_take(sample_rate: int) -> Any:
        takes.append(Take(sample_rate))
        return takes[-1]

    peaks: Iterator[Any]
    with Listener(open_take, device) as listener:
        peaks = iter(listener)
        for peak in peaks:
            show(peak)
            if ended() or takes[-1].n_samples > MAX_TAKE_S * takes[-1].sample_rate:
                listener.stop()
    return takes[-1]


def read_prompts(path: Path) -> list[str]:
    """The sentences of a text file, one per line; blank lines and comments (#) are skipped.

    Raises:
        OptionError: no such file, or no sentence in it.
    """
    try:
        text, _ = read_text(path)
    except OSError as error:
        raise OptionError(f"the sentences in {path} cannot be read: {error.strerror}") from error
    lines = [" ".join(line.split()) for line in text.split("\n") if not line.lstrip().startswith("#")]
    prompts = list(dict.fromkeys(line for line in lines if line))
    if not prompts or len(prompts) > MAX_PROMPTS or max(map(len, prompts)) > MAX_PROMPT:
        raise OptionError(
            f"{path} must have 1 to {MAX_PROMPTS} sentences of at most {MAX_PROMPT} characters, got {len(prompts)}"
        )
    return prompts


def find_consent(folder: Path, speaker: str) -> Consent | None:
    """The consent of a speaker that is in the folder; None if it must be asked.

    Raises:
        ManifestError: consent.json is something else.
        OptionError: the retention is over.
    """
    found = [consent for consent in read_consents(folder) if consent.speaker == speaker]
    if found and found[-1].keep_until < datetime.date.today().isoformat():
        raise OptionError(
            f"the retention for {speaker!r} must not be over, got {found[-1].keep_until}: run `lwasr site erase` first"
        )
    return found[-1] if found else None


def add_consent(folder: Path, speaker: str, purpose: str, keep_until: str) -> Consent:
    """Write the consent of a speaker into the folder, which is made.

    Raises:
        OptionError: a value that is none, or a date that is over.
        ManifestError, OutputError: consent.json is something else, or cannot be written.
    """
    if checked_date(keep_until) < datetime.date.today().isoformat():
        raise OptionError(f"the end of the retention must not be over, got {keep_until}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created: {error.strerror}") from error
    consents = read_consents(folder)
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    name = folder_name(speaker, {consent.folder for consent in consents})
    consent = Consent(speaker, purpose, checked_date(keep_until), now, name)
    write_consents(folder, [*consents, consent])
    return consent


def missing_prompts(folder: Path, prompts: list[str]) -> list[str]:
    """The sentences that have no recording in the folder of a speaker."""
    done = {path.read_text(encoding="utf-8", errors="replace").strip() for path in _finished(folder)}
    return [prompt for prompt in prompts if prompt not in done]


def save_take(folder: Path, take: Take, prompt: str) -> Path:
    """Write a recording and its text; a recording is there only with its text.

    Returns:
        The path of the recording.

    Raises:
        OutputError: it cannot be written.
    """
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, take.samples(), take.sample_rate, "PCM_16", format="WAV")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.stem) for path in folder.glob("*.*") if path.stem.isdecimal() and path.stem.isascii()]
        path = folder / f"{max(numbers, default=0) + 1:04d}.wav"
        write_bytes(path.with_suffix(".txt"), f"{prompt}\n".encode())
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
    return path


def _finished(folder: Path) -> list[Path]:
    """Texts that have a recording."""
    return [path for path in folder.glob("*.txt") if path.with_suffix(".wav").is_file()]
