"""Write a model file as gzip: entropy coding shrinks QAT weights (`lwasr_edge.training.model.quantized`).

Deflate looks for repeated strings first and codes what is left by its frequencies. Weights repeat nothing, and chance
repetitions only cost: they take the second part alone. Each block takes what is shorter; the blocks are gzip members,
which every reader of gzip joins.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import onnx

SUFFIX = ".gz"
BLOCK_BYTES = 1 << 17
GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say: with gzip's header, without name or time
MEMORY_LEVEL = 9  # zlib's most


def compressed(data: bytes) -> bytes:
    """gzip members that together unpack to ``data``."""
    blocks = [data[begin : begin + BLOCK_BYTES] for begin in range(0, len(data), BLOCK_BYTES)] or [b""]
    strategies = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY
    return b"".join(min((_member(block, strategy) for strategy in strategies), key=len) for block in blocks)


def _member(block: bytes, strategy: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, GZIP, MEMORY_LEVEL, strategy)
    return compressor.compress(block) + compressor.flush()


def save_model(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model, compressed where the name ends in ".gz"."""
    data = proto.SerializeToString()
    path.write_bytes(compressed(data) if path.suffix == SUFFIX else data)
