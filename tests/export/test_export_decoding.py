"""`lwasr-export` writes the settings of decoding into the metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwasr_edge import ModelError
from lwasr_edge.export.cli import decoding_settings
from lwasr_edge.export.metadata import Description, describe
from lwasr_edge.model_info import DecodingSettings, ModelInfo

SETTINGS = {"weight": 0.3, "word_bonus": 0.5, "unknown_letter_cost": 4.0, "blank_penalty": 1.5, "confidence": []}


def test_the_file_beside_the_checkpoint_is_taken(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    assert decoding_settings(None, checkpoint) is None
    (tmp_path / "decoding.json").write_text(json.dumps(SETTINGS))
    found = decoding_settings(None, checkpoint)
    assert found == DecodingSettings(0.3, 0.5, 4.0, 1.5)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**SETTINGS, "weight": 0.9}))
    assert decoding_settings(other, checkpoint) == DecodingSettings(0.9, 0.5, 4.0, 1.5)
    other.write_text("[]")
    with pytest.raises(ModelError, match=r"other\.json: decoding must be a JSON object"):
        decoding_settings(other, checkpoint)


def test_metadata() -> None:
    from small_models import small_model

    model = small_model(normalization="running")
    for decoding in (None, DecodingSettings(0.3, 0.5, 4.0, 1.5, ((0.0, 0.2), (1.0, 0.9)))):
        metadata = describe(model, Description("small", decoding=decoding), "float32", "")
        assert ModelInfo.from_metadata(metadata).decoding == decoding
