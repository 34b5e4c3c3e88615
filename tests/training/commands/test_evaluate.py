"""Error rates by hand, also with empty reference texts or hypotheses; greedy decoding by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_model, two_utterances, write_test_manifest

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.training.cli import main
from lwasr_edge.training.commands.evaluate import chunking_of, evaluate_checkpoint, report
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.checkpoint import save_checkpoint
from lwasr_edge.training.scoring.decode import greedy_tokens, tokens_to_text, transcribe_corpus
from lwasr_edge.training.scoring.scores import aligned, by_speaker, score, worst
from lwasr_edge.wer import normalize_text


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
    no_hypotheses = score(["a b", "c"], ["", ""])
    assert (no_hypotheses.wer, no_hypotheses.cer, no_hypotheses.deletions) == (1.0, 1.0, 3)
    no_reference = score(["a b", ""], ["a b", "so much noise"])
    assert (no_reference.insertions, no_reference.words) == (3, 2)
    assert no_reference.wer == pytest.approx(1.5)
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
    utterances = two_utterances(tmp_path).utterances  # of rms, then of slt
    references = [utterance.text for utterance in utterances]
    n_words = [len(text.split()) for text in references]
    scores = by_speaker(utterances, [references[0] + " again", ""])
    assert list(scores) == ["slt", "rms"]  # the worst first
    assert (scores["slt"].deletions, scores["slt"].words, scores["slt"].wer) == (n_words[1], n_words[1], 1.0)
    assert (scores["rms"].insertions, scores["rms"].words) == (1, n_words[0])
    result = report("dev", utterances, [references[0] + " again", ""], True, 0)
    head, slt, rms = capsys.readouterr().out.splitlines()[1:]
    assert head.split() == ["speaker", "WER", "%", "CER", "%", "words", "sub", "del", "ins"]
    assert slt.split() == ["slt", "100.00", "100.00", str(n_words[1]), "0", str(n_words[1]), "0"]
    assert rms.split()[0] == "rms" and rms.split()[3:] == [str(n_words[0]), "0", "0", "1"]
    assert result["speakers"]["slt"]["deletions"] == n_words[1]


def test_words_are_aligned() -> None:
    assert aligned("the Cat sat down", "a cat sat right there").splitlines() == [
        "    reference:  THE cat sat ***   DOWN",
        "    hypothesis: A   cat sat RIGHT THERE",
    ]
    assert aligned("", "oh").splitlines() == ["    reference:  ***", "    hypothesis: OH"]


def test_worst_sorts_by_errors_and_leaves_out_correct_ones(tmp_path: Path) -> None:
    utterances = two_utterances(tmp_path).utterances
    references = [utterance.text for utterance in utterances]
    found = worst(utterances, [references[0] + " again", ""], 5)
    assert [utterance.id for utterance, _, _ in found] == ["slt_16k", "rms_16k"]
    assert [one.errors for _, one, _ in found] == [len(references[1].split()), 1]
    assert worst(utterances, [references[0] + " again", ""], 1) == found[:1]
    assert worst(utterances, references, 5) == []


def test_sets_and_their_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, small_model(), letters_tokenizer())
    first = write_test_manifest(tmp_path, ("slt_16k.flac",)).rename(tmp_path / "first.jsonl")
    second = write_test_manifest(tmp_path, ("rms_16k.opus", "gb_22k.wav")).rename(tmp_path / "second.jsonl")
    found = evaluate_checkpoint(path, [first, second], None, False, torch.device("cpu"), n_worst=1)
    for count in ("substitutions", "deletions", "insertions", "words"):
        assert found["total"][count] == found["first"][count] + found["second"][count]
    assert found["total"]["words"] == 31 and len(found["second"]["worst"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line[0] != " "] == ["first", "second", "total"]
    assert lines[1].startswith("  slt_16k: WER ") and lines[2].startswith("    reference:  ")
    with pytest.raises(OptionError, match="first, first"):
        evaluate_checkpoint(path, [first, first], None, False, torch.device("cpu"))


def test_chunks_are_refused_without_streaming(tmp_path: Path) -> None:
    path, manifest = tmp_path / "m.safetensors", write_test_manifest(tmp_path)
    save_checkpoint(path, small_model(), letters_tokenizer())
    with pytest.raises(OptionError, match="--chunk-ms must be left out"):
        evaluate_checkpoint(path, [manifest], 640, False, torch.device("cpu"))


def test_look_ahead_defaults_to_that_of_streams() -> None:
    model = small_model(normalization="running")
    assert chunking_of(model, None, None) is None
    assert chunking_of(model, 640, None) == Chunking(16, 8)
    assert chunking_of(model, 160, None) == Chunking(4, 2)
    assert chunking_of(model, 2560, None) == Chunking(64, 8)
    assert chunking_of(model, 640, 0) == Chunking(16)


def test_impossible_chunks() -> None:
    model = small_model(normalization="running")
    for chunk_ms in (0, -40, 100):
        with pytest.raises(OptionError, match=f"--chunk-ms must be .*, got {chunk_ms}"):
            chunking_of(model, chunk_ms, None)
    for look_ahead_ms in (-40, 100, 640):
        with pytest.raises(OptionError, match=f"--look-ahead-ms must be .*, got {look_ahead_ms}"):
            chunking_of(model, 640, look_ahead_ms)
    with pytest.raises(OptionError, match="--look-ahead-ms needs --chunk-ms"):
        chunking_of(model, None, 320)


def test_results_never_replace_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, manifest = tmp_path / "m.safetensors", write_test_manifest(tmp_path)
    save_checkpoint(checkpoint, small_model(), letters_tokenizer())
    (tmp_path / "link.jsonl").symlink_to(manifest)
    before = [path.read_bytes() for path in (checkpoint, manifest)]
    for output in (checkpoint, manifest, tmp_path / "link.jsonl"):
        assert main(["evaluate", str(checkpoint), str(manifest), "--json", str(output)]) == 2
        assert "must" in capsys.readouterr().err
    assert [path.read_bytes() for path in (checkpoint, manifest)] == before
