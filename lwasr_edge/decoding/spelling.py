"""All spellings of given texts with a model's pieces, as one graph.

A CTC model need not spell a word as its tokenizer would: it writes "lights" as `▁lights`, `▁light s` or `▁li ght s`,
whichever is most likely. So a text is a lattice: its character positions are nodes, each piece that matches is an arc.
Texts with a common prefix share its nodes: a trie of characters, with pieces as arcs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from lwasr_edge.errors import OptionError
from lwasr_edge.words import WORD_START

ROOT = 0
MAX_NODES = 600_000  # 150 MB of memory and some seconds


def mark_words(text: str) -> str:
    """Put a word mark before each word: "lights on" -> "▁lights▁on"."""
    return "".join(WORD_START + word for word in text.split())


def unmark_words(spelled: str) -> str:
    """Inverse of `mark_words`: words separated by single spaces."""
    return " ".join(spelled.replace(WORD_START, " ").split())


def text_pieces(vocabulary: Sequence[str], blank_id: int) -> dict[int, str]:
    """The pieces that are text, by token: all but the blank and markers such as `<unk>`."""
    return {
        token: piece
        for token, piece in enumerate(vocabulary)
        if token != blank_id and piece and not (piece.startswith("<") and piece.endswith(">"))
    }


class SpellingTrie:
    """Texts and their spellings.

    Args:
        texts: results of `mark_words`; not empty, each once.
        pieces: text of each token, see `text_pieces`.

    Attributes:
        n_nodes: number of nodes, the root included.
        ends: (n_texts,) int64, last node of each text.
        arc_source, arc_target, arc_token: (n_arcs,) int64; every arc is on a path from the root to the end of a text.

    Raises:
        OptionError: a text that no sequence of pieces spells.
    """

    def __init__(self, texts: Sequence[str], pieces: dict[int, str]) -> None:
        self._child: dict[tuple[int, str], int] = {}  # (node, character) -> node
        self.ends = np.array([self._insert(text) for text in texts], np.int64)
        self.n_nodes = len(self._child) + 1
        parent = np.zeros(self.n_nodes, np.int64)
        parent[1:] = [node for node, _ in self._child]
        characters = [character for _, character in self._child]
        source, target, token = _find_arcs(parent, characters, pieces)
        reached = _reached(np.array([ROOT]), source, target, self.n_nodes)
        if not reached[self.ends].all():
            raise OptionError(_cannot_spell(texts[int(np.argmin(reached[self.ends]))], pieces))
        # Parents have smaller numbers than their children: reversed, they too come in the order of `_reached`.
        last = self.n_nodes - 1
        useful = reached & _reached(last - self.ends, last - target, last - source, self.n_nodes)[::-1]
        kept = useful[source] & useful[target]
        self.arc_source, self.arc_target, self.arc_token = source[kept], target[kept], token[kept]

    @cached_property
    def arcs_from(self) -> list[dict[int, int]]:
        """For each node, token -> next node."""
        table: list[dict[int, int]] = [{} for _ in range(self.n_nodes)]
        for source, target, token in zip(
            self.arc_source.tolist(), self.arc_target.tolist(), self.arc_token.tolist(), strict=True
        ):
            table[source][token] = target
        return table

    def path(self, text: str) -> list[int]:
        """Nodes of a text's characters in order, without the root."""
        nodes, node = [], ROOT
        for character in text:
            node = self._child[node, character]
            nodes.append(node)
        return nodes

    def _insert(self, text: str) -> int:
        child = self._child
        node = ROOT
        for character in text:
            node = child.setdefault((node, character), len(child) + 1)
            if node > MAX_NODES:
                raise OptionError(f"phrases must have at most {MAX_NODES} letters together, got more: use fewer")
        return node


def _find_arcs(
    parent: np.ndarray, characters: list[str], pieces: dict[int, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, target and token of each piece that matches somewhere.

    From every node at once, the characters above it are read towards the root, beside a trie of the reversed pieces.

    Args:
        parent: (n_nodes,) the node above; 0 for the root.
        characters: between the nodes from 1 on and their parents.
        pieces: see `SpellingTrie`.
    """
    number_of = {character: number for number, character in enumerate(dict.fromkeys(characters))}
    backwards = _PieceTrie(
        {token: piece[::-1] for token, piece in pieces.items() if piece and number_of.keys() >= set(piece)}
    )
    # (state of the piece trie, character) -> state, as one sorted array of keys
    edges = sorted(
        (state * len(number_of) + number_of[character], child)
        for state, children in enumerate(backwards.children)
        for character, child in children.items()
    )
    keys, states = np.array(edges, np.int64).reshape(-1, 2).T
    tokens_of = [(state, token) for state, tokens in enumerate(backwards.tokens) for token in tokens]
    token_state, tokens = np.array(tokens_of, np.int64).reshape(-1, 2).T
    above = np.array([-1, *(number_of[character] for character in characters)], np.int64)  # the character above a node
    target = np.arange(1, len(parent))
    source, state = target, np.zeros(len(target), np.int64)
    found = [np.zeros((3, 0), np.int64)]
    while len(source) and len(keys):
        key = state * len(number_of) + above[source]
        index = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        matches = keys[index] == key
        target, source, state = target[matches], parent[source[matches]], states[index[matches]]
        match, which = pairs(state, token_state)
        found.append(np.stack([source[match], target[match], tokens[which]]))
        inside = source != ROOT
        target, source, state = target[inside], source[inside], state[inside]
    return tuple(np.concatenate(found, axis=1))  # type: ignore[return-value]


class _PieceTrie:
    def __init__(self, pieces: dict[int, str]) -> None:
        self.children: list[dict[str, int]] = [{}]
        self.tokens: list[list[int]] = [[]]
        for token, piece in pieces.items():
            node = ROOT
            for character in piece:
                if character not in self.children[node]:
                    self.children[node][character] = len(self.children)
                    self.children.append({})
                    self.tokens.append([])
                node = self.children[node][character]
            self.tokens[node].append(token)


def _reached(start: np.ndarray, source: np.ndarray, target: np.ndarray, n_nodes: int) -> np.ndarray:
    """Which nodes can be reached from `start`, which is included; every arc leads to a larger number.

    Args:
        start: nodes.
        source, target: (n_arcs,) of the arcs.
        n_nodes: number of nodes.

    Returns:
        (n_nodes,) bool.
    """
    reached = np.zeros(n_nodes, bool)
    reached[start] = True
    order = np.argsort(target, kind="stable")
    flags = bytearray(reached.tobytes())
    for one, other in zip(source[order].tolist(), target[order].tolist(), strict=True):
        if flags[one]:
            flags[other] = 1
    return np.frombuffer(flags, bool)


def pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with left[i] == right[j]."""
    order = np.argsort(right, kind="stable")
    begin = np.searchsorted(right[order], left, side="left")
    counts = np.searchsorted(right[order], left, side="right") - begin
    i = np.repeat(np.arange(len(left)), counts)
    within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    return i, order[np.repeat(begin, counts) + within]


def _cannot_spell(text: str, pieces: dict[int, str]) -> str:
    known = set("".join(pieces.values()))
    unknown = sorted(set(text) - known)
    plain = unmark_words(text)
    if unknown:
        return (
            f"phrases must consist of the model's characters, got {plain!r} with {', '.join(map(repr, unknown))}: "
            "write it as it is spoken, with numbers as words"
        )
    return f"phrases must be spelled with the model's pieces, got {plain!r}, which they cannot spell: rephrase it"
