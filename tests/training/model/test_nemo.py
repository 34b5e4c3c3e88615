"""Import of NeMo archives: synthetic ones of several shapes, unsupported and damaged ones, and the real reference."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
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
def test_round_trip(tmp_path: Path, sizes: dict[str, Any]) -> None:
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
        (
            "encoder",
            "_target_",
            "nemo.SqueezeformerEncoder",
            "_target_ of the encoder must be ConformerEncoder, got 'nemo.Squ",
        ),
        ("encoder", "subsampling", "dw_striding", "subsampling must be 'striding', got 'dw_striding'"),
        (
            "encoder",
            "self_attention_model",
            "rel_pos_local_attn",
            "self_attention_model must be 'rel_pos', got 'rel_pos_local_attn'",
        ),
        ("encoder", "subsampling_factor", 8, "subsampling_factor must be 4, got 8"),
        ("encoder", "att_context_size", [70, 13], "att_context_size must be"),
        ("encoder", "conv_norm_type", "group_norm", "'batch_norm' or 'layer_norm'"),
        ("encoder", "d_model", None, "model_config.yaml: d_model must be a whole number >= 1, got None"),
        ("decoder", "_target_", "nemo.RNNTDecoder", "_target_ of the decoder must be ConvASRDecoder, got"),
        ("preprocessor", "sample_rate", 8000, "sample_rate must be 16000, got 8000"),
        ("preprocessor", "normalize", "all_features", "normalize must be 'per_feature', got 'all_features'"),
    ],
)
def test_unsupported_models(tmp_path: Path, section: str, name: str, value: object, message: str) -> None:
    model = small_model()
    config = copy.deepcopy(nemo_config(model))
    config[section][name] = value
    path = write_archive(tmp_path / "m.nemo", config, nemo_state(model), letters_tokenizer())
    with pytest.raises(CheckpointError, match=message) as raised:
        import_nemo(path)
    assert str(path) in str(raised.value)


def test_damaged_archives(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "m.nemo"
    config, state = nemo_config(model), nemo_state(model)
    with pytest.raises(CheckpointError, match="no such file"):
        import_nemo(path)
    path.write_bytes(b"RIFF, not a tar" * 100)
    with pytest.raises(CheckpointError, match="not a NeMo archive, which is a tar file"):
        import_nemo(path)
    write_archive(path, config, state)
    with pytest.raises(CheckpointError, match="must contain tokenizer.model, got none"):
        import_nemo(path)
    data = write_archive(path, config, state, letters_tokenizer()).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a NeMo archive|must contain"):
        import_nemo(path)
    write_archive(path, ["a", "list"], state, letters_tokenizer())
    with pytest.raises(CheckpointError, match="must have a section encoder, got list"):
        import_nemo(path)
    write_archive(path, config, {"state": {"deeper": 1}}, letters_tokenizer())
    with pytest.raises(CheckpointError, match="must hold tensors by name"):
        import_nemo(path)
    write_archive(path, config, {"code": Path("x")}, letters_tokenizer())  # pickled code is not run
    with pytest.raises(CheckpointError, match="holds no readable tensors"):
        import_nemo(path)


class Code:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_code_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    model = small_model()
    path = write_archive(tmp_path / "m.nemo", nemo_config(model), Code(tmp_path / "marker"), letters_tokenizer())
    with pytest.raises(
        CheckpointError, match="holds code or objects that are no tensors, which were not loaded"
    ) as raised:
        import_nemo(path)
    assert "weights_only" not in str(raised.value) and "torch" not in str(raised.value)
    assert not (tmp_path / "marker").exists()


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()


def member(name: str, size: int = 0, **headers: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.pax_headers = headers
    return info


def test_archives_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    sparse = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "model_weights.ckpt"}
    sparse |= {"GNU.sparse.size": str(1 << 33), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,0"}
    path.write_bytes(tar_of((member("model_weights.ckpt", **sparse), b"")))
    with pytest.raises(CheckpointError, match="must contain|not a NeMo archive"):
        import_nemo(path)
    path.write_bytes(member("model_weights.ckpt", 1 << 40).tobuf() + bytes(10_240))
    with pytest.raises(CheckpointError, match="not a NeMo archive.*model_weights.ckpt must have at most"):
        import_nemo(path)
    block = gzip.compress(bytes(1 << 24), 9)
    path.write_bytes(gzip.compress(member("model_weights.ckpt", 1 << 32).tobuf()) + block * 32)
    with pytest.raises(CheckpointError, match="not a NeMo archive.*unpacks to more than"):
        import_nemo(path)
    text = b"decoder: {vocabulary: [" + b"a," * 300_000 + b"]}"
    path.write_bytes(tar_of((member("model_config.yaml", len(text)), text)))
    with pytest.raises(CheckpointError, match="model_config.yaml must have at most 524288 bytes"):
        import_nemo(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="no such file"):
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
    from lwasr_edge.training.data.corpus import load_corpus
    from lwasr_edge.training.data.manifest import read_manifest

    manifest = SHARED / "speech" / "librispeech-dev.jsonl"
    if not manifest.is_file():
        pytest.skip("../shared/speech is not here")
    corpus = load_corpus(read_manifest(manifest)[:200:20])
    texts = transcribe_corpus(reference, corpus, WaveformStore(corpus, torch.device("cpu")), batch_s=30)
    result = score([utterance.text for utterance in corpus.utterances], texts)
    assert result.words > 150
    assert result.wer < 0.06


@pytest.mark.parametrize("seed", range(24))
def test_damaged_bytes_raise_nothing_but_checkpoint_errors(tmp_path: Path, seed: int) -> None:
    model, path = small_model(n_layers=1), tmp_path / "m.nemo"
    data = bytearray(write_archive(path, nemo_config(model), nemo_state(model), letters_tokenizer(), "w").read_bytes())
    rng = np.random.default_rng(seed)
    for _ in range(rng.integers(1, 5)):  # half of them in the first kilobytes: tar header and YAML
        data[rng.integers(0, 3000 if rng.random() < 0.5 else len(data))] = rng.integers(0, 256)
    path.write_bytes(data[: rng.integers(0, len(data))] if seed % 4 == 0 else data)
    with contextlib.suppress(CheckpointError):
        import_nemo(path)


HOSTILE = [None, True, -1, 10**12, float("nan"), "text", ["a"], {1: 2}]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_config_values_of_wrong_types(tmp_path: Path, value: object) -> None:
    model, path = small_model(n_layers=1), tmp_path / "m.nemo"
    wanted = nemo_config(model)
    for section in wanted:
        for name in wanted[section]:
            config = copy.deepcopy(wanted)
            config[section][name] = value
            write_archive(path, config, nemo_state(model), letters_tokenizer())
            with contextlib.suppress(CheckpointError):
                import_nemo(path)
        write_archive(path, {**wanted, section: value, 1: value}, nemo_state(model), letters_tokenizer())
        with pytest.raises(CheckpointError, match=str(path)):
            import_nemo(path)


@pytest.mark.parametrize("state", [{1: torch.zeros(1)}, [torch.zeros(1)], 3, {"head": torch.zeros(1).to_sparse()}])
def test_weights_of_wrong_types(tmp_path: Path, state: object) -> None:
    path = write_archive(tmp_path / "m.nemo", nemo_config(small_model()), state, letters_tokenizer())
    with pytest.raises(CheckpointError, match=str(path)):
        import_nemo(path)
