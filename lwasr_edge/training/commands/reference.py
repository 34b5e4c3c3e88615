"""`lwasr-train reference`: train a reference from scratch: tokenizer, full-context Conformer of any size, CTC."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import sentencepiece
import torch

from lwasr_edge.errors import OptionError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.config import EncoderConfig, FrontendConfig, ModelConfig
from lwasr_edge.training.model.nemo import BLANK
from lwasr_edge.training.options import CTC_WEIGHTS, TrainingOptions, add_training_options
from lwasr_edge.training.run import prepare_run, train_students
from lwasr_edge.wer import normalize_text

TOKENIZER_FILE = "tokenizer.model"
UNUSED = {"layer_steps", "full_context_probability", "chunk_frames", "look_ahead_frames", "freeze_subsampling", "qat"}


def train_tokenizer(texts: list[str], n_pieces: int) -> bytes:
    """A SentencePiece model of byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909).

    Args:
        texts: transcripts, normalised.
        n_pieces: size of the vocabulary without the blank.

    Raises:
        OptionError: the texts are too few for so many pieces.
    """
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="bpe",
            vocab_size=n_pieces,
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)
        raise OptionError(f"--vocabulary must fit the transcripts, got {n_pieces}: {reason}") from error
    return written.getvalue()


def reference_model(encoder: EncoderConfig, tokenizer: bytes, dropout: float) -> AcousticModel:
    """A random full-context model over the tokenizer's pieces and a blank."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    vocabulary = (*(pieces.id_to_piece(token) for token in range(pieces.get_piece_size())), BLANK)
    return AcousticModel(ModelConfig(FrontendConfig(), encoder, vocabulary), dropout)


def train_reference(encoder: EncoderConfig, n_pieces: int, options: TrainingOptions) -> None:
    """Train, from the newest state in the output folder if there is one, and write reference.safetensors there.

    The tokenizer is trained once and kept in the folder, so that a resumed run has the same tokens.

    Raises:
        OptionError: the folder's tokenizer is of another size.
    """
    path = options.output / TOKENIZER_FILE
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, train_tokenizer(transcripts(options.train), n_pieces))
    tokenizer = path.read_bytes()
    try:
        found = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).get_piece_size()
    except RuntimeError as error:
        raise OptionError(f"{path} must be a SentencePiece model, got other bytes: remove it") from error
    if found != n_pieces:
        raise OptionError(f"--vocabulary must be {found}, as in {path}, got {n_pieces}: or choose another folder")
    torch.manual_seed(options.schedule.seed)
    model = reference_model(encoder, tokenizer, options.dropout)
    training = prepare_run(options, model, tokenizer, with_transcripts=True)
    train_students(training, {"reference": model}, tokenizer, CTC_WEIGHTS, options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train reference`; the defaults are the sizes of Hannan et al. 2025."""
    add = parser.add_argument
    add("--layers", type=int, default=12, help="layers of the encoder (default: 12)")
    add("--width", type=int, default=256, help="width of the encoder (default: 256)")
    add("--heads", type=int, default=4, help="attention heads (default: 4)")
    add("--feed-forward", type=int, default=1024, metavar="WIDTH", help="feed-forward width (default: 1024)")
    add("--kernel", type=int, default=31, metavar="FRAMES", help="kernel of the depth-wise convolution (default: 31)")
    add("--vocabulary", type=int, default=256, metavar="PIECES", help="byte-pair encoding pieces (default: 256)")
    schedule = Schedule(steps=100_000, warmup_steps=10_000, full_context_probability=1.0)
    add_training_options(parser, schedule, without=UNUSED, dropout=0.1)


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train reference`."""
    encoder = EncoderConfig(
        n_layers=args.layers,
        d_model=args.width,
        n_heads=args.heads,
        d_feed_forward=args.feed_forward,
        conv_kernel=args.kernel,
        conv_norm="layer_norm",
        subsampling_channels=args.width,
    )
    train_reference(encoder, args.vocabulary, TrainingOptions.from_args(args))


def transcripts(manifests: list[Path]) -> list[str]:
    """Every transcript of the manifests, normalised; those without text left out."""
    texts = [normalize_text(utterance.text) for path in manifests for utterance in read_manifest(path)]
    return [text for text in texts if text]
