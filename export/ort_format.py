"""`--format ort`: onnxruntime's own format, which a minimal build reads, and the operators such a build must have.

The graph is optimised once, here, instead of at every load; the file holds no optimisation that only this processor's
kind could run, so it serves x86-64 and Arm. What onnxruntime would compute at load (cosines, positions) is stored.
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
        The list of operators (and of the types they are used with) for onnxruntime's build, written beside ``output``.

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

    They add in different orders (the ONNX file gets this processor's own convolutions at load), which int8 turns into
    another step of rounding here and there: nearly all frames must have the same best token, not all.

    Raises:
        VerificationError: they are not the same model.
    """
    alike = min(found.frames_alike for found in agreements(model, converted, sets))
    if alike < MIN_ALIKE:
        raise VerificationError(
            f"only {100 * alike:.1f} % of the frames have the best token of the ONNX file in the ORT file; "
            f"{100 * MIN_ALIKE:.0f} % are expected"
        )
