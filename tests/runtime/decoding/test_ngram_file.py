"""The mapped n-gram file: the same scores as the ARPA file, and what is refused."""

from __future__ import annotations

import math
import pickle
import random
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from lwasr_edge import LanguageModelError
from lwasr_edge.cli import main
from lwasr_edge.decoding.language_model import LanguageModel, load_words
from lwasr_edge.decoding.mixture import Mixture
from lwasr_edge.decoding.ngram import NGram
from lwasr_edge.decoding.ngram_file import MappedNGram
from lwasr_edge.decoding.ngram_layout import MAGIC, to_bytes
from lwasr_edge.lm.tables import quantised, tables_of_arpa

WORDS = ["a", "ab", "abc", "b", "ba", "caf\u00e9", "'tis", "zebra"]
HEADER = struct.calcsize("<8sII")


def random_arpa(seed: int, order: int = 3, *, is_complete: bool = True) -> str:
    """A made-up model; an incomplete one lacks the beginnings of some n-grams, and `<unk>`."""
    rng = random.Random(seed)
    words = ["<s>", "</s>", *WORDS, *(["<unk>"] if is_complete else [])]
    grams: list[list[tuple[str, ...]]] = [[(word,) for word in words]]
    for n in range(2, order + 1):
        found = {tuple(rng.choice(words) for _ in range(n)) for _ in range(25)}
        if is_complete:
            grams[-1] = sorted({*grams[-1], *(gram[:-1] for gram in found)})
        grams.append(sorted(found))
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(grams, 1))]
    for n, level in enumerate(grams, 1):
        lines.append(f"\\{n}-grams:")
        for gram in level:
            weight = f"\t{-rng.random():.2f}" if n < order else ""
            lines.append(f"{-3 * rng.random():.2f}\t{' '.join(gram)}{weight}")
    return "\n".join([*lines, "\\end\\", ""])


def both(folder: Path, text: str) -> tuple[NGram, MappedNGram]:
    arpa, mapped = folder / "words.arpa", folder / "words.lm"
    arpa.write_text(text, encoding="utf-8")
    assert main(["lm", "convert", str(arpa), "-o", str(mapped)]) == 0
    return NGram.read(arpa), MappedNGram(mapped)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("is_complete", [True, False])
def test_the_scores_are_those_of_the_arpa_file(tmp_path: Path, order: int, is_complete: bool) -> None:
    rng = random.Random(order)
    for seed in range(4):
        arpa, mapped = both(tmp_path, random_arpa(seed, order, is_complete=is_complete))
        assert sorted(mapped.words) == sorted(arpa.words)
        for _ in range(300):
            one, other = arpa.start(), mapped.start()
            for word in rng.choices([*WORDS, "</s>", "unknown", "zebr", "\ud800"], k=5):
                expected, one = arpa.score(one, word)
                found, other = mapped.score(other, word)
                assert found == pytest.approx(expected, abs=1e-5)
                assert (word in mapped) == (word in arpa)
        for text in ("", "a", "abcd", "z", "zebra", "zebras", "caf", "caf\u00e9", "{", "<s"):
            assert mapped.is_beginning(text) == (arpa.is_beginning(text) or text == "<s")


def test_many_different_values_are_rounded_a_little() -> None:
    values = np.random.default_rng(0).normal(-9, 3, 50_000).astype(np.float32)
    codes, table = quantised(values)
    assert codes.dtype == np.uint8
    error = np.abs(table[codes] - values)
    assert error.mean() < 0.02
    assert error.max() < 0.6
    few = np.array([-1.5, -2.5, -1.5, 0.0], np.float32)
    codes, table = quantised(few)
    assert table[codes].tolist() == few.tolist()


def test_a_recognizer_takes_either_file(tmp_path: Path) -> None:
    both(tmp_path, random_arpa(1))
    assert isinstance(load_words(tmp_path / "words.lm"), MappedNGram)
    assert isinstance(load_words(tmp_path / "words.arpa"), NGram)
    other = tmp_path / "named-otherwise"
    other.write_bytes((tmp_path / "words.lm").read_bytes())
    assert isinstance(LanguageModel(other).load(), MappedNGram)
    mixed = LanguageModel([tmp_path / "words.lm", tmp_path / "words.arpa"], mix=[3, 1]).load()
    assert isinstance(mixed, Mixture)
    with pytest.raises(LanguageModelError, match="which does not exist"):
        load_words(tmp_path / "none.lm")


def test_a_pickled_model_is_its_path(tmp_path: Path) -> None:
    _, mapped = both(tmp_path, random_arpa(2))
    data = pickle.dumps(mapped)
    assert len(data) < 500
    assert pickle.loads(data).score((), "a") == mapped.score((), "a")


def test_a_mixture_is_a_distribution(tmp_path: Path) -> None:
    texts = {"one": "lights on\nlights off\nplease dim the lights\n", "two": "the zebra sleeps\nthe lights sleep\n"}
    models = []
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
        assert main(["lm", "build", str(tmp_path / f"{name}.txt"), "-o", str(tmp_path / f"{name}.lm")]) == 0
        models.append(MappedNGram(tmp_path / f"{name}.lm"))
    mixture = Mixture(models, [0.5, 0.5])
    known = {*models[0].words, *models[1].words, "</s>"}
    for before in ([], ["the"], ["lights", "off"], ["nobody", "knows"]):
        context = mixture.start()
        for word in before:
            context = mixture.score(context, word)[1]
        # The rest is the two models' probability of unknown words.
        assert 0.3 < sum(math.exp(mixture.score(context, word)[0]) for word in known) <= 1.001
    for word, model in (("dim", models[0]), ("zebra", models[1])):
        alone = model.score(model.start(), word)[0]
        assert mixture.score(mixture.start(), word)[0] == pytest.approx(alone - math.log(2), abs=0.02)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    arpa = tmp_path_factory.mktemp("lm") / "words.arpa"
    arpa.write_text(random_arpa(3), encoding="utf-8")
    return to_bytes(tables_of_arpa(arpa))


def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.lm"
    rng = random.Random(0)
    damaged = [content[:n] for n in (0, 5, 16, 27, len(content) // 2, len(content) - 1)] + [content + b"\0"]
    for _ in range(200):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(LanguageModelError) as raised:
            load_words(path)
        assert str(path) in str(raised.value)
        assert len(str(raised.value)) < 300


def test_hostile_files_with_a_right_checksum_do_no_harm(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.lm"
    rng = random.Random(1)
    n_opened = 0
    for _ in range(500):
        changed = bytearray(content[HEADER:])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(changed) // 8 if rng.random() < 0.5 else len(changed))
            changed[at : at + 1] = bytes([rng.choice([0, 1, 127, 255, rng.randrange(256)])])
        path.write_bytes(MAGIC + struct.pack("<II", 1, zlib.crc32(changed)) + changed)
        try:
            model = MappedNGram(path)
        except LanguageModelError:
            continue
        n_opened += 1
        context = model.start()
        for word in ("a", "zebra", "nothing", "</s>", *list(model.words)[:3]):
            score, context = model.score(context, word)
            assert not math.isnan(score)
            model.is_beginning(word)
    assert 10 < n_opened < 490


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"RIFF" + data[4:], "another kind of content"),
        (lambda data: data[:8] + struct.pack("<I", 2) + data[12:], "has version 2 of the format, which is newer"),
        (lambda data: data[:200], "a wrong checksum"),
        (lambda data: b"", "with 0 bytes"),
    ],
)
def test_messages(tmp_path: Path, content: bytes, change: object, message: str) -> None:
    path = tmp_path / "words.lm"
    path.write_bytes(change(content))  # type: ignore[operator]
    with pytest.raises(LanguageModelError, match=message):
        load_words(path)


def test_the_general_model() -> None:
    began_s = time.perf_counter()
    model = load_words("general")
    assert time.perf_counter() - began_s < 1.0  # measured: 2 to 10 ms
    assert isinstance(model, MappedNGram)
    data = model.path.read_bytes()
    assert len(data) < 3.5e6
    assert len(zlib.compress(data, 6)) < 2e6
    assert model.order == 3
    assert len(list(model.words)) == 60_000

    def log_prob(text: str) -> float:
        context, total = model.start(), 0.0
        for word in [*text.split(), "</s>"]:
            score, context = model.score(context, word)
            total += score
        return total

    assert log_prob("turn the lights on in the kitchen") > log_prob("turn the lights an in the chicken") + 3
    assert "zebra" in model
    assert "zebrax" not in model


def test_a_model_with_too_many_words_in_a_row_or_a_word_twice(tmp_path: Path) -> None:
    path = tmp_path / "words.arpa"
    for order, word, message in (
        (7, "a", "n-grams of at most 6 words, got 7"),
        (1, "<s>", "each word once, got '<s>'"),
    ):
        text = random_arpa(1, order)
        path.write_text(text.replace("\tab", f"\t{word}", 1) if order == 1 else text, encoding="utf-8")
        with pytest.raises(LanguageModelError, match=message):
            tables_of_arpa(path)
