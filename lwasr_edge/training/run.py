"""The two training steps, put together from the parts."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from lwasr_edge.errors import CheckpointError, OptionError
from lwasr_edge.files import sha256_of, write_bytes
from lwasr_edge.training.compress.qat import prepare_qat
from lwasr_edge.training.compress.students import Shape, init_students, layers_to_keep, student_config
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.augment_config import AugmentConfig, parse_augment
from lwasr_edge.training.data.batches import Batches, WaveformStore
from lwasr_edge.training.data.corpus import Corpus, decode_corpus, load_corpus, read_audio_folder
from lwasr_edge.training.data.manifest import Fault, Utterance, parse_manifest, read_manifest, refuse_faults
from lwasr_edge.training.data.transcripts import encode_transcripts
from lwasr_edge.training.loop.device import choose_device, choose_precision
from lwasr_edge.training.loop.distributed import World, join_world, own_device
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Trainer
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import (
    load_checkpoint,
    refuse_folder,
    save_checkpoint,
)
from lwasr_edge.training.model.nemo import import_nemo
from lwasr_edge.training.model.quantized import quantized_copy
from lwasr_edge.training.scoring.dev_sets import DevSets

IN_MEMORY_S = 24 * 3600  # of audio, 2.8 GB; more lies in a file
REPRESENT_WEIGHTS = LossWeights()
ADAPT_WEIGHTS = LossWeights(mse=0.0, clip=0.0, kl=0.0, hidden=0.0, ctc=1.0)


@dataclass(frozen=True)
class TrainingOptions:
    """What both training steps are told."""

    train: list[Path]
    dev: list[Path]
    noise: Path | None
    output: Path
    device: torch.device
    world: World
    precision: torch.dtype
    freeze_subsampling: bool  # leave the subsampling's convolutions as they are
    dropout: float
    qat: bool  # students' weights are rounded from now on
    max_bad: float  # share of unusable utterances, 0 to 1, from which on a run stops
    max_utterance_s: float  # s; longer ones cannot be used: they decide how much memory a step takes
    tensorboard: bool  # write its files too
    loss: dict[str, float]  # weights that differ from the step's own
    augment: AugmentConfig
    schedule: Schedule

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise OptionError(f"--dropout {self.dropout}: expected a share from 0 to below 1")
        if not 0 <= self.max_bad <= 1:
            raise OptionError(f"--max-bad {100 * self.max_bad:g}: expected per cent, from 0 to 100")
        if not self.max_utterance_s > 0:
            raise OptionError(f"--max-utterance-s {self.max_utterance_s:g}: expected a positive number")

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> TrainingOptions:
        """Options as the command line gave them."""
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(Schedule):
            value = getattr(args, field.name)
            fields[field.name] = tuple(value) if isinstance(value, list) else value
        device = own_device(choose_device(args.device))
        world = join_world(device)
        precision = choose_precision(args.precision, device)
        if world.any(precision is torch.float32, device):  # each has measured for itself; their gradients add up
            precision = torch.float32
        return cls(
            train=args.train,
            dev=args.dev,
            noise=args.noise,
            output=args.output,
            device=device,
            world=world,
            precision=precision,
            freeze_subsampling=args.freeze_subsampling,
            dropout=args.dropout,
            qat=args.qat,
            max_bad=args.max_bad / 100,
            max_utterance_s=args.max_utterance_s,
            tensorboard=args.tensorboard,
            loss=parse_losses(args.loss),
            augment=parse_augment(args.augment),
            schedule=Schedule(**fields),
        )


def parse_losses(items: list[str]) -> dict[str, float]:
    """["kl=0.5", "ctc=1"] as {"kl": 0.5, "ctc": 1.0}."""
    parts = vars(REPRESENT_WEIGHTS)
    weights = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            name = ""
        if name not in parts:
            raise OptionError(f"--loss {item}: expected PART=WEIGHT with a part of {', '.join(parts)}")
    return weights


def parse_keep(text: str, n_reference: int) -> dict[str, Shape]:
    """The students that ``--keep`` names, and what each keeps of the reference.

    Args:
        text: students separated by commas; each a number of layers, or the layers themselves joined by "+"; behind an
            "x" the hidden units of their feed-forward modules, then the width of their attention, then the channels of
            their front: "8,5", "14x368x96x64,10x288x96x64" or "0+5+9+15x352".
        n_reference: layers of the reference.
    """
    students: dict[str, Shape] = {}
    for part in text.split(","):
        layers, *narrows = part.strip().split("x")
        try:
            numbers = [int(number) for number in layers.split("+")]
            widths = [int(width) for width in narrows]
        except ValueError:
            widths = [0, 0, 0, 0]
        if len(widths) > 3:
            expected = "expected numbers of layers, as in 8,5,3, or layers, as in 0+5+9; narrower, as in 14x368x96x64"
            raise OptionError(f"--keep {text}: {expected}")
        name = "x".join(["layers" + "-".join(map(str, numbers)), *map(str, widths)])
        if name in students:
            raise OptionError(f"--keep {text}: {part.strip()} is there twice")
        kept = tuple(numbers) if len(numbers) > 1 else layers_to_keep(n_reference, numbers[0])
        students[name] = Shape(kept, *widths)
    return students


def import_reference(archive: Path, output: Path) -> None:
    """Read a NeMo archive and write a checkpoint."""
    refuse_folder(output)
    model, tokenizer = import_nemo(archive)
    save_checkpoint(output, model, tokenizer, {"imported_from": archive.name, "archive_sha256": sha256_of(archive)})
    encoder = model.config.encoder
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{output}: {encoder.n_layers} layers of width {encoder.d_model}, {len(model.config.vocabulary)} tokens, "
        f"{count / 1e6:.2f} million parameters"
    )


def represent(reference: Path, keep: str, students: list[Path], options: TrainingOptions) -> None:
    """Step 1: a family of students learns the reference's representation, all from the same batches.

    Args:
        reference: checkpoint of the teacher; frozen.
        keep: the students to begin, see `parse_keep`; ignored where ``students`` are given.
        students: checkpoints of students to go on with.
        options: data, schedule, output folder.
    """
    weights = dataclasses.replace(REPRESENT_WEIGHTS, **options.loss)
    teacher, tokenizer = load_checkpoint(reference)
    if students:
        if options.schedule.layer_steps:
            raise OptionError("--layer-steps: --students that learnt end to end would forget it: leave it at 0")
        refuse_overwriting(students, options.output)
        family = load_family(students, tokenizer, options.dropout)
    shapes = {} if students else parse_keep(keep, teacher.config.encoder.n_layers)
    for shape in shapes.values():
        student_config(teacher.config, shape)  # what cannot be is refused before the audio is read
    corpus, targets = training_data(teacher, tokenizer, weights, options)
    store = WaveformStore(corpus, options.device)
    if shapes:
        family = init_students(teacher, shapes, store, options.dropout)
    train(family, teacher, tokenizer, store, corpus, targets, weights, options)


def adapt(
    students: list[Path],
    reference: Path | None,
    general: list[Path],
    max_general_loss: float,
    epochs: float | None,
    options: TrainingOptions,
) -> None:
    """Step 2: students learn from transcripts by CTC, on general speech or on that of one place.

    Args:
        students: checkpoints to go on with.
        reference: teacher, for losses that compare.
        general: manifests of general speech, on which the students are measured before and after.
        max_general_loss: per cent of WER that a student may lose there.
        epochs: passes over the data, instead of the schedule's steps; None for those.
        options: data, schedule, output folder.

    Raises:
        OptionError: a student forgot more than ``max_general_loss``; it is in the output folder all the same.
    """
    weights = dataclasses.replace(ADAPT_WEIGHTS, **options.loss)
    if reference and not weights.needs_reference:
        raise OptionError("--reference is given and no loss compares with it: add, say, --loss kl=0.5")
    refuse_overwriting(students, options.output)
    tokenizer = load_checkpoint(students[0])[1]
    family = load_family(students, tokenizer, options.dropout)
    teacher = load_checkpoint(reference)[0] if reference else None
    corpus, targets = training_data(next(iter(family.values())), tokenizer, weights, options)
    if epochs is not None:
        options = dataclasses.replace(options, schedule=options.schedule.for_epochs(epochs, corpus.seconds))
    guard = Guard(DevSets(general, options.device), dict(zip(family, students, strict=True)))
    train(family, teacher, tokenizer, WaveformStore(corpus, options.device), corpus, targets, weights, options)
    if general and options.world.is_rank_zero:
        guard.check(family, max_general_loss, options.output)


class Guard:
    """Measures students on general speech before and after they learn a place's."""

    def __init__(self, general: DevSets, before: dict[str, Path]) -> None:
        self.general, self.before = general, before

    def check(self, family: dict[str, AcousticModel], max_loss: float, folder: Path) -> None:
        """Print and keep WER before and after.

        Raises:
            OptionError: a student lost more than ``max_loss`` per cent on a set.
        """
        device = next(iter(family.values())).head.weight.device
        before = self.general.measure({name: load_checkpoint(path)[0].to(device) for name, path in self.before.items()})
        after = self.general.measure({name: quantized_copy(student) for name, student in family.items()})
        for key, wer in after.items():
            print(f"general speech, {key}: WER {before[key]:.2f} % before, {wer:.2f} % after")
        write_bytes(folder / "general.json", json.dumps({"before": before, "after": after}, indent=1).encode())
        forgot = [key for key in after if after[key] - before[key] > max_loss]
        if forgot:
            raise OptionError(
                f"general speech was forgotten, by more than {max_loss:g} % WER on {', '.join(forgot)}: train fewer "
                f"epochs, at a lower rate, or mix general speech into --train (the students are in {folder})"
            )


def refuse_overwriting(students: list[Path], output: Path) -> None:
    """Raise an OptionError where a run would write over the checkpoints that it begins with."""
    for path in students:
        if (output / path.name).resolve() == path.resolve():
            raise OptionError(f"-o {output}: the students after training would replace {path}: choose another folder")


def load_family(paths: list[Path], tokenizer: bytes, dropout: float) -> dict[str, AcousticModel]:
    """Students by the names of their files; dots in a name become underscores.

    Raises:
        OptionError: two of one name, or a student with another tokenizer.
    """
    family = {}
    for path in paths:
        name = path.stem.replace(".", "_")
        if name in family:
            raise OptionError(f"two students are named {name}: their checkpoints would overwrite each other")
        family[name], own_tokenizer = load_checkpoint(path, dropout)
        if own_tokenizer != tokenizer:
            raise OptionError(f"{path} has another tokenizer than the models it should train with")
    return family


def training_data(
    model: AcousticModel, tokenizer: bytes, weights: LossWeights, options: TrainingOptions
) -> tuple[Corpus, list[list[int]]]:
    """The utterances that can be used, and their token ids (empty where no loss reads transcripts).

    A manifest that is named twice is decoded once and heard twice in a pass.

    Raises:
        ManifestError: a manifest cannot be read, or too many utterances cannot be used.
    """
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    if pieces.get_piece_size() != model.config.blank_id:
        raise CheckpointError(f"the tokenizer has {pieces.get_piece_size()} pieces, the model {model.config.blank_id}")
    wanted: list[Utterance] = []
    faults: list[Fault] = []
    heard: dict[str, int] = {}  # times in a pass, by id
    for path, times in Counter(options.train).items():
        utterances, unreadable = parse_manifest(path)
        wanted, faults = wanted + utterances, faults + unreadable
        heard = {utterance.id: times for utterance in utterances} | heard  # of two with one id, the first is used
    n_wanted = len(wanted) + len(faults)
    wanted, too_long = split_by_length(wanted, options.max_utterance_s)
    faults += too_long
    is_large = sum(utterance.duration_s for utterance in wanted) > IN_MEMORY_S
    corpus, undecodable = decode_corpus(wanted, spool=options.output if is_large else None)
    faults += undecodable
    found: list[list[int] | Fault] = [[] for _ in corpus.utterances]
    if weights.ctc:
        found = encode_transcripts(corpus, pieces, [model.frames(int(length)) for length in corpus.lengths])
    faults += [item for item in found if isinstance(item, Fault)]
    refuse_faults(faults, n_wanted, options.max_bad)
    usable = [(place, item) for place, item in enumerate(found) if not isinstance(item, Fault)]
    usable = [one for one in usable for _ in range(heard[corpus.utterances[one[0]].id])]
    return corpus.select([place for place, _ in usable]), [item for _, item in usable]


def split_by_length(utterances: list[Utterance], max_s: float) -> tuple[list[Utterance], list[Fault]]:
    """Utterances of at most ``max_s`` seconds, and the others."""
    reason = f"more than --max-utterance-s {max_s:g}; cut it into sentences"
    long = [Fault(one, f"lasts {one.duration_s:g} s, {reason}") for one in utterances if one.duration_s > max_s]
    return [one for one in utterances if not one.duration_s > max_s], long


def train(
    family: dict[str, AcousticModel],
    reference: AcousticModel | None,
    tokenizer: bytes,
    store: WaveformStore,
    corpus: Corpus,
    targets: list[list[int]],
    weights: LossWeights,
    options: TrainingOptions,
) -> None:
    """Run the loop, from the newest state in the output folder if there is one."""
    for student in family.values():
        student.encoder.subsampling.requires_grad_(not options.freeze_subsampling)
        if options.qat:
            prepare_qat(student)
    notes = {"schedule": json.dumps(vars(options.schedule)), "losses": json.dumps(vars(weights))}
    notes["augment"] = json.dumps(vars(options.augment))
    notes["train"] = " ".join(path.stem for path in options.train)
    trainer = Trainer(
        Family(family, tokenizer, notes),
        reference,
        store,
        targets,
        Batches(corpus, options.schedule.batch_s, options.schedule.seed),
        Augmenter(options.augment, load_noise(options.noise, options.device)),
        weights,
        options.schedule,
        options.output,
        options.device,
        options.precision,
        options.world,
        options.tensorboard,
    )
    dev_sets = DevSets(options.dev, options.device)

    def measure() -> dict[str, float]:
        wers = dev_sets.measure({name: quantized_copy(student) for name, student in family.items()})
        print(" ".join(f"{key} {value}" for key, value in wers.items()), flush=True)
        return wers

    if trainer.resume():
        print(f"resuming {options.output} at step {trainer.step}", flush=True)
    trainer.run(measure if options.dev else None)


def load_noise(source: Path | None, device: torch.device) -> Tensor | None:
    """Background recordings of a manifest or a folder end to end, (samples,) int16 at 16 kHz."""
    if source is None:
        return None
    recordings = read_audio_folder(source) if source.is_dir() else read_manifest(source)
    return torch.from_numpy(load_corpus(recordings).samples).to(device)
