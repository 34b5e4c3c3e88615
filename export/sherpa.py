"""`--format sherpa-onnx`: the same weights for another runtime, as a model.onnx and a tokens.txt.

sherpa-onnx computes the features itself and runs batches of full recordings. Its NeMo CTC models are closest to ours:
log-mel features of a Hann window with Slaney's filters, (B, n_mels, T) in, log-probabilities out. Three things differ:
frames are 120 samples later, pre-emphasis starts again in each frame, and quiet bands have a floor instead of a guard
(`from_floor`). Normalisation over utterances is done by sherpa-onnx ("per_feature"), running normalisation in the
graph, with the full recording as one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper
from torch import Tensor, nn

from lwasr_edge.errors import OptionError, VerificationError
from lwasr_edge.export.graph import to_onnx
from lwasr_edge.export.layers import MatMulLinear
from lwasr_edge.export.streaming import equalised
from lwasr_edge.export.verify import Agreement, Decoded, Recording, RecordingSet, compare
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.conformer import ConformerLayer
from lwasr_edge.training.model.features import SUBSAMPLING_FACTOR, RunningNorm
from lwasr_edge.training.scoring.decode import greedy_tokens, tokens_to_text

MODEL_FILE, TOKENS_FILE = "model.onnx", "tokens.txt"
BLANK = "<blk>"
FLOOR = float(np.finfo(np.float32).eps)  # of the mel power in sherpa-onnx, before the logarithm
PARITY_FRAMES = (9, 200, 403)  # mel frames of the recordings of one batch
PARITY_TOLERANCE = 2e-3  # of log-probabilities


class SherpaModel(nn.Module):
    """The forward pass of training, in batches, on features from sherpa-onnx."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        model = equalised(model)
        self.config, self.norm, self.encoder = model.config, model.norm, model.encoder
        self.head = MatMulLinear(model.head)
        for layer in self.encoder.layers:
            assert isinstance(layer, ConformerLayer)
            for part in (layer.feed_forward1, layer.attention, layer.conv, layer.feed_forward2):
                if part is not None:
                    _replace_linears(part)
        _replace_linears(self.encoder.subsampling)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> Tensor:
        """Recognise recordings.

        Args:
            features: (B, n_mels, T) log-mel of sherpa-onnx, normalised if the model normalises over utterances.
            feature_lengths: (B,) int64, mel frames of each.

        Returns:
            (B, T // 4 + 1, V) log-probabilities; sherpa-onnx reads the first T // 4.
        """
        log_mel = features.transpose(1, 2)
        n_frames = log_mel.shape[1] // SUBSAMPLING_FACTOR + 1
        log_mel = nn.functional.pad(log_mel, (0, 0, 0, SUBSAMPLING_FACTOR))[:, : n_frames * SUBSAMPLING_FACTOR]
        if isinstance(self.norm, RunningNorm):
            log_mel = self.norm(from_floor(log_mel, self.config.frontend.log_guard), feature_lengths)
        else:
            valid = torch.arange(log_mel.shape[1]) < feature_lengths[:, None]
            log_mel = log_mel * valid.unsqueeze(2)
        lengths = torch.div(feature_lengths + 3, SUBSAMPLING_FACTOR, rounding_mode="floor")
        encoder_out, _ = self.encoder(log_mel, lengths)
        return torch.log_softmax(self.head(encoder_out), dim=2)


def from_floor(log_mel: Tensor, log_guard: float) -> Tensor:
    """Convert log(max(power, FLOOR)) to the log(power + log_guard) of `LogMel`; at the floor, power is taken as 0."""
    silent = log_mel <= np.log(FLOOR) + 1e-3
    return torch.where(silent, float(np.log(log_guard)), torch.log(torch.exp(log_mel) + log_guard))


def _replace_linears(module: nn.Module) -> None:
    """Replace the linear layers of ``module``, which torch would export with transposed weights, by `MatMulLinear`."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, MatMulLinear(child))


def sherpa_model(model: AcousticModel) -> SherpaModel:
    """The form of ``model`` for sherpa-onnx, in evaluation mode; ``model`` is not changed.

    Raises:
        OptionError: sherpa-onnx cannot compute this model's features.
    """
    frontend = model.config.frontend
    found = (frontend.sample_rate, frontend.win_length, frontend.hop_length, frontend.n_fft, frontend.n_mels)
    if found != (16_000, 400, 160, 512, 80):
        raise OptionError(
            "--format sherpa-onnx needs 80 bands, windows of 400 samples every 160, n_fft 512 and 16000 Hz, got "
            f"{frontend.n_mels} bands, {frontend.win_length} and {frontend.hop_length} samples, n_fft {frontend.n_fft} "
            f"and {frontend.sample_rate} Hz: use --format onnx"
        )
    return SherpaModel(model).eval().requires_grad_(False)


def trace_sherpa(model: SherpaModel) -> onnx.ModelProto:
    """Convert to ONNX in float32, with dynamic batch size and length."""
    n_mels, n_pieces = model.config.frontend.n_mels, len(model.config.vocabulary)
    features = torch.randn(2, n_mels, 41) - 8
    batch, time = torch.export.Dim("batch", min=1, max=1 << 12), torch.export.Dim("time", min=4, max=1 << 22)
    proto = to_onnx(
        model,
        (features, torch.tensor([41, 33])),
        ["features", "features_length"],
        ["log_probs"],
        {"features": {0: batch, 2: time}, "feature_lengths": {0: batch}},
    )
    sizes: dict[str, list[str | int]] = {"features": ["batch", n_mels, "time"], "features_length": ["batch"]}
    for value in proto.graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sizes[value.name]))
    output = proto.graph.output[0]
    output.CopyFrom(
        helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, ["batch", "frames", n_pieces])
    )
    onnx.checker.check_model(proto)
    return proto


def sherpa_metadata(model: AcousticModel, described: dict[str, str]) -> dict[str, str]:
    """Metadata for sherpa-onnx, and ``described``, our own without the key of the model format."""
    return {
        "model_type": "EncDecCTCModelBPE",
        "vocab_size": str(len(model.config.vocabulary)),
        "subsampling_factor": str(SUBSAMPLING_FACTOR),
        "normalize_type": "" if isinstance(model.norm, RunningNorm) else "per_feature",
        **described,
    }


def write_tokens(path: Path, model: AcousticModel) -> None:
    """Write a line "piece id" for each token, with sherpa-onnx's name of the blank."""
    pieces = list(model.config.vocabulary)
    pieces[model.config.blank_id] = BLANK
    path.write_text("".join(f"{piece} {index}\n" for index, piece in enumerate(pieces)), encoding="utf-8")


def open_sherpa(path: Path) -> ort.InferenceSession:
    """Open a file on one thread, as sherpa-onnx does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_sherpa(session: ort.InferenceSession, features: np.ndarray, feature_lengths: np.ndarray) -> np.ndarray:
    """(B, n_mels, T) float32 and (B,) int64 -> (B, T // 4 + 1, V)."""
    return session.run(None, {"features": features, "features_length": feature_lengths})[0]


@torch.inference_mode()
def sherpa_parity(model: AcousticModel, path: Path) -> float:
    """Compare torch with the float file on a batch of synthetic features of several lengths.

    Returns:
        Largest difference of log-probabilities.

    Raises:
        VerificationError: they differ by more than rounding.
    """
    frontend = model.config.frontend
    random = np.random.default_rng(7)
    lengths = np.array(PARITY_FRAMES)
    shape = len(lengths), lengths.max(), frontend.n_mels
    swing = 3 * np.sin(np.arange(lengths.max()) / 9)[None, :, None]
    log_mel = (random.normal(-8, 2, shape) + swing).astype(np.float32)
    valid = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None]).unsqueeze(2)
    padded = torch.where(valid, torch.from_numpy(log_mel), -23.0)  # the padding value of sherpa-onnx
    found = run_sherpa(open_sherpa(path), padded.transpose(1, 2).numpy().copy(), lengths)
    padding = found.shape[1] * SUBSAMPLING_FACTOR - lengths.max()
    raw = nn.functional.pad(padded, (0, 0, 0, int(padding)))
    n_mel = torch.from_numpy(lengths)
    if isinstance(model.norm, RunningNorm):
        features = model.norm(from_floor(raw, frontend.log_guard), n_mel)
    else:
        features = raw * (torch.arange(raw.shape[1]) < n_mel[:, None]).unsqueeze(2)
    n_frames = (n_mel + 3) // SUBSAMPLING_FACTOR
    wanted = model(features, n_frames).logits.log_softmax(2).numpy()
    worst = max(float(np.abs(found[i, :n] - wanted[i, :n]).max()) for i, n in enumerate(n_frames.tolist()))
    if not worst <= PARITY_TOLERANCE:
        raise VerificationError(
            f"log-probabilities of the graph for sherpa-onnx must be within {PARITY_TOLERANCE:g} of torch's, got a "
            f"difference of {worst:.2g}: report a bug"
        )
    return worst


@torch.inference_mode()
def sherpa_agreements(
    model: AcousticModel, float_path: Path, path: Path, sets: Sequence[RecordingSet]
) -> list[Agreement]:
    """Compare both files on each set, with our own features instead of sherpa-onnx's."""
    sessions = open_sherpa(float_path), open_sherpa(path)

    def decode_both(recording: Recording) -> tuple[Decoded, Decoded]:
        log_mel = model.padded_log_mel(torch.from_numpy(recording.waveform)[None])
        lengths = torch.tensor([log_mel.shape[1]])
        features = log_mel if isinstance(model.norm, RunningNorm) else model.norm(log_mel, lengths)
        inputs = features.transpose(1, 2).numpy().copy(), lengths.numpy()
        wanted, found = (run_sherpa(session, *inputs)[0] for session in sessions)
        return decoded(wanted), decoded(found)

    def decoded(log_probs: np.ndarray) -> Decoded:
        tokens = greedy_tokens(torch.from_numpy(log_probs), model.config.blank_id)
        return Decoded(log_probs, tokens_to_text(tokens, model.config.vocabulary))

    return [compare(one, map(decode_both, one.recordings), model.config.blank_id) for one in sets]
