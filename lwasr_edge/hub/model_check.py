"""Check the bytes of a model file before onnxruntime parses them.

A model file may come from a stranger. onnxruntime up to 1.23 reads "external data" from any path that the file names;
up to 1.28 a function that calls itself ends the process; loops run for as long as the file wants. The files of this
project need none of these. This module walks the protobuf wire format (protobuf.dev/programming-guides/encoding) with
the field numbers of onnx.proto and refuses what it does not expect. Contents of tensors are not decoded.
"""

from __future__ import annotations

from collections import Counter

from lwasr_edge.errors import ModelError
from lwasr_edge.validate import shown

# Ten times what en-base has; onnxruntime takes a second to open as many.
LIMITS = {"nodes": 20_000, "tensors": 20_000, "inputs": 4_000, "outputs": 4_000, "metadata entries": 1_000}
MAX_STRUCTURE = 1 << 24  # bytes besides the contents of tensors; parsed, a byte may become 30. en-base has 0.7 million
MAX_FIELDS = 100_000  # of one message
DOMAINS = frozenset((b"", b"ai.onnx", b"com.microsoft"))
# They run other graphs, code or files. Any operator with a graph among its attributes is refused as well.
FORBIDDEN = frozenset((b"Loop", b"Scan", b"If", b"SequenceMap", b"EPContext", b"ATen", b"PythonOp", b"PyOp"))
NOTE = "do not use it, or export it again with lwasr-export"

_CONTENTS = (4, 9, 10)  # fields of a tensor that do not grow when they are parsed: float_data, raw_data, double_data
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Field = tuple[int, int, int, int]  # number, wire type, begin and end of the content; begin of a varint is its value


class _MalformedError(Exception):
    """The bytes are no protobuf message."""


def check_model(data: bytes, source: str) -> None:
    """Refuse a model that needs more than its own bytes, or has more parts than any model of this project.

    Args:
        data: an ONNX model, decompressed.
        source: its path, for messages.

    Raises:
        ModelError: it is no protobuf message; or it has external data, functions, subgraphs, operators of unknown
            domains, or more parts than `LIMITS` and `MAX_STRUCTURE`.
    """
    try:
        _Walk(data).model()
    except _MalformedError as error:
        raise ModelError(
            f"{source} cannot be opened as an ONNX model ({len(data)} bytes; {error}): it is another kind of file, "
            "damaged or incomplete"
        ) from None
    except ModelError as error:
        raise ModelError(f"{source}: {error}: {NOTE}") from None


class _Walk:
    """One walk over a model; the methods are named after the messages of onnx.proto."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._counts: Counter[str] = Counter()
        self._safe_attributes: set[bytes] = set()  # most are repeated hundreds of times
        self._structure = 0  # bytes

    def model(self) -> None:
        for field in _fields(self._data, 0, len(self._data)):
            number, wire, begin, end = field
            if number == 7:
                self._graph(field)
                continue
            self._add_structure(end - begin if wire == _BYTES else 8)
            if number == 14:
                self._count("metadata entries")
            elif number in (20, 25):
                raise ModelError(f"a model must have no {'functions' if number == 25 else 'training'}, got some")

    def _graph(self, graph: Field) -> None:
        fields = self._message(graph)
        counts = Counter(field[0] for field in fields)
        for number, what in ((1, "nodes"), (11, "inputs"), (12, "outputs")):
            self._count(what, counts[number])
        if counts[15]:
            raise ModelError("a model must have no sparse tensors, got one")
        tensors = sum(end - begin for number, wire, begin, end in fields if number == 5 and wire == _BYTES)
        self._add_structure(graph[3] - graph[2] - tensors)
        for field in fields:
            if field[0] == 1:
                self._node(field)
            elif field[0] == 5:
                self._add_structure(self._tensor(field))

    def _node(self, node: Field) -> None:
        for field in self._message(node, skipped=b"\x0a\x12\x1a\x32"):  # names and text: fields 1, 2, 3 and 6
            number, wire, begin, end = field
            if wire != _BYTES:
                if number in (4, 5, 7):
                    raise _MalformedError(f"field {number} of a node is no message")
                continue
            content = self._data[begin:end]
            if number == 4:
                if content in FORBIDDEN:
                    raise ModelError(f"operators must not run other graphs or code, got {text_of(content)}")
            elif number == 5:
                if content not in self._safe_attributes:
                    self._attribute(field)
                    self._safe_attributes.add(content)
            elif number == 7 and content not in DOMAINS:
                raise ModelError(f"operators must be those of ONNX or onnxruntime, got one of {text_of(content)}")

    def _attribute(self, attribute: Field) -> None:
        for field in self._message(attribute):
            number = field[0]
            if number in (5, 10):
                self._tensor(field)
            elif number in (6, 11):
                raise ModelError("a model must have one graph, got a graph inside another")
            elif number in (22, 23):
                raise ModelError("a model must have no sparse tensors, got one")

    def _tensor(self, tensor: Field) -> int:
        """Check a tensor; return the number of its bytes besides its contents."""
        self._count("tensors")
        size = tensor[3] - tensor[2]
        for number, wire, begin, end in self._message(tensor, skipped=b"\x42"):  # the name: field 8
            if number in _CONTENTS and wire == _BYTES:
                size -= end - begin
            elif number == 13 or (number == 14 and (wire, begin) != (_VARINT, 0)):
                raise ModelError("a model must be one file, got a tensor with external data")
        return size

    def _message(self, field: Field, skipped: bytes = b"") -> list[Field]:
        number, wire, begin, end = field
        if wire != _BYTES:
            raise _MalformedError(f"field {number} is no message")
        return _fields(self._data, begin, end, skipped)

    def _add_structure(self, n_bytes: int) -> None:
        self._structure += n_bytes
        if self._structure > MAX_STRUCTURE:
            raise ModelError(f"a model must have at most {MAX_STRUCTURE >> 20} MB besides its tensors, got more")

    def _count(self, what: str, count: int = 1) -> None:
        self._counts[what] += count
        if self._counts[what] > LIMITS[what]:
            raise ModelError(f"a model must have at most {LIMITS[what]} {what}, got more")


def _fields(data: bytes, position: int, end: int, skipped: bytes = b"") -> list[Field]:
    """The fields of one message, without short ones whose first byte is in `skipped`; other messages are not entered.

    This loop is most of the time of a check.
    """
    fields = []
    try:
        for _ in range(MAX_FIELDS):
            if position >= end:
                break
            tag, size = data[position], data[position + 1]
            if tag in skipped and size < 0x80:
                position += 2 + size
                continue
            position += 1
            if tag > 0x7F:
                tag, position = _varint(data, position - 1)
                if tag >= 1 << 32:  # others would cut it to 32 bits
                    raise _MalformedError(f"field {tag >> 3} at byte {position}")
            wire = tag & 7
            if wire == _BYTES:
                size = data[position]
                position += 1
                if size > 0x7F:
                    size, position = _varint(data, position - 1)
                begin = position
                position += size
            elif wire == _VARINT:
                begin, position = _varint(data, position)
            elif wire in (_FIXED64, _FIXED32):
                begin = position
                position += 8 if wire == _FIXED64 else 4
            else:  # groups, which ONNX does not use
                raise _MalformedError(f"wire type {wire} at byte {position}")
            fields.append((tag >> 3, wire, begin, position))
    except IndexError:
        raise _MalformedError("it ends inside a field") from None
    if position < end:
        raise ModelError(f"a message of a model must have at most {MAX_FIELDS} fields, got more")
    if position != end:
        raise _MalformedError(f"a field that must end at byte {end} ends at {position}")
    return fields


def top_fields(data: bytes) -> list[Field]:
    """The fields of a model that `check_model` accepts, in order."""
    return _fields(data, 0, len(data))


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """An integer of variable length, and the position after it."""
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _MalformedError(f"an integer of more than 10 bytes at byte {position}")


def text_of(name: bytes) -> str:
    """A name in a file, for messages."""
    return shown(name.decode(errors="replace"))
