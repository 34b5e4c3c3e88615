"""Students: which layers they keep, that their weights are the reference's, and how their features are fitted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_models import small_model, two_utterances

from lwasr_edge.errors import OptionError
from lwasr_edge.training.compress.feature_norm import fit_running_norm
from lwasr_edge.training.compress.students import (
    check_family,
    evenly_spaced_layers,
    init_from_reference,
    layers_to_keep,
)
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.loop.losses import reference_indices
from lwasr_edge.training.model.features import UtteranceNorm


def test_layers_to_keep_of_the_small_conformer() -> None:
    assert layers_to_keep(16, 8) == (0, 1, 5, 7, 9, 12, 14, 15)
    assert layers_to_keep(16, 16) == tuple(range(16))
    assert layers_to_keep(16, 3) == (0, 5, 15)


def test_layers_to_keep_of_others_are_evenly_spaced() -> None:
    assert layers_to_keep(12, 4) == (0, 4, 7, 11)
    assert layers_to_keep(16, 2) == (0, 15)
    assert layers_to_keep(12, 1) == (11,)
    assert evenly_spaced_layers(16, 5) == (0, 4, 8, 11, 15)
    assert evenly_spaced_layers(16, 1) == (0,)


@pytest.mark.parametrize("n_student", [0, 13, -1])
def test_impossible_numbers_of_layers(n_student: int) -> None:
    with pytest.raises(
        OptionError, match=f"layers of a student must be 1 to 12, as the reference has, got {n_student}"
    ):
        layers_to_keep(12, n_student)


def test_a_student_is_initialised_with_the_references_weights() -> None:
    reference = small_model(n_layers=5)
    student = init_from_reference(reference, (1, 4))
    assert student.config.reference_layers == (1, 4) and student.config.encoder.n_layers == 2
    assert student.config.frontend.normalization == "running"
    for own, theirs in ((0, 1), (1, 4)):
        wanted = reference.encoder.layers[theirs].state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in student.encoder.layers[own].state_dict().items())
    assert torch.equal(student.head.weight, reference.head.weight)
    assert torch.equal(student.encoder.subsampling.conv2.weight, reference.encoder.subsampling.conv2.weight)
    assert student.head.weight.data_ptr() != reference.head.weight.data_ptr()


@torch.no_grad()
def test_a_student_of_all_layers_is_the_reference() -> None:
    reference = small_model(n_layers=3)
    student = init_from_reference(reference, (0, 1, 2))
    features, lengths = reference.features(0.1 * torch.randn(1, 8000), torch.tensor([8000]))
    assert torch.equal(student(features, lengths).logits, reference(features, lengths).logits)


@torch.no_grad()
@pytest.mark.parametrize("keep", [(0, 2), (1, 3)])
def test_indices_of_the_reference_layers(keep: tuple[int, ...]) -> None:
    """A student's layer on the reference's hidden state gives the output of the reference's layer."""
    reference = small_model(n_layers=4)
    student = init_from_reference(reference, keep)
    indices = reference_indices(student)
    assert indices == [*keep, -1]
    features, lengths = reference.features(0.1 * torch.randn(1, 8000), torch.tensor([8000]))
    hidden = reference(features, lengths).hidden
    limits = student.encoder.limits(hidden[0], lengths, None)
    for layer, index in zip(student.encoder.layers, indices[:-1], strict=True):
        assert torch.equal(layer(hidden[index], limits)[0], hidden[index + 1])


@pytest.mark.parametrize("keep", [(), (2, 1), (1, 1), (0, 5), (-1, 2)])
def test_impossible_layers_are_refused(keep: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="layers of a student must be different ones of 0 to 4 in rising order"):
        init_from_reference(small_model(n_layers=5), keep)


def test_fitted_features_are_near_the_references(tmp_path) -> None:
    student = init_from_reference(small_model(), (0, 1))
    corpus = two_utterances(tmp_path)
    store = WaveformStore(corpus, torch.device("cpu"))
    batch = store.batch(np.array([0, 1]))
    log_mel = student.padded_log_mel(batch.waveform)
    lengths = batch.n_samples // 160
    valid = torch.arange(log_mel.shape[1]) < lengths[:, None]
    wanted = UtteranceNorm(student.config.frontend)(log_mel, lengths)[valid]
    before = (student.norm(log_mel, lengths)[valid] - wanted).square().mean()
    fit_running_norm(student, store)
    after = (student.norm(log_mel, lengths)[valid] - wanted).square().mean()
    assert float(after) < 0.2 < float(before)
    assert float(student.norm.prior_variance.min()) > 0
    assert float(student.norm.prior_shape.mean()) == pytest.approx(0, abs=1e-4)


def test_silence_among_the_training_audio_does_not_spoil_the_fit(tmp_path) -> None:
    corpus = two_utterances(tmp_path)
    samples = np.concatenate([corpus.samples, np.zeros(8000, np.int16)])
    starts, lengths = np.append(corpus.starts, len(corpus.samples)), np.append(corpus.lengths, 8000)
    with_silence = Corpus([*corpus.utterances, corpus.utterances[0]], samples, starts, lengths)
    student = init_from_reference(small_model(), (0, 1))
    fit_running_norm(student, WaveformStore(with_silence, torch.device("cpu")))
    assert all(torch.isfinite(value).all() for value in student.norm.state_dict().values())
    only_silence = Corpus(corpus.utterances[:1], np.zeros(8000, np.int16), np.array([0]), np.array([8000]))
    with pytest.raises(OptionError, match="digital silence"):
        fit_running_norm(student, WaveformStore(only_silence, torch.device("cpu")))


def test_families_that_cannot_learn_together_are_refused() -> None:
    reference = small_model(n_layers=4)
    one, other = init_from_reference(reference, (0, 1)), init_from_reference(reference, (0, 3))
    check_family({"one": one, "other": other}, reference)
    other.norm.gain.add_(1)
    with pytest.raises(OptionError, match="the same feature normalisation, got different ones in one and other"):
        check_family({"one": one, "other": other}, reference)
    with pytest.raises(OptionError, match="one must have the reference's width, 24, got 16"):
        check_family({"one": one}, small_model(d_model=24))
    with pytest.raises(OptionError, match="a reference of 4, got 4 layers of which 0 are the reference's"):
        check_family({"reference": reference}, reference)
    with pytest.raises(OptionError, match="students must be at least one"):
        check_family({}, reference)
    renamed = small_model(n_layers=4)
    renamed.config = dataclasses.replace(renamed.config, vocabulary=tuple(reversed(renamed.config.vocabulary)))
    with pytest.raises(OptionError, match="one must have the reference's vocabulary, got another"):
        check_family({"one": one}, renamed)
