"""Model files on disk: plain ONNX, or compressed with gzip."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from lwasr_edge.errors import ModelError

GZIP_MAGIC = b"\x1f\x8b"
MAX_MODEL_BYTES = 1 << 28  # of a compressed model, after decompression


def source_of(path: Path) -> str | bytes:
    """What onnxruntime opens: the path or, of a gzip file (by content, not by name), the decompressed bytes.

    Raises:
        ModelError: no permission; or gzip that is damaged, truncated, or larger than `MAX_MODEL_BYTES`.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
                return os.fspath(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_MODEL_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{path} is a damaged or incomplete gzip file ({error}): fetch it again") from error
    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{path} decompresses to more than {MAX_MODEL_BYTES >> 20} MB: it is not a model")
    return data
