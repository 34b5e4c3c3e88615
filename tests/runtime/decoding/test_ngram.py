"""ARPA files: back-off by hand, and what is wrong with a malformed one."""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import BENCHMARKS

from lwasr_edge import OptionError
from lwasr_edge.decoding.language_model import LanguageModel
from lwasr_edge.decoding.ngram import NGram
from lwasr_edge.errors import LanguageModelError

ARPA = """
made by hand
\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-2.0\t<unk>\t-0.1
-0.7\tlights\t-0.3
-0.9\ton\t-0.2

\\2-grams:
-0.2\t<s> lights\t-0.4
-0.4\tlights on\t-0.6
-0.3\ton </s>

\\3-grams:
-0.1\t<s> lights on

\\end\\
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def log10(model: NGram, *words: str) -> list[float]:
    context, found = model.start(), []
    for word in words:
        log_prob, context = model.score(context, word)
        found.append(log_prob / math.log(10))
    return found


@pytest.fixture
def model(tmp_path: Path) -> NGram:
    return NGram.read(written(tmp_path / "lm.arpa", ARPA))


def test_a_sentence_that_is_there(model: NGram) -> None:
    assert model.order == 3
    assert "lights" in model and "off" not in model
    # "lights on </s>" is no trigram: the weight of "lights on", then the bigram.
    assert log10(model, "lights", "on", "</s>") == pytest.approx([-0.2, -0.1, -0.6 - 0.3])


def test_back_off_goes_down_to_single_words(model: NGram) -> None:
    assert log10(model, "on", "on") == pytest.approx([-0.5 - 0.9, 0.0 - 0.2 - 0.9])


def test_unknown_words(model: NGram) -> None:
    assert log10(model, "off") == pytest.approx([-0.5 - 2.0])
    assert log10(NGram(1, {("a",): (-1.0, 0.0)}), "off") == pytest.approx([-7.0])


def test_gzip_and_no_lower_orders(tmp_path: Path, model: NGram) -> None:
    path = tmp_path / "lm.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode()))
    assert log10(NGram.read(path), "lights", "on") == log10(model, "lights", "on")
    damaged = bytearray(path.read_bytes())
    damaged[20:40] = bytes(20)
    path.write_bytes(damaged)
    with pytest.raises(LanguageModelError, match="cannot be read"):
        NGram.read(path)
    unigram = "\\data\\\nngram 1=1\n\\1-grams:\n-1.5 hello\n\\end\\\n"
    assert log10(NGram.read(written(tmp_path / "1.arpa", unigram)), "hello", "hello") == pytest.approx([-1.5, -1.5])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", "must have a '\\data\\' line"),
        ("ngram 1=5\nngram 2=3\nngram 3=1\n", "", "line 5: 'ngram 1=COUNT' must follow"),
        ("ngram 2=3\n", "", "line 5: the count of 2-grams must follow, got 'ngram 3=1'"),
        ("ngram 1=5", "ngram 1=6", "1-grams must have 6 lines"),
        ("ngram 1=5", "ngram 1=4", "line 13: '\\2-grams:' must follow, got '-0.9\\ton\\t-0.2'"),
        ("-0.4\tlights on\t-0.6", "-0.4\tlights", "line 17: the section of 2-grams"),
        (
            "-0.4\tlights on\t-0.6",
            "x\tlights on\t-0.6",
            "line 17: probabilities and weights must be log10 numbers, got 'x'",
        ),
        (
            "-0.4\tlights on\t-0.6",
            "nan\tlights on\t-0.6",
            "line 17: probabilities and weights must be log10 numbers, got 'nan'",
        ),
        ("\\end\\", "", "'\\end\\' must follow"),
        ("\\3-grams:\n-0.1\t<s> lights on\n\n\\end\\\n", "", "'\\3-grams:' must follow, got None"),
    ],
)
def test_malformed_files_are_refused_by_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ARPA
    path = written(tmp_path / "lm.arpa", ARPA.replace(old, new, 1))
    with pytest.raises(LanguageModelError) as error:
        NGram.read(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match="does not exist"):
        NGram.read(tmp_path / "none.arpa")
    binary = tmp_path / "lm.bin"
    binary.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\xff\xfe\x00")
    with pytest.raises(LanguageModelError, match="is not text: convert a binary model"):
        NGram.read(binary)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(ARPA.encode())[:60])
    with pytest.raises(LanguageModelError, match="cannot be read"):
        NGram.read(cut)
    with pytest.raises(LanguageModelError, match="cannot be read"):
        NGram.read(tmp_path)
    with pytest.raises(LanguageModelError, match="cannot be read"):
        NGram.read("lm\0.arpa")


@pytest.mark.parametrize("count", ["9" * 30, "9" * 5000])
def test_impossible_counts(tmp_path: Path, count: str) -> None:
    path = written(tmp_path / "lm.arpa", ARPA.replace("ngram 1=5", f"ngram 1={count}", 1))
    with pytest.raises(LanguageModelError, match=r"lm\.arpa"):
        NGram.read(path)


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"weight": math.nan}, {"word_bonus": math.inf}])
def test_invalid_options(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        LanguageModel("lm.arpa", **options)


def test_a_trained_model_is_a_distribution_over_words(tmp_path: Path) -> None:
    if not BENCHMARKS.is_dir():
        pytest.skip("needs the checkout, not an install")
    manifest, arpa = tmp_path / "train.jsonl", tmp_path / "lm.arpa"
    texts = ["lights on", "lights off", "lights on please", "on", "please dim the lights", "the heating off"]
    manifest.write_text("".join(json.dumps({"audio_filepath": "a.wav", "text": text}) + "\n" for text in texts))
    command = [sys.executable, "-m", "benchmarks.accuracy.train_ngram", manifest, "-o", arpa]
    subprocess.run(command, cwd=BENCHMARKS.parent, check=True)
    model = NGram.read(arpa)
    vocabulary = {word for text in texts for word in text.split()} | {"</s>", "<unk>"}
    for context in [("<s>",), ("<s>", "lights"), ("lights", "on"), ("the", "on"), ("unheard", "of"), ()]:
        assert sum(math.exp(model.score(context, word)[0]) for word in vocabulary) == pytest.approx(1, abs=1e-4)
    assert model.score(("<s>",), "lights")[0] > model.score(("<s>",), "heating")[0]
    assert sorted(model.words) == sorted(vocabulary - {"</s>", "<unk>"})


def test_a_byte_order_mark(tmp_path: Path, model: NGram) -> None:
    read = NGram.read(written(tmp_path / "bom.arpa", "\ufeff" + ARPA))
    assert log10(read, "lights", "on") == log10(model, "lights", "on")
    (tmp_path / "bom.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + ARPA.encode()))
    assert NGram.read(tmp_path / "bom.gz").words == model.words


def gzip_of(byte: bytes, megabytes: int) -> bytes:
    """Many times a byte or two, as concatenated gzip members."""
    return gzip.compress(byte * ((1 << 20) // len(byte)), 9) * megabytes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ARPA.replace("lights", "l" * 70_000), "a line must have at most 65536 characters"),
        (gzip_of(b"a", 4_000), "line 1: a line must have at most 65536 characters"),
        (gzip_of(b"a\n", 4_000), "must have a '.*data.*' line, got none"),
        (gzip_of(b"\n", 4_000), "must be separated by a blank line, got 100001 of them"),
        (ARPA.replace("-0.9\ton", "-0.9\t" + "on " * 20_000), "line .*: the section of 1-grams must have"),
        (ARPA.replace("1=5", "1=" + "9" * 5000), "the count of 1-grams must follow"),
        (ARPA.replace("ngram 1", "ngram " + "1" * 5000), "the count of 1-grams must follow"),
        (ARPA.replace("1=5", "1=99999999999"), "at most 5000000 n-grams"),
        ("\\data\\\n" + "".join(f"ngram {order}=0\n" for order in range(1, 30)), "n-grams of 20 words"),
        (ARPA.replace("-0.7", "9" * 30_000 + "x"), "must be log10 numbers"),
    ],
)
def test_files_that_would_fill_the_memory(tmp_path: Path, data: str | bytes, message: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(LanguageModelError, match=message) as raised:
        NGram.read(path)
    assert len(str(raised.value)) < 600


def test_a_pipe_is_no_language_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lm.arpa")
    with pytest.raises(LanguageModelError, match="must be a regular file, got a pipe"):
        NGram.read(tmp_path / "lm.arpa")
