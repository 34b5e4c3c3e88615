"""PLACE/: the folder of a site's model, which `lwasr models install` takes. It appears complete, or not at all."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lwasr_edge.cli.command import install_line
from lwasr_edge.errors import MissingExtraError, OptionError, OutputError
from lwasr_edge.files import read_regular, sha256_of
from lwasr_edge.hub.card import CARD_NAME, MAX_CARD_BYTES
from lwasr_edge.hub.catalog import find_model, installed_models
from lwasr_edge.hub.install import replace_folder, try_lock, unlock
from lwasr_edge.site.folder import AUDIO_SUFFIXES
from lwasr_edge.training.data.manifest import Utterance, manifest_line
from lwasr_edge.training.site.card import MADE_BY, Base

MODEL_FILE = "model.int8.onnx.gz"
CHECKPOINT_FILE = "checkpoint.safetensors"
DECODING_FILE = "decoding.json"
PAGE_FILE = "page.html"
MAX_WER_LOSS = 1.0  # errors in a hundred words that int8 may add to those of float


def check_place(place: Path) -> None:
    """Refuse a place that is something else, before the work.

    Raises:
        OptionError: a file, or a folder with other content than a model of this command.
        OutputError: it cannot be written.
    """
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise OptionError(f"-o must be a folder, got {place}: name another")
    if place.is_dir() and any(place.iterdir()) and not is_place(place):
        raise OptionError(f"-o must be a new folder, or one of `{MADE_BY}`, got {place}: name another")
    if not place.parent.is_dir():
        raise OutputError(f"{place} cannot be written: the folder {place.parent} does not exist: create it first")
    if not os.access(place.parent, os.W_OK):
        raise OutputError(f"{place} cannot be written: no permission in {place.parent}: choose another folder")


def is_place(folder: Path) -> bool:
    """Whether a folder was written by this command."""
    try:
        card = json.loads(read_regular(folder / CARD_NAME, MAX_CARD_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(card, dict) and card.get("made_by") == MADE_BY


def work_folder(place: Path) -> Path:
    """Where an unfinished run keeps its state, beside the place; it is removed at the end."""
    return place.with_name(f".{place.name}.work")


@contextmanager
def only_run(place: Path) -> Iterator[None]:
    """Keep other runs away from a place; a run that was killed does not: the system removes its lock.

    Raises:
        OptionError: another run has it.
    """
    lock = try_lock(work_folder(place))
    if lock is None and sys.platform != "win32":  # where there are no such locks
        raise OptionError(f"-o must be without another run, got {place}, where one is at work: wait, or name another")
    try:
        yield
    finally:
        unlock(lock)


def find_base(model: str | None, checkpoint: Path | None) -> Base:
    """The model to adapt, with its checkpoint.

    Args:
        model: a name or a path, as for `Recognizer`; None for the default.
        checkpoint: of the model; None for checkpoint.safetensors in its folder.

    Raises:
        ModelNotFoundError: no such model.
        OptionError: no checkpoint, or that of another model.
    """
    path = find_model(model)
    found = checkpoint or path.parent / CHECKPOINT_FILE
    if not found.is_file():
        raise OptionError(
            f"the model to adapt must have its {CHECKPOINT_FILE} beside {path}, got none: name it with --checkpoint "
            "FILE; those of the package are in the source repository, models/NAME, that of a site's model in its PLACE"
        )
    installed = next((one for one in installed_models() if one.path == path), None)
    fields = {} if installed is None else installed.card.fields
    about = fields.get("about") if isinstance(fields.get("about"), dict) else {}
    wanted = (about or {}).get("checkpoint_sha256")
    if wanted is not None and wanted != sha256_of(found):
        raise OptionError(f"--checkpoint must be that of the model {path}, got {found}: name the model with --model")
    name = path.parent.name if installed is None else installed.card.name
    version = "" if installed is None else installed.card.version
    attribution = str((about or {}).get("attribution", ""))
    return Base(name, version, str(fields.get("licence", "")), attribution, path, found)


def require_export() -> None:
    """Check, before the training, that the model can be exported.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{missing[0]} is not installed: {install_line('export')}")


def export_int8(
    checkpoint: Path, output: Path, name: str, language: str, base: Base, heard: Sequence[Utterance]
) -> None:
    """Write the int8 model file, in a process of its own: its memory is free again afterwards.

    Args:
        checkpoint: of the adapted model.
        output: MODEL.onnx.gz.
        name, language: of the model.
        base: the model before adaptation.
        heard: recordings with texts on which int8 may add `MAX_WER_LOSS`; the most sensitive layers stay in float where
            it adds more. Without any, the posteriors of synthetic signals are compared.

    Raises:
        OutputError: the export failed.
    """
    command = [sys.executable, "-m", "lwasr_edge.export.cli", str(checkpoint), "-o", str(output), "--int8", "--force"]
    command += ["--name", name, "--language", language, "--licence", base.licence]
    command += ["--attribution", f"adapted from {base.name}: {base.attribution}"]
    decoding = base.checkpoint.parent / DECODING_FILE
    if decoding.is_file():
        command += ["--decoding", str(decoding)]
    with _unnamed_manifest(heard) as manifest:
        if heard:
            command += ["--verify", f"/dev/fd/{manifest}", "--max-wer-loss", str(MAX_WER_LOSS)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=[manifest])
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        raise OutputError(f"the model could not be exported: {lines[-1].removeprefix('lwasr-export: error: ')}")


@contextmanager
def _unnamed_manifest(utterances: Sequence[Utterance]) -> Iterator[int]:
    """A manifest that has no name: its texts are gone with the process, however it ends. Its file descriptor."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.writelines(map(manifest_line, utterances))
        file.flush()
        file.seek(0)
        yield file.fileno()


def publish(staging: Path, place: Path) -> None:
    """Move a complete folder to its place; there is the old or the new one at any moment.

    Raises:
        OutputError: no permission, or there is audio in it.
    """
    audio = [path for path in staging.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES]
    if audio:
        raise OutputError(f"a place must have no audio, got {audio[0].name}: please report it")
    try:
        for path in staging.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())  # their content before their names: the power may fail afterwards
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        replace_folder(staging, place)
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror or error}") from error


def remove_work(work: Path) -> None:
    """Remove the state of a run that has ended."""
    shutil.rmtree(work, ignore_errors=True)
