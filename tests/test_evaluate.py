"""Error rates by hand, also where nothing was said or nothing was heard; greedy decoding by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model, two_utterances, write_test_manifest

from lwasr_edge.errors import OptionError
from lwasr_edge.training.batches import WaveformStore
from lwasr_edge.training.checkpoint import save_checkpoint
from lwasr_edge.training.evaluate import (
    by_speaker,
    evaluate_checkpoint,
    greedy_tokens,
    normalize_text,
    score,
    tokens_to_text,
    transcribe_corpus,
)


def test_normalize_text() -> None:
    assert normalize_text("  It's  four-thirty, O.K.?\n") == "it's four thirty o k"
    assert normalize_text("Ümlaut 42") == "mlaut"
    assert normalize_text("...") == ""


def test_score_by_hand() -> None:
    result = score(["a b c d", "one two"], ["a x c", "one two three"])
    assert (result.substitutions, result.deletions, result.insertions, result.words) == (1, 1, 1, 6)
    assert result.wer == pytest.approx(3 / 6)
    # "a b c d" to "a x c": one letter changed, " d" gone; "one two" to "one two three": " three" added
    assert result.cer == pytest.approx((1 + 2 + 6) / 14)
    assert str(result) == "WER 50.00 %  CER 64.29 %  (1 sub, 1 del, 1 ins of 6 words)"


def test_score_of_empty_hypotheses_and_references() -> None:
    nothing_heard = score(["a b", "c"], ["", ""])
    assert (nothing_heard.wer, nothing_heard.cer, nothing_heard.deletions) == (1.0, 1.0, 3)
    nothing_said = score(["a b", ""], ["a b", "so much noise"])
    assert (nothing_said.insertions, nothing_said.words) == (3, 2)
    assert nothing_said.wer == pytest.approx(1.5)
    silence = score([""], ["!"])
    assert (silence.wer, silence.cer, silence.words) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("best", "tokens"),
    [([], []), ([3, 3, 3], []), ([0, 0, 1], [0, 1]), ([0, 3, 0], [0, 0]), ([3, 2, 2, 3, 3, 2, 1], [2, 2, 1])],
)
def test_greedy_tokens(best: list[int], tokens: list[int]) -> None:
    log_probs = torch.nn.functional.one_hot(torch.tensor(best, dtype=torch.int64), 4).float().log()
    assert greedy_tokens(log_probs, blank_id=3) == tokens


def test_tokens_to_text() -> None:
    assert tokens_to_text([0, 1, 2, 0, 1], ("▁the", "re", "▁a", "<blank>")) == "there a there"
    assert tokens_to_text([], ("▁the", "<blank>")) == ""


def test_order_and_batches_change_nothing(tmp_path: Path) -> None:
    model, corpus = small_model(normalization="running"), two_utterances(tmp_path)
    store = WaveformStore(corpus, torch.device("cpu"))
    together = transcribe_corpus(model, corpus, store)
    assert together == transcribe_corpus(model, corpus, store, batch_s=0.1)
    backwards = corpus.select([1, 0])
    assert transcribe_corpus(model, backwards, WaveformStore(backwards, torch.device("cpu"))) == together[::-1]


def test_per_speaker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = two_utterances(tmp_path)  # of rms, then of slt
    texts = [corpus.utterances[0].text, ""]
    assert by_speaker(corpus, texts) == {"rms": 0.0, "slt": 100.0}
    assert capsys.readouterr().out == "  slt: WER 100.00 %\n  rms: WER 0.00 %\n"


def test_chunks_are_refused_where_they_cannot_be(tmp_path: Path) -> None:
    path, manifest = tmp_path / "m.safetensors", write_test_manifest(tmp_path)
    save_checkpoint(path, small_model(), letters_tokenizer())
    with pytest.raises(OptionError, match="cannot run in chunks"):
        evaluate_checkpoint(path, [manifest], 640, False, torch.device("cpu"))
    for chunk_ms in (0, -40, 100):
        with pytest.raises(OptionError, match="expected a positive multiple of 40"):
            evaluate_checkpoint(path, [manifest], chunk_ms, False, torch.device("cpu"))
