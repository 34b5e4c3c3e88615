"""The tagger: after each word a mark, and of each word its capitals; 8-bit weights, computed with numpy.

    x = [word rows summed | mean of n-gram rows]                                   (T, D)
    each layer:  x = x + GLU(linear(depthwise_conv(layer_norm(x))))                (T, D)
    logits = linear(layer_norm(x))                                                 (T, 7): 4 marks, 3 cases

The weights are made by `lwasr-train written`, whose network (training/written/network.py) is the same one in torch.
"""

from __future__ import annotations

import functools
import importlib.resources
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lwasr_edge.errors import ModelError
from lwasr_edge.written.features import word_rows

if TYPE_CHECKING:
    from importlib.abc import Traversable  # `importlib.resources.abc` from Python 3.11 on

NO_MARK, COMMA, FULL_STOP, QUESTION = range(4)
LOWER, TITLE, UPPER = range(3)
N_MARKS, N_CASES = 4, 3
FORMAT_VERSION = 1
EPSILON = 1e-5  # of the layer norms
BLOCK_WORDS = 1024  # computed at a time, with the context of both sides: the result does not depend on it
WEIGHTS = Path(__file__).parent / "tagger.npz"


@dataclass(frozen=True)
class TaggerConfig:
    """Sizes of a tagger."""

    n_words: int = 10_240  # rows of the word table
    word_width: int = 96
    n_ngrams: int = 8192
    ngram_width: int = 64
    kernel: int = 7  # words, odd
    dilations: tuple[int, ...] = (1, 2, 4, 1)  # of each layer

    @property
    def width(self) -> int:
        """D."""
        return self.word_width + self.ngram_width

    @property
    def context(self) -> int:
        """Words on each side that a tag depends on."""
        return sum(self.dilations) * (self.kernel // 2)


class Tagger:
    """Log-probabilities of marks and capitals.

    Args:
        arrays: the weights by name, float32 or int8 with a scale for each row ("NAME.scale"), and "header", JSON as
            bytes: "format_version", "config", "spellings" and "mark_bias".

    Raises:
        ModelError: something is missing, or of another size or version.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        try:
            header: dict[str, Any] = json.loads(arrays["header"].tobytes())
            if header["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format {header['format_version']}")
            self.config = TaggerConfig(**{**header["config"], "dilations": tuple(header["config"]["dilations"])})
            self.spellings: dict[str, str] = header["spellings"]
            self._mark_bias = np.array(header["mark_bias"], np.float32).reshape(N_MARKS)
            self._weights = {name: _dequantised(name, arrays) for name in weight_shapes(self.config)}
            for name, shape in weight_shapes(self.config).items():
                if self._weights[name].shape != shape:
                    raise ValueError(f"{name} of shape {self._weights[name].shape}")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"tagger must be a file of lwasr-train written, got {error!r}: make it again") from error

    @classmethod
    def load(cls, path: Path | Traversable = WEIGHTS) -> Tagger:
        """Read a tagger's file.

        Args:
            path: of a regular file, or of one in a zip file.

        Raises:
            ModelError: it cannot be read or is no tagger.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:  # of zipfile or numpy, depending on the damage
            raise ModelError(f"{path} must be a file of lwasr-train written, got {error!r}: make it again") from error
        return cls(arrays)

    def log_probs(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The log-probabilities of each word's tags.

        Args:
            words: T words in lower case; any number, in time proportional to it.

        Returns:
            (T, 4) float32 of the mark after each word, with the bias that gives the best F1, and (T, 3) of its case.
        """
        logits = np.zeros((len(words), N_MARKS + N_CASES), np.float32)
        context = self.config.context
        for start in range(0, len(words), BLOCK_WORDS):
            first = max(0, start - context)
            block = self._logits(words[first : start + BLOCK_WORDS + context])
            logits[start : start + BLOCK_WORDS] = block[start - first : start - first + BLOCK_WORDS]
        marks = _log_softmax(logits[:, :N_MARKS]) + self._mark_bias
        return marks, _log_softmax(logits[:, N_MARKS:])

    def _logits(self, words: list[str]) -> np.ndarray:
        weights = self._weights
        x = self._embedded(words)
        for layer, dilation in enumerate(self.config.dilations):
            name = f"layers.{layer}"
            y = _layer_norm(x, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
            y = _depthwise(y, weights[f"{name}.conv.weight"], dilation)
            y = y @ weights[f"{name}.linear.weight"].T + weights[f"{name}.linear.bias"]
            value, gate = np.split(y, 2, axis=1)
            x = x + value / (1.0 + np.exp(-np.clip(gate, -30.0, 30.0)))
        x = _layer_norm(x, weights["norm.weight"], weights["norm.bias"])
        return x @ weights["head.weight"].T + weights["head.bias"]

    def _embedded(self, words: list[str]) -> np.ndarray:
        """(T, D) embeddings of T words."""
        rows = [word_rows(word, self.config.n_words, self.config.n_ngrams) for word in words]
        embedded = np.empty((len(words), self.config.width), np.float32)
        pairs = np.array([one.words for one in rows]).reshape(-1, 2)
        table, width = self._weights["words.weight"], self.config.word_width
        embedded[:, :width] = table[pairs[:, 0]] + table[pairs[:, 1]]
        counts = np.array([len(one.ngrams) for one in rows])
        flat = self._weights["ngrams.weight"][[row for one in rows for row in one.ngrams]]
        sums = np.add.reduceat(flat, np.cumsum(counts) - counts, axis=0)
        embedded[:, width:] = sums / counts[:, None]
        return embedded


@functools.cache
def packaged_tagger() -> Tagger:
    """The tagger of the package, read once; also where the package is in a zip file."""
    return Tagger.load(importlib.resources.files("lwasr_edge.written") / WEIGHTS.name)


def weight_shapes(config: TaggerConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight."""
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {
        "words.weight": (config.n_words, config.word_width),
        "ngrams.weight": (config.n_ngrams, config.ngram_width),
    }
    for layer in range(len(config.dilations)):
        shapes[f"layers.{layer}.norm.weight"] = shapes[f"layers.{layer}.norm.bias"] = (width,)
        shapes[f"layers.{layer}.conv.weight"] = (config.kernel, width)
        shapes[f"layers.{layer}.linear.weight"] = (2 * width, width)
        shapes[f"layers.{layer}.linear.bias"] = (2 * width,)
    shapes["norm.weight"] = shapes["norm.bias"] = (width,)
    shapes["head.weight"] = (N_MARKS + N_CASES, width)
    shapes["head.bias"] = (N_MARKS + N_CASES,)
    return shapes


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix in 8 bits: (R, C) int8 and the scale of each row, (R,) float32."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12) / 127.0
    return np.round(weight / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _dequantised(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    weight = arrays[name].astype(np.float32)
    return weight * arrays[f"{name}.scale"][:, None] if f"{name}.scale" in arrays else weight


def _layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("td,td->t", centred, centred) / x.shape[1]
    return centred / np.sqrt(variance + EPSILON)[:, None] * weight + bias


def _depthwise(x: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
    """Convolve each channel with its own kernel: (T, D) and (kernel, D) to (T, D), zeros outside."""
    n, reach = len(x), len(weight) // 2 * dilation
    padded = np.zeros((n + 2 * reach, x.shape[1]), np.float32)
    padded[reach : reach + n] = x
    out = padded[:n] * weight[0]
    for tap in range(1, len(weight)):
        out += padded[tap * dilation : tap * dilation + n] * weight[tap]
    return out


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
