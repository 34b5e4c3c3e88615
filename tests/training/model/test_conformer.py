"""The Conformer: context limits, full context, chunks and streams, and index operations against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from small_models import chunking, small_model

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.model.conformer import (
    MEL_CONTEXT,
    Chunks,
    FixedBatchNorm,
    LayerPast,
    Limits,
    RelativeAttention,
    relative_positions,
)


def features(n_frames: int, batch: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4 * n_frames, 80, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("chunk_frames", [1, 3, 4, 7])
def test_later_audio_does_not_change_earlier_chunks(chunk_frames: int) -> None:
    model = small_model(normalization="running")
    n_samples = torch.tensor([16_000])
    waveform = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    changed = waveform.clone()
    changed_frame = 14
    # frame u reads samples up to (u + 1) * 640, so from this sample on only frames >= changed_frame may differ
    changed[:, changed_frame * 640 :] *= -3
    before, _ = model.log_probs(waveform, n_samples, chunking(chunk_frames))
    after, _ = model.log_probs(changed, n_samples, chunking(chunk_frames))
    first_of_chunk = changed_frame // chunk_frames * chunk_frames
    assert torch.equal(before[:, :first_of_chunk], after[:, :first_of_chunk])
    assert (before[:, changed_frame:] - after[:, changed_frame:]).abs().max() > 1e-3


@torch.no_grad()
def test_a_frame_depends_on_its_full_chunk() -> None:
    encoder = small_model().encoder
    x = features(12)
    changed = x.clone()
    changed[:, 4 * 7 :] = 0  # the last frame of the second chunk of 4
    before, _ = encoder(x, torch.tensor([12]), chunking(4))
    after, _ = encoder(changed, torch.tensor([12]), chunking(4))
    assert (before[:, 4] - after[:, 4]).abs().max() > 1e-4


@torch.no_grad()
def test_left_context_is_limited() -> None:
    """Attention of a chunk uses 6 frames before it, and no more."""
    encoder = small_model(left_context_frames=6).encoder
    x = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(3))
    changed = x.clone()
    changed[:, 5] = -x[:, 5]  # first frame of context: 6 for the chunk at frame 12, 2 for the chunk at frame 8
    limits = encoder.limits(x, torch.tensor([20]), chunking(4))
    attention = encoder.layers[0].attention
    before, after = (limits.join(attention(limits.split(value), limits)[0]) for value in (x, changed))
    assert torch.equal(before[:, 12:], after[:, 12:])
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 8:12] - after[:, 8:12]).abs().amax(2).min() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("normalization", ["utterance", "running"])
def test_batch_equals_single(normalization: str) -> None:
    model = small_model(normalization=normalization)
    lengths = torch.tensor([16_000, 9_999, 3_200])
    waveform = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    waveform *= torch.arange(16_000) < lengths[:, None]
    for chunk_frames in (None,) if normalization == "utterance" else (None, 4, 8):
        together, frames = model.log_probs(waveform, lengths, chunking(chunk_frames))
        assert frames.tolist() == [26, 16, 6]
        for i, n in enumerate(lengths.tolist()):
            alone, _ = model.log_probs(waveform[i : i + 1, :n], lengths[i : i + 1], chunking(chunk_frames))
            torch.testing.assert_close(together[i, : frames[i]], alone[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_one_long_chunk_equals_full_context() -> None:
    model = small_model(normalization="running")
    n_samples = torch.tensor([16_000])
    waveform = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    full, _ = model.log_probs(waveform, n_samples)
    for chunk_frames in (26, 250):
        torch.testing.assert_close(
            model.log_probs(waveform, n_samples, chunking(chunk_frames))[0], full, atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
@pytest.mark.parametrize("conv_norm", ["batch_norm", "layer_norm"])
def test_chunk_after_chunk_equals_the_training_pass(conv_norm: str) -> None:
    """A stream with caches equals the single forward pass of training with the same chunks."""
    encoder = small_model(conv_norm=conv_norm).encoder
    left, chunk, n_frames = 6, 4, 22
    wanted, _ = encoder(features(n_frames), torch.tensor([n_frames]), chunking(chunk))
    padded = torch.nn.functional.pad(features(n_frames), (0, 0, MEL_CONTEXT, 0))
    empty = torch.zeros(1, 0, 16)
    pasts = [LayerPast(empty, empty, torch.zeros(1, 2, 16)) for _ in encoder.layers]
    got = []
    for start in range(0, n_frames, chunk):
        end = min(start + chunk, n_frames)
        x = encoder.embed(padded[:, 4 * start : 4 * end + MEL_CONTEXT])
        positions = relative_positions(end - start, pasts[0].keys.shape[1] + end - start, 16, x)
        for i, layer in enumerate(encoder.layers):
            x, past = layer(x, Limits(positions), pasts[i])
            pasts[i] = LayerPast(past.keys[:, -left:], past.values[:, -left:], past.conv)
        got.append(x)
    torch.testing.assert_close(torch.cat(got, 1), wanted, atol=1e-5, rtol=1e-5)


def test_by_key_equals_a_plain_loop() -> None:
    n_queries, n_keys = 3, 5
    scores = torch.arange(2 * 2 * n_queries * (n_keys + n_queries - 1.0)).view(2, 2, n_queries, -1)
    by_key = RelativeAttention.by_key(scores, n_keys)
    assert by_key.shape == (2, 2, n_queries, n_keys)
    for u in range(n_queries):
        for s in range(n_keys):
            distance = n_keys - n_queries + u - s
            assert torch.equal(by_key[:, :, u, s], scores[:, :, u, n_keys - 1 - distance])


@pytest.mark.parametrize("n_frames", [1, 4, 10, 12])
@pytest.mark.parametrize(("size", "hop"), [(4, 4), (4, 3), (5, 1)])
def test_chunks_equal_a_plain_loop(n_frames: int, size: int, hop: int) -> None:
    x = torch.randn(2, n_frames, 6)
    chunks = Chunks(2, n_frames, size, hop)
    rows = chunks.split(x)
    assert rows.shape == (2 * chunks.count, size, 6) and (chunks.count - 1) * hop < n_frames <= chunks.count * hop
    assert torch.equal(chunks.join(rows), x)
    before = chunks.before(rows, 3)
    for row in range(2 * chunks.count):
        recording, first = x[row // chunks.count], row % chunks.count * hop
        for index in range(size):
            wanted = recording[first + index] if first + index < n_frames else torch.zeros(6)
            assert torch.equal(rows[row, index], wanted)
        for index in range(3):
            wanted = recording[first + index - 3] if first + index >= 3 else torch.zeros(6)
            assert torch.equal(before[row, index], wanted)


@torch.no_grad()
def test_look_ahead_frames_are_right_context() -> None:
    """Chunks of 6 that advance by 4: the first four frames depend on frames 4 and 5, and on nothing later."""
    encoder = small_model().encoder
    x, length = features(14), torch.tensor([14])
    before, _ = encoder(x, length, Chunking(6, 2))
    for frame, changes in ((5, True), (6, False)):
        changed = x.clone()
        changed[:, 4 * frame + 2 :] = 0
        after, _ = encoder(changed, length, Chunking(6, 2))
        assert bool((before[:, :4] - after[:, :4]).abs().max() > 1e-4) == changes
    full, _ = encoder(x, length)
    torch.testing.assert_close(encoder(x, length, Chunking(16, 2))[0], full, atol=1e-5, rtol=1e-5)


def test_relative_positions_are_sinusoids_of_the_distance() -> None:
    positions = relative_positions(n_queries=2, n_keys=4, d_model=6, like=torch.zeros(1))
    assert positions.shape == (5, 6)
    for row, distance in enumerate([3, 2, 1, 0, -1]):
        for pair in range(3):
            angle = distance / 10_000 ** (2 * pair / 6)
            assert float(positions[row, 2 * pair]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(positions[row, 2 * pair + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_fixed_batch_norm_is_batch_norm_in_evaluation() -> None:
    ours, theirs = FixedBatchNorm(3), torch.nn.BatchNorm1d(3).eval()
    values = [torch.rand(3) + 0.5 for _ in range(4)]
    with torch.no_grad():
        for own, other, value in zip(
            (ours.weight, ours.bias, ours.mean, ours.variance),
            (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var),
            values,
            strict=True,
        ):
            own.copy_(value)
            other.copy_(value)
    x = torch.randn(2, 7, 3)
    torch.testing.assert_close(ours.train()(x), theirs(x.transpose(1, 2)).transpose(1, 2))
