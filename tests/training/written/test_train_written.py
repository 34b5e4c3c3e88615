"""`lwasr-train written`: the network equals the numpy tagger, a small training learns, resumes and reports."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lwasr_edge.training.cli import main
from lwasr_edge.training.written.batches import LENGTHS, Encoded, batches
from lwasr_edge.training.written.network import TaggerNetwork, WordTable
from lwasr_edge.training.written.scores import Count
from lwasr_edge.written.tagger import Tagger, TaggerConfig
from lwasr_edge.written.text import write_text

SMALL = TaggerConfig(n_words=64, word_width=16, n_ngrams=64, ngram_width=8)
NAMES = ("John", "Mary", "Emma", "Paul")


def sentences(count: int) -> list[str]:
    """Statements about names, and questions."""
    rng = random.Random(1)
    verbs, things = ("likes", "sees", "wants", "has"), ("a dog", "some tea", "the red house", "an old book")
    return [
        f"Does {rng.choice(NAMES)} like {rng.choice(things)} number {index}?"
        if rng.random() < 0.4
        else f"Well, {rng.choice(NAMES)} {rng.choice(verbs)} {rng.choice(things)} number {index}."
        for index in range(count)
    ]


def test_numpy_computes_what_torch_does() -> None:
    torch.manual_seed(3)
    vocabulary = ["hello", "world", "a", "o'clock", "antidisestablishmentarianism", "\u00e9t\u00e9"]
    network = TaggerNetwork(SMALL, WordTable.of(vocabulary, SMALL)).eval()
    tagger = Tagger(network.arrays({}, [0.0] * 4))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(torch.from_numpy(tagger._weights[name]))  # as rounded to 8 bits
    word_ids = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 1, 0, -1, -1, -1, -1, -1]])
    with torch.no_grad():
        logits = network(word_ids).log_softmax(-1)
        marks, cases = network(word_ids).split([4, 3], -1)
    assert logits.shape == (2, 8, 7)
    for row, length in ((0, 8), (1, 3)):
        words = [vocabulary[number] for number in word_ids[row, :length]]
        found_marks, found_cases = tagger.log_probs(words)
        np.testing.assert_allclose(found_marks, marks[row, :length].log_softmax(-1), atol=1e-4)
        np.testing.assert_allclose(found_cases, cases[row, :length].log_softmax(-1), atol=1e-4)


def test_batches_hold_every_word_of_whole_sequences() -> None:
    items = [Encoded(np.full(5, n, np.int32), np.full(5, 2, np.int8), np.zeros(5, np.int8)) for n in range(1, 200)]
    found = list(batches([(items, 1.0)], np.array([-2]), seed=1))
    assert {batch.word_ids.shape[1] for batch in found} <= set(range(1, max(LENGTHS) + 1))
    for batch in found:
        assert ((batch.word_ids < 0) == (batch.marks < 0)).all()
    assert all(one.cases[0] == 0 for one in items)  # sequences that begin inside a sentence change nothing


def test_counts() -> None:
    count = Count()
    count.add(np.array([True, True, False]), np.array([True, False, True]))
    assert count.f1 == 0.5
    assert Count().f1 == 0.0


@pytest.mark.slow
def test_a_small_training_learns_resumes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, other, output = tmp_path / "small.txt", tmp_path / "other.txt", tmp_path / "tagger.npz"
    text.write_text("\n".join(sentences(800)), encoding="utf-8")
    other.write_text("\n".join(sentences(40)), encoding="utf-8")
    command = ["written", str(text), "--held-out", str(other), "-o", str(output), "--minutes", "5"]
    assert main([*command, "--epochs", "3"]) == 0
    assert main([*command, "--epochs", "10"]) == 0  # goes on from the state of the first
    report = json.loads((tmp_path / "tagger.npz.json").read_text(encoding="utf-8"))
    assert report["training"]["words"] > 9 * 0.955 * sum(len(line.split()) for line in sentences(800))
    assert report["held_out_files"] == ["other"]
    assert report["running_text"]["other"]["ends"]["f1"] > 0.8
    assert report["sentences"]["other"]["capital"]["f1"] > 0.8
    assert "running text  other" in capsys.readouterr().out
    spoken = "does emma like some tea number one well mary has a dog number two"
    assert write_text(spoken, Tagger.load(output)).startswith("Does Emma like some tea number one? Well, Mary has")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.txt"], "missing.txt must be text in UTF-8"),
        (["a.txt", "--share", "b=0.5"], "--share must name a TEXT, got b: name it without its suffixes"),
        (["empty.txt"], "TEXT must hold sentences that end in a full stop or question mark, got none"),
    ],
)
def test_errors(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("\n".join(sentences(20)), encoding="utf-8")
    Path("empty.txt").write_text("no end\n", encoding="utf-8")
    assert main(["written", *options, "-o", "out.npz"]) == 2
    assert message in capsys.readouterr().err
