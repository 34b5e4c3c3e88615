"""Augmentation settings, and how a command line or a TOML file gives them."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lwasr_edge.errors import MissingExtraError, OptionError
from lwasr_edge.files import read_regular
from lwasr_edge.validate import number, whole_number


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges. Speed and silence padding are drawn per batch, everything else per utterance.

    Raises:
        OptionError: an impossible value.
    """

    speeds: tuple[float, ...] = (0.85, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.15)
    pause_probability: float = 0.3
    pause_s: float = 1.5  # s, longest silence padding at either end
    gain_db: tuple[float, float] = (-20.0, 10.0)
    gain_step_probability: float = 0.1  # of one change of gain within the utterance
    noise_probability: float = 0.3
    snr_db: tuple[float, float] = (3.0, 30.0)
    room_probability: float = 0.2
    reverberation_s: tuple[float, float] = (0.1, 0.6)  # s, RT60 of simulated rooms
    telephone_probability: float = 0.0
    band_masks: int = 2
    band_mask_width: int = 10  # mel bands
    time_masks: int = 2
    time_mask_frames: int = 20  # mel frames

    def __post_init__(self) -> None:
        for name in (
            "pause_probability",
            "gain_step_probability",
            "noise_probability",
            "room_probability",
            "telephone_probability",
        ):
            number(name, getattr(self, name), 0, 1)
        for name in ("gain_db", "snr_db", "reverberation_s"):
            ends = getattr(self, name)
            if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] > ends[1]:
                raise OptionError(f"{name} must be two finite numbers, the smaller first, got {shown(ends)}")
        number("pause_s", self.pause_s, 0)
        for name in ("band_masks", "band_mask_width", "time_masks", "time_mask_frames"):
            whole_number(name, getattr(self, name), 0)
        if not self.speeds or not all(math.isfinite(speed) and speed > 0 for speed in self.speeds):
            raise OptionError(f"speeds must be one or more finite numbers > 0, got {shown(self.speeds) or 'none'}")
        number("reverberation_s", self.reverberation_s[0], above=0)


MAX_BYTES = 1 << 20  # of a TOML file
FIELD_HELP = {
    "speeds": "one is drawn per batch; 1.1 is faster",
    "pause_probability": "of silence padding of a batch",
    "pause_s": "longest silence padding at either end, s",
    "gain_db": "level over -26 dBFS, dB",
    "gain_step_probability": "of one change of gain within an utterance",
    "noise_probability": "of noise in an utterance",
    "snr_db": "signal-to-noise ratio, dB",
    "room_probability": "of reverberation: simulated, with --rooms half of it measured",
    "reverberation_s": "RT60 of simulated reverberation, s",
    "telephone_probability": "of the band and the 8-bit mu-law of a telephone",
    "band_masks": "SpecAugment: number of frequency masks",
    "band_mask_width": "largest width of a frequency mask, mel bands",
    "time_masks": "SpecAugment: number of time masks",
    "time_mask_frames": "longest time mask, frames of 10 ms",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--augment``, whose help lists every setting and its default."""
    settings = "; ".join(f"{name}={shown(value)} ({FIELD_HELP[name]})" for name, value in vars(AugmentConfig()).items())
    parser.add_argument(
        "--augment",
        nargs="*",
        default=[],
        metavar="NAME=VALUE|FILE.toml",
        help=f"augmentation settings, or TOML files of them; later ones override earlier ones. Defaults: {settings}",
    )


def parse_augment(items: list[str]) -> AugmentConfig:
    """["noise_probability=0.3", "snr_db=5,30", "run.toml"] as a config.

    Raises:
        OptionError: an unknown setting, or an impossible value.
    """
    values: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if equals:
            values[name] = [one.strip() for one in text.split(",")]
        elif item.endswith(".toml"):
            values |= read_toml(Path(item))
        else:
            raise OptionError(f"--augment must be NAME=VALUE or FILE.toml, got {item}")
    return AugmentConfig(**{name: converted(name, value) for name, value in values.items()})


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file: at its top level, or in its table [augment].

    Raises:
        OptionError: the file does not exist, or is not TOML.
        MissingExtraError: tomli is not installed, before Python 3.11.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError as error:
            raise MissingExtraError("tomli is not installed: pip install '.[train]'") from error
    try:
        table = tomllib.loads(read_regular(path, MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise OptionError(f"--augment {path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"--augment {path}: file must be TOML: {error}") from error
    settings = table.get("augment", table)
    if not isinstance(settings, dict):
        raise OptionError(f"--augment {path}: augment must be a table, got {settings!r:.80}")
    return dict(settings)


def converted(name: str, value: Any) -> Any:
    """A value of a setting, as text or of TOML, in the type of its field.

    Raises:
        OptionError: an unknown setting, or a value of another type.
    """
    defaults = {field.name: field.default for field in fields(AugmentConfig)}
    if name not in defaults:
        raise OptionError(f"--augment NAME must be one of {', '.join(defaults)}, got {name}")
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
    raise OptionError(f"--augment {name} must be {kind.__name__}, as in {name}={shown(default)}, got {given}")


def shown(value: Any) -> str:
    """(5.0, 30.0) as "5,30"."""
    return ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"
