"""All spellings of given texts with a model's pieces, as one graph.

A CTC model need not spell a word as its tokenizer would: it writes "lights" as `▁lights`, `▁light s` or `▁li ght s`,
whichever is most likely. So a text is a lattice: its character positions are nodes, each piece that matches is an arc.
Texts with a common prefix share its nodes: a trie of characters, with pieces as arcs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from lwasr_edge.errors import OptionError
from lwasr_edge.words import WORD_START

ROOT = 0
MAX_NODES = 300_000  # 300 MB of memory and some seconds


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
        ends: (n_texts,) int64, last node of each text.
        arc_source, arc_target, arc_token: (n_arcs,) int64; every arc is on a path from the root to the end of a text.

    Raises:
        OptionError: a text that no sequence of pieces spells.
    """

    def __init__(self, texts: Sequence[str], pieces: dict[int, str]) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._depth = [0]
        self.ends = np.array([self._insert(text) for text in texts], np.int64)
        arcs = self._find_arcs(_PieceTrie(pieces))
        reached = _closure({ROOT}, [(source, target) for source, target, _ in arcs])
        for text, end in zip(texts, self.ends.tolist(), strict=True):
            if end not in reached:
                raise OptionError(_cannot_spell(text, pieces))
        useful = reached & _closure(set(self.ends.tolist()), [(target, source) for source, target, _ in arcs])
        kept = [arc for arc in arcs if arc[0] in useful and arc[1] in useful]
        self.arc_source, self.arc_target, self.arc_token = np.array(kept, np.int64).reshape(-1, 3).T

    @property
    def n_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self._children)

    @property
    def depths(self) -> list[int]:
        """Number of characters from the root to each node."""
        return self._depth

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
            node = self._children[node][character]
            nodes.append(node)
        return nodes

    def _insert(self, text: str) -> int:
        node = ROOT
        for character in text:
            if character not in self._children[node]:
                if len(self._children) >= MAX_NODES:
                    raise OptionError(f"phrases must have at most {MAX_NODES} letters together, got more: use fewer")
                self._children[node][character] = len(self._children)
                self._children.append({})
                self._depth.append(self._depth[node] + 1)
            node = self._children[node][character]
        return node

    def _find_arcs(self, pieces: _PieceTrie) -> list[tuple[int, int, int]]:
        """(source, target, token) of each piece that matches somewhere."""
        arcs = []
        for source in range(self.n_nodes):
            pairs = [(source, ROOT)]  # a node here, and a node of the piece trie
            while pairs:
                node, read = pairs.pop()
                arcs += [(source, node, token) for token in pieces.tokens[read]]
                for character, child in self._children[node].items():
                    if character in pieces.children[read]:
                        pairs.append((child, pieces.children[read][character]))
        return arcs


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


def _closure(start: set[int], edges: Iterable[tuple[int, int]]) -> set[int]:
    """All nodes reachable from `start`, which is included."""
    following: dict[int, list[int]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    reached, frontier = set(start), list(start)
    while frontier:
        for target in following.get(frontier.pop(), ()):
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    return reached


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
