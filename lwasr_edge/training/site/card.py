"""The card of a site's model: what it is derived from, what it was measured on, and the statement about its data."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lwasr_edge.errors import LwasrError, OptionError
from lwasr_edge.files import sha256_of
from lwasr_edge.hub.card import PLAIN_NAME
from lwasr_edge.hub.catalog import packaged_models_dir
from lwasr_edge.site.consent import CONSENT_FILE, read_consents
from lwasr_edge.site.reports.adapted import Compared
from lwasr_edge.training.site.material import Material

MADE_BY = "lwasr-train site"
NO_CONSENT = (
    f"no {CONSENT_FILE} was in the folder: consent to these recordings, and their retention, are documented elsewhere"
)
DERIVED = (
    "The weights of this model were changed by training on these recordings. Recordings, texts, names of speakers and "
    "names of files are not in the model, in its card or in its page."
)
VOICES = (
    "Voices cannot be played back from a model. That an expert who has it could infer no word or property of a speaker "
    "has not been examined: do not publish a model of recordings that must not leave the building."
)


@dataclass(frozen=True)
class Base:
    """The model that was adapted."""

    name: str
    version: str
    licence: str
    attribution: str
    model_file: Path
    checkpoint: Path


def checked_name(name: str) -> str:
    """The name of a site's model.

    Raises:
        OptionError: it is not plain, or that of a model of the package.
    """
    if not PLAIN_NAME.fullmatch(name):
        raise OptionError(f"--name must be of letters, digits, '.', '_' and '-', at most 100, got {name!r}: choose one")
    if (packaged_models_dir() / name).is_dir():
        raise OptionError(f"--name must not be that of a model of the package, got {name!r}: choose another")
    return name


def plain_name(folder: Path) -> str:
    """A name for the model of a folder, "Hall 3/" -> "Hall-3"."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-.")[:100] or "site"


def data_statement(folder: Path, material: Material, has_general: bool) -> dict[str, Any]:
    """What was recorded, by whose consent, kept how long, and what was derived from it; without names.

    Args:
        folder: of the recordings, perhaps with the consents of `lwasr site record`.
        material: what was read there.
        has_general: whether general speech was mixed in.
    """
    texts = [*material.train, *material.dev, *material.held_out]
    speakers = {item.sample.speaker for item in texts} - {""}
    statement: dict[str, Any] = {
        "recordings_with_texts": len(texts),
        "minutes_with_texts": round(sum(item.sound.duration_s for item in texts) / 60, 1),
        "minutes_of_speech_without_texts": round(material.minutes("speech"), 1),
        "minutes_of_noise": round(material.minutes("noise") + material.minutes("held_out_noise"), 1),
        "speakers": len(speakers) or "not known",
        "held_out": f"{len(material.held_out)} recordings were not trained on",
        "general_speech": "mixed in from other recordings" if has_general else "none",
    }
    try:
        consents = read_consents(folder)
    except LwasrError as error:
        consents, statement["consent"] = [], f"{CONSENT_FILE} could not be read ({type(error).__name__})"
    if consents:
        dates = sorted(one.agreed_at[:10] for one in consents)
        statement["consent"] = f"of {len(consents)} speakers, from {dates[0]} to {dates[-1]}"
        statement["purposes"] = sorted({one.purpose for one in consents})
        statement["kept_until"] = sorted({one.keep_until for one in consents})
    statement.setdefault("consent", NO_CONSENT)
    return statement | {"derived": DERIVED, "voices": VOICES}


def write_card(
    folder: Path,
    name: str,
    base: Base,
    statement: dict[str, Any],
    comparisons: Sequence[Compared],
    training: dict[str, Any],
) -> None:
    """Write card.json and card.md beside the files of a model.

    Args:
        folder: with model.int8.onnx.gz, model.int8.json and checkpoint.safetensors.
        name: of the model.
        base: the model that was adapted.
        statement: from `data_statement`.
        comparisons: before and after, on what was held out.
        training: how the weights were chosen.
    """
    now = datetime.datetime.now()
    attribution = f"adapted from {base.name} {base.version}".strip() + f": {base.attribution}" * bool(base.attribution)
    files = [
        {"path": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in (folder / "model.int8.onnx.gz", folder / "model.int8.json")
    ]
    wer = {
        one.name: {"before": round(one.before.per_hundred, 2), "after": round(one.after.per_hundred, 2)}
        for one in comparisons
    }
    about = {
        "summary": f"The model of one site, adapted from {base.name}. Expect its errors elsewhere.",
        "attribution": attribution,
        "data": statement,
        "training": training,
        "measured": [asdict(one) for one in comparisons],
        "checkpoint_sha256": sha256_of(folder / "checkpoint.safetensors"),
    }
    card = {
        "name": name,
        "version": now.strftime("%Y.%m.%d.%H%M%S"),
        "default": False,
        "licence": base.licence,
        "made_by": MADE_BY,
        "base": {"name": base.name, "version": base.version, "checkpoint_sha256": sha256_of(base.checkpoint)},
        "files": files,
        "wer": wer,
        "about": about,
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(_markdown(card), encoding="utf-8")


def _markdown(card: dict[str, Any]) -> str:
    about = card["about"]
    lines = [f"# {card['name']}", "", about["summary"], "", "| | |", "|---|---|"]
    lines += [f"| version | {card['version']} |", f"| licence | {card['licence']}: {about['attribution']} |", ""]
    lines += ["## Errors in a hundred words, on recordings that were held out", ""]
    lines += ["| set | before | after | difference, 95 % |", "|---|---|---|---|"]
    for one in about["measured"]:
        before, after = one["before"]["per_hundred"], one["after"]["per_hundred"]
        lines.append(f"| {one['name']} | {before:.1f} | {after:.1f} | {one['low']:+.1f} to {one['high']:+.1f} |")
    lines += ["", "## Data statement", ""]
    for key, value in about["data"].items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        lines.append(f"- {key.replace('_', ' ')}: {shown}")
    return "\n".join(lines) + "\n"
