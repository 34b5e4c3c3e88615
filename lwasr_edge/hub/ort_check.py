"""Check a file of onnxruntime's own format (.ort) before onnxruntime loads it; see `model_check`.

The format is a FlatBuffer (flatbuffers.dev/internals): tables, whose fields are found through a table of offsets, and
vectors. The numbers of fields are those of onnxruntime's ort.fbs. onnxruntime itself verifies that offsets stay inside
the file; this walk refuses what it does not expect, as `model_check` does for ONNX. Types and shapes inside the graph
are checked by neither, so a file of a stranger can still do harm.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from lwasr_edge.errors import ModelError
from lwasr_edge.hub.model_check import DOMAINS, FORBIDDEN, LIMITS, MAX_STRUCTURE, NOTE, text_of

# What onnxruntime makes of ONNX's operators when it optimises a graph.
ORT_DOMAINS = DOMAINS | {b"com.ms.internal.nhwc", b"com.microsoft.nchwc"}


def check_ort(data: bytes, source: str) -> None:
    """Refuse a model that has subgraphs, external data, unknown operators, or more parts than `LIMITS`.

    Args:
        data: a file of this format.
        source: its path, for messages.

    Raises:
        ModelError: see above, or the structure is damaged.
    """
    try:
        _check_graph(data)
    except (struct.error, IndexError):
        raise ModelError(
            f"{source} cannot be opened as an ONNX model ({len(data)} bytes; an offset points outside the file): it is "
            "damaged or incomplete"
        ) from None
    except ModelError as error:
        raise ModelError(f"{source}: {error}: {NOTE}") from None


def _check_graph(data: bytes) -> None:
    (root,) = struct.unpack_from("<I", data)
    session = _Table(data, root, _Budget(len(data)))
    model = session.table(1)
    graph = model.table(7) if model is not None else None
    if graph is None:
        raise ModelError("a model must have a graph, got none")
    max_index = graph.number(3, "<I")
    n_nodes = graph.length(2)
    if n_nodes > LIMITS["nodes"] or max_index > 4 * LIMITS["nodes"]:  # nodes that optimisation removed keep their index
        raise ModelError(f"a model must have at most {LIMITS['nodes']} nodes, got more")
    for what, field in (("tensors", 0), ("inputs", 5), ("outputs", 6)):
        if graph.length(field) > LIMITS[what]:
            raise ModelError(f"a model must have at most {LIMITS[what]} {what}, got more")
    if graph.length(7):
        raise ModelError("a model must have no sparse tensors, got one")
    for tensor in graph.tables(0):
        _check_tensor(tensor)
    for node in graph.tables(2):
        if node.number(4, "<I") >= max_index:
            raise ModelError("indices of nodes must be below their maximum, got a larger one")
        _check_node(node)
    for edges in graph.tables(4):
        ends = ((edges.number(0, "<I"),), *edges.structs(1, "<Iii"), *edges.structs(2, "<Iii"))
        if any(end[0] >= max_index for end in ends):
            raise ModelError("edges must connect nodes of the graph, got others")


def _check_node(node: _Table) -> None:
    op_type, domain = node.text(5), node.text(2)
    node.take_texts(0, 1, 2, 5, 7)
    node.take_texts_of(8)
    node.take_texts_of(9)
    if op_type in FORBIDDEN:
        raise ModelError(f"operators must not run other graphs or code, got {text_of(op_type)}")
    if domain not in ORT_DOMAINS:
        raise ModelError(f"operators must be those of ONNX or onnxruntime, got one of {text_of(domain)}")
    for attribute in node.tables(10):
        attribute.take_texts(0, 1, 5)
        attribute.take_texts_of(10)
        if attribute.table(7) is not None or attribute.length(12):
            raise ModelError("a model must have one graph, got a graph inside another")
        for tensor in (attribute.table(6), *attribute.tables(11)):
            if tensor is not None:
                _check_tensor(tensor)


def _check_tensor(tensor: _Table) -> None:
    tensor.take_contents(4)
    tensor.take_texts(0, 1)
    if tensor.number(6, "<q", -1) != -1:
        raise ModelError("a model must be one file, got a tensor with external data")


class _Budget:
    """Bytes that may still be read. Entries of vectors may point to one place again and again, and each is copied."""

    def __init__(self, file_bytes: int) -> None:
        self.structure = MAX_STRUCTURE
        self.contents = file_bytes


class _Table:
    """A table of a FlatBuffer; fields are counted from 0."""

    def __init__(self, data: bytes, position: int, budget: _Budget) -> None:
        """The budget is shared by all tables of a file: when it is spent, the file is refused."""
        self._budget = budget
        self._data = data
        self._position = position
        (back,) = struct.unpack_from("<i", data, position)
        self._vtable = position - back
        if self._vtable < 0:
            raise IndexError
        (self._vtable_size,) = struct.unpack_from("<H", data, self._vtable)

    def _field(self, number: int) -> int | None:
        """Position of a field's content; None if it has its default value."""
        place = 4 + 2 * number
        if place + 2 > self._vtable_size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._vtable + place)
        return self._position + offset if offset else None

    def _target(self, number: int) -> int | None:
        position = self._field(number)
        if position is None:
            return None
        return position + struct.unpack_from("<I", self._data, position)[0]

    def number(self, number: int, form: str, default: int = 0) -> int:
        position = self._field(number)
        return default if position is None else struct.unpack_from(form, self._data, position)[0]

    def table(self, number: int) -> _Table | None:
        position = self._target(number)
        return None if position is None else _Table(self._data, position, self._budget)

    def length(self, number: int) -> int:
        """Number of entries of a vector; 0 if there is none."""
        position = self._target(number)
        return 0 if position is None else struct.unpack_from("<I", self._data, position)[0]

    def text(self, number: int) -> bytes:
        position = self._target(number)
        if position is None:
            return b""
        (size,) = struct.unpack_from("<I", self._data, position)
        return self._data[position + 4 : position + 4 + size]

    def tables(self, number: int) -> Iterator[_Table]:
        """The tables of a vector."""
        for entry in self._entries(number, 4):
            yield _Table(self._data, entry + struct.unpack_from("<I", self._data, entry)[0], self._budget)

    def structs(self, number: int, form: str) -> Iterator[tuple[int, ...]]:
        """The entries of a vector of structs."""
        for entry in self._entries(number, struct.calcsize(form)):
            yield struct.unpack_from(form, self._data, entry)

    def _entries(self, number: int, size: int) -> Iterator[int]:
        """Positions of the entries of a vector."""
        position = self._target(number)
        if position is not None:
            self._take(size * self.length(number))
            for index in range(self.length(number)):
                yield position + 4 + size * index

    def take_texts(self, *numbers: int) -> None:
        """Spend the bytes of text fields."""
        self._take(sum(self.length(number) for number in numbers))

    def take_texts_of(self, number: int) -> None:
        """Spend the bytes of a vector of texts."""
        for entry in self._entries(number, 4):
            target = entry + struct.unpack_from("<I", self._data, entry)[0]
            self._take(struct.unpack_from("<I", self._data, target)[0])

    def take_contents(self, number: int) -> None:
        """Spend the bytes of a tensor."""
        self._budget.contents -= self.length(number)
        if self._budget.contents < 0:
            raise ModelError("tensors must not share their contents")

    def _take(self, n_bytes: int) -> None:
        self._budget.structure -= n_bytes
        if self._budget.structure < 0:
            raise ModelError(f"a model must have at most {MAX_STRUCTURE >> 20} MB besides its tensors, got more")
