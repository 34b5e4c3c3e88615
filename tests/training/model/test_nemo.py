"""Import of NeMo archives: synthetic ones of several shapes, what is refused, and the real reference where it is."""

from __future__ import annotations

import copy
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from locations import SHARED
from nemo_archive import nemo_config, nemo_state, write_archive
from small_models import letters_tokenizer, small_model

from lwasr_edge.errors import CheckpointError
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.nemo import import_nemo
from lwasr_edge.training.scoring.decode import transcribe_corpus
from lwasr_edge.training.scoring.scores import score

REFERENCE = SHARED / "reference" / "stt_en_conformer_ctc_small.nemo"


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"conv_norm": "layer_norm"},
        {"n_layers": 3, "d_model": 24, "n_heads": 4, "d_feed_forward": 48, "conv_kernel": 9, "xscaling": False},
    ],
    ids=["batch_norm", "layer_norm", "other_sizes"],
)
def test_an_archive_comes_in_whole(tmp_path: Path, sizes: dict[str, Any]) -> None:
    wanted = small_model(**sizes)
    path = write_archive(tmp_path / "m.nemo", nemo_config(wanted), nemo_state(wanted), letters_tokenizer())
    model, tokenizer = import_nemo(path)
    assert tokenizer == letters_tokenizer()
    assert model.config.vocabulary == wanted.config.vocabulary
    assert model.config.encoder.n_layers == wanted.config.encoder.n_layers
    waveform = 0.1 * torch.randn(1, 16_000)
    n_samples = torch.tensor([16_000])
    assert torch.equal(model.log_probs(waveform, n_samples)[0], wanted.log_probs(waveform, n_samples)[0])


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("encoder", "_target_", "nemo.SqueezeformerEncoder", "encoder is SqueezeformerEncoder; this project defines"),
        ("encoder", "subsampling", "dw_striding", "subsampling is 'dw_striding'; this project defines 'striding'"),
        ("encoder", "self_attention_model", "rel_pos_local_attn", "self_attention_model is 'rel_pos_local_attn'"),
        ("encoder", "subsampling_factor", 8, "subsampling_factor is 8"),
        ("encoder", "att_context_size", [70, 13], "att_context_size is"),
        ("encoder", "conv_norm_type", "group_norm", "'batch_norm' or 'layer_norm'"),
        ("encoder", "d_model", None, "model_config.yaml lacks or garbles"),
        ("decoder", "_target_", "nemo.RNNTDecoder", "decoder is RNNTDecoder; this project defines ConvASRDecoder"),
        ("preprocessor", "sample_rate", 8000, "sample_rate is 8000; this project defines 16000"),
        ("preprocessor", "normalize", "all_features", "normalize is 'all_features'"),
    ],
)
def test_what_is_not_defined_here(tmp_path: Path, section: str, name: str, value: object, message: str) -> None:
    model = small_model()
    config = copy.deepcopy(nemo_config(model))
    config[section][name] = value
    path = write_archive(tmp_path / "m.nemo", config, nemo_state(model), letters_tokenizer())
    with pytest.raises(CheckpointError, match=message) as raised:
        import_nemo(path)
    assert str(path) in str(raised.value)


def test_what_is_no_archive(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "m.nemo"
    config, state = nemo_config(model), nemo_state(model)
    with pytest.raises(CheckpointError, match="no such file"):
        import_nemo(path)
    path.write_bytes(b"RIFF, not a tar" * 100)
    with pytest.raises(CheckpointError, match="not a NeMo archive, which is a tar file"):
        import_nemo(path)
    write_archive(path, config, state)
    with pytest.raises(CheckpointError, match="a tar file without tokenizer.model"):
        import_nemo(path)
    whole = write_archive(path, config, state, letters_tokenizer()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a NeMo archive|a tar file without"):
        import_nemo(path)
    write_archive(path, ["a", "list"], state, letters_tokenizer())
    with pytest.raises(CheckpointError, match="no section encoder; found: list"):
        import_nemo(path)
    write_archive(path, config, {"state": {"deeper": 1}}, letters_tokenizer())
    with pytest.raises(CheckpointError, match="expected to hold tensors by name"):
        import_nemo(path)
    write_archive(path, config, {"code": Path("x")}, letters_tokenizer())  # pickled code is not run
    with pytest.raises(CheckpointError, match="holds no tensors that can be read"):
        import_nemo(path)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "m.nemo"
    state = nemo_state(model)
    write_archive(path, nemo_config(model), state | {"encoder.layers.0.adapter.w": torch.ones(2)}, letters_tokenizer())
    with pytest.raises(CheckpointError, match="encoder.layers.0.adapter.w belongs to a layer"):
        import_nemo(path)
    del state["encoder.layers.1.norm_out.weight"]
    write_archive(path, nemo_config(model), state, letters_tokenizer())
    with pytest.raises(CheckpointError, match="weights do not fit.*encoder.layers.1.norm.weight"):
        import_nemo(path)


@pytest.fixture(scope="module")
def reference() -> AcousticModel:
    if not REFERENCE.is_file():
        pytest.skip("../shared/reference is not here")
    return import_nemo(REFERENCE)[0]


@pytest.mark.real_speech
def test_the_reference_has_its_size(reference: AcousticModel) -> None:
    assert sum(parameter.numel() for parameter in reference.parameters()) == 13_154_033
    assert reference.config.encoder.n_layers == 16 and reference.config.encoder.d_model == 176
    assert len(reference.config.vocabulary) == 1025 and reference.config.vocabulary[2] == "▁the"


@pytest.mark.real_speech
def test_our_front_end_is_the_references(reference: AcousticModel) -> None:
    """The archive holds NeMo's own window and filters."""
    with tarfile.open(REFERENCE) as archive:
        member = next(one for one in archive if one.name.endswith("model_weights.ckpt"))
        state = torch.load(io.BytesIO(archive.extractfile(member).read()), weights_only=True)  # type: ignore[union-attr]
    filters = state["preprocessor.featurizer.fb"].squeeze(0).T
    torch.testing.assert_close(reference.log_mel.filters, filters, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(reference.log_mel.window, state["preprocessor.featurizer.window"], atol=1e-6, rtol=1e-5)


@pytest.mark.real_speech
def test_the_reference_recognises_real_speech(reference: AcousticModel) -> None:
    from lwasr_edge.training.data.batches import WaveformStore
    from lwasr_edge.training.data.manifest import load_corpus, read_manifest

    manifest = SHARED / "speech" / "librispeech-dev.jsonl"
    if not manifest.is_file():
        pytest.skip("../shared/speech is not here")
    corpus = load_corpus(read_manifest(manifest)[:200:20])
    texts = transcribe_corpus(reference, corpus, WaveformStore(corpus, torch.device("cpu")), batch_s=30)
    result = score([utterance.text for utterance in corpus.utterances], texts)
    assert result.words > 150
    assert result.wer < 0.06
