"""Which tensors a checkpoint file holds, and where in it their bytes lie.

A program of its own (`__main__`) reads a file from standard input and puts out JSON: `{"contents": …, "is": …,
"metadata": …}`, or `{"refused": …}` with the end of a sentence that begins with the file's name. In `contents` an object is
a dictionary of the file or an object with attributes, a network by the names of its state dict, and a list is a tensor: the
fields of `Tensor`. `is` says what the file holds where that is no dictionary, `modules` how the layers of a network that was
saved whole are set. All else that a file holds is left out.

All of it needs the standard library alone, which lets it start in 40 ms, and looks at no tensor's numbers: who asked for
the list takes them from the file.

This module has what the others share: what a tensor is, what is refused, and the limits. `stand_ins` (for what a pickle
names) ← `pickles` ← `archives` (what torch.save writes) ← `pt2` (programs of torch.export), and `stand_ins` ← `trees` (the answer); these,
`safetensors` and `onnx` ← `formats` (which of them reads a file) ← `program`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

MAX_FILE_BYTES = 400 * 2**20
"""A checkpoint, in one file or several."""

MAX_HEADER_BYTES = 8 * 2**20
"""The part of a file that says which tensors there are; 7,000 tensors take about 1 MiB."""

MAX_STEPS = 1_000_000
"""Steps of a pickle; a tensor takes about 35."""

MAX_TENSORS = 20_000
"""A network of 1,000 bottleneck blocks has 18,000."""

MAX_ENTRIES = 10 * MAX_TENSORS
MAX_DEPTH = 16
"""How many entries of dictionaries are looked at, and how deep these may lie in one another."""

MAX_NAME = 500
"""Characters of a name."""

MAX_TEXT = 10_000
"""Characters of a text of metadata; longer ones are left out."""

MAX_AXES = 8

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}
"""Bytes of one number, by torch's name of its type."""


class Tensor(NamedTuple):
    """A tensor: numbers of type `dtype` lie from byte `at` of the file on; the tensor shows number
    `start + Σ index·stride` of them at each index.

    Where `coded` is not 0, so many bytes of the file are a text in UTF-8, whose characters are the bytes of the numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    at: int
    coded: int = 0


class RefusedError(Exception):
    """Why a file is not read: the end of a sentence that begins with its name."""


DAMAGED = "is damaged, cut off, or no checkpoint that torch.save wrote."
CUT = "is damaged or cut off: its tensors cannot be read."


def are_sizes(*values: Any) -> bool:
    """Whether all are whole numbers that a file could count."""
    return all(type(value) is int and 0 <= value <= 2**40 for value in values)


def fits(shape: tuple[int, ...], stride: tuple[int, ...], start: int, count: int) -> bool:
    """Whether a tensor lies within `count` numbers."""
    if 0 in shape:
        return True
    return start + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) < count


def check_names(names: Iterable[str]) -> None:
    """Refuse names longer than `MAX_NAME`.

    Raises:
        RefusedError: for such a name.
    """
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME:
        raise RefusedError(f"has a name of {longest:,} characters: at most {MAX_NAME} are accepted.")
