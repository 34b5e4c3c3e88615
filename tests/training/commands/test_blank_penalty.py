"""The blank penalty: equal to another bias, chosen by WER, and written into the checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model, two_utterances

from lwasr_edge.training.cli import main
from lwasr_edge.training.commands.blank_penalty import BestTokens, best_penalty
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.manifest import write_manifest
from lwasr_edge.training.model.checkpoint import checkpoint_notes, load_checkpoint, save_checkpoint
from lwasr_edge.training.scoring.decode import collapse, greedy_tokens, transcribe_corpus
from lwasr_edge.training.scoring.scores import score


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.25, 3.0])
def test_a_penalty_is_another_bias(penalty: float) -> None:
    logits = 2 * torch.randn(200, 6, generator=torch.Generator().manual_seed(5))
    biased = logits - penalty * torch.eye(6)[5]
    path = BestTokens.of(logits.log_softmax(1), blank_id=5).path(penalty, blank_id=5)
    assert torch.equal(path, biased.argmax(1))
    assert collapse(path, 5) == greedy_tokens(biased, 5)


def test_best_penalty_counts_sets_alike_and_prefers_none() -> None:
    right, half, wrong = score(["a b"], ["a b"]), score(["a b"], ["a"]), score(["a b"] * 9, [""] * 9)
    assert best_penalty({-0.5: {"x": half}, 0.0: {"x": half}, 0.5: {"x": half}}) == 0.0
    assert best_penalty({0.0: {"x": right, "y": wrong}, 0.5: {"x": half, "y": right}}) == 0.5


def test_the_command_finds_a_bias_that_was_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, corpus = small_model(), two_utterances(tmp_path)
    blank = model.config.blank_id
    texts = transcribe_corpus(model, corpus, WaveformStore(corpus, torch.device("cpu")))
    assert all(texts)
    pairs = zip(corpus.utterances, texts, strict=True)
    manifest = tmp_path / "heard.jsonl"
    write_manifest(manifest, [dataclasses.replace(utterance, text=text) for utterance, text in pairs])
    right = model.head.bias[blank].item()
    with torch.no_grad():
        model.head.bias[blank] += 1.5
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    save_checkpoint(before, model, letters_tokenizer(), {"step": "7"})
    assert main(["blank-penalty", str(before), "--dev", str(manifest), "-o", str(after)]) == 0
    shown = capsys.readouterr().out
    assert "   1.50         0.00  <-" in shown and "blank penalty of 1.5 nats" in shown
    tuned = load_checkpoint(after)[0]
    assert tuned.head.bias[blank].item() == pytest.approx(right, abs=2e-3)  # float16
    assert checkpoint_notes(after) == {"step": "7", "blank_penalty": "1.5"}
    assert dataclasses.asdict(tuned.config) == dataclasses.asdict(model.config)
    assert main(["calibrate", str(after), "--dev", str(manifest), "-o", str(after)]) == 0
    assert checkpoint_notes(after)["blank_penalty"] == "1.5"  # nothing more to take off, and nothing forgotten
    same_name = tmp_path / "other" / "heard.jsonl"
    assert main(["calibrate", str(before), "--dev", str(manifest), str(same_name), "-o", str(after)]) == 2
    assert "--dev manifests must have different names" in capsys.readouterr().err


def test_what_the_command_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, manifest, output = tmp_path / "a.safetensors", tmp_path / "silent.jsonl", tmp_path / "out.safetensors"
    save_checkpoint(checkpoint, small_model(), letters_tokenizer())
    utterances = two_utterances(tmp_path).utterances
    write_manifest(manifest, [dataclasses.replace(utterance, text="...") for utterance in utterances])
    command = ["blank-penalty", str(checkpoint), "--dev", str(manifest), "-o"]
    assert main([*command, str(output)]) == 2
    assert "--dev must be speech with transcripts, got none in silent" in capsys.readouterr().err
    assert main([*command, str(output), "--dev-utterances", "0"]) == 2
    assert "--dev-utterances must be a whole number >= 1, got 0" in capsys.readouterr().err
    assert main([*command, str(tmp_path)]) == 2
    assert "-o must be a file, got the folder" in capsys.readouterr().err
    assert not output.exists()


def test_stopped_by_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: object) -> None:
        raise KeyboardInterrupt

    for name in ("blank_penalty", "represent"):
        monkeypatch.setattr(f"lwasr_edge.training.commands.{name}.run", interrupted)
    assert main(["calibrate", "a.safetensors", "--dev", "dev.jsonl", "-o", "b.safetensors"]) == 130
    assert capsys.readouterr().err == "lwasr-train: stopped\n"  # it keeps no state to resume from
    assert main(["represent", "--reference", "r", "--train", "t", "-o", "run"]) == 130
    assert "run the same command to resume from the last checkpoint" in capsys.readouterr().err
