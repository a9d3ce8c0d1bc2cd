"""Which pixels a unit can see: interval arithmetic (Araujo 2019, https://doi.org/10.23915/distill.00021)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from math import floor
from typing import TYPE_CHECKING, NamedTuple

from .cost import IMAGE

if TYPE_CHECKING:
    from .trace import Layer, Trace


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

    def centre(self, unit: int) -> float:
        """The middle of `interval(unit)`, in pixels; pixel p's own middle is p."""
        return self.start + unit * self.jump + (self.size - 1) / 2

    def nearest(self, pixel: float, units: int) -> int:
        """Which of `units` units has its centre nearest to a pixel; the later one of two equally near.

        Raises:
            ZeroDivisionError: after global pooling, where there is one unit only.
        """
        return min(max(floor((pixel - self.centre(0)) / self.jump + 0.5), 0), units - 1)

    def spread(self, units: int, pixels: int, samples: int) -> list[int]:
        """Which of `units` units lies at each of `samples` equal parts of an axis of so many pixels: the nearest one.

        So a unit has a cell of `jump` pixels around its centre, cut off or drawn out at the ends of the axis. After
        global pooling the one unit has all of it.
        """
        if not self.jump:
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
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        return self.right - self.left + 1

    def clipped(self, size: tuple[int, int]) -> Box:
        """The part inside an image of (height, width) pixels."""
        return Box(max(self.top, 0), max(self.left, 0), min(self.bottom, size[0] - 1), min(self.right, size[1] - 1))


PIXEL = Field(1, 1, 0)
"""The image itself: each pixel sees itself."""


@lru_cache(2**14)  # the layers of a network have few different ones, and share them
def window(field: Field, kernel: int, stride: int, padding: int, dilation: int) -> Field:
    """The field after a convolution or pooling with a square window.

    The window spans dilation·(kernel − 1) + 1 units, each `jump` pixels from the next.
    """
    span = dilation * (kernel - 1)
    return Field(field.size + span * field.jump, field.jump * stride, field.start - padding * field.jump)


@lru_cache(2**14)
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
    """The field of a globally pooled unit: the longer side of an image of `size` (height, width)."""
    return Field(max(size), 0, 0)


# -- what windows leave out ---------------------------------------------------------------

WHOLE_MAP = {"group norm": "group norm", "scaling": "channel attention"}
"""Operations that bring statistics of the whole map to each of its units, and what people call them."""


def carriers(layers: Iterable[Layer]) -> dict[int, frozenset[str]]:
    """For each layer by its index, through which of `WHOLE_MAP` among `layers` its units depend on more than windows."""
    found: dict[int, frozenset[str]] = {}
    same: dict[frozenset[str], frozenset[str]] = {}
    for layer in layers:
        own = {WHOLE_MAP[layer.op]} if layer.op in WHOLE_MAP else set()
        kinds = frozenset(own.union(*(found.get(i, ()) for i in layer.inputs)))
        found[layer.index] = same.setdefault(kinds, kinds)  # of many layers few differ
    return found


def beyond_windows(kinds: Collection[str], units: str = "Units", first: str = "") -> str:
    """That the windows of `units` are not all they depend on, in a sentence; empty where they are."""
    if not kinds:
        return ""
    at = f", first in {first}" if first else ""
    return f"{units} also depend on the whole map through {' and '.join(sorted(kinds))}{at}."


# -- all paths ----------------------------------------------------------------------------


class Paths(NamedTuple):
    """The field sizes of all paths from the image to one layer: `counts[i]` of them see `sizes[i]` pixels a side.

    Sizes rise; counts are exact, 2^blocks in all where every block has a shortcut.
    """

    sizes: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def shares(self) -> list[float]:
        total = self.total
        return [count / total for count in self.counts]

    @property
    def mean(self) -> float:
        return sum(size * count for size, count in zip(self.sizes, self.counts, strict=True)) / self.total

    def quantile(self, percent: int) -> int:
        """The smallest size that at least so many percent of the paths do not exceed."""
        wanted = -(-percent * self.total // 100)
        return next(size for size, below in zip(self.sizes, accumulate(self.counts), strict=True) if below >= wanted)


def paths(trace: Trace) -> Iterator[tuple[Layer, Paths]]:
    """Each layer before global pooling with its paths, in order of execution.

    A path runs through one summand of every addition (Veit 2016, https://arxiv.org/abs/1605.06431). At an
    addition the counts add, and a window widens every path alike: the convolution of the blocks' two-point
    distributions. What only weighs channels, attention's gate, is no path.
    """
    known = {IMAGE: Paths((PIXEL.size,), (1,))}
    for layer in trace.layers:
        if not layer.field.jump:
            continue
        read = layer.inputs if layer.op == "addition" else layer.inputs[:1]
        found = _merged([known[producer] for producer in read])
        jump = PIXEL.jump if read[0] == IMAGE else trace.layers[read[0]].field.jump
        if wider := layer.dilation * (layer.kernel - 1) * jump:
            found = Paths(tuple(size + wider for size in found.sizes), found.counts)
        known[layer.index] = found
        for producer in layer.inputs:  # counts of hundreds of bits: what nobody reads again is let go
            if trace.consumers[producer][-1] == layer.index:
                known.pop(producer, None)
        yield layer, found


def _merged(several: list[Paths]) -> Paths:
    """The paths of a sum."""
    if len(several) == 1:
        return several[0]
    counts: dict[int, int] = {}
    for summand in several:
        for size, count in zip(summand.sizes, summand.counts, strict=True):
            counts[size] = counts.get(size, 0) + count
    sizes = sorted(counts)
    return Paths(tuple(sizes), tuple(counts[size] for size in sizes))


class Depth(NamedTuple):
    """The field sizes of all paths to one layer: their mean, what 5 and 95 percent do not exceed, the largest."""

    layer: Layer
    mean: float
    low: int
    high: int
    largest: int


def by_depth(trace: Trace) -> tuple[Depth, ...]:
    """All paths to the end of each block."""
    ends = {layer.role[:3]: layer.index for layer in trace.layers if layer.role.part == "stage"}
    last = set(ends.values())
    return tuple(
        Depth(layer, found.mean, found.quantile(5), found.quantile(95), found.sizes[-1])
        for layer, found in paths(trace)
        if layer.index in last
    )
