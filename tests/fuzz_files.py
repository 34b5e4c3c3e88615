"""Damage files of every kind that this package reads, and read them: only errors of this package may come out.

    python tests/fuzz_files.py --count 5000 --seed 1                              # of each kind
    python tests/fuzz_files.py --kinds model card --count 100000 --keep FOLDER    # which gets the inputs that failed

The kinds nemo, checkpoint and state need the extra `train`. Status 1 if an input failed: another exception came out, a
message was longer than `MAX_MESSAGE`, or the input took more than `MAX_CPU_S`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tiny_model

from lwasr_edge import LwasrError, Recognizer

MAX_CPU_S = 5.0
MAX_MESSAGE = 4_000
MAX_MEMORY = 6 << 30  # address space

TEXTS = [
    b"\0",
    b"\x1b[2J",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"nan",
    b"-inf",
    b"1e400",
    b"9" * 5000,
]
TEXTS += [
    b"[" * 20_000,
    b"{" * 20_000,
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b"\t",
    b"\t1e308\n",
    b" " * 3000,
    b"-1",
    b"ngram 9=9\n",
    b"a" * 70_000,
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**18,
    10**400,
    -(10**400),
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "\x1b[2J",
]
VALUES += [
    "a" * 5000,
    "../x.onnx",
    "/x.onnx",
    "a//b.onnx",
    "card.json",
    [],
    {},
    [[]],
    [1, "a"],
    {"path": 1},
    [None] * 2000,
    "NaN",
    "1e999",
]


class Kind(NamedTuple):
    """A kind of file."""

    seed: Callable[[], bytes]
    damage: Callable[[random.Random, bytes], bytes]
    read: Callable[[Path], object]
    name: str


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flips, cuts, holes, repeats, and the largest integers, often near the beginning."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not damaged:
            return b"x"
        at = rng.randrange(rng.choice([len(damaged), min(len(damaged), 4000)]))
        size = rng.choice([1, 4, 30, 1000])
        other = rng.randrange(len(damaged))
        match rng.randrange(9):
            case 0 | 1 | 2:
                damaged[at] ^= 1 << rng.randrange(8)
            case 3:
                damaged[at] = rng.randrange(256)
            case 4:
                del damaged[at : at + size]
            case 5:
                damaged[at:at] = damaged[at : at + size]
            case 6:
                damaged[at : at + size] = damaged[other : other + size]
            case 7:
                damaged[at : at + 9] = rng.choice(
                    [b"\xff" * 9, bytes(9), b"\xff" * 8 + b"\x01", b"\xff\xff\xff\x7f" * 2]
                )
            case 8 if rng.random() < 0.3:
                del damaged[at:]
    return bytes(damaged)


def damage_inside_gzip(rng: random.Random, data: bytes) -> bytes:
    """Damage what a gzip file holds, or the file."""
    return gzip.compress(damage_bytes(rng, gzip.decompress(data)), 1) if rng.random() < 0.7 else damage_bytes(rng, data)


def damage_text(rng: random.Random, data: bytes) -> bytes:
    """Put hostile text into text, exchange words, or damage bytes."""
    if rng.random() < 0.3:
        return damage_bytes(rng, data)
    parts = data.split(b" ") if rng.random() < 0.5 else data.split(b"\n")
    joint = b" " if len(data.split(b" ")) == len(parts) else b"\n"
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(parts))
        if rng.random() < 0.7:
            parts[at] = rng.choice([parts[at], b""]) + rng.choice(TEXTS) + rng.choice([parts[at], b""])
        else:
            parts[at] = rng.choice(parts)
    return joint.join(parts)


def damage_json(rng: random.Random, value: Any) -> Any:
    """Replace a value somewhere inside a JSON value, or remove or rename it."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = value.copy()
        changed[key] = damage_json(rng, value[key])
        if rng.random() < 0.1:
            del changed[key]
        return changed
    return rng.choice(VALUES)


def damage_json_text(rng: random.Random, data: bytes) -> bytes:
    """Damage one line of JSON, by value or as text."""
    if rng.random() < 0.4:
        return damage_text(rng, data)
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(damage_json(rng, json.loads(lines[at]))).encode()
    return b"\n".join(lines) + b"\n"


def damage_metadata(rng: random.Random, data: bytes) -> bytes:
    """A model with damaged metadata, otherwise whole."""
    info = damage_json(rng, tiny_model.INFO)
    text = json.dumps(info if isinstance(info, dict) else tiny_model.INFO).encode()
    before = json.dumps(tiny_model.INFO).encode()
    # The text is in a field of a message, and both are preceded by their lengths.
    entry = b"\x0a\x0blwasr.model\x12" + varint(len(before)) + before
    changed = b"\x0a\x0blwasr.model\x12" + varint(len(text)) + text
    assert entry in data
    return data.replace(varint(len(entry)) + entry, varint(len(changed)) + changed)


def varint(value: int) -> bytes:
    """An integer in protobuf's form."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def model_bytes() -> bytes:
    return tiny_model.build_model().SerializeToString()


def ort_bytes() -> bytes:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = f"{folder}/m.ort"
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(model_bytes(), options, providers=["CPUExecutionProvider"])
        return Path(folder, "m.ort").read_bytes()


def audio() -> np.ndarray:
    """The words one two, as tones."""
    seconds = np.arange(1920) / 16_000
    tones = [0.3 * np.sin(2 * np.pi * hz * seconds) for hz in (400, 600)]
    return np.concatenate([tones[0], np.zeros(3000), tones[1], np.zeros(2000)]).astype(np.float32)


def run_model(path: Path) -> None:
    recognizer = Recognizer(path)
    recognizer.transcribe(audio(), 16_000)
    recognizer.with_decoding(beam=2).transcribe(audio()[:4000], 16_000)


def check_only_ort(path: Path) -> None:
    """The walk alone: onnxruntime checks such files less, and is not promised to be safe with them."""
    from lwasr_edge.hub.ort_check import check_ort

    check_ort(path.read_bytes(), str(path))


def tiny_recognizer(cache: list[Recognizer] = []) -> Recognizer:  # noqa: B006 - the list is the cache
    if not cache:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "tiny.onnx").write_bytes(model_bytes())
            cache.append(Recognizer(Path(folder, "tiny.onnx")))
    return cache[0]


def run_phrases(path: Path) -> None:
    from lwasr_edge.decoding.phrases import PhraseList

    phrases = PhraseList.read(path).weights
    for mode in ("one", "sequence", "bias"):
        decoding = tiny_recognizer().with_decoding(phrases=PhraseList(phrases, mode=mode))  # type: ignore[arg-type]
        decoding.transcribe(audio(), 16_000)


def run_arpa(path: Path) -> None:
    tiny_recognizer().with_decoding(beam=3, lm=path).transcribe(audio(), 16_000)


def lm_bytes() -> bytes:
    from lwasr_edge.decoding.ngram_layout import to_bytes
    from lwasr_edge.lm.tables import tables_of_arpa

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lm.arpa")
        path.write_text(ARPA)
        return to_bytes(tables_of_arpa(path))


def damage_lm(rng: random.Random, data: bytes) -> bytes:
    """Damage with a right checksum, but for a few."""
    damaged = damage_bytes(rng, data)
    if len(damaged) < 16 or rng.random() < 0.1:
        return damaged
    return damaged[:12] + struct.pack("<I", zlib.crc32(damaged[16:])) + damaged[16:]


def read_card_of(path: Path) -> None:
    from lwasr_edge.hub.card import read_card

    read_card(path)


def read_manifests(path: Path) -> None:
    from lwasr_edge.bench.manifest import read_manifest_lines
    from lwasr_edge.bench.recordings import from_manifest

    for read in (read_manifest_lines, lambda path: from_manifest(path, None)):
        with contextlib.suppress(LwasrError):
            read(path)
    read_manifest_lines(path, lambda number, fault: None)


CARD = {"name": "a", "version": "1", "default": True, "files": [{"path": "a.onnx", "sha256": "0" * 64, "bytes": 5}]}
LINES = [
    {"audio_filepath": f"{i}.wav", "duration": 3.2, "text": "one two", "speaker": "a", "id": f"{i}"} for i in range(3)
]
ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99 <s> -0.5
-1.0 </s>
-2.0 <unk> -0.1
-0.7 one -0.3
-0.9 two -0.2

\\2-grams:
-0.2 <s> one
-0.4 one two

\\end\\
"""
KINDS = {
    "model": Kind(model_bytes, damage_bytes, run_model, "m.onnx"),
    "gzip": Kind(lambda: gzip.compress(model_bytes(), 1), damage_inside_gzip, run_model, "m.onnx.gz"),
    "metadata": Kind(model_bytes, damage_metadata, run_model, "m.onnx"),
    "ort": Kind(ort_bytes, damage_bytes, check_only_ort, "m.ort"),
    "card": Kind(lambda: json.dumps(CARD).encode(), damage_json_text, read_card_of, "card.json"),
    "arpa": Kind(ARPA.encode, damage_text, run_arpa, "lm.arpa"),
    "arpa-gzip": Kind(lambda: gzip.compress(ARPA.encode()), damage_inside_gzip, run_arpa, "lm.arpa.gz"),
    "lm": Kind(lm_bytes, damage_lm, run_arpa, "words.lm"),
    "phrases": Kind(lambda: b"one\ntwo four\t2\n# three\nthree\n", damage_text, run_phrases, "phrases.txt"),
    "manifest": Kind(
        lambda: "".join(json.dumps(line) + "\n" for line in LINES).encode(), damage_json_text, read_manifests, "m.jsonl"
    ),
}


def nemo_kind() -> Kind:
    from nemo_archive import nemo_config, nemo_state, write_archive
    from small_models import letters_tokenizer, small_model

    from lwasr_edge.training.model.nemo import import_nemo

    def seed() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            model = small_model()
            write_archive(Path(folder, "m.nemo"), nemo_config(model), nemo_state(model), letters_tokenizer(), mode="w")
            return Path(folder, "m.nemo").read_bytes()

    return Kind(seed, damage_bytes, import_nemo, "m.nemo")


def checkpoint_kind() -> Kind:
    from small_models import letters_tokenizer, small_model

    from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint

    def seed() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder, "m.safetensors"), small_model(), letters_tokenizer())
            return Path(folder, "m.safetensors").read_bytes()

    def damage(rng: random.Random, data: bytes) -> bytes:
        """Damage the bytes, or a value of the header or of the config in it."""
        if rng.random() < 0.4:
            return damage_bytes(rng, data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        if rng.random() < 0.7:
            config = damage_json(rng, json.loads(header["__metadata__"]["config"]))
            header["__metadata__"]["config"] = json.dumps(config)
        else:
            header = damage_json(rng, header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + size :]

    return Kind(seed, damage, load_checkpoint, "m.safetensors")


def state_kind() -> Kind:
    import torch

    from lwasr_edge.training.loop.state import read_state

    state = {"began_with": "a", "models": {"w": torch.ones(3)}, "optimizer": {"state": {}, "param_groups": []}}

    def seed() -> bytes:
        buffer = io.BytesIO()
        torch.save({**state, "step": 1, "audio_s": 2.0, "elapsed_s": 3.0}, buffer)
        return buffer.getvalue()

    def read(path: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            read_state(path.parent, torch.device("cpu"))

    return Kind(seed, damage_bytes, read, "state.pt")


TRAINING_KINDS = {"nemo": nemo_kind, "checkpoint": checkpoint_kind, "state": state_kind}


def failure_of(kind: Kind, path: Path) -> str | None:
    """Read a file; what went wrong, or None."""
    began_at = time.process_time()
    fault = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
    except LwasrError as error:
        if len(str(error)) > MAX_MESSAGE:
            fault = f"a message of {len(str(error))} characters: {str(error)[:200]}"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__}: {str(error)[:200]} ({Path(frame.filename).name}, line {frame.lineno})"
    seconds = time.process_time() - began_at
    return f"{seconds:.1f} s of CPU time" if fault is None and seconds > MAX_CPU_S else fault


def fuzz(name: str, count: int, seed: int, keep: Path | None) -> int:
    """Read `count` damaged files of a kind; return the number of those that failed."""
    kind = KINDS[name] if name in KINDS else TRAINING_KINDS[name]()
    whole = kind.seed()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, kind.name)
        path.write_bytes(whole)
        kind.read(path)  # or nothing would be tested
        for index in range(count):
            data = kind.damage(random.Random(f"{name} {seed} {index}"), whole)
            path.write_bytes(data)
            if keep is not None:  # it must survive a crash of this process
                (keep / f"{name}-now{path.suffix}").write_bytes(data)
            fault = failure_of(kind, path)
            if fault is not None:
                failures += 1
                print(f"{name} {seed} {index}: {fault}", flush=True)
                if keep is not None:
                    (keep / f"{name}-{seed}-{index}{path.suffix}").write_bytes(data)
    print(f"{name}: {count} inputs, {failures} failed", flush=True)
    return failures


def limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [*KINDS, *TRAINING_KINDS]
    parser.add_argument(
        "--kinds", nargs="+", choices=everything, default=everything, metavar="KIND", help=str(everything)
    )
    parser.add_argument("--count", type=int, default=2000, help="inputs of each kind (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the inputs that failed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to a file")
    args = parser.parse_args()
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    limit_memory()
    failed = {name: fuzz(name, args.count, args.seed, args.keep) for name in args.kinds}
    if args.json is not None:
        args.json.write_text(json.dumps({name: {"inputs": args.count, "failed": failed[name]} for name in failed}))
    return int(any(failed.values()))


if __name__ == "__main__":
    sys.exit(main())
