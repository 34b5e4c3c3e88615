"""Augmentation settings, from the command line and from a file."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.augment_config import FIELD_HELP, AugmentConfig, add_arguments, parse_augment


def test_settings_that_differ_from_the_defaults() -> None:
    wanted = AugmentConfig(noise_probability=0.3, snr_db=(5.0, 30.0), speeds=(1.0,), band_masks=1)
    assert parse_augment(["noise_probability=0.3", "snr_db=5, 30", "speeds=1.0", "band_masks=1"]) == wanted
    assert parse_augment([]) == AugmentConfig()


def test_a_toml_file_and_later_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    settings = "noise_probability = 0.2\nsnr_db = [5, 20]\nband_masks = 3\n"
    for text in (settings, f"[augment]\n{settings}"):
        path.write_text(text)
        found = parse_augment([str(path), "band_masks=1"])
        assert (found.noise_probability, found.snr_db, found.band_masks) == (0.2, (5.0, 20.0), 1)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("noise", "--augment must be NAME=VALUE or FILE.toml, got noise"),
        ("band_masks=1.5", "--augment band_masks must be int, as in band_masks=2, got 1.5"),
        ("pause_s=1,2", "--augment pause_s must be float, as in pause_s=1.5, got 1,2"),
        ("snr_db=1,2,3", "snr_db must be two finite numbers, the smaller first, got 1,2,3"),
        ("time_masks=-1", "time_masks must be a whole number >= 0, got -1"),
        ("gain_db=nan,0", "gain_db must be two finite numbers, the smaller first, got nan,0"),
        ("colour=1", "--augment NAME must be one of speeds, pause_probability"),
        ("reverberation_s=0,1", "reverberation_s must be a finite number > 0, got 0.0"),
        ("none.toml", "none.toml: cannot be read: No such file or directory"),
    ],
)
def test_impossible_settings_are_refused(item: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_augment([item])
    assert message in str(error.value)


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("noise_probability: 0.3")
    with pytest.raises(OptionError, match="run.toml: file must be TOML"):
        parse_augment([str(tmp_path / "run.toml")])
    (tmp_path / "run.toml").write_text("augment = 3")
    with pytest.raises(OptionError, match="run.toml: augment must be a table, got 3"):
        parse_augment([str(tmp_path / "run.toml")])


def test_help_explains_every_setting() -> None:
    assert list(FIELD_HELP) == [field.name for field in dataclasses.fields(AugmentConfig)]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert "snr_db=3,30 (signal-to-noise ratio, dB)" in " ".join(parser.format_help().split())
