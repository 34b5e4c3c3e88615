"""`lwasr lm build` and `lwasr lm weights`: counting, smoothing, pruning, interpolation."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import numpy as np
import pytest

from lwasr_edge import LanguageModelError
from lwasr_edge.cli import main
from lwasr_edge.decoding.ngram_file import MappedNGram
from lwasr_edge.lm import counting
from lwasr_edge.lm.build import build, mixture_shares
from lwasr_edge.lm.kneser_ney import estimate
from lwasr_edge.lm.text import sentences

NAMES = ["anna", "ben", "carla", "dario", "eva", "felix"]
VERBS = ["calls", "sees", "knows", "helps"]


def sentences_of(seed: int, count: int) -> str:
    rng = random.Random(seed)
    return "".join(
        f"{rng.choice(NAMES)} {rng.choice(VERBS)} {rng.choice(NAMES)}{rng.choice(['', ' today', ' again today'])}\n"
        for _ in range(count)
    )


def built(folder: Path, text: str, *options: str, name: str = "words") -> MappedNGram:
    path = folder / f"{name}.txt"
    path.write_text(text, encoding="utf-8")
    assert main(["lm", "build", str(path), "-o", str(folder / f"{name}.lm"), *options]) == 0
    return MappedNGram(folder / f"{name}.lm")


def total(model: MappedNGram, *before: str) -> float:
    context = model.start()
    for word in before:
        context = model.score(context, word)[1]
    return sum(math.exp(model.score(context, word)[0]) for word in [*model.words, "</s>", "<unk>"])


CONTEXTS = [(), ("anna",), ("anna", "calls"), ("today", "today"), ("nobody",), ("ben", "nobody"), ("calls", "ben")]


@pytest.mark.parametrize("order", ["2", "3"])
def test_a_model_is_a_distribution(tmp_path: Path, order: str) -> None:
    model = built(tmp_path, sentences_of(1, 400), "--order", order)
    assert model.order == int(order)
    for context in CONTEXTS:
        assert total(model, *context) == pytest.approx(1, abs=0.02)  # values of one byte
    context = model.start()
    assert model.score(context, "anna")[0] > model.score(context, "today")[0] + 2


def test_the_smoothing_by_hand() -> None:
    """Of "a b" twice and "a c" once, with the fallback discounts of a text without enough counts."""
    words = ["<unk>", "<s>", "</s>", "a", "b", "c"]
    counts = counting.count([["a", "b"], ["a", "b"], ["a", "c"]], words, 2)
    assert dict(zip(counts.keys.tolist(), counts.counts.tolist(), strict=True)) == {
        1 * 6 + 3: 3,  # <s> a
        3 * 6 + 4: 2,  # a b
        3 * 6 + 5: 1,  # a c
        4 * 6 + 2: 2,  # b </s>
        5 * 6 + 2: 1,  # c </s>
    }
    single, pairs = estimate(counts, 1e6)
    # Predecessors: a has 1, b has 1, c has 1, </s> has 2; discounts .5 .5 .5 1 of 5; the rest is shared by 5 words.
    lower = {"a": 0.5 / 5 + 0.1, "b": 0.5 / 5 + 0.1, "c": 0.5 / 5 + 0.1, "</s>": 1 / 5 + 0.1, "<unk>": 0.1}
    for word, expected in lower.items():
        assert math.exp(single[1][words.index(word), 0]) == pytest.approx(expected, abs=1e-6)
    found = {tuple(words[i] for i in row): math.exp(p) for row, p in zip(pairs[0], pairs[1][:, 0], strict=True)}
    assert found["a", "b"] == pytest.approx((2 - 1) / 3 + (1 + 0.5) / 3 * lower["b"], abs=1e-6)
    assert found["a", "c"] == pytest.approx((1 - 0.5) / 3 + (1 + 0.5) / 3 * lower["c"], abs=1e-6)


def test_pruning_to_a_size_keeps_a_distribution(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(sentences_of(2, 3000) + "".join(f"x{'abcdefghij'[i % 10]} y z\n" for i in range(50)))
    whole = build([path], lambda done, of: None)
    n_whole = [len(level.prob) for level in whole.levels]
    small = built(tmp_path, path.read_text(), "--size", "0.0064")
    assert small.counts[0] == n_whole[0]
    assert sum(small.counts) < 0.7 * sum(n_whole)
    assert small.path.stat().st_size < 6_500
    for context in CONTEXTS:
        assert total(small, *context) == pytest.approx(1, abs=0.03)


def test_text_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(
        gzip.compress('"Turn 2 lights on," he said.  It costs $5! caf\u00e9 \u2014 D\u2019Arcy\n\n\n'.encode())
    )
    assert list(sentences([path], lambda done, of: None)) == [
        ["turn", "two", "lights", "on", "he", "said"],
        ["it", "costs", "five", "dollars"],
        ["cafe", "d'arcy"],
    ]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_GRAMS", 60)
    monkeypatch.setattr(counting, "BATCH", 500)
    monkeypatch.setattr(counting, "MAX_DISTINCT", 12)
    texts = [line.split() for line in sentences_of(3, 600).splitlines()]
    words = counting.vocabulary(iter(texts), 100, 2)
    counts = counting.count(iter(texts), words, 3)
    assert len(counts.keys) <= 60 + 500
    assert (np.diff(counts.keys) > 0).all()
    assert {"anna", "calls", "today"} <= set(words)


def test_weights_find_the_model_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = built(tmp_path, sentences_of(1, 300), name="site")
    other = built(tmp_path, "the weather is fine\nit rains again today\nanna knows\n" * 30, name="other")
    held_out = tmp_path / "held-out.txt"
    held_out.write_text(sentences_of(9, 100))
    shares, perplexities = mixture_shares([other, site], [held_out])
    assert sum(shares) == pytest.approx(1)
    assert shares[1] > 0.9
    assert perplexities[2] <= min(perplexities[:2]) * 1.001
    assert main(["lm", "weights", str(tmp_path / "site.lm"), "general", "--text", str(held_out)]) == 0
    assert "--lm-mix 1.000,0.001" in capsys.readouterr().out
    assert main(["lm", "weights", "general", "--text", str(held_out)]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "none.txt", "-o", "a.lm"], "must be text in UTF-8, got No such file"),
        (["build", "empty.txt", "-o", "a.lm"], "got none: give more text"),
        (["build", "a.txt", "-o", "a.txt"], "output must end in .lm"),
        (["build", "a.txt", "-o", "nowhere/a.lm"], "does not exist"),
        (["convert", "a.txt", "-o", "a.lm"], "must have a '\\data\\' line"),
        (["info", "a.arpa"], "must be a .lm file"),
        (["info", "a.txt"], "must have a '\\data\\' line"),
    ],
)
def test_refusals(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n12\n!\n"[:1])
    Path("a.txt").write_text("a b\n")
    Path("a.arpa").write_text("\\data\\\nngram 1=1\n\\1-grams:\n-1 a\n\\end\\\n")
    assert main(["lm", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("a.lm").exists()


def test_text_without_a_frequent_word() -> None:
    with pytest.raises(LanguageModelError, match="words that occur 2 times"):
        counting.vocabulary([["a", "b"]], 10, 2)
