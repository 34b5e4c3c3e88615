"""`lwasr-train synthesise`: English speech from flite and espeak-ng, with a manifest, for step 1.

Step 1 needs speech but no transcripts, so text is all it takes to have more of it. The programs run as subprocesses:
nothing of theirs is linked. The default shares follow what the reference understands: on sentences of this project's
maker it decodes flite's slt, rms and awb with 18 to 23 % of the words wrong, espeak-ng's en-gb with 36 % and
en-029 with 70 %.
"""

import argparse
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from lwasr_edge.errors import LwasrError, ManifestError, MissingExtraError, OptionError
from lwasr_edge.files import read_json_lines, read_text_lines, write_bytes
from lwasr_edge.training.data.corpus import recording_s
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.study.sentences import (
    make_sentences,
    normalise_sentence,
    read_word_list,
)
from lwasr_edge.validate import number, whole_number

SAMPLE_RATE = 16000
FLAC_COMPRESSION_LEVEL = 0.2  # libsndfile's scale, 0..1; about 65 MB an hour. Opus takes longer than flite speaks
_SAVE_EVERY = 32  # utterances between two writes of the manifest
_FLITE_SHARES = {"slt": 0.30, "rms": 0.30, "awb": 0.25, "kal16": 0.05}
_FLITE_PITCH_HZ = {"slt": 170.0, "rms": 98.0, "awb": 130.0, "kal16": 105.0}  # each voice's own mean, about
_ESPEAK_ACCENTS = ("en-gb", "en-gb-x-rp", "en-us")
_ESPEAK_VARIANTS = tuple(f"m{n}" for n in range(1, 8)) + tuple(f"f{n}" for n in range(1, 5))
_ESPEAK_SHARE = 0.10 / (len(_ESPEAK_ACCENTS) * len(_ESPEAK_VARIANTS))
DEFAULT_VOICES: dict[str, float] = {f"flite:{name}": share for name, share in _FLITE_SHARES.items()} | {
    f"espeak-ng:{accent}+{variant}": _ESPEAK_SHARE for accent in _ESPEAK_ACCENTS for variant in _ESPEAK_VARIANTS
}
_LICENSES = {"flite": "synthetic: flite voice, CMU BSD-style", "espeak-ng": "synthetic: espeak-ng output"}


@dataclass(frozen=True)
class Prompt:
    """A text, and everything else that determines its samples."""

    text: str  # a-z, apostrophe, space
    voice: str  # "flite:NAME" or "espeak-ng:ACCENT+VARIANT"
    speed: float  # 1 is the voice's own; above is faster
    pitch: float  # 1 is the voice's own; above is higher
    peak: float  # largest absolute sample, 0..1

    @property
    def program(self) -> str:
        return self.voice.partition(":")[0]

    @property
    def id(self) -> str:
        """A hash of the content, so that an existing file is always the right one."""
        content = f"{self.text}|{self.voice}|{self.speed}|{self.pitch}|{self.peak}"
        return "tts-" + hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def file(self) -> str:
        """Path of the audio, relative to the manifest's folder."""
        return f"audio/{self.id[4:6]}/{self.id}.flac"

    def command(self, wav: Path) -> list[str]:
        """The synthesiser's command line that writes `wav`."""
        name = self.voice.partition(":")[2]
        if self.program == "flite":
            pitch_hz = _FLITE_PITCH_HZ.get(name, 120.0) * self.pitch
            command = ["flite", "-voice", name, "-t", self.text, "-o", str(wav)]
            command += ["--setf", f"duration_stretch={1 / self.speed:.3f}"]
            return [*command, "--setf", f"int_f0_target_mean={pitch_hz:.1f}"]
        words_per_minute, pitch = round(160 * self.speed), min(99, round(50 * self.pitch))
        return ["espeak-ng", "-v", name, "-s", str(words_per_minute), "-p", str(pitch), "-w", str(wav), self.text]


def plan_prompts(sentences: Iterable[str], voices: dict[str, float], rng: random.Random) -> Iterator[Prompt]:
    """Draw voice, speed, pitch and level for each sentence."""
    names, shares = list(voices), list(voices.values())
    for text in sentences:
        voice = rng.choices(names, shares)[0]
        speed, pitch = rng.uniform(0.82, 1.18), rng.uniform(0.8, 1.25)
        yield Prompt(text, voice, round(speed, 3), round(pitch, 3), round(rng.uniform(0.3, 0.9), 3))


def speak(prompt: Prompt) -> np.ndarray:
    """Run the synthesiser.

    Returns:
        (N,) float32 at 16 kHz, scaled to the prompt's peak; (0,) if the output is silent.

    Raises:
        LwasrError: the synthesiser failed; the message has its output.
    """
    with tempfile.TemporaryDirectory(prefix="lwasr-tts-") as folder:
        wav = Path(folder, "speech.wav")
        command = prompt.command(wav)
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0 or not wav.is_file():
            reason = done.stderr.strip() or f"exit status {done.returncode}, no file"
            raise LwasrError(f"{prompt.program} failed with voice {prompt.voice!r}: {reason}")
        samples, rate = soundfile.read(wav, dtype="float32")
    waveform = soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples
    loudest = float(np.abs(waveform).max(initial=0.0))
    return (waveform * (prompt.peak / loudest)).astype(np.float32) if loudest > 0 else waveform[:0]


def make_recording(prompt: Prompt, folder: Path, limits_s: tuple[float, float]) -> dict[str, Any] | None:
    """Synthesise one prompt into `folder` unless its file exists.

    Returns:
        The manifest's line, or None when the speech is shorter or longer than `limits_s` (then no file is kept).

    Raises:
        AudioError: the file exists and is damaged.
        LwasrError: see `speak`.
    """
    path = folder / prompt.file
    if path.is_file():
        duration_s = recording_s(path)
    else:
        waveform = speak(prompt)
        duration_s = waveform.size / SAMPLE_RATE
        if not limits_s[0] <= duration_s <= limits_s[1]:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding = {"format": "FLAC", "subtype": "PCM_16", "compression_level": FLAC_COMPRESSION_LEVEL}
        buffer = io.BytesIO()
        soundfile.write(buffer, waveform, SAMPLE_RATE, **encoding)
        write_bytes(path, buffer.getvalue())
    return {
        "id": prompt.id,
        "audio_filepath": prompt.file,
        "duration": round(duration_s, 3),
        "text": prompt.text,
        "speaker": prompt.voice.replace(":", "-"),
        "license": _LICENSES[prompt.program],
    }


def synthesise(
    sentences: Iterable[str],
    folder: Path,
    *,
    hours: float,
    voices: dict[str, float] | None = None,
    seed: int = 0,
    workers: int = 1,
    limits_s: tuple[float, float] = (2.0, 14.0),
) -> Path:
    """Synthesise sentences until the folder holds `hours` of speech or the sentences end.

    Existing files are kept and counted, so an interrupted run is resumed. The manifest is replaced atomically every few
    utterances and names complete files only.

    Args:
        sentences: normalised sentences (a-z, apostrophe, space); may be endless.
        folder: receives `tts.jsonl` and `audio/`.
        voices: voice -> share of the utterances; `DEFAULT_VOICES` if None.
        workers: synthesisers running at once.
        limits_s: shortest and longest utterance kept, in seconds.

    Returns:
        The manifest's path.

    Raises:
        OptionError, MissingExtraError: see `check_voices`.
        ManifestError, AudioError: the folder has a damaged manifest or recording.
    """
    voices = voices or DEFAULT_VOICES
    check_voices(voices)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "tts.jsonl"
    rows = read_rows(manifest)
    total_s = sum(row["duration"] for row in rows.values())
    plan = plan_prompts(sentences, voices, random.Random(seed))
    new = (prompt for prompt in plan if prompt.id not in rows)
    make = partial(make_recording, folder=folder, limits_s=limits_s)
    with ThreadPoolExecutor(workers) as pool, tqdm(total=round(hours * 3600), initial=round(total_s), unit="s") as bar:
        while total_s < hours * 3600 and (batch := list(islice(new, _SAVE_EVERY))):
            made = [row for row in pool.map(make, batch) if row is not None]
            rows |= {row["id"]: row for row in made}
            seconds = sum(row["duration"] for row in made)
            total_s += seconds
            bar.update(round(seconds))
            write_rows(manifest, rows.values())
    return manifest


def check_voices(voices: Iterable[str]) -> None:
    """Refuse unknown voices before any speech is made.

    Raises:
        OptionError: not the name of a voice (flite would use another one without a message).
        MissingExtraError: a voice's program is not installed.
    """
    names: dict[str, set[str]] = {}
    for voice in voices:
        program, _, name = voice.partition(":")
        if program not in _LICENSES or not name:
            raise OptionError(f"--voices must be flite:NAME or espeak-ng:ACCENT+VARIANT, got {voice!r}")
        names.setdefault(program, set()).add(name)
    for program in names:
        if shutil.which(program) is None:
            raise MissingExtraError(f"{program} is not installed: apt-get install flite espeak-ng, or other --voices")
    if "flite" in names:
        listed = subprocess.run(["flite", "-lv"], capture_output=True, text=True, check=False).stdout
        known = set(listed.partition(":")[2].split())
        if unknown := sorted(names["flite"] - known):
            raise OptionError(f"flite voices must be some of {', '.join(sorted(known))}, got {', '.join(unknown)}")


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The manifest of an earlier run by id; empty where there is none.

    Raises:
        ManifestError: it is damaged, or another manifest.
    """
    if not path.is_file():
        return {}
    try:
        rows = {row["id"]: row for _, row in read_json_lines(path)}
        for row in rows.values():
            number("duration", row["duration"], 0)
        return rows
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ManifestError(f"{path} must be a manifest of this command, got {error!r}: delete it") from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train synthesise`."""
    add = parser.add_argument
    add("text", type=Path, nargs="?", help="text file, one sentence per line")
    like = "make sentences like the transcripts of these manifests, instead of reading a text file"
    add("--from-manifests", type=Path, nargs="+", metavar="JSONL", default=[], help=like)
    words = "list of 'word [frequency]' lines that widens the vocabulary of made sentences"
    add("--words", type=Path, metavar="FILE", help=words)
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for tts.jsonl and audio/")
    add("--hours", type=float, default=1.0, help="stop at this much speech (default: %(default)s)")
    voices = "flite:NAME or espeak-ng:ACCENT+VARIANT, in equal shares (default: 90%% flite, 10%% espeak-ng)"
    add("--voices", nargs="+", metavar="VOICE", help=voices)
    add("--seed", type=int, default=0, help="of sentences, voices, speed, pitch and level (default: %(default)s)")
    add("--workers", type=int, default=1, help="synthesisers at once (default: %(default)s)")


def _read_sentences(path: Path) -> list[str]:
    lines = read_text_lines(path, OptionError)
    sentences = [text for line in lines if (text := normalise_sentence(line))]
    if not sentences:
        raise OptionError(f"{path} must hold a line of words (no digits or symbols), got none of {len(lines)}")
    print(f"{len(sentences)} of {len(lines)} lines have only words (no digits or symbols)", file=sys.stderr)
    return sentences


def _made_sentences(args: argparse.Namespace) -> Iterator[str]:
    spoken = [utterance for path in args.from_manifests for utterance in read_manifest(path)]
    transcripts = [text for utterance in spoken if (text := normalise_sentence(utterance.text))]
    word_list = read_word_list(args.words) if args.words else None
    return make_sentences(transcripts, random.Random(args.seed), word_list)


def run(args: argparse.Namespace) -> int:
    """Carry out `lwasr-train synthesise`; returns the exit status."""
    if (args.text is None) == (not args.from_manifests):
        raise OptionError("input must be either a text file or --from-manifests, got both or neither")
    if args.words and not args.from_manifests:
        raise OptionError("--words needs --from-manifests: it widens the vocabulary of made sentences")
    number("--hours", args.hours, 0)
    whole_number("--workers", args.workers, 1)
    sentences = _read_sentences(args.text) if args.text is not None else _made_sentences(args)
    voices = dict.fromkeys(args.voices, 1.0) if args.voices else None
    manifest = synthesise(sentences, args.output, hours=args.hours, voices=voices, seed=args.seed, workers=args.workers)
    print(manifest)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry for `python -m lwasr_edge.training.study.synthesise`."""
    parser = argparse.ArgumentParser(prog="lwasr-train synthesise", description=__doc__.splitlines()[0])
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
