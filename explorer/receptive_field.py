"""Which pixels a unit can see: interval arithmetic (Araujo 2019, https://doi.org/10.23915/distill.00021)."""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """The receptive field of one layer's units along one axis, in pixels of the image.

    Unit u sees pixels `start + u·jump` to `start + u·jump + size − 1`. A negative pixel is
    padding. After global pooling `jump` is 0: the one unit sees the whole image.
    """

    size: int
    jump: int
    start: int

    def interval(self, unit: int) -> tuple[int, int]:
        """First and last pixel that unit `unit` sees; padding not cut off."""
        first = self.start + unit * self.jump
        return first, first + self.size - 1


PIXEL = Field(1, 1, 0)
"""The image itself: each pixel sees itself."""


def window(field: Field, kernel: int, stride: int, padding: int, dilation: int) -> Field:
    """The field after a convolution or pooling with a square window.

    The window spans dilation·(kernel − 1) + 1 units, each `jump` pixels from the next.
    """
    span = dilation * (kernel - 1)
    return Field(field.size + span * field.jump, field.jump * stride, field.start - padding * field.jump)


def union(a: Field, b: Field) -> Field:
    """The field of a sum: whatever either summand sees.

    Raises:
        ValueError: for summands on different grids, which no addition of equal shapes has.
    """
    if a.jump != b.jump:
        raise ValueError(f"cannot add units {a.jump} and {b.jump} pixels apart")
    start, end = min(a.start, b.start), max(a.start + a.size, b.start + b.size)
    return Field(end - start, a.jump, start)


def whole(size: tuple[int, int]) -> Field:
    """The field of a globally pooled unit; `size` is the image's height and width."""
    return Field(max(size), 0, 0)
