"""The paths through a network: one summand of every addition (Veit 2016, https://arxiv.org/abs/1605.06431)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from .layers import IMAGE, Layer, Op
from .receptive_field import PIXEL
from .trace import Trace

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
        if not layer.field.effective_stride:
            continue
        read = layer.inputs if layer.op == Op.ADDITION else layer.inputs[:1]
        found = _merged([known[producer] for producer in read])
        stride = PIXEL.effective_stride if read[0] == IMAGE else trace.layers[read[0]].field.effective_stride
        if wider := layer.dilation * (layer.kernel - 1) * stride:
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
    last = {layers[-1].index for layers in trace.blocks.values()}
    return tuple(
        Depth(layer, found.mean, found.quantile(5), found.quantile(95), found.sizes[-1])
        for layer, found in paths(trace)
        if layer.index in last
    )


# -- how many there are -------------------------------------------------------------------


def path_counts(trace: Trace) -> tuple[int, ...]:
    """How many paths run from the image to the scores through 0, 1, 2, … branches, counted in the traced graph.

    The numbers are exact. With n additions in a row they are the binomial coefficients of n. A plain network has one
    path, through all of its blocks.
    """
    if not trace.additions:
        return (0,) * sum(trace.config.layers) + (1,)
    known: dict[int, list[int]] = {IMAGE: [1]}
    for layer in trace.layers:
        found = known[layer.inputs[0]]
        if layer.op == Op.ADDITION:
            longer, same = [0, *found], known[layer.inputs[1]]
            found = [a + b for a, b in zip(longer, same + [0] * (len(longer) - len(same)), strict=True)]
        known[layer.index] = found
        for producer in layer.inputs:  # counts of hundreds of bits: what nobody reads again is let go
            if trace.consumers[producer][-1] == layer.index:
                known.pop(producer, None)
    return tuple(found)
