"""Losses, by hand where a hand can, and blind to padding everywhere."""

from __future__ import annotations

import math

import pytest
import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.training.loop import losses
from lwasr_edge.training.loop.losses import LossWeights

HEARD = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 6, generator=generator), torch.randn(2, 4, 6, generator=generator)


@pytest.mark.parametrize("loss", [losses.frame_mse, losses.clip, losses.posterior_kl])
def test_frames_beyond_the_end_count_nowhere(loss) -> None:
    student, reference = pair()
    changed_student, changed_reference = student.clone(), reference.clone()
    changed_student[1, 2:] = 99
    changed_reference[1, 2:] = -99
    assert float(loss(student, reference, HEARD)) == pytest.approx(
        float(loss(changed_student, changed_reference, HEARD)), rel=1e-6
    )


def test_frame_mse_is_relative_to_the_variance() -> None:
    _, reference = pair()
    spoken = reference[HEARD.bool()]
    constant = spoken.mean(0).expand_as(reference)
    assert float(losses.frame_mse(constant, reference, HEARD)) == pytest.approx(1.0, rel=1e-5)
    assert float(losses.frame_mse(reference, reference, HEARD)) == 0
    assert float(losses.frame_mse(10 * constant, 10 * reference, HEARD)) == pytest.approx(1.0, rel=1e-5)


def test_clip_of_equal_and_of_swapped_vectors() -> None:
    vectors = torch.eye(3)[:, None, :].repeat(1, 4, 1)  # three recordings, orthogonal
    heard = torch.ones(3, 4)
    right = -math.log(math.exp(1 / 0.07) / (math.exp(1 / 0.07) + 2))
    assert float(losses.clip(vectors, vectors, heard)) == pytest.approx(right, abs=1e-6)
    assert float(losses.clip(vectors, vectors.roll(1, 0), heard)) == pytest.approx(1 / 0.07, rel=1e-3)
    assert float(losses.clip(5 * vectors, vectors, heard)) == pytest.approx(right, abs=1e-6)  # length 1 either way
    assert float(losses.clip(vectors[:1], vectors[:1], heard[:1])) == 0


def test_kl_by_hand() -> None:
    logits, _ = pair()
    assert float(losses.posterior_kl(logits, logits, HEARD)) == pytest.approx(0, abs=1e-6)
    assert float(losses.posterior_kl(logits + 3, logits, HEARD)) == pytest.approx(0, abs=1e-5)
    reference = torch.log(torch.tensor([[[0.5, 0.5]]]))
    student = torch.log(torch.tensor([[[0.9, 0.1]]]))
    wanted = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert float(losses.posterior_kl(student, reference, torch.ones(1, 1))) == pytest.approx(wanted, rel=1e-5)


def test_ctc_by_hand() -> None:
    """Two frames, "a": the paths aa, a-, -a of Graves et al. 2006."""
    probability = torch.tensor([[[0.6, 0.1, 0.3], [0.2, 0.3, 0.5]]])  # a, b, blank
    a = 0.6 * 0.2 + 0.6 * 0.5 + 0.3 * 0.2
    loss = losses.ctc(probability.log(), torch.tensor([2]), torch.tensor([[0]]), torch.tensor([1]), blank_id=2)
    assert float(loss) == pytest.approx(-math.log(a) / 2, rel=1e-5)
    ab = 0.6 * 0.3
    loss = losses.ctc(probability.log(), torch.tensor([2]), torch.tensor([[0, 1]]), torch.tensor([2]), blank_id=2)
    assert float(loss) == pytest.approx(-math.log(ab) / 2, rel=1e-5)


def test_ctc_reads_each_recording_to_its_own_length() -> None:
    logits, _ = pair()
    lengths, targets, target_lengths = torch.tensor([4, 2]), torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1])
    loss = losses.ctc(logits, lengths, targets, target_lengths, blank_id=5)
    changed = logits.clone()
    changed[1, 2:] = 50 * torch.rand(2, 6)
    assert torch.equal(loss, losses.ctc(changed, lengths, targets, target_lengths, blank_id=5))
    alone = [
        losses.ctc(logits[i : i + 1, :n], lengths[i : i + 1], targets[i : i + 1], target_lengths[i : i + 1], 5) * n
        for i, n in enumerate((4, 2))
    ]
    assert float(loss) == pytest.approx(float(sum(alone)) / 6, rel=1e-5)


def test_ctc_without_an_alignment_is_zero_and_teaches_nothing() -> None:
    logits = torch.randn(1, 2, 4, requires_grad=True)
    targets = torch.tensor([[1, 1]])  # needs 3 frames
    loss = losses.ctc(logits, torch.tensor([2]), targets, torch.tensor([2]), blank_id=3)
    loss.backward()
    assert float(loss.detach()) == 0 and float(logits.grad.abs().max()) == 0


@pytest.mark.parametrize("values", [{"mse": -1.0}, {"ctc": math.nan}, {"kl": math.inf}])
def test_impossible_weights_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(values))):
        LossWeights(**values)


def test_weights_that_teach_nothing_are_refused() -> None:
    with pytest.raises(OptionError, match="got 0 for all"):
        LossWeights(0, 0, 0, 0, 0)
