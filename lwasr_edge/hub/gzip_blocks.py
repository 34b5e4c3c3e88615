"""Gzip for model files: entropy coding shrinks QAT weights (`lwasr_edge.training.model.quantized`).

Deflate replaces repeated strings, then codes the rest by frequency (Huffman). Weights have no repetitions except by
chance, and coding those costs more than it saves: Huffman alone is smaller. Each block uses the smaller of the two; the
blocks are gzip members, which every reader of gzip concatenates.
"""

from __future__ import annotations

import zlib

BLOCK_BYTES = 1 << 17
GZIP = 16 + zlib.MAX_WBITS  # zlib's code for a gzip header, which has neither name nor time
MEMORY_LEVEL = 9  # zlib's maximum


def compressed(data: bytes) -> bytes:
    """``data`` as concatenated gzip members."""
    blocks = [data[begin : begin + BLOCK_BYTES] for begin in range(0, len(data), BLOCK_BYTES)] or [b""]
    strategies = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY
    return b"".join(min((_member(block, strategy) for strategy in strategies), key=len) for block in blocks)


def _member(block: bytes, strategy: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, GZIP, MEMORY_LEVEL, strategy)
    return compressor.compress(block) + compressor.flush()
