"""From options to a `Run`, and from a run to trained students: the one place where a training is assembled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import sentencepiece
import torch

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.training.compress.modules import Module, modules_without_weights
from lwasr_edge.training.compress.qat import prepare_qat
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import Corpus, decode_corpus, load_corpus, read_audio_folder
from lwasr_edge.training.data.manifest import Fault, Utterance, parse_manifest, read_manifest, refuse_faults
from lwasr_edge.training.data.rooms import measured_responses
from lwasr_edge.training.data.transcripts import encode_transcripts
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.loop.state import read_state
from lwasr_edge.training.loop.trainer import Family, Run, Trainer
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.model.quantized import quantized_copy
from lwasr_edge.training.options import TrainingOptions
from lwasr_edge.training.scoring.dev_sets import DevSets

IN_MEMORY_S = 24 * 3600  # of audio, 2.8 GB; more is kept in a file


def prepare_run(options: TrainingOptions, model: AcousticModel, tokenizer: bytes, *, with_transcripts: bool) -> Run:
    """Read and decode the data and choose everything else that a training needs.

    Args:
        options: of the command.
        model: of the architecture to train; its frame rate decides which transcripts CTC can align.
        tokenizer: the serialised SentencePiece model.
        with_transcripts: whether a loss reads transcripts.

    Raises:
        ManifestError: a manifest cannot be read, or too many utterances cannot be used.
        CheckpointError: the tokenizer does not belong to the model.
    """
    device = options.hardware.device
    corpus, targets = training_data(options, model, tokenizer, with_transcripts)
    return Run(
        corpus=corpus,
        store=WaveformStore(corpus, device),
        targets=targets,
        augmenter=load_augmenter(options, device),
        schedule=options.schedule,
        hardware=options.hardware,
        folder=options.output,
        tensorboard=options.tensorboard,
    )


def train_students(
    run: Run,
    students: dict[str, AcousticModel],
    tokenizer: bytes,
    weights: LossWeights,
    options: TrainingOptions,
    reference: AcousticModel | None = None,
) -> None:
    """Train students, from the newest state in the run's folder if there is one, evaluating on --dev.

    Args:
        run: by `prepare_run`.
        students: by name; trained in place.
        tokenizer: the serialised SentencePiece model of all.
        weights: of the losses.
        options: of the command.
        reference: the teacher, where a loss compares with it.
    """
    for student in students.values():
        student.encoder.subsampling.requires_grad_(not options.freeze_subsampling)
        if options.qat is not None:
            prepare_qat(student, options.qat)
    notes = {
        "schedule": json.dumps(vars(run.schedule)),
        "losses": json.dumps(vars(weights)),
        "augment": json.dumps(vars(options.augment)),
        "train": " ".join(path.stem for path in options.train),
    }
    trainer = Trainer(run, Family(students, tokenizer, notes), weights, reference)
    dev_sets = DevSets(options.dev, run.hardware.device)

    def evaluate() -> dict[str, float]:
        wers = dev_sets.measure({name: quantized_copy(student) for name, student in students.items()})
        print(" ".join(f"{key} {value}" for key, value in wers.items()), flush=True)
        return wers

    if trainer.resume():
        print(f"resuming {run.folder} at step {trainer.step}", flush=True)
    trainer.train(evaluate if options.dev else None)


def removed_before(folder: Path) -> dict[str, tuple[Module, ...]]:
    """The modules that each student of an interrupted run lacks; none where there is no state.

    A search for them takes minutes, and another machine can find others.
    """
    state = read_state(folder, torch.device("cpu"))
    weights = list(state["models"]) if state is not None else []
    names = {weight.split(".")[0] for weight in weights}
    return {name: modules_without_weights(one for one in weights if one.startswith(f"{name}.")) for name in names}


def load_students(paths: list[Path], tokenizer: bytes, dropout: float, output: Path) -> dict[str, AcousticModel]:
    """Students to train further, by the names of their files; dots in a name become underscores.

    Raises:
        OptionError: two of one name, a student with another tokenizer, or one that the run would overwrite.
    """
    students = {}
    for path in paths:
        if (output / path.name).resolve() == path.resolve():
            raise OptionError(f"-o must be another folder, got {output}: the trained students would replace {path}")
        name = path.stem.replace(".", "_")
        if name in students:
            raise OptionError(f"students must have different file names, got two called {name}: rename one")
        students[name], own_tokenizer = load_checkpoint(path, dropout)
        if own_tokenizer != tokenizer:
            raise OptionError(f"{path} must have the tokenizer of the models it is trained with, got another one")
    return students


def training_data(
    options: TrainingOptions, model: AcousticModel, tokenizer: bytes, with_transcripts: bool
) -> tuple[Corpus, list[list[int]]]:
    """The utterances that can be used, and their token ids (empty without transcripts).

    A manifest that is given twice is decoded once and counts twice in an epoch.

    Raises:
        ManifestError: a manifest cannot be read, or too many utterances cannot be used.
        CheckpointError: the tokenizer does not belong to the model.
    """
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    except RuntimeError as error:
        raise CheckpointError("the tokenizer must be a SentencePiece model, got other bytes: make it again") from error
    if pieces.get_piece_size() != model.config.blank_id:
        raise CheckpointError(
            f"the tokenizer must have {model.config.blank_id} pieces, as the model, got {pieces.get_piece_size()}"
        )
    wanted: list[Utterance] = []
    faults: list[Fault] = []
    repeats: dict[str, int] = {}  # in an epoch, by id
    for path, times in Counter(options.train).items():
        utterances, unreadable = parse_manifest(path)
        wanted, faults = wanted + utterances, faults + unreadable
        repeats = {utterance.id: times for utterance in utterances} | repeats  # of two with one id, the first is used
    n_wanted = len(wanted) + len(faults)
    wanted, too_long = split_by_length(wanted, options.max_utterance_s)
    is_large = sum(utterance.duration_s for utterance in wanted) > IN_MEMORY_S
    corpus, undecodable = decode_corpus(wanted, spool=options.output if is_large else None)
    found: list[list[int] | Fault] = [[] for _ in corpus.utterances]
    if with_transcripts:
        found = encode_transcripts(corpus, pieces, [model.frames(int(length)) for length in corpus.lengths])
    faults += [*too_long, *undecodable, *(item for item in found if isinstance(item, Fault))]
    refuse_faults(faults, n_wanted, options.max_bad)
    usable = [(index, item) for index, item in enumerate(found) if not isinstance(item, Fault)]
    usable = [one for one in usable for _ in range(repeats[corpus.utterances[one[0]].id])]
    return corpus.select([index for index, _ in usable]), [item for _, item in usable]


def split_by_length(utterances: list[Utterance], max_s: float) -> tuple[list[Utterance], list[Fault]]:
    """Utterances of at most ``max_s`` seconds, and the others as faults."""
    reason = f"more than --max-utterance-s {max_s:g}: cut it into sentences"
    long = [Fault(one, f"lasts {one.duration_s:g} s, {reason}") for one in utterances if one.duration_s > max_s]
    return [one for one in utterances if not one.duration_s > max_s], long


def load_augmenter(options: TrainingOptions, device: torch.device) -> Augmenter:
    """The augmentation with the recordings of --noise and the responses of --rooms."""
    noise = None if options.noise is None else torch.from_numpy(load_source(options.noise).samples).to(device)
    rooms = None if options.rooms is None else measured_responses(load_source(options.rooms), device)
    return Augmenter(options.augment, noise, rooms)


def load_source(source: Path) -> Corpus:
    """The recordings of a manifest or a folder."""
    return load_corpus(read_audio_folder(source) if source.is_dir() else read_manifest(source))
