"""Write a model file, as gzip if its name says so."""

from __future__ import annotations

from pathlib import Path

import onnx

from lwasr_edge.hub.gzip_blocks import compressed

SUFFIX = ".gz"


def save_model(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model, as gzip if the name ends in ".gz"."""
    data = proto.SerializeToString()
    path.write_bytes(compressed(data) if path.suffix == SUFFIX else data)
