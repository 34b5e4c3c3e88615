"""Export a checkpoint as an offline CTC model of sherpa-onnx: the same weights in another runtime.

    python -m benchmarks.peers.sherpa_model models/en-base/checkpoint.safetensors -o FOLDER

sherpa-onnx computes NeMo's log-mel features itself; normalisation, encoder and head are in the file. Linear layers have
the default dynamic int8 quantisation of onnxruntime, as in other models of sherpa-onnx.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR


class ForSherpa(nn.Module):
    """Log-mel features to log-probabilities, one recording at a time with full context."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        """(1, n_mels, T) log-mel, (1,) frames -> (1, U, V) log-probabilities."""
        frames = audio_signal.shape[2] // SUBSAMPLING_FACTOR
        log_mel = audio_signal.transpose(1, 2)[:, : frames * SUBSAMPLING_FACTOR]
        lengths = length // SUBSAMPLING_FACTOR
        features = self.model.norm(log_mel, lengths * SUBSAMPLING_FACTOR)
        return self.model(features, lengths).logits.log_softmax(2)


def export(checkpoint: Path, folder: Path) -> None:
    """Write model.int8.onnx and tokens.txt."""
    model, _ = load_checkpoint(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    features = torch.randn(1, model.config.frontend.n_mels, 403)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "model.onnx")
        torch.onnx.export(
            ForSherpa(model.eval()),
            (features, torch.tensor([403])),
            str(path),
            input_names=["audio_signal", "length"],
            output_names=["logprobs"],
            dynamic_shapes={"audio_signal": {2: torch.export.Dim.DYNAMIC}, "length": {}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        quantize_dynamic(
            path, folder / "model.int8.onnx", op_types_to_quantize=["MatMul"], weight_type=QuantType.QUInt8
        )
    exported = onnx.load(folder / "model.int8.onnx")
    vocabulary = model.config.vocabulary
    properties = {
        "vocab_size": str(len(vocabulary) - 1),  # without the blank
        "normalize_type": "",
        "subsampling_factor": str(SUBSAMPLING_FACTOR),
        "model_type": "EncDecCTCModelBPE",
    }
    onnx.helper.set_model_props(exported, properties)
    onnx.save(exported, folder / "model.int8.onnx")
    symbols = ["<blk>" if index == model.config.blank_id else piece for index, piece in enumerate(vocabulary)]
    lines = [f"{symbol} {index}" for index, symbol in enumerate(symbols)]
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    chosen = parser.parse_args()
    export(chosen.checkpoint, chosen.output)
