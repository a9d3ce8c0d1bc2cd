"""Which networks fit a budget: designs of a space, or networks that have a name."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from resnet import ConfigError, ResNetConfig
from resnet.options import Settings, option
from resnet.presets import PRESETS
from resnet.sizes import MAX_IMAGE_SIDE, can_run

from .. import notebook
from ..units import amount, macs_text, mebibytes
from .compare import label
from .pieces import costs
from .receptive_field import Field
from .space import Space

Size = tuple[int, int]
MOST = 10**15
"""The largest limit that can be set."""


@dataclass(frozen=True)
class Limits(Settings):
    """A budget for one image of a size (height, width) in pixels; a limit of 0 is none.

    As text, for a link: "size-320-640_macs-5000000000_params-30000000".

    Raises:
        ConfigError: for a value outside its range.
    """

    key = "limits"
    example = "size-320-640_macs-5000000000"

    size: tuple[int, int] = option(
        (224, 224), "Image size", "Height and width in pixels.", low=1, high=MAX_IMAGE_SIDE, least=2, most=2
    )
    macs: int = option(
        0, "MACs", "At most so many multiply-adds of convolutions and linear layers; 0 for any number.", high=MOST
    )
    params: int = option(0, "Parameters", "At most so many trainable numbers; 0 for any number.", high=MOST)
    memory: int = option(
        0,
        "Memory",
        "At most so many bytes of feature maps at once in a forward pass in fp32, weights not counted; 0 for any number.",
        high=MOST,
    )

    def exceeded(self, candidate: Candidate) -> tuple[Excess, ...]:
        """The limits that a candidate is over."""
        pairs = ((measure, getattr(self, measure), getattr(candidate, measure)) for measure in LIMITED)
        return tuple(Excess(measure, value, limit) for measure, limit, value in pairs if 0 < limit < value)


LIMITED = ("macs", "params", "memory")
"""What has a limit, by the names of the fields of `Limits` and of `Candidate`."""


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """A design and what it costs for one image of `image_size` (height, width) pixels in fp32.

    `macs` are multiply-adds; `memory` the most bytes of feature maps that a forward pass holds at once, weights not counted;
    `training_memory` the bytes that training keeps for the backward pass; `field` the receptive field of the last stage in
    pixels; `moved` the bytes that operations read and write, parameters among them. All are those of the design's `Trace`. `index` is its place in what was searched.
    """

    index: int
    config: ResNetConfig
    image_size: Size
    params: int
    macs: int
    memory: int
    training_memory: int
    field: Field
    moved: int

    @property
    def depth(self) -> int:
        """Weighted layers from input to output, as `ResNetConfig.depth`."""
        return self.config.depth

    @property
    def heading(self) -> str:
        """ResNet-50 at 320×640."""
        height, width = self.image_size
        return f"{label(self.config)} at {height}×{width}"

    def __repr__(self) -> str:
        costs = f"{amount(self.params)} parameters, {macs_text(self.macs)}, {mebibytes(self.memory)} at once"
        return f"Candidate({self.index}: {self.heading}, {costs})"

    def _repr_html_(self) -> str:
        """In a notebook: by each of `MEASURES`."""
        rows = [(one.label, f"{one.value(self):,} {one.unit}".strip()) for one in MEASURES.values()]
        return notebook.heading(self.heading) + notebook.table(("Measure", "Value"), rows)


def candidate(config: ResNetConfig, image_size: Size, index: int = 0) -> Candidate:
    """What a configuration costs at an image size that `can_run` lets through."""
    return Candidate(index, config, image_size, *costs(config, image_size))


class Excess(NamedTuple):
    """A limit that a network is over: the field of `Limits`, the network's value and the limit, in the same unit."""

    measure: str
    value: int
    limit: int

    @property
    def ratio(self) -> float:
        """By how many times."""
        return self.value / self.limit

    @property
    def words(self) -> str:
        """8.19 GMACs, 1.64 times the limit."""
        return f"{WRITTEN[self.measure](self.value)}, {times(self.ratio)} times the limit"


def times(ratio: float) -> str:
    """1.64, 1,234: how many times a limit."""
    return f"{ratio:,.{2 if ratio < 10 else 0}f}"


WRITTEN: Mapping[str, Callable[[int], str]] = MappingProxyType(
    {
        "macs": macs_text,
        "params": lambda value: f"{amount(value)} parameters",
        "memory": lambda value: f"{mebibytes(value)} at once",
    }
)
"""How a value of each of `LIMITED` is written in a sentence."""

# -- a space ------------------------------------------------------------------------------


class Part(NamedTuple):
    """What came of the designs from `start` up to `stop`: those within the limits, in order, and how many of the others could
    not be built, or not for this image size (`invalid`), or were over a limit (`over`)."""

    start: int
    stop: int
    candidates: tuple[Candidate, ...]
    invalid: int
    over: int


DESIGNS = 250
"""Of a part."""
AHEAD = 16
"""Parts that an executor is given before the first of them is waited for."""


def search(space: Space, limits: Limits, executor: Executor | None = None) -> Iterator[Candidate]:
    """The designs of a space that are within the limits, in the order of the space.

    An image size of the space goes before that of the limits. Designs that cannot be built are left out. The work is done
    here, or on `executor`'s workers in the same order; it ends where the iterator is closed. `parts` says how far it is.

    Raises:
        RuntimeError: the executor's, where it is shut down.
    """
    for part in parts(space, limits, executor):
        yield from part.candidates


def parts(space: Space, limits: Limits, executor: Executor | None = None, start: int = 0) -> Iterator[Part]:
    """The same in parts of `DESIGNS` designs, which count what is left out: a search that was stopped goes on from the
    `stop` of its last part, which needs nothing else but the space and the limits."""
    starts = range(start, len(space), DESIGNS)
    if executor is None:
        yield from (part(space, limits, first) for first in starts)
        return
    waiting: deque[Future[Part]] = deque()
    try:
        for first in starts:
            waiting.append(executor.submit(part, space, limits, first))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def part(space: Space, limits: Limits, start: int) -> Part:
    """The designs from `start` on, `DESIGNS` of them at most."""
    stop = min(start + DESIGNS, len(space))
    found, invalid = [], 0
    for index in range(start, stop):
        try:
            config, size = space.design(index)
        except ConfigError:
            invalid += 1
            continue
        if can_run(config, size or limits.size):
            found.append(candidate(config, size or limits.size, index))
        else:
            invalid += 1
    within = tuple(one for one in found if not limits.exceeded(one))
    return Part(start, stop, within, invalid, len(found) - len(within))


def joined(found: Iterable[Part]) -> Part:
    """Parts that follow each other as one."""
    every = tuple(found)
    return Part(
        every[0].start,
        every[-1].stop,
        tuple(one for part in every for one in part.candidates),
        sum(part.invalid for part in every),
        sum(part.over for part in every),
    )


# -- what nothing beats -------------------------------------------------------------------


class Measure(NamedTuple):
    """What candidates are measured by: a label, its unit and the value."""

    label: str
    unit: str
    value: Callable[[Candidate], int]


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "params": Measure("Parameters", "", lambda one: one.params),
        "macs": Measure("MACs", "", lambda one: one.macs),
        "memory": Measure("Peak memory", "bytes", lambda one: one.memory),
        "training": Measure("Training memory", "bytes", lambda one: one.training_memory),
        "moved": Measure("Memory traffic", "bytes", lambda one: one.moved),
        "field": Measure("Receptive field", "px", lambda one: one.field.size),
        "depth": Measure("Depth", "layers", lambda one: one.depth),
        "pixels": Measure("Image", "px", lambda one: one.image_size[0] * one.image_size[1]),
    }
)
"""By its name in the text of goals."""
GOALS = "+params -macs -memory"
"""The usual goals: what a network can learn has no count, and its parameters stand for it."""


def parse_goals(text: str) -> tuple[tuple[int, str], ...]:
    """Goals, as +1 for more and −1 for less, and the name of a measure: "+params -macs".

    Raises:
        ConfigError: for other text.
    """
    goals = tuple((1 if word[0] == "+" else -1, word[1:]) for word in text.split())
    names = [name for _, name in goals]
    if not names or {*names} - {*MEASURES} or len({*names}) < len(names) or any(w[0] not in "+-" for w in text.split()):
        accepted = f"+ for more or - for less before each of {', '.join(MEASURES)}, as in {GOALS}"
        raise ConfigError("goals", text, accepted)
    return goals


def pareto(candidates: Iterable[Candidate], goals: str = GOALS) -> tuple[Candidate, ...]:
    """The candidates that no other one beats: is as good by every goal, and better by one. In their order.

    Raises:
        ConfigError: for goals that `parse_goals` does not read.
    """
    every = tuple(candidates)
    columns = [
        [-sign * MEASURES[name].value(one) for one in every] for sign, name in parse_goals(goals)
    ]  # less is better
    places = [
        {value: place for place, value in enumerate(sorted({*column}))} for column in columns
    ]  # no number too large
    points = [
        *zip(*([place[value] for value in column] for place, column in zip(places, columns, strict=True)), strict=True)
    ]
    best: set[tuple[int, ...]] = set()
    front = np.empty((0, len(columns)), dtype=np.int64)
    for point in sorted({*points}):  # what beats a point comes before it
        if not (front <= point).all(axis=1).any():
            best.add(point)
            front = np.vstack([front, point])
    return tuple(one for one, point in zip(every, points, strict=True) if point in best)


# -- networks that have a name ------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A network by name, what it costs at the limits' image size, and the limits that it is over.

    `candidate` is None where the network cannot take an image of that size.
    """

    name: str
    config: ResNetConfig
    candidate: Candidate | None
    over: tuple[Excess, ...]

    @property
    def fits(self) -> bool:
        """Whether it is within all limits."""
        return self.candidate is not None and not self.over

    @property
    def distance(self) -> float:
        """By how many times it is over the limit that it is over most; 1 where it fits."""
        return max((excess.ratio for excess in self.over), default=1.0 if self.fits else float("inf"))

    @property
    def reason(self) -> str:
        """Why it does not fit, in a few words; empty where it does."""
        if self.candidate is None:
            return "the image is too small for one of its operations"
        return "; ".join(excess.words for excess in self.over)


@dataclass(frozen=True)
class Fits:
    """Networks against limits, in the order in which they were given."""

    limits: Limits
    rows: tuple[Fit, ...]

    @cached_property
    def inside(self) -> tuple[Fit, ...]:
        """Those that fit."""
        return tuple(row for row in self.rows if row.fits)

    @cached_property
    def outside(self) -> tuple[Fit, ...]:
        """Those that do not, the nearest first; one that cannot take the image is last."""
        return tuple(sorted((row for row in self.rows if not row.fits), key=lambda row: row.distance))

    @cached_property
    def left_out(self) -> Mapping[str, int]:
        """How many networks each limit leaves out, by the field of `Limits`, whatever the other limits do."""
        counts = {name: sum(name in [one.measure for one in row.over] for row in self.rows) for name in LIMITED}
        return MappingProxyType({name: count for name, count in counts.items() if count})


def fits(limits: Limits, networks: Mapping[str, ResNetConfig] = PRESETS) -> Fits:
    """Which of the networks, by their names, are within the limits at the limits' image size; the presets, if none are given."""
    rows = []
    for index, (name, config) in enumerate(networks.items()):
        one = candidate(config, limits.size, index) if can_run(config, limits.size) else None
        rows.append(Fit(name, config, one, limits.exceeded(one) if one else ()))
    return Fits(limits, tuple(rows))


class Narrower(NamedTuple):
    """What brings a network within limits: the largest image (height, width) of the same shape, and at the same image the
    network with most planes, of which so many `sixteenths` are left. Each is None where it does not help."""

    size: Size | None
    config: ResNetConfig | None
    sixteenths: int | None

    @property
    def words(self) -> str:
        """It fits at 272×544 pixels, or with 13/16 of its planes."""
        ways = []
        if self.size:
            ways.append(f"at {self.size[0]}×{self.size[1]} pixels")
        if self.config:
            ways.append(f"with {self.sixteenths}/16 of its planes")
        return f"fits {', or '.join(ways)}" if ways else "fits neither at a smaller image nor with fewer planes"


def narrower(config: ResNetConfig, limits: Limits) -> Narrower:
    """What of a network, or of the image, has to be narrower for it to be within the limits."""

    def inside(config: ResNetConfig, size: Size) -> bool:
        return can_run(config, size) and not limits.exceeded(candidate(config, size))

    height, width = limits.size
    sizes = [(side, max(1, round(width * side / height))) for side in range(height, 0, -1)]
    # A smaller image costs less, down to those that are too small to run, which the search stops at too.
    place = bisect_left(sizes, True, key=lambda size: not can_run(config, size) or inside(config, size))
    size = sizes[place] if place < len(sizes) and inside(config, sizes[place]) else None
    for left in range(15, 0, -1):
        try:
            thinner = config.with_(planes=tuple(max(1, planes * left // 16) for planes in config.planes))[0]
        except ConfigError:  # a base width of less than a channel
            break
        if inside(thinner, limits.size):
            return Narrower(size, thinner, left)
    return Narrower(size, None, None)
