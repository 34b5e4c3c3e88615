"""Adapt a model to a site's material: CTC on its texts, and the model's own outputs on clean audio for everything else.

Two things happen in every batch. Recordings of the site with texts are learnt by CTC. All other recordings, general
speech and speech of the site without texts, are given to the model before adaptation as they are, and to the model in
training with the site's noise; it learns to answer as the former does (KL of the posteriors, frame by frame: Li et al.
2017, arXiv 1708.05466). That teaches it the noise without transcripts, and keeps what it knew: where nothing is added,
it is taught what it answered before. General speech with texts counts for CTC too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.augment import Augmenter
from lwasr_edge.training.data.augment_config import AugmentConfig
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import Corpus, decode_corpus
from lwasr_edge.training.data.manifest import Utterance
from lwasr_edge.training.data.transcripts import encode_transcripts
from lwasr_edge.training.loop.device import Hardware
from lwasr_edge.training.loop.losses import LossWeights
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Run, Trainer
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.site.choice import GENERAL, NOISE, SITE, Choice, Criteria
from lwasr_edge.training.site.general import General, in_noise
from lwasr_edge.training.site.material import Material, utterance

WEIGHTS = LossWeights(mse=0.0, clip=0.0, kl=1.0, hidden=0.0, ctc=1.0)
ALONE_WEIGHTS = replace(WEIGHTS, kl=0.3)  # without other speech, the site's own recordings hold the model where it was
STUDENT = "site"
STEPS = (120, 300)  # fewest and most
RATES = (6e-4, 1e-4)  # of the last half of the layers, without noise; of all of the model, in noise
EPOCHS = 4
SAVE_EVERY = 20  # steps
N_DEV = 40  # recordings of noise, or with texts, that choose
IN_MEMORY_S = 3 * 3600.0  # s of audio, 350 MB; more is kept in a file
MAX_REPEATS = 4  # of a site's recordings in an epoch
SITE_AUGMENT = AugmentConfig(
    speeds=(0.9, 0.95, 1.0, 1.0, 1.05, 1.1),
    pause_probability=0.1,
    pause_s=0.5,
    gain_db=(-15.0, 8.0),
    gain_step_probability=0.0,
    noise_probability=0.3,
    snr_db=(5.0, 30.0),
    room_probability=0.1,
    time_mask_frames=15,
)


@dataclass(frozen=True)
class Settings:
    """What a user may change about the training."""

    steps: int | None = None  # None: chosen by the amount of material
    minutes: float | None = None  # of training at most; None for any
    batch_s: float = 12.0
    learning_rate: float | None = None  # None: of `RATES`
    evaluations: int = 3  # in the course of the training; it ends early after two that are clearly worse
    seed: int = 1


def augmentation(material: Material) -> AugmentConfig:
    """Without noise of the site, noise is synthetic and soft; with it, most recordings have it at 0 to 15 dB."""
    if not material.noise:
        return SITE_AUGMENT
    noisy = replace(SITE_AUGMENT, noise_probability=0.75, snr_db=(-2.0, 15.0))
    return noisy if material.train else replace(noisy, speeds=(0.95, 1.0, 1.0, 1.05), band_masks=0, time_masks=0)


def training_corpus(material: Material, general: General | None, spool: Path) -> tuple[Corpus, list[bool]]:
    """The audio to train on, and for each utterance whether it is a recording of the site with a text."""
    site = [utterance(item) for item in material.train]
    others = [*material.speech, *(general.train if general else [])]
    total_s = sum(one.duration_s for one in [*site, *others])
    corpus, _ = decode_corpus([*site, *others], spool=spool if total_s > IN_MEMORY_S else None, quiet=True)
    names = {one.id for one in site}
    own = [index for index, one in enumerate(corpus.utterances) if one.id in names]
    rest = [index for index in range(len(corpus.utterances)) if index not in set(own)]
    own_s, rest_s = (float(corpus.lengths[some].sum()) for some in (own, rest))
    repeats = max(1, min(MAX_REPEATS, round(rest_s / own_s))) if own else 1
    chosen = [*(own * repeats), *rest]
    return corpus.select(chosen), [True] * (len(own) * repeats) + [False] * len(rest)


class SiteTrainer(Trainer):
    """Ends when `choice` says so, and shows its steps in a bar that is given."""

    choice: Choice
    bar: Any

    def remaining_batches(self) -> Iterator[list[np.ndarray]]:
        """The batches that are left, until there is no more gain."""
        for batches in super().remaining_batches():
            if self.choice.is_over:
                return
            yield batches

    def progress_bar(self) -> Any:
        """The bar of the command."""
        return self.bar


def prepare(
    material: Material,
    general: General | None,
    checkpoint: Path,
    settings: Settings,
    folder: Path,
    criteria: Criteria | None = None,
) -> SiteTrainer:
    """A trainer that has its data, and has measured how long a step takes.

    Args:
        material: of the site.
        general: general speech; None without any.
        checkpoint: of the model before adaptation.
        settings: of the user.
        folder: of the run; an interrupted one is resumed.
        criteria: how the weights are chosen.

    Raises:
        OptionError: nothing to train on.
    """
    before, tokenizer = load_checkpoint(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    corpus, is_site = training_corpus(material, general, folder)
    targets, usable = _targets(corpus, before, tokenizer)
    corpus, is_site = corpus.select(usable), [is_site[index] for index in usable]
    if not usable:
        raise OptionError("FOLDER must have something to train on, got no usable recording: add texts, or --general")
    device = torch.device("cpu")
    run = Run(
        corpus=corpus,
        store=WaveformStore(corpus, device),
        targets=targets,
        augmenter=Augmenter(augmentation(material), noise_samples(material.noise)),
        schedule=_schedule(settings, material),
        hardware=Hardware(device, torch.float32),
        folder=folder,
        compared=None if general is None and not material.speech else [not own for own in is_site],
    )
    notes = {"site": json.dumps({"recordings": len(material.train), "general": general is not None})}
    weights = WEIGHTS if run.compared is not None else ALONE_WEIGHTS
    trainer = SiteTrainer(run, Family({STUDENT: copy.deepcopy(before)}, tokenizer, notes), weights, before)
    if not material.noise:  # noise is learnt in the first layers too
        for model in (trainer.family.students[STUDENT], trainer.copies.models[STUDENT]):
            freeze_first_half(model)
    trainer.choice = Choice(folder, dev_sets(material, general), before, criteria)
    return trainer


def freeze_first_half(model: AcousticModel) -> None:
    """Let only the last half of the layers and the output move: less is forgotten, and fewer gradients are needed."""
    layers = model.encoder.layers
    for module in (model.encoder.subsampling, *layers[: len(layers) // 2]):
        module.requires_grad_(False)


def dev_sets(material: Material, general: General | None) -> dict[str, Corpus]:
    """The recordings that choose when the training ends; the noise of this test is that of the training."""

    def decoded(utterances: Sequence[Utterance]) -> Corpus:
        return decode_corpus(utterances, quiet=True)[0]

    sets = {}
    if material.dev:
        sets[SITE] = decoded([utterance(item) for item in material.dev])
    if general is not None:
        sets[GENERAL] = decoded(general.dev)
        if material.noise:
            sets[NOISE] = in_noise(sets[GENERAL], decoded(material.noise[:: max(1, len(material.noise) // N_DEV)]))
    return sets


def chosen_with(material: Material, general: General | None) -> list[Utterance]:
    """Some recordings with texts of those that choose when the training ends."""
    found = [*(utterance(item) for item in material.dev), *(general.dev if general else [])]
    return [found[index] for index in evenly_spaced(len(found), min(N_DEV, len(found)))]


def fit(trainer: SiteTrainer, bar: Any) -> tuple[AcousticModel | None, dict[str, Any]]:
    """Train, or go on with a training that was interrupted, and choose the weights.

    Returns:
        The model, None if none was better than that before; and how it was chosen.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state is saved.
    """
    trainer.bar = bar
    if trainer.resume():
        bar.update(trainer.step)
    student = trainer.family.students[STUDENT]
    trainer.train(lambda: trainer.choice.evaluate(student, trainer.step))
    return trainer.choice.best()


def noise_samples(noise: Sequence[Utterance]) -> torch.Tensor | None:
    """The noise end to end, (samples,) int16 at 16 kHz; None without any."""
    if not noise:
        return None
    corpus, _ = decode_corpus(noise, quiet=True)
    return torch.from_numpy(corpus.samples) if len(corpus.samples) else None


def _targets(corpus: Corpus, model: AcousticModel, tokenizer: bytes) -> tuple[list[list[int]], list[int]]:
    """Token ids of the utterances that can be used, none for those without text; and their indices."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    found = encode_transcripts(corpus, pieces, [model.frames(int(length)) for length in corpus.lengths])
    targets, usable = [], []
    for index, (one, item) in enumerate(zip(corpus.utterances, found, strict=True)):
        if isinstance(item, list) or not one.text:
            targets.append(item if isinstance(item, list) else [])
            usable.append(index)
    return targets, usable


def _schedule(settings: Settings, material: Material) -> Schedule:
    """Steps by the amount of material: `EPOCHS` times its audio, within `STEPS`."""
    wanted = EPOCHS * 60 * (material.minutes("train") + material.minutes("speech")) / settings.batch_s
    steps = STEPS[1] if material.is_noise_only else int(min(STEPS[1], max(STEPS[0], wanted)))
    steps = settings.steps or steps
    every = -(-steps // settings.evaluations)
    return Schedule(
        steps=steps,
        batch_s=settings.batch_s,
        learning_rate=RATES[bool(material.noise)] if settings.learning_rate is None else settings.learning_rate,
        warmup_steps=min(20, steps // 5),
        full_context_probability=0.5,
        chunk_frames=(16, 16, 32, 100),
        look_ahead_frames=(4, 8, 8, 16),
        seed=settings.seed,
        save_every=min(SAVE_EVERY, every),
        evaluate_every=every,
    )


def limit_steps(trainer: SiteTrainer, most: int) -> None:
    """Take at most so many steps, and no fewer than there are evaluations."""
    evaluations = -(-trainer.schedule.steps // trainer.schedule.evaluate_every)
    steps = min(trainer.schedule.steps, max(evaluations, most))
    trainer.schedule = replace(
        trainer.schedule,
        steps=steps,
        evaluate_every=-(-steps // evaluations),
        warmup_steps=min(trainer.schedule.warmup_steps, steps // 5),
    )
    trainer.logs.steps = steps
