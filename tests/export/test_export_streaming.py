"""The exportable modules equal the trained model, chunk by chunk (in float64, to exclude rounding)."""

from __future__ import annotations

import pytest
import torch
from export_models import random_model
from locations import SPEECH_16K as SPEECH
from small_models import chunking
from torch import Tensor
from torch.nn import functional as F

from lwasr_edge.audio.reader import load_audio
from lwasr_edge.export.layers import FoldedLogMel, patches
from lwasr_edge.export.streaming import collapse, exported_model
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import FrontendConfig
from lwasr_edge.training.model.conformer import MEL_CONTEXT, LayerPast, Limits, relative_positions
from lwasr_edge.training.model.features import LogMel

EXACT = 5e-5  # the window and the positions are float32


@pytest.fixture(scope="module")
def waveform() -> Tensor:
    """(N,) float64, the first 2.1 s of speech."""
    return torch.from_numpy(load_audio(SPEECH, 16_000)[:33_333]).double()


def expected(model: AcousticModel, waveform: Tensor, chunk_frames: int | None) -> Tensor:
    return model.double().log_probs(waveform[None], torch.tensor([len(waveform)]), chunking(chunk_frames))[0][0]


def stream(model: AcousticModel, waveform: Tensor, sizes: list[int]) -> tuple[Tensor, list[int], list[int]]:
    """Run chunks of ``sizes`` frames, repeating the last size; log_probs, tokens and their frames in the recording."""
    exported = exported_model(model.double())
    state = [
        tensor.zeros().double() if tensor.dtype.is_floating_point else tensor.zeros()
        for tensor in exported.state_tensors()
    ]
    n_frames = int(model.frames(len(waveform)))
    padded = F.pad(waveform, (0, n_frames * 640 - len(waveform)))
    log_probs, tokens, frames, start = [], [], [], 0
    while start < n_frames:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        outputs = exported(padded[start * 640 : (start + size) * 640], torch.zeros(1, dtype=torch.int64), *state)
        tokens += outputs[0].tolist()
        frames += (outputs[1] + start).tolist()
        log_probs.append(outputs[3])
        state = list(outputs[4:])
        start += size
    return torch.cat(log_probs).float(), tokens, frames


@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 4, 16, 250])
def test_chunks_equal_those_of_training(waveform: Tensor, chunk_frames: int) -> None:
    model = random_model()
    found, _, _ = stream(model, waveform, [chunk_frames])
    torch.testing.assert_close(found, expected(model, waveform, chunk_frames), rtol=0, atol=EXACT)


def test_one_chunk_equals_full_context(waveform: Tensor) -> None:
    model = random_model(left_context_frames=200)
    found, _, _ = stream(model, waveform, [10_000])
    torch.testing.assert_close(found, expected(model, waveform, None), rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_mels": 41, "channels": 5, "d_model": 14, "n_heads": 7, "kernel": 3},
        {"n_mels": 30, "channels": 9, "d_model": 18, "n_heads": 1, "kernel": 31, "left_context_frames": 1},
        {"conv_norm": "layer_norm", "n_mels": 64},
        {"d_attention": 15},
        {"removed": ("0.attention", "1.conv")},
        {"removed": ("0.feed_forward1", "0.conv", "1.attention", "1.feed_forward2")},
    ],
)
def test_odd_sizes(waveform: Tensor, sizes: dict[str, int]) -> None:
    model = random_model(**sizes)
    found, _, _ = stream(model, waveform, [5])
    torch.testing.assert_close(found, expected(model, waveform, 5), rtol=0, atol=EXACT)


def streamed_by_layer(model: AcousticModel, waveform: Tensor, sizes: list[int]) -> Tensor:
    """Run chunks of uneven sizes through the trained modules, with their own caches."""
    model.double()
    config = model.config.encoder
    width, half_kernel = config.d_model, config.conv_kernel // 2
    audio = torch.zeros(model.log_mel.left_samples).double()
    mel = torch.zeros(1, MEL_CONTEXT, model.config.frontend.n_mels).double()
    norm = torch.zeros(1, model.norm.state_size).double()
    past = [LayerPast(*(torch.zeros(1, n, width).double() for n in (0, 0, half_kernel))) for _ in model.encoder.layers]
    result, start = [], 0
    for size in sizes:
        audio = torch.cat([audio, waveform[start * 640 : (start + size) * 640]])
        normalised, norm = model.norm.step(model.log_mel(audio[None]), norm)
        features = torch.cat([mel, normalised], 1)
        audio, mel = audio[-model.log_mel.left_samples :], features[:, -MEL_CONTEXT:]
        x = model.encoder.embed(features)
        positions = relative_positions(size, size + past[0].keys.shape[1], width, x)
        for i, layer in enumerate(model.encoder.layers):
            x, now = layer(x, Limits(positions), past[i])
            past[i] = LayerPast(*(kept[:, -config.left_context_frames :] for kept in now[:2]), now.conv)
        result.append(model.head(x).log_softmax(2)[0])
        start += size
    return torch.cat(result).float()


def test_uneven_chunks(waveform: Tensor) -> None:
    model = random_model()
    sizes = [1, 7, 2, 16, 3, 1, 1, 12, 10]
    assert sum(sizes) == model.frames(len(waveform))
    padded = F.pad(waveform, (0, sum(sizes) * 640 - len(waveform)))
    found, _, _ = stream(model, waveform, list(sizes))
    torch.testing.assert_close(found, streamed_by_layer(model, padded, sizes), rtol=0, atol=EXACT)


@pytest.mark.parametrize("sizes", [[1], [3], [2, 9, 1, 5], [100]])
def test_tokens_are_the_collapsed_log_probs(waveform: Tensor, sizes: list[int]) -> None:
    model = random_model()
    log_probs, tokens, frames = stream(model, waveform, sizes)
    best = log_probs.argmax(1).tolist()
    wanted = [
        (token, frame)
        for frame, token in enumerate(best)
        if token != model.config.blank_id and (frame == 0 or best[frame - 1] != token)
    ]
    assert len(wanted) > 5
    assert list(zip(tokens, frames, strict=True)) == wanted


def test_full_recordings_and_padding(waveform: Tensor) -> None:
    model = random_model("utterance")
    wanted = expected(model, waveform, None)
    exported = exported_model(model)
    for n_padding_frames in (0, 1, 40):
        n_frames = len(wanted) + n_padding_frames
        tokens, _, _, log_probs = exported(F.pad(waveform, (0, n_frames * 640 - len(waveform))))
        torch.testing.assert_close(log_probs[: len(wanted)].float(), wanted, rtol=0, atol=EXACT)
        assert (log_probs[len(wanted) :].argmax(1) == model.config.blank_id).all()
        assert len(tokens) > 0


def test_silence_alone_is_finite() -> None:
    for normalization in ("running", "utterance"):
        exported = exported_model(random_model(normalization))
        outputs = exported(torch.zeros(640 * 20), *exported.beginning())
        assert outputs[3].isfinite().all()


def test_look_ahead_gives_tokens_but_no_state(waveform: Tensor) -> None:
    exported = exported_model(random_model(seed=1).double())
    beginning = [tensor.double() if tensor.dtype.is_floating_point else tensor for tensor in exported.beginning()]
    names = [tensor.name for tensor in exported.state_tensors()]
    first = waveform[640 * 5 : 640 * 17]

    def run(look_ahead: int) -> tuple[Tensor, ...]:
        return exported(first, torch.tensor([look_ahead]), *beginning[1:])

    all_consumed, ahead = run(0), run(4)
    torch.testing.assert_close(ahead[3], all_consumed[3])  # the context is the same
    for alone, with_look_ahead in zip(all_consumed[:3], ahead[:3], strict=True):
        torch.testing.assert_close(with_look_ahead, alone)
    assert any(frame >= 8 for frame in ahead[1].tolist())
    state = dict(zip(names, ahead[4:], strict=True))
    consumed = first[: 640 * 8]
    torch.testing.assert_close(state["audio"], consumed[-len(state["audio"]) :])
    assert state["heard"].tolist() == [8]
    assert state["last_token"].tolist() == [int(ahead[3][7].argmax()) + 1]
    shorter = dict(zip(names, exported(consumed, *beginning)[4:], strict=True))
    torch.testing.assert_close(state["norm"], shorter["norm"])  # statistics of what was consumed


def as_log_probs(*best: int) -> Tensor:
    """(U, 4) with ``best`` in each frame, at probability 0.7; blank is 3."""
    return torch.where(F.one_hot(torch.tensor(best), 4) == 1, 0.7, 0.1).log()


@pytest.mark.parametrize(
    ("best", "last", "tokens", "frames", "next_last"),
    [
        ([0, 0, 3, 0, 1], 0, [0, 0, 1], [0, 3, 4], 2),
        ([0, 0, 1], 1, [1], [2], 2),  # 0 goes on from the chunk before
        ([0, 2], 4, [0, 2], [0, 1], 3),  # a blank before
        ([3, 3], 2, [], [], 4),
        ([2], 3, [], [], 3),
    ],
)
def test_collapse(best: list[int], last: int, tokens: list[int], frames: list[int], next_last: int) -> None:
    found = collapse(as_log_probs(*best), torch.tensor([last]), blank_id=3)
    assert (found.tokens.tolist(), found.frames.tolist(), found.last.tolist()) == (tokens, frames, [next_last])
    torch.testing.assert_close(found.scores, torch.full((len(tokens),), 0.7))


@pytest.mark.parametrize(
    "config", [FrontendConfig(), FrontendConfig(win_length=399), FrontendConfig(n_fft=400, n_mels=23)]
)
def test_folded_log_mel(config: FrontendConfig) -> None:
    log_mel = LogMel(config)
    noise = torch.randn(log_mel.left_samples + 160 * 9, generator=torch.Generator().manual_seed(1)) * 0.1
    torch.testing.assert_close(FoldedLogMel(log_mel)(noise), log_mel(noise[None])[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("bands", [1, 2, 7, 8])
def test_patches_make_a_convolution(bands: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x, kernel = torch.randn(9, bands, 4, generator=generator), torch.randn(5, 4, 3, 3, generator=generator)
    wanted = F.conv2d(x.permute(2, 0, 1)[None], kernel, stride=2, padding=(0, 1))[0].permute(1, 2, 0)
    found = patches(x).unflatten(1, (-1, 9)).flatten(2) @ kernel.permute(2, 3, 1, 0).flatten(0, 2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_export_does_not_change_the_trained_model() -> None:
    model = random_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported_model(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
