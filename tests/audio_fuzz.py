"""Damaged recordings through the audio readers: python tests/audio_fuzz.py --count 10000 [--first 0] [--keep FOLDER]

Prints one table: inputs tried, silent losses, hangs, crashes and so on. A mutant is known by its number alone, so
`--first N --count 1` repeats one. Without ffmpeg, silent losses are not looked for.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile

from lwasr_edge import AudioError, AudioWarning, load_audio

HANG_S = 1.0  # of processor time
STUCK_S = 600.0  # until a worker is killed; a busy machine can take long
LOST = 0.1  # of what ffmpeg decodes, without a warning
LOST_S = 0.05  # at least: ffmpeg takes the head of an MP3 for a frame of silence
SEED_S = 1.5
KINDS = ["flip", "flips", "field", "field", "zeros", "noise", "hole", "cut", "head", "insert", "join"]
EDGES = [0, 1, 2, 3, 7, 16, 127, 128, 255, 256, 4095, 32767, 65535, 0x7F000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
FAULTS = ["silent loss", "hang", "crash", "foreign exception", "path, bytes and pipe differ"]  # the last may be
FORMS = {  # file name -> format, subtype, Hz, channels
    "pcm16.wav": ("WAV", "PCM_16", 16000, 1),
    "pcm24.wav": ("WAVEX", "PCM_24", 44100, 2),
    "float.wav": ("WAV", "FLOAT", 48000, 1),
    "mulaw.wav": ("WAV", "ULAW", 8000, 1),
    "ima.wav": ("WAV", "IMA_ADPCM", 16000, 1),
    "ms.wav": ("WAV", "MS_ADPCM", 16000, 1),
    "rf64.wav": ("RF64", "PCM_16", 16000, 1),
    "a.w64": ("W64", "PCM_16", 16000, 1),
    "a.aiff": ("AIFF", "PCM_16", 16000, 1),
    "a.caf": ("CAF", "PCM_16", 16000, 1),
    "a.au": ("AU", "PCM_16", 16000, 1),
    "mono.flac": ("FLAC", "PCM_16", 16000, 1),
    "stereo.flac": ("FLAC", "PCM_16", 44100, 2),
    "vorbis.ogg": ("OGG", "VORBIS", 44100, 1),
    "opus.opus": ("OGG", "OPUS", 48000, 1),
    "mono.mp3": ("MP3", "MPEG_LAYER_III", 16000, 1),
    "stereo.mp3": ("MP3", "MPEG_LAYER_III", 44100, 2),
}


@dataclass
class Outcome:
    """What became of one mutant."""

    number: int
    name: str
    kinds: str
    seconds: list[float] = field(default_factory=list)  # by path, bytes and pipe; -1 where it was refused
    has_warned: bool = False
    faults: list[str] = field(default_factory=list)
    detail: str = ""


class Pipe(io.RawIOBase):
    """Bytes that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._data.readinto(buffer)


def make_seeds() -> dict[str, bytes]:
    """A recording of 1.5 s in every format: a tone whose pitch and loudness change like those of speech."""
    seeds = {}
    for name, (form, subtype, rate, channels) in FORMS.items():
        t = np.arange(round(SEED_S * rate)) / rate
        tone = np.sin(2 * np.pi * (150 * t + 20 * np.sin(9 * t))) * (0.3 + 0.25 * np.sin(25 * t))
        noise = np.random.default_rng(0).normal(0, 0.01, len(t))
        file = io.BytesIO()
        samples = np.stack([tone + noise] * channels, axis=1).astype(np.float32)
        soundfile.write(file, samples, rate, format=form, subtype=subtype)
        seeds[name] = file.getvalue()
    seeds["joined.mp3"] = seeds["mono.mp3"] * 2
    seeds["joined.ogg"] = seeds["vorbis.ogg"] * 2
    return seeds


def mutant(seeds: dict[str, bytes], number: int) -> tuple[str, str, bytes]:
    """The seed's name, what was done to it, and the damaged recording."""
    rng = random.Random(number)
    name = list(seeds)[number % len(seeds)]
    data, kinds = bytearray(seeds[name]), []
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        kind = rng.choice(KINDS)
        damage(data, kind, rng, seeds)
        kinds.append(kind)
    return name, "+".join(kinds), bytes(data)


def damage(data: bytearray, kind: str, rng: random.Random, seeds: dict[str, bytes]) -> None:
    """Change `data` in one way; half of the changes are near its beginning."""
    size = max(1, len(data))
    at = rng.randrange(min(size, 256) if rng.random() < 0.5 else size)
    length = rng.choice([1, 2, 7, 64, 1000, 4096])
    if kind in ("flip", "flips") and data:
        for position in [at] if kind == "flip" else [rng.randrange(size) for _ in range(rng.choice([4, 16, 64]))]:
            data[position] ^= 1 << rng.randrange(8)
    elif kind == "field":
        at = rng.randrange(0, min(size, 96), 2)
        width = rng.choice([1, 2, 4, 8])
        value = rng.choice(EDGES) if rng.random() < 0.7 else rng.getrandbits(8 * width)
        data[at : at + width] = (value % (1 << (8 * width))).to_bytes(width, rng.choice(["little", "big"]))
    elif kind in ("zeros", "noise"):
        length = min(length, size - at)
        data[at : at + length] = bytes(length) if kind == "zeros" else rng.randbytes(length)
    elif kind == "hole":
        del data[at : at + length]
    elif kind == "cut":
        del data[at:]
    elif kind == "head":
        del data[: rng.choice([1, 4, 100, at])]
    elif kind == "insert":
        data[at:at] = rng.randbytes(length)
    elif kind == "join":
        data += seeds[rng.choice(list(seeds))]


def try_mutant(seeds: dict[str, bytes], number: int, folder: Path, ffmpeg: str | None) -> Outcome:
    """Read a mutant by path, as bytes and through a pipe, and compare what came."""
    name, kinds, data = mutant(seeds, number)
    outcome = Outcome(number, name, kinds)
    path = folder / f"mutant{Path(name).suffix}"
    path.write_bytes(data)
    has_warned = []
    for source in (path, data, Pipe(data)):
        started = time.process_time()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                outcome.seconds.append(len(load_audio(source)) / 16000)
            except AudioError:
                outcome.seconds.append(-1.0)
            except Exception as error:
                outcome.faults.append("foreign exception")
                outcome.detail = f"{type(error).__name__}: {error}"
        has_warned.append(any(issubclass(warning.category, AudioWarning) for warning in caught))
        if time.process_time() - started > HANG_S:
            outcome.faults.append("hang")
    outcome.has_warned = all(has_warned)
    if outcome.seconds and max(outcome.seconds) - min(outcome.seconds) > 0.02:
        outcome.faults.append("path, bytes and pipe differ")
    longest = max(outcome.seconds, default=-1.0)
    whole_s = SEED_S * (2 if name.startswith("joined") else 1)
    is_suspect = longest < 0.95 * whole_s or "join" in kinds or number % 40 == 0
    if ffmpeg is not None and longest >= 0 and not outcome.has_warned and is_suspect:
        decoded_s = ffmpeg_seconds(ffmpeg, path)
        is_whole = "join" not in kinds and longest >= (1 - LOST) * whole_s  # ffmpeg can take samples for narrower ones
        is_lost = longest < (1 - LOST) * decoded_s and decoded_s - longest > LOST_S
        if decoded_s > 0.3 and is_lost and not is_whole:
            outcome.faults.append("silent loss")
            outcome.detail = f"{longest:.2f} of {decoded_s:.2f} s"
    return outcome


def ffmpeg_seconds(ffmpeg: str, path: Path) -> float:
    """Seconds of sound that ffmpeg decodes; 0 where it fails or takes too long."""
    command = [ffmpeg, "-nostdin", "-loglevel", "quiet", "-i", str(path), "-map", "0:a:0", "-ac", "1", "-ar", "16000"]
    try:
        ended = subprocess.run([*command, "-f", "s16le", "-"], capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return 0.0
    return len(ended.stdout) / 32000


def work(connection: Connection) -> None:
    """Try the mutants whose numbers come, in a process that may crash."""
    seeds, ffmpeg = make_seeds(), shutil.which("ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        while (number := connection.recv()) is not None:
            connection.send(try_mutant(seeds, number, Path(folder), ffmpeg))


class Worker:
    """A process that tries mutants; it is replaced after a crash or a hang."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, number: int) -> Outcome | str:
        """The outcome of one mutant, or "hang" or "crash", after which the worker is of no more use."""
        self._connection.send(number)
        try:
            if self._connection.poll(STUCK_S):
                return self._connection.recv()
        except EOFError:
            return "crash"
        self._process.kill()
        return "hang"

    def stop(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()


def run(numbers: range, keep: Path | None) -> Iterator[Outcome]:
    """Try the mutants one after the other in a process of their own."""
    seeds = make_seeds()
    worker = Worker()
    for number in numbers:
        outcome = worker.run(number)
        if isinstance(outcome, str):
            outcome = Outcome(number, *mutant(seeds, number)[:2], faults=[outcome])
            worker = Worker()
        if outcome.faults:
            print(json.dumps(vars(outcome)), file=sys.stderr, flush=True)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{outcome.number}-{outcome.name}").write_bytes(mutant(seeds, number)[2])
        yield outcome
    worker.stop()


def main() -> int:
    """Print the table; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="write mutants with faults here")
    parser.add_argument("--json", type=Path, help="write the table to a file, after every thousand too")
    args = parser.parse_args()
    table = dict.fromkeys(["inputs", "read", "read with a warning", "refused", *FAULTS], 0)
    for outcome in run(range(args.first, args.first + args.count), args.keep):
        table["inputs"] += 1
        if outcome.seconds:
            is_refused = max(outcome.seconds) < 0
            table["refused" if is_refused else "read with a warning" if outcome.has_warned else "read"] += 1
        for fault in dict.fromkeys(outcome.faults):
            table[fault] += 1
        if args.json is not None and table["inputs"] % 1000 == 0:
            args.json.write_text(json.dumps(table))
    if args.json is not None:
        args.json.write_text(json.dumps(table))
    for name, count in table.items():
        print(f"{name:28} {count:8d}")
    return int(any(table[name] for name in FAULTS[:-1]))


if __name__ == "__main__":
    sys.exit(main())
