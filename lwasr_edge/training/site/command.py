"""The stages of `lwasr-train site`: read, recognise, train, export, compare, decide, publish."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.cli.streams import say
from lwasr_edge.decoding.decoder import make_decoder
from lwasr_edge.decoding.language_model import GENERAL as GENERAL_LM
from lwasr_edge.decoding.phrases import PhraseList
from lwasr_edge.errors import LwasrError, OptionError
from lwasr_edge.files import write_file
from lwasr_edge.recognizer import Recognizer
from lwasr_edge.site.derived import remember_report
from lwasr_edge.site.recognise import model_letters
from lwasr_edge.site.remark import Remark
from lwasr_edge.site.reports.adapted import Compared, adapted_page, adapted_text
from lwasr_edge.site.reports.language import Strings
from lwasr_edge.site.word_list import read_list, speakable
from lwasr_edge.training.data.manifest import Utterance
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.model.quantized import quantized_copy
from lwasr_edge.training.site import place as places
from lwasr_edge.training.site.card import Base, checked_name, data_statement, plain_name, write_card
from lwasr_edge.training.site.choice import SITE, Criteria
from lwasr_edge.training.site.compare import BETTER, compare, decide, held_out_sets, recognise
from lwasr_edge.training.site.fit import Settings, SiteTrainer, chosen_with, fit, limit_steps, prepare
from lwasr_edge.training.site.general import General, read_general
from lwasr_edge.training.site.material import Material, read_material
from lwasr_edge.training.site.progress import Bar
from lwasr_edge.validate import number, printable, whole_number

EXIT_KEPT = 3  # the model before is kept: no error, and nothing to install
GENERAL_S = 2400.0  # s of general speech to mix in, at most: the more there is, the less is forgotten
EXPORT_S = 90.0
COMPARE_S = 60.0
JOB_FILE = "job"  # identifies recordings and settings
WITHOUT_GENERAL = (
    "without --general, what is forgotten elsewhere is not measured; the model before adaptation is the teacher on the "
    "site's own recordings, which keeps it near to where it was"
)


@dataclass(frozen=True)
class Job:
    """What was asked for."""

    folder: Path
    place: Path
    name: str
    base: Base
    settings: Settings
    phrases: PhraseList | None
    recognizer: Recognizer  # of the model before
    max_general_loss: float


def adapt_site(args: argparse.Namespace) -> int:
    """Adapt a model to a site.

    Returns:
        0, or `EXIT_KEPT`.

    Raises:
        LwasrError: options, recordings or a place that cannot be used.
    """
    job = _job(args)
    bar = Bar({"reading": 60.0, "training": 300.0, "exporting": EXPORT_S, "comparing": COMPARE_S})
    try:
        with places.only_run(job.place):
            return _stages(args, job, bar)
    finally:
        bar.close()


def _stages(args: argparse.Namespace, job: Job, bar: Bar) -> int:
    bar.enter("reading")
    material = read_material(
        args.folder, job.recognizer, args.noise, args.test, lambda done, total: bar.share(done / max(1e-9, total))
    )
    general = read_general(args.general, GENERAL_S) if args.general else None
    if general is None:
        bar.write(WITHOUT_GENERAL)
    bar.write(_found(material, general))
    sets = held_out_sets(material, general)
    if not sets:
        raise OptionError(
            "there must be recordings to compare on, got noise alone: add --general MANIFEST, to which noise is added"
        )
    work = places.work_folder(job.place)
    _resume_or_begin(work, job, material, general)
    criteria = Criteria(make_decoder(job.recognizer.info, lm=GENERAL_LM), job.max_general_loss)
    trainer = prepare(material, general, job.base.checkpoint, job.settings, work, criteria)
    _announce(trainer, job.settings, bar)
    model, how = fit(trainer, bar.steps(trainer.schedule.steps))
    comparisons: list[Compared] = []
    if model is not None:
        bar.enter("exporting")
        bar.write(f"chosen: the weights of step {how['step']}, {how['share']:g} of the way from those before")
        after = _exported(model, job, _fresh(work / "place"), chosen_with(material, general))
        bar.enter("comparing")
        known = {SITE: [item.errors for item in material.held_out]} if material.held_out else {}
        errors = recognise(sets, job.recognizer, job.phrases, lambda done: bar.share(done / 2), known)
        errors_after = recognise(sets, after, job.phrases, lambda done: bar.share(0.5 + done / 2))
        comparisons = compare(sets, errors, errors_after)
    decision = decide(comparisons, args.max_general_loss)
    bar.close()
    return _conclude(args, job, material, comparisons, decision, how)


def _exported(model: AcousticModel, job: Job, staging: Path, heard: list[Utterance]) -> Recognizer:
    """Write the checkpoint and the int8 file of a model into an empty folder, and open the latter."""
    checkpoint, file = staging / places.CHECKPOINT_FILE, staging / places.MODEL_FILE
    tokenizer = load_checkpoint(job.base.checkpoint)[1]
    save_checkpoint(checkpoint, quantized_copy(model), tokenizer, half=True)
    places.export_int8(checkpoint, file, job.name, job.recognizer.info.language, job.base, heard)
    return Recognizer(file)


def _job(args: argparse.Namespace) -> Job:
    """Check everything that can be checked before the work."""
    number("--max-general-loss", args.max_general_loss, 0)
    if args.minutes is not None:
        number("--minutes", args.minutes, above=0)
    if args.steps is not None:
        whole_number("--steps", args.steps, 1)
    whole_number("--seed", args.seed, 0)
    name = checked_name(args.name or plain_name(args.output))
    places.check_place(args.output)
    places.require_export()
    base = places.find_base(args.model, args.checkpoint)
    recognizer = Recognizer(base.model_file)
    phrases = None
    if args.words is not None:
        phrases, bad = speakable(read_list(args.words), model_letters(recognizer), recognizer.info.language)
        if phrases is None:
            raise OptionError(
                f"--words must have a phrase that the model can write, got {len(bad)} others: {args.words}"
            )
    settings = Settings(steps=args.steps, minutes=args.minutes, learning_rate=args.learning_rate, seed=args.seed)
    return Job(args.folder, args.output, name, base, settings, phrases, recognizer, args.max_general_loss)


def _found(material: Material, general: General | None) -> str:
    """One line on what is trained on."""
    parts = [f"{len(material.train)} recordings with texts to train on ({material.minutes('train'):.1f} min)"]
    by = "of other speakers" if material.by_speaker else "of the same speakers or unknown ones"
    parts.append(f"{len(material.dev)} to choose when to stop, {len(material.held_out)} {by} to compare on")
    parts.append(
        f"{material.minutes('speech'):.1f} min of speech without texts, {material.minutes('noise'):.1f} of noise"
    )
    if general is not None:
        parts.append(f"{sum(one.duration_s for one in general.train) / 60:.0f} min of general speech")
    if material.refused:
        parts.append(f"{len(material.refused)} not used: `lwasr site check` names them")
    return "; ".join(parts)


def _resume_or_begin(work: Path, job: Job, material: Material, general: General | None) -> None:
    """Keep the state of an interrupted run of the same job; remove that of another.

    Raises:
        OptionError: the folder is not one of this command.
    """
    names = [f"{i.sample.name} {i.sound.digest} {i.reference_words}" for i in [*material.train, *material.dev]]
    names += [one.id for one in [*material.speech, *material.noise, *(general.train if general else [])]]
    described = json.dumps([names, vars(job.settings), str(job.base.checkpoint)])
    key, path = hashlib.sha256(described.encode()).hexdigest(), work / JOB_FILE
    if work.is_dir() and any(work.iterdir()) and not path.is_file():
        raise OptionError(f"{work} must be the folder of an interrupted run, got another: remove it")
    if path.is_file() and path.read_text(encoding="utf-8") != key:
        shutil.rmtree(work)
    work.mkdir(exist_ok=True)
    write_file(path, key)


def _announce(trainer: SiteTrainer, settings: Settings, bar: Bar) -> None:
    """Say how long it will take, before it starts; the same on a run that is resumed."""
    step_s = trainer.step_s()
    plan = trainer.folder / "steps.json"
    if plan.is_file():
        limit_steps(trainer, int(plan.read_text(encoding="utf-8")))
    elif settings.minutes is not None:
        limit_steps(trainer, int(60 * settings.minutes / step_s))
    write_file(plan, str(trainer.schedule.steps))
    steps = trainer.schedule.steps
    minutes = max(1, round((steps * step_s + EXPORT_S + COMPARE_S) / 60))
    bar.write(
        f"this will take about {minutes} minutes here: {steps} steps of {step_s:.1f} s, then export and comparison"
    )
    bar.expect("training", steps * step_s)
    bar.enter("training")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _conclude(
    args: argparse.Namespace,
    job: Job,
    material: Material,
    comparisons: list[Compared],
    decision: str,
    how: dict[str, Any],
) -> int:
    """Publish the model, or keep the one before; print the result and remove the state."""
    strings = Strings(args.language)
    work = places.work_folder(job.place)
    verdict = Remark(f"adapted_{decision}", {"model": job.base.name, "name": job.name})
    statement = data_statement(job.folder, material, bool(args.general))
    page = adapted_page(job.name, verdict, comparisons, how, statement, strings)
    staging = work / "place"
    if decision == BETTER:
        write_card(staging, job.name, job.base, statement, comparisons, how)
        write_file(staging / places.PAGE_FILE, page)
        (staging / "model.int8.report.json").unlink(missing_ok=True)
        places.publish(staging, job.place)
        _remember(job.folder, job.place / places.PAGE_FILE)
    else:
        write_file(kept_page(job.place), page)
    places.remove_work(work)
    print(printable(adapted_text(verdict, comparisons, strings), keep="\n"), end="")
    if decision == BETTER:
        print(f"install it: lwasr models install {job.place}")
    return 0 if decision == BETTER else EXIT_KEPT


def kept_page(place: Path) -> Path:
    """The page of a run that kept the model before."""
    return place.with_name(f"{place.name}-kept.html")


def _remember(folder: Path, page: Path) -> None:
    try:
        remember_report(folder, page)
    except LwasrError as error:
        say(f"lwasr-train: warning: `lwasr site erase` will not know {page}: {error}")
