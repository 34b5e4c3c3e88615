"""Gzip for model files: entropy coding shrinks QAT weights (`lwasr_edge.training.model.quantized`).

Deflate replaces repeated strings, then codes the rest by frequency (Huffman). Weights have no repetitions except by
chance, and coding those costs more than it saves: Huffman alone is smaller. Each block uses the smaller of the two. The
file is one gzip member: a program in C or JavaScript that inflates the first member has the whole model.
"""

from __future__ import annotations

import struct
import zlib

BLOCK_BYTES = 1 << 17
MEMORY_LEVEL = 9  # zlib's maximum
HEADER = bytes([0x1F, 0x8B, zlib.DEFLATED, 0, 0, 0, 0, 0, 2, 255])  # RFC 1952: neither name nor time, best compression


def compressed(data: bytes) -> bytes:
    """``data`` as one gzip member (RFC 1952)."""
    starts = range(0, max(len(data), 1), BLOCK_BYTES)
    blocks = [_smallest(data[start : start + BLOCK_BYTES], is_last=start == starts[-1]) for start in starts]
    return HEADER + b"".join(blocks) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _smallest(block: bytes, *, is_last: bool) -> bytes:
    """A part of a deflate stream (RFC 1951) that begins and ends at whole bytes and refers to no other part."""
    strategies = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY
    return min((_deflated(block, strategy, is_last=is_last) for strategy in strategies), key=len)


def _deflated(block: bytes, strategy: int, *, is_last: bool) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, MEMORY_LEVEL, strategy)
    return compressor.compress(block) + compressor.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)
