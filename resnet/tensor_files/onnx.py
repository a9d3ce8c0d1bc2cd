"""ONNX programs that this package wrote, whose tensors have the names of a state dict.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, as https://protobuf.dev/programming-guides/encoding writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, BinaryIO, NamedTuple

from . import CUT, ITEM_BYTES, MAX_AXES, MAX_STEPS, MAX_TENSORS, MAX_TEXT, RefusedError, Tensor, are_sizes, check_names

FOREIGN = "is an ONNX program that ResNet Explorer did not write: weights of PyTorch are accepted, and what it exported itself."

GRAPH, PROPERTY = 7, 14
"""The fields of a model that are read: its graph, and the texts about it."""
INITIALIZER = 5
"""Of a graph: its tensors."""
DIMS, TYPE, NAME, RAW = 1, 2, 8, 9
"""Of a tensor."""
FLOAT = 1
OURS = (".weight", ".bias", ".running_mean", ".running_var")
"""How the tensors of a state dict end; the others are arguments of the program's nodes."""


class Span(NamedTuple):
    """Bytes of a file from `start` to before `end`: a text, numbers, or a message of fields."""

    start: int
    end: int


class Message:
    """The fields of messages in a file; all of them together are at most `MAX_STEPS`."""

    def __init__(self, file: BinaryIO):
        self.file, self.steps = file, 0

    def fields(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        """The number and value of each field.

        Raises:
            ValueError: for what is no message.
        """
        at = span.start
        while at < span.end:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise ValueError("too many fields")
            self.file.seek(at)
            number, kind = divmod(self.varint(), 8)
            value: int | Span = 0
            if kind == 0:
                value, at = self.varint(), self.file.tell()
            elif kind == 2:
                length = self.varint()
                value = Span(self.file.tell(), self.file.tell() + length)
                at = value.end
            elif kind in (1, 5):
                at = self.file.tell() + (8 if kind == 1 else 4)
            else:
                raise ValueError("no field")
            if at > span.end:
                raise ValueError("a field beyond its message")
            yield number, value

    def varint(self) -> int:
        """A number of seven bits a byte, the lowest first."""
        value = 0
        for place in range(10):
            (byte,) = self.file.read(1)
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise ValueError("no number")

    def text(self, span: Any) -> str:
        """A text; "" for one that is longer than what is kept of metadata."""
        if span.end - span.start > MAX_TEXT:
            return ""
        self.file.seek(span.start)
        return self.file.read(span.end - span.start).decode()

    def numbers(self, value: int | Span) -> list[int]:
        """The numbers of a field that may have one or, packed, several."""
        if isinstance(value, int):
            return [value]
        self.file.seek(value.start)
        found: list[int] = []
        while self.file.tell() < value.end and len(found) <= MAX_AXES:
            found.append(self.varint())
        return found


def read_onnx(file: BinaryIO, size: int) -> dict[str, Any]:
    """The tensors of a program's graph, and the texts about it.

    Raises:
        RefusedError: for a program that does not say which configuration it is of, and one that is cut off.
    """
    message = Message(file)
    texts: dict[str, str] = {}
    graph = None
    try:
        for number, value in message.fields(Span(0, size)):
            if number == PROPERTY and isinstance(value, Span):
                entry = dict(message.fields(value))
                texts[message.text(entry[1])] = message.text(entry[2])
            elif number == GRAPH and isinstance(value, Span):
                graph = value
    except (ValueError, KeyError, AttributeError) as error:
        raise RefusedError(CUT if "config" in texts else FOREIGN) from error
    if graph is None or "config" not in texts:
        raise RefusedError(FOREIGN)
    tensors = dict(
        filter(None, (tensor(message, one) for number, one in message.fields(graph) if number == INITIALIZER))
    )
    if len(tensors) > MAX_TENSORS:
        raise RefusedError(f"holds {len(tensors):,} tensors: at most {MAX_TENSORS:,} are accepted.")
    check_names(tensors)
    return {"contents": tensors, "metadata": texts}


def tensor(message: Message, place: Any) -> tuple[str, Tensor] | None:
    """A tensor of a state dict with its name; None for another of a program's.

    Raises:
        ValueError: where it is damaged.
    """
    dims: list[int] = []
    kind: int | Span | None
    raw: int | Span | None
    name, kind, raw = "", None, None
    for number, value in message.fields(place):
        if number == DIMS:
            dims += message.numbers(value)
        elif number == TYPE:
            kind = value
        elif number == NAME:
            name = message.text(value)
        elif number == RAW:
            raw = value
    if not name.endswith(OURS) or kind != FLOAT:
        return None
    if not isinstance(raw, Span) or not are_sizes(*dims) or len(dims) > MAX_AXES:
        raise ValueError("no tensor")
    if raw.end - raw.start != prod(dims) * ITEM_BYTES["float32"]:
        raise ValueError("another length")
    steps = tuple(prod(dims[axis + 1 :]) for axis in range(len(dims)))
    return name, Tensor("float32", tuple(dims), steps, 0, raw.start)
