"""Measure a model of models/ and write its card: card.json for programs, card.md for people.

    python benchmarks/cards.py models/en-base --set librispeech-dev=PATH.jsonl --set commonvoice-dev=PATH.jsonl

The directory holds checkpoint.safetensors (float16) and model.int8.onnx.gz; about.json holds what is not measured. WER
is by default and greedy, of text normalised to a-z and apostrophe.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by its path: imports start at the checkout
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import onnxruntime
import torch
from tqdm import tqdm

from benchmarks.page.provenance import commit, read_json
from benchmarks.streams import AFTER_S, RATE, stream_text
from lwasr_edge import Recognizer
from lwasr_edge.chunking import Chunking
from lwasr_edge.files import sha256_of, write_file
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.scoring.decode import transcribe_corpus
from lwasr_edge.training.scoring.scores import score

DEVICE_FILE = "model.int8.onnx.gz"
DESCRIPTION_FILE = "model.int8.json"  # for programs in other languages
MODES: dict[str, Callable[[Recognizer, Any], str]] = {  # name -> text of a waveform
    "files": lambda recognizer, waveform: recognizer.transcribe(waveform, RATE).text,
    "streams": stream_text,  # the finals of a stream with default options
}
GREEDY = ", greedy"  # after a mode: without the general language model
FULL_CONTEXT = "whole"  # in card.json
TORCH_MODES: dict[str, Chunking | None] = {
    FULL_CONTEXT: None,
    "chunks of 640 ms": Chunking(16, 8),
    "chunks of 640 ms, no look-ahead": Chunking(16, 0),
}
SPEED_PROGRAM = """
import re, sys, time
import numpy as np
from lwasr_edge import Recognizer
recognizer = Recognizer(sys.argv[1])
audio = np.load(sys.argv[2])
after = np.zeros(round(float(sys.argv[4]) * 16000), np.float32)
took = []
for _ in range(4):
    start = time.perf_counter()
    if sys.argv[3] == "files":
        recognizer.transcribe(audio, 16000)
    else:
        with recognizer.stream(16000) as stream:
            stream.accept(audio)
            stream.accept(after)
            stream.flush()
    took.append(time.perf_counter() - start)
status = open("/proc/self/status").read()  # ru_maxrss would count the process that started this one
print(sorted(took[1:])[1] / (len(audio) / 16000), int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) / 1024)
"""


def wer(references: list[str], hypotheses: list[str]) -> float:
    """WER in per cent."""
    return round(100 * score(references, hypotheses).wer, 2)


def torch_wer(checkpoint: Path, manifest: Path) -> dict[str, float]:
    """WER (%) of the checkpoint in torch float32, with full context and in chunks."""
    model, _ = load_checkpoint(checkpoint)
    corpus = load_corpus(read_manifest(manifest))
    store = WaveformStore(corpus, torch.device("cpu"))
    references = [utterance.text for utterance in corpus.utterances]
    return {
        mode: wer(references, transcribe_corpus(model, corpus, store, chunking, batch_s=60))
        for mode, chunking in TORCH_MODES.items()
    }


def onnx_wer(model: Path, manifest: Path) -> dict[str, float]:
    """WER (%) of a model file in the runtime: as files, like `lwasr transcribe`, greedy too, and as default streams."""
    recognizer = Recognizer(model)
    ways = {mode: (recognizer, text_of) for mode, text_of in MODES.items()}
    if recognizer.info.decoding is not None:
        ways["files" + GREEDY] = recognizer.with_decoding(lm=None), MODES["files"]
    corpus = load_corpus(read_manifest(manifest))
    hypotheses: dict[str, list[str]] = {way: [] for way in ways}
    for index in tqdm(range(len(corpus.utterances)), desc=f"{model.name} {manifest.stem}", unit="file", mininterval=2):
        waveform = corpus.waveform(index)
        for way, (one, text_of) in ways.items():
            hypotheses[way].append(text_of(one, waveform))
    references = [utterance.text for utterance in corpus.utterances]
    return {way: wer(references, texts) for way, texts in hypotheses.items()}


def speed(model: Path, manifest: Path) -> dict[str, dict[str, float]]:
    """RTF on one thread (median of three) and peak memory (MB) of a new process, for about a minute of speech."""
    import numpy as np

    corpus = load_corpus(read_manifest(manifest))
    pieces, seconds = [], 0.0
    for index in range(len(corpus.utterances)):
        pieces.append(corpus.waveform(index))
        seconds += len(pieces[-1]) / 16000
        if seconds > 60:
            break
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "audio.npy"), np.concatenate(pieces))
        for mode in MODES:
            command = [sys.executable, "-c", SPEED_PROGRAM, str(model), f"{folder}/audio.npy", mode, str(AFTER_S)]
            rtf, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            result[mode] = {"rtf": round(float(rtf), 4), "peak_memory_mb": round(float(peak), 1)}
    return result


def processor() -> str:
    """Name of the processor, and its instructions for 8-bit dot products, which decide the speed of int8."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = re.findall(r"model name\s*:\s*(.*)", cpuinfo)
    dots = re.search(r"\b(avx512_vnni|avx_vnni|asimddp)\b", cpuinfo)
    dot_products = f"with {dots[1]}" if dots else "without 8-bit dot products"
    name = names[0] if names else platform.machine()
    return f"{name} {dot_products}, one thread, onnxruntime {onnxruntime.__version__}"


def file_entry(path: Path) -> dict[str, Any]:
    """The entry of a file in card.json."""
    return {"path": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}


def measured_wer(directory: Path, sets: dict[str, Path], known: dict[str, Any]) -> dict[str, Any]:
    """WER of every set, form and mode; that of the checkpoint from ``known``, where it is the same checkpoint."""
    checkpoint, int8 = directory / "checkpoint.safetensors", directory / DEVICE_FILE
    result: dict[str, Any] = {}
    for name, manifest in sets.items():
        start = time.monotonic()
        of_torch = known.get(name, {}).get("torch_float32") or torch_wer(checkpoint, manifest)
        result[name] = {"torch_float32": of_torch, "onnx_int8": onnx_wer(int8, manifest)}
        print(f"{directory.name} {name} {result[name]} ({time.monotonic() - start:.0f} s)", flush=True)
    return result


def measured_now(model: Path) -> dict[str, str]:
    """Date, commit and file of a measurement."""
    return {"date": time.strftime("%Y-%m-%d"), "commit": commit(), "sha256": file_entry(model)["sha256"]}


def measured_line(part: str, when: dict[str, str], sha256: str) -> str:
    """Date and commit of one part of the card, and its file unless it is the present one."""
    other = "" if when["sha256"] == sha256 else f", of the file {when['sha256'][:8]} before this one"
    return f"{part.replace('wer', 'WER')} {when['date']} at commit {when['commit']}{other}"


def wer_note(by_set: dict[str, Any]) -> list[str]:
    """How the error rates were measured; those of the first cards are greedy alone."""
    has_default = any(mode.endswith(GREEDY) for forms in by_set.values() for modes in forms.values() for mode in modes)
    if not has_default:
        return [
            "Per cent, greedy, no language model, text normalised to a-z and apostrophe. Files and streams are those "
            "of `Recognizer.transcribe` and `Recognizer.stream`; torch is the checkpoint."
        ]
    return [
        "Per cent, text normalised to a-z and apostrophe. Files and streams are those of `Recognizer.transcribe` and "
        "`Recognizer.stream`, with the general language model and greedy; torch is the checkpoint, greedy."
    ]


def markdown(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    about, rows = card["about"], []
    for name, by_form in card["wer"].items():
        for form, by_mode in by_form.items():
            for mode, value in by_mode.items():
                label = "full context" if mode == FULL_CONTEXT else mode
                rows.append(f"| {name} | {form} | {label} | {value:.2f} |")
    measured = [measured_line(part, when, card["files"][0]["sha256"]) for part, when in card["measured"].items()]
    speeds = [
        f"| {mode} | {figures['rtf']} | {figures['peak_memory_mb']} |"
        for mode, figures in card["speed"].items()
        if mode != "machine"
    ]
    lines = [
        f"# {card['name']}",
        "",
        about["summary"],
        "",
        "| | |",
        "|---|---|",
        f"| version | {card['version']} |",
        f"| layers | {about['layers']} |",
        f"| parameters | {about['parameters'] / 1e6:.2f} million |",
        f"| device file | {DEVICE_FILE}, {card['files'][0]['bytes'] / 1e6:.2f} MB |",
        f"| sha256 | `{card['files'][0]['sha256']}` |",
        "| checkpoint to adapt | checkpoint.safetensors, float16 with QAT scales, in the source repository |",
        f"| its sha256 | `{about['checkpoint_sha256']}` |",
        f"| licence | {card['licence']}: {about['attribution']} |",
        "",
        "## Word error rate",
        "",
        *wer_note(card["wer"]),
        "",
        "| set | form | mode | WER % |",
        "|---|---|---|---|",
        *rows,
        "",
        *about["wer_notes"],
        "",
        "## Speed and memory",
        "",
        f"{card['speed']['machine']}; about a minute of speech, median of three, in a process of its own.",
        "",
        "| mode | RTF | peak memory, MB |",
        "|---|---|---|",
        *speeds,
        "",
        "## Training",
        "",
        *about["training"],
        "",
        "## Use and limits",
        "",
        *about["limits"],
        "",
        f"Measured: {'; '.join(measured)}; by",
        "",
        f"    {card['command']}",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and write both cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="model to measure, models/NAME")
    parser.add_argument(
        "--set", action="append", required=True, metavar="NAME=MANIFEST", help="test set; may be repeated"
    )
    parser.add_argument("--only", choices=("wer", "speed", "about"), help="measure this alone; about: nothing")
    args = parser.parse_args()
    sets = {name: Path(path) for name, path in (item.split("=", 1) for item in args.set)}
    about = read_json(args.directory / "about.json")
    checkpoint = args.directory / "checkpoint.safetensors"
    about["checkpoint_sha256"] = sha256_of(checkpoint)
    model, _ = load_checkpoint(checkpoint)
    about["layers"] = model.config.encoder.n_layers
    about["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    names = " ".join(f"--set {name}={name}.jsonl" for name in sets)
    known_path = args.directory / "card.json"
    known = read_json(known_path) if known_path.is_file() else {}
    int8 = args.directory / DEVICE_FILE
    parts = {part: known.get(part) for part in ("wer", "speed")}
    measured = known["measured"] if args.only and known else {}
    if args.only not in ("speed", "about") or not known:
        is_same = known.get("about", {}).get("checkpoint_sha256") == about["checkpoint_sha256"]
        parts["wer"] = measured_wer(args.directory, sets, known["wer"] if is_same else {})
        measured["wer"] = measured_now(int8)
    if args.only not in ("wer", "about") or not known:
        parts["speed"] = {"machine": processor(), **speed(int8, next(iter(sets.values())))}
        measured["speed"] = measured_now(int8)
    card = {
        "name": args.directory.name,
        "version": about.pop("version"),
        "default": about.pop("default"),
        "licence": about.pop("licence"),
        "files": [file_entry(int8), file_entry(int8.with_name(DESCRIPTION_FILE))],
        **parts,
        "measured": measured,
        "about": about,
        "command": f"python benchmarks/cards.py models/{args.directory.name} {names}",
    }
    write_file(known_path, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    write_file(args.directory / "card.md", markdown(card))


if __name__ == "__main__":
    main()
