"""Which pixels a unit can see: interval arithmetic (Araujo 2019, https://doi.org/10.23915/distill.00021)."""

from __future__ import annotations

from functools import lru_cache
from math import floor
from typing import NamedTuple


class Field(NamedTuple):
    """The receptive field of one layer's units along one axis, in pixels of the image (Araujo 2019,
    https://doi.org/10.23915/distill.00021).

    Unit u sees pixels `start + u·effective_stride` to `start + u·effective_stride + size − 1`. A negative pixel is
    padding. After global pooling `effective_stride` is 0: the one unit sees the whole image.
    """

    size: int
    effective_stride: int
    start: int

    def interval(self, unit: int) -> tuple[int, int]:
        """First and last pixel that unit `unit` sees; padding not cut off."""
        first = self.start + unit * self.effective_stride
        return first, first + self.size - 1

    def centre(self, unit: int) -> float:
        """The middle of `interval(unit)`, in pixels; pixel p's own middle is p."""
        return self.start + unit * self.effective_stride + (self.size - 1) / 2

    def nearest(self, pixel: float, units: int) -> int:
        """Which of `units` units has its centre nearest to a pixel; the later one of two equally near.

        Raises:
            ZeroDivisionError: after global pooling, where there is one unit only.
        """
        return min(max(floor((pixel - self.centre(0)) / self.effective_stride + 0.5), 0), units - 1)

    def nearest_units(self, units: int, pixels: int, samples: int) -> list[int]:
        """Which of `units` units lies at each of `samples` equal parts of an axis of so many pixels: the nearest one.

        So a unit has a cell of `effective_stride` pixels around its centre, cut off or drawn out at the ends of the axis. After
        global pooling the one unit has all of it.
        """
        if not self.effective_stride:
            return [0] * samples
        return [self.nearest((sample + 0.5) * pixels / samples - 0.5, units) for sample in range(samples)]

    def box(self, unit: tuple[int, int]) -> Box:
        """What the unit at (row, column) sees, padding not cut off."""
        (top, bottom), (left, right) = map(self.interval, unit)
        return Box(top, left, bottom, right)


class Box(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right` of pixels, the last ones included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left + 1

    def clipped(self, size: tuple[int, int]) -> Box:
        """The part inside an image of (height, width) pixels."""
        return Box(max(self.top, 0), max(self.left, 0), min(self.bottom, size[0] - 1), min(self.right, size[1] - 1))


PIXEL = Field(1, 1, 0)
"""The image itself: each pixel sees itself."""


@lru_cache(2**14)  # the layers of a network have few different ones, and share them
def window(field: Field, kernel: int, stride: int, padding: int, dilation: int) -> Field:
    """The field after a convolution or pooling with a square window.

    The window spans dilation·(kernel − 1) + 1 units, each `effective_stride` pixels from the next.
    """
    span = dilation * (kernel - 1)
    return Field(
        field.size + span * field.effective_stride,
        field.effective_stride * stride,
        field.start - padding * field.effective_stride,
    )


@lru_cache(2**14)
def union(a: Field, b: Field) -> Field:
    """The field of a sum: whatever either summand sees.

    Raises:
        ValueError: for summands on different grids, which no addition of equal shapes has.
    """
    if a.effective_stride != b.effective_stride:
        raise ValueError(f"cannot add units {a.effective_stride} and {b.effective_stride} pixels apart")
    start, end = min(a.start, b.start), max(a.start + a.size, b.start + b.size)
    return Field(end - start, a.effective_stride, start)


def whole_image(size: tuple[int, int]) -> Field:
    """The field of a globally pooled unit: the longer side of an image of `size` (height, width)."""
    return Field(max(size), 0, 0)
