"""Where the tests find things: the checkout, their own recordings, and the shared corpora that CI has beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
BENCHMARKS = ROOT / "benchmarks"
SHARED = ROOT.parent / "shared"  # not part of the project: tests that need it are skipped where it is missing
SHARED_SPEECH = SHARED / "speech"
EN_TINY_CHECKPOINT = ROOT / "models" / "en-tiny" / "checkpoint.safetensors"
SPEECH_16K = DATA / "slt_16k.flac"
