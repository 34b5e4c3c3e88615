"""`--format ort`: onnxruntime's own format, which a minimal build reads, and the list of operators for such a build.

The graph is optimised once, here, instead of at every load, and without optimisations for one kind of processor, so the
file runs on x86-64 and Arm. Values that onnxruntime would compute at load (cosines, positions) are stored.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

from lwasr_edge.errors import VerificationError
from lwasr_edge.export.graph import quiet
from lwasr_edge.export.verify import RecordingSet, agreements

CONFIG_SUFFIX = ".required_operators.config"
MIN_ALIKE = 0.97  # share of frames


def convert(model: Path, output: Path) -> Path:
    """Convert a model file of this project.

    Args:
        model: the .onnx file.
        output: the .ort file to write.

    Returns:
        Path of the list of operators and their types for a build of onnxruntime, written beside ``output``.

    Raises:
        OSError: no space, no permission.
    """
    with tempfile.TemporaryDirectory(prefix="lwasr-export-") as folder:
        source = Path(folder, "model.onnx")
        shutil.copyfile(model, source)
        with quiet(), contextlib.redirect_stderr(io.StringIO()):
            convert_onnx_models_to_ort(
                source, optimization_styles=[OptimizationStyle.Fixed], target_platform="arm", enable_type_reduction=True
            )
        (listed,) = Path(folder).glob("*.config")
        config = output.with_suffix(CONFIG_SUFFIX)
        rows = [line for line in listed.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        header = [f"# What {output.name} needs: onnxruntime's build.py --include_ops_by_config, with"]
        header.append("# --minimal_build extended --enable_reduced_operator_type_support")
        config.write_text("\n".join([*header, *rows]) + "\n", encoding="utf-8")
        shutil.copyfile(source.with_suffix(".ort"), output)
    return config


def require_same(model: Path, converted: Path, sets: Sequence[RecordingSet]) -> None:
    """Compare two files over each of ``sets``.

    Their order of additions differs (the ONNX file gets convolutions for this processor at load), which changes single
    quantisation levels in int8: nearly all frames must have the same best token, not all.

    Raises:
        VerificationError: fewer than `MIN_ALIKE` of the frames have.
    """
    alike = min(found.frames_alike for found in agreements(model, converted, sets))
    if alike < MIN_ALIKE:
        raise VerificationError(
            f"best token of the ONNX file must be the ORT file's in {100 * MIN_ALIKE:.0f} % of the frames, "
            f"got {100 * alike:.1f} %: export in float32, or report a bug"
        )
