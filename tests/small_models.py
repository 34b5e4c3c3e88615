"""Small inputs for tests of training: a tokenizer of letters, random models, the recordings of tests/data."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from locations import DATA

from lwasr_edge.chunking import Chunking
from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.corpus import Corpus, load_corpus
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig

TRANSCRIPTS: dict[str, str] = json.loads((DATA / "transcripts.json").read_text(encoding="utf-8"))
DURATIONS_S = {"slt_16k.flac": 3.39, "rms_16k.opus": 3.21, "gb_22k.wav": 3.13}
QUIET = AugmentConfig(
    speeds=(1.0,),
    pause_probability=0,
    gain_db=(0, 0),
    gain_step_probability=0,
    noise_probability=0,
    room_probability=0,
    band_masks=0,
    time_masks=0,
)


@functools.cache
def letters_tokenizer() -> bytes:
    """A SentencePiece model of single letters."""
    written = io.BytesIO()
    lines = ["the quick brown fox jumps over the lazy dog", *TRANSCRIPTS.values()] * 3
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type="char",
        vocab_size=28,
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    return written.getvalue()


def letters() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=letters_tokenizer())


def small_config(**encoder: object) -> ModelConfig:
    """Width 16 with the features of every model; ``encoder`` replaces fields of the encoder config."""
    sizes = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_feed_forward": 32, "conv_kernel": 5}
    sizes |= {"subsampling_channels": 8, "left_context_frames": 6}
    pieces = letters()
    vocabulary = (*(pieces.id_to_piece(i) for i in range(pieces.get_piece_size())), "<blank>")
    return ModelConfig(FrontendConfig(), EncoderConfig(**(sizes | encoder)), vocabulary)  # type: ignore[arg-type]


def small_model(seed: int = 0, normalization: str = "utterance", **encoder: object) -> AcousticModel:
    """A random model; parameters that start at 0 or 1 are random too, so that no special case is tested."""
    config = small_config(**encoder)
    config = ModelConfig(FrontendConfig(normalization=normalization), config.encoder, config.vocabulary)
    torch.manual_seed(seed)
    model = AcousticModel(config)
    for name, value in model.state_dict().items():
        if (name.startswith("encoder.layers") and value.dim() <= 1) or name.endswith("_bias"):
            value.add_(0.2 * torch.rand_like(value))
    return model.eval()


def chunking(frames: int | None) -> Chunking | None:
    """Chunks without look-ahead; None for full context."""
    return None if frames is None else Chunking(frames)


def write_test_manifest(folder: Path, names: tuple[str, ...] = tuple(TRANSCRIPTS)) -> Path:
    """A manifest of recordings of tests/data."""
    path = folder / "data.jsonl"
    rows = [
        {"audio_filepath": str(DATA / name), "duration": DURATIONS_S[name], "text": TRANSCRIPTS[name]}
        | {"speaker": name.partition("_")[0]}
        for name in names
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def two_utterances(folder: Path, longest_s: float = 10.0) -> Corpus:
    """Two recordings of tests/data, cut to ``longest_s``."""
    corpus = load_corpus(read_manifest(write_test_manifest(folder, ("rms_16k.opus", "slt_16k.flac"))))
    return dataclasses.replace(corpus, lengths=np.minimum(corpus.lengths, int(16_000 * longest_s)))
