"""N-grams of any source as the sorted, quantised arrays of a `.lm` file."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np

from lwasr_edge.decoding.ngram import UNKNOWN, read_arpa
from lwasr_edge.decoding.ngram_layout import MAX_ORDER, MAX_WORD, N_VALUES, Level, Tables
from lwasr_edge.errors import LanguageModelError

LN_10 = math.log(10)
LOWEST = -99 * LN_10  # nats: "never"
LOWEST_FITTED = -20 * LN_10  # rarer than any word of any text
UNSEEN = -7 * LN_10  # of unknown words, if the source has no <unk>
ROUNDS = 30  # of the quantiser
Grams = tuple[np.ndarray, np.ndarray]  # (count, n) words, (count, 2) float32 probabilities and back-off weights


class Order:
    """The n-grams of one order as they come.

    Attributes:
        words: n numbers of words for each.
        prob, back_off: natural logarithms.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.words = array("I")
        self.prob = array("f")
        self.back_off = array("f")

    def add(self, numbers: list[int], prob: float, back_off: float) -> None:
        """Add one n-gram."""
        self.words.extend(numbers)
        self.prob.append(prob)
        self.back_off.append(back_off)

    def grams(self) -> Grams:
        """As arrays."""
        numbers = np.frombuffer(self.words, np.uint32).reshape(-1, self.n)
        return numbers, np.stack([np.frombuffer(one, np.float32) for one in (self.prob, self.back_off)], axis=1)


def tables_of_arpa(path: Path) -> Tables:
    """Read an ARPA file, plain or compressed, in about 4 (order + 2) bytes an n-gram.

    Raises:
        LanguageModelError: see `read_arpa`; or n-grams of more than `MAX_ORDER` words.
    """
    numbers: dict[str, int] = {}
    orders: list[Order] = []

    def use(words: tuple[str, ...], log10: float, back_off: float) -> None:
        n = len(words)
        if n > len(orders):
            if n > MAX_ORDER:
                raise LanguageModelError(
                    f"{path} must have n-grams of at most {MAX_ORDER} words, got {n}: prune it to that order"
                )
            orders.append(Order(n))
        if n == 1:
            word = UNKNOWN if words[0] == "<UNK>" else words[0]
            if len(word.encode()) > MAX_WORD:
                raise LanguageModelError(f"{path} must have words of at most {MAX_WORD} bytes, got a longer one")
            if word in numbers:
                raise LanguageModelError(f"{path} must have each word once, got {word!r} twice")
            numbers[word] = len(numbers)
        known = [numbers.get(word, -1) for word in words]
        if min(known) >= 0:  # an n-gram of other words can never be used
            # A back-off weight of zero probability would make a known word impossible.
            orders[n - 1].add(known, max(log10 * LN_10, LOWEST), max(back_off * LN_10, LOWEST))

    read_arpa(path, use)
    if not orders:
        raise LanguageModelError(f"{path} must have at least one word, got none")
    if UNKNOWN not in numbers:
        numbers[UNKNOWN] = len(numbers)
        orders[0].add([numbers[UNKNOWN]], UNSEEN, 0.0)
    return tables_of(list(numbers), [order.grams() for order in orders])


def tables_of(words: list[str], orders: list[Grams]) -> Tables:
    """Sort and quantise.

    Args:
        words: the numbers in ``orders`` are positions in it.
        orders: n-grams of 1 word, 2 words, ...
    """
    raw = [word.encode() for word in words]
    order = sorted(range(len(raw)), key=raw.__getitem__)
    rank = np.empty(len(raw), np.int64)
    rank[order] = np.arange(len(raw))
    grams = [(rank[numbers], values) for numbers, values in orders]
    trie = _Trie(len(raw), grams)
    return Tables([raw[i] for i in order], trie.levels())


class _Trie:
    """N-grams as rows of sorted keys: the position of the first n - 1 words times the number of words, plus the last.

    Args:
        n_words: number of words.
        grams: of each order, the (count, n) words and the (count, 2) probabilities and back-off weights.
    """

    def __init__(self, n_words: int, grams: list[Grams]) -> None:
        self._n_words = n_words
        self._grams = [_last_of_each(*one) for one in grams]
        self._add_missing_prefixes()
        self._keys: list[np.ndarray] = []
        for numbers, _ in self._grams:
            self._keys.append(self._key(numbers))
        for n, (numbers, values) in enumerate(self._grams, 1):
            for row in np.flatnonzero(np.isnan(values[:, 0])).tolist():
                values[row] = self._backed_off(numbers[row], n), 0.0

    def levels(self) -> list[Level]:
        """The arrays of a file."""
        levels = []
        for n, (numbers, values) in enumerate(self._grams, 1):
            prob, prob_values = quantised(values[:, 0])
            word = numbers[:, -1] if n > 1 else None
            if n == len(self._grams):
                levels.append(Level(word, prob, prob_values, None, None, None))
                continue
            back_off, back_off_values = quantised(values[:, 1])
            parents = self._keys[n] // self._n_words
            begin = np.searchsorted(parents, np.arange(len(numbers) + 1))
            levels.append(Level(word, prob, prob_values, back_off, back_off_values, begin))
        return levels

    def _add_missing_prefixes(self) -> None:
        """Every n-gram needs the entry of its first words; one without a probability has NaN."""
        for n in range(len(self._grams) - 1, 0, -1):
            numbers, values = self._grams[n - 1]
            prefixes = self._grams[n][0][:, :-1]
            nothing = np.full((len(prefixes), 2), np.nan, np.float32)
            # Of equal rows the last one is kept: an entry with values wins.
            both = np.concatenate([prefixes, numbers]), np.concatenate([nothing, values])
            self._grams[n - 1] = _last_of_each(*both)

    def _key(self, numbers: np.ndarray) -> np.ndarray:
        """Keys of rows whose first words are all entries."""
        key = numbers[:, 0]
        for n in range(1, numbers.shape[1]):
            parent = key if n == 1 else np.searchsorted(self._keys[n - 1], key)
            key = parent * self._n_words + numbers[:, n]
        return key

    def _find(self, numbers: np.ndarray) -> int | None:
        """The row of an n-gram."""
        row = int(numbers[0])
        for n, number in enumerate(numbers[1:].tolist(), 1):
            key, keys = row * self._n_words + number, self._keys[n]
            row = int(np.searchsorted(keys, key))
            if row == len(keys) or keys[row] != key:
                return None
        return row

    def _backed_off(self, numbers: np.ndarray, n: int) -> float:
        """The probability of the last word by shorter n-grams."""
        weight_row, row = self._find(numbers[:-1]), self._find(numbers[1:])
        weight = 0.0 if weight_row is None else float(np.nan_to_num(self._grams[n - 2][1][weight_row, 1]))
        if row is not None and not np.isnan(self._grams[n - 2][1][row, 0]):
            return weight + float(self._grams[n - 2][1][row, 0])
        return weight + self._backed_off(numbers[1:], n - 1)


def _last_of_each(numbers: np.ndarray, values: np.ndarray) -> Grams:
    """Rows sorted by their words; of equal ones the last."""
    order = np.lexsort(numbers.T[::-1])  # stable
    numbers, values = numbers[order], values[order]
    is_last = np.ones(len(numbers), bool)
    if len(numbers):
        is_last[:-1] = (numbers[1:] != numbers[:-1]).any(axis=1)
    return numbers[is_last], values[is_last]


def quantised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) numbers as (n,) uint8 and their (256,) float32 values: exact if there are no more, else Lloyd's.

    Lloyd 1982: each value goes to the nearest centre, each centre to the mean of its values. Half of the
    centres begin at equal distances in rank, half at equal distances: rare values too have a centre nearby.
    """
    ordered = np.sort(values.astype(np.float64))
    distinct = ordered[np.diff(ordered, prepend=-np.inf) > 0]
    if len(distinct) > N_VALUES:
        ordered = np.maximum(ordered, LOWEST_FITTED)
        kinds = ordered[np.diff(ordered, prepend=-np.inf) > 0]
        counts = np.diff(np.append(np.searchsorted(ordered, kinds), len(ordered))).astype(np.float64)
        ranks = np.cumsum(np.sqrt(counts))
        by_rank = kinds[np.searchsorted(ranks, np.linspace(0, ranks[-1], N_VALUES // 2))]
        distinct = np.sort(np.concatenate([by_rank, np.linspace(kinds[0], kinds[-1], N_VALUES // 2)]))
        for _ in range(ROUNDS):
            nearest = np.searchsorted((distinct[1:] + distinct[:-1]) / 2, kinds)
            weight = np.bincount(nearest, counts, minlength=N_VALUES)
            total = np.bincount(nearest, counts * kinds, minlength=N_VALUES)
            distinct = np.where(weight > 0, total / np.maximum(weight, 1), distinct)
            distinct.sort()
    codes = np.searchsorted((distinct[1:] + distinct[:-1]) / 2, values).astype(np.uint8)
    table = np.zeros(N_VALUES, np.float32)
    table[: len(distinct)] = distinct
    return codes, table
