"""Settings of the distortions as a command line or a run file gives them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from lwasr_edge.errors import MissingExtraError, OptionError
from lwasr_edge.training.data.augment import AugmentConfig

FIELD_HELP = {
    "speeds": "one is drawn for a batch; 1.1 is faster",
    "pause_probability": "of a batch to get pauses before and after",
    "pause_s": "longest pause, s",
    "gain_db": "level, dB over -26 dBFS",
    "gain_step_probability": "of the level to change once within an utterance",
    "noise_probability": "of noise in an utterance",
    "snr_db": "speech over noise, dB",
    "room_probability": "of a simulated room",
    "reverberation_s": "time in which the room decays by 60 dB, s",
    "band_masks": "SpecAugment: bands masked",
    "band_mask_width": "widest, in mel bands",
    "time_masks": "SpecAugment: stretches masked",
    "time_mask_frames": "longest, in frames of 10 ms",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--augment``, with every setting and its default."""
    settings = "; ".join(f"{name}={shown(value)} ({FIELD_HELP[name]})" for name, value in vars(AugmentConfig()).items())
    parser.add_argument(
        "--augment",
        nargs="*",
        default=[],
        metavar="NAME=VALUE|FILE.toml",
        help=f"distortions that differ from the defaults, or a TOML file of them; later ones win: {settings}",
    )


def parse_augment(items: list[str]) -> AugmentConfig:
    """["noise_probability=0.3", "snr_db=5,30", "run.toml"] as a config.

    Raises:
        OptionError: a setting that there is not, or a value that it cannot have.
    """
    values: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if equals:
            values[name] = [one.strip() for one in text.split(",")]
        elif item.endswith(".toml"):
            values |= read_toml(Path(item))
        else:
            raise OptionError(f"--augment {item}: expected NAME=VALUE or FILE.toml")
    return AugmentConfig(**{name: converted(name, value) for name, value in values.items()})


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file: at its top, or in its table [augment]."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError as error:
            raise MissingExtraError("tomli is not installed: pip install 'lwasr-edge[train]'") from error
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionError(f"--augment {path}: no such file") from None
    except ValueError as error:
        raise OptionError(f"--augment {path}: expected TOML: {error}") from error
    return dict(table.get("augment", table))


def converted(name: str, value: Any) -> Any:
    """A value in the type of its field: a list or one number, as text or as TOML has them."""
    defaults = {field.name: field.default for field in fields(AugmentConfig)}
    if name not in defaults:
        raise OptionError(f"--augment {name}: expected one of {', '.join(defaults)}")
    default: Any = defaults[name]
    kind = type(default[0] if isinstance(default, tuple) else default)
    listed = value if isinstance(value, list) else [value]
    try:
        numbers = tuple(kind(str(one)) for one in listed)
    except (TypeError, ValueError):
        numbers = ()
    if isinstance(default, tuple):
        if numbers:
            return numbers
    elif len(numbers) == 1:
        return numbers[0]
    given = ",".join(map(str, listed))
    raise OptionError(f"--augment {name}={given}: expected {kind.__name__} as in {name}={shown(default)}")


def shown(value: Any) -> str:
    """(5.0, 30.0) as "5,30"."""
    return ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"
