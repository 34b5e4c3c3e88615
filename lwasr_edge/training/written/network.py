"""The tagger's network in torch; `lwasr_edge.written.tagger` computes the same with numpy."""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwasr_edge.written.features import MAX_NGRAMS, word_rows
from lwasr_edge.written.tagger import FORMAT_VERSION, N_CASES, N_MARKS, TaggerConfig, quantised, weight_shapes


class WordTable(NamedTuple):
    """The rows of every word of a vocabulary of W words."""

    words: Tensor  # (W, 2) int64
    ngrams: Tensor  # (W, MAX_NGRAMS) int64; rows that a word lacks are n_ngrams, whose embedding is 0
    counts: Tensor  # (W, 1) float32, n-grams of each word

    @classmethod
    def of(cls, vocabulary: list[str], config: TaggerConfig) -> WordTable:
        """Hash a vocabulary."""
        rows = [word_rows(word, config.n_words, config.n_ngrams) for word in vocabulary]
        ngrams = np.full((len(rows), MAX_NGRAMS), config.n_ngrams)
        for index, one in enumerate(rows):
            ngrams[index, : len(one.ngrams)] = one.ngrams
        counts = torch.tensor([[float(len(one.ngrams))] for one in rows])
        return cls(torch.tensor([one.words for one in rows]), torch.from_numpy(ngrams), counts)


class Layer(nn.Module):
    """x + GLU(linear(depthwise_conv(layer_norm(x))))."""

    def __init__(self, config: TaggerConfig, dilation: int) -> None:
        super().__init__()
        width = config.width
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Linear(width, config.kernel, bias=False)  # holds (kernel, D)
        self.linear = nn.Linear(width, 2 * width)
        nn.init.normal_(self.conv.weight, std=config.kernel**-0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T, 1) to (B, T, D)."""
        kernel, width = self.conv.weight.shape
        y = (self.norm(x) * mask).transpose(1, 2)
        weight = self.conv.weight.T.unsqueeze(1)  # (D, 1, kernel)
        y = F.conv1d(y, weight, padding=kernel // 2 * self.dilation, dilation=self.dilation, groups=width)
        y = F.glu(self.linear(y.transpose(1, 2)), dim=-1)
        return x + y


class TaggerNetwork(nn.Module):
    """Words to the logits of marks and capitals.

    Args:
        config: sizes.
        table: of the vocabulary of the training text.
    """

    def __init__(self, config: TaggerConfig, table: WordTable) -> None:
        super().__init__()
        self.config = config
        self.table = table
        self.words = nn.Embedding(config.n_words, config.word_width)
        self.ngrams = nn.Embedding(config.n_ngrams, config.ngram_width)
        self.layers = nn.ModuleList(Layer(config, dilation) for dilation in config.dilations)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, N_MARKS + N_CASES)
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.normal_(self.ngrams.weight, std=0.6)

    def forward(self, word_ids: Tensor, *, word_dropout: float = 0.0) -> Tensor:
        """Logits of a batch.

        Args:
            word_ids: (B, T) indices into the vocabulary; -1 after the end of a sequence.
            word_dropout: share of the batch's words that are known by their n-grams alone, as words that are not in
                the training text.

        Returns:
            (B, T, 7).
        """
        mask = (word_ids >= 0).unsqueeze(-1)
        used, inverse = word_ids.clamp(min=0).unique(return_inverse=True)
        known = self.words(self.table.words[used]).sum(1)
        if self.training and word_dropout:
            known = known * (torch.rand(len(used), 1) >= word_dropout)
        padded = F.pad(self.ngrams.weight, (0, 0, 0, 1))
        rest = F.embedding(self.table.ngrams[used], padded).sum(1) / self.table.counts[used]
        x = F.embedding(inverse, torch.cat([known, rest], 1)) * mask
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def arrays(self, spellings: dict[str, str], mark_bias: list[float]) -> dict[str, np.ndarray]:
        """The 8-bit weights, as `Tagger` reads them."""
        header = {
            "format_version": FORMAT_VERSION,
            "config": dataclasses.asdict(self.config),
            "spellings": spellings,
            "mark_bias": mark_bias,
        }
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        state = self.state_dict()
        for name in weight_shapes(self.config):
            weight = state[name].numpy().astype(np.float32)
            if weight.ndim == 2 and ".conv." not in name:
                arrays[name], arrays[f"{name}.scale"] = quantised(weight)
            else:
                arrays[name] = weight
        return arrays
