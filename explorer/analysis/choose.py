"""Which network to take: a budget, what each one costs at an image size, and what has been measured of it elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from types import MappingProxyType
from typing import NamedTuple, Self

from resnet import ConfigError, ResNetConfig
from resnet.options import Option, option
from resnet.presets import PRESETS, preset_name
from resnet.weights import BUNDLED
from resnet.weights import published as published_weights

from .compare import differing_options, value_text
from .measured import MACHINES, ROBUSTNESS, Score, Speed, scores, speeds
from .published import Result, published
from .search import Candidate, Limits, fits, pareto, parts, times
from .space import Space

Size = tuple[int, int]
FIFTY = ResNetConfig()


@dataclass(frozen=True)
class Budget(Limits):
    """What a network may cost for one image, and what there has to be of it; a limit of 0 is none.

    The image size (`size`) is that of the view, and no part of the text: "macs-5000000000_ms-12.0".

    Raises:
        ConfigError: for a value outside its range.
    """

    example = "macs-5000000000_params-30000000"

    ms: float = option(
        0.0, "Latency", "At most so many milliseconds for one image on the machine; 0 for any.", high=900
    )
    machine: str = option(next(iter(MACHINES)), "Machine", "The one that the latency is of.", choices=tuple(MACHINES))
    weights: bool = option(False, "Has weights", "Only networks with published or shipped weights.")

    @classmethod
    @cache
    def options(cls) -> Mapping[str, Option]:
        """Every field but the image size."""
        return MappingProxyType({name: one for name, one in super().options().items() if name != "size"})

    @classmethod
    def tolerant(cls, text: str) -> tuple[Self, str]:
        """The budget of a text that may hold mistakes, and a sentence that names those, which are left out."""
        good: list[str] = []
        wrong: list[str] = []
        for part in text.split("_") if text else ():
            try:
                cls.from_text("_".join([*good, part]))
                good.append(part)
            except ConfigError as error:
                wrong.append(str(error).rstrip("."))
        kept = cls.from_text("_".join(good))
        return kept, f"{'; '.join(wrong)}; the other limits hold." if wrong else ""


# -- one network --------------------------------------------------------------------------


class Latency(NamedTuple):
    """Milliseconds for one image of the size that was asked for: as measured, or `scaled` by MACs from another size."""

    ms: float
    measured: Speed
    scaled: bool


class Here(NamedTuple):
    """Milliseconds for one image as measured on this server, the median, and `how`: "bf16, 2 threads, batch of 8"."""

    ms: float
    how: str


class Over(NamedTuple):
    """A limit that a network is over: the field of `Budget`, by how many times, and in a few words why."""

    measure: str
    ratio: float
    words: str

    @property
    def brief(self) -> str:
        """MACs ×1.37, beside the value itself; the words where no number says it."""
        return f"{Budget.options()[self.measure].label} ×{times(self.ratio)}" if isfinite(self.ratio) else self.words


@dataclass(frozen=True)
class Row:
    """A network under a budget: what it costs, its best published result, and what was measured of it elsewhere.

    `candidate` is None where the network cannot take an image of the size. `index` is a design's place in the space that was
    searched, None for a network with a name.
    """

    name: str
    config: ResNetConfig
    candidate: Candidate | None
    result: Result | None
    scores: tuple[tuple[str, Score], ...]
    latencies: tuple[tuple[str, Latency], ...]
    over: tuple[Over, ...]
    index: int | None = None

    @property
    def fits(self) -> bool:
        """Whether it is within all limits."""
        return not self.over

    @property
    def distance(self) -> float:
        """By how many times it is over the limit that it is over most; 1 where it fits."""
        return max((one.ratio for one in self.over), default=1.0)

    @property
    def reason(self) -> str:
        """Why it does not fit; empty where it does."""
        return "; ".join(one.words for one in self.over)

    @property
    def top1(self) -> float:
        """Of the best published result; 0 without one."""
        return self.result.top1 if self.result else 0.0


def row(budget: Budget, name: str, config: ResNetConfig) -> Row:
    """One network under a budget, by its name in timm where it has one."""
    (fit,) = fits(budget, {name: config}).rows
    result = best_result(config, budget.weights)
    measured = latencies(name, config, fit.candidate) if fit.candidate else {}
    over = [Over(one.measure, one.ratio, one.words) for one in fit.over]
    if fit.candidate is None:
        over.append(Over("size", float("inf"), fit.reason))
    if budget.ms:
        over += _too_slow(budget, measured.get(budget.machine))
    if budget.weights and config not in _with_weights():
        over.append(Over("weights", float("inf"), "no weights"))
    return Row(
        name, config, fit.candidate, result, tuple(robustness(result).items()), tuple(measured.items()), tuple(over)
    )


def _too_slow(budget: Budget, latency: Latency | None) -> Iterator[Over]:
    if latency is None:
        yield Over("ms", float("inf"), f"not measured on {budget.machine}")
    elif latency.ms > budget.ms:
        ratio, about = latency.ms / budget.ms, "about " if latency.scaled else ""
        yield Over("ms", ratio, f"{about}{latency.ms:.3g} ms, {times(ratio)} times the limit")


def design_row(budget: Budget, design: Candidate, base: ResNetConfig) -> Row:
    """A design of a searched space around a network, of which nothing is known but what it costs; it is called by what differs."""
    over = tuple(Over(one.measure, one.ratio, one.words) for one in budget.exceeded(design))
    height, width = design.image_size
    values = [value_text(getattr(design.config, name)) for name in differing_options(base, design.config)]
    values += [f"{height}×{width}"] * (design.image_size != budget.size)
    name = f"Design {design.index}: {', '.join(values) or 'as it is'}"
    return Row(name, design.config, design, None, (), (), over, design.index)


@cache
def _results() -> Mapping[ResNetConfig, tuple[Result, ...]]:
    """Every published result by its network, the best first."""
    found: dict[ResNetConfig, list[Result]] = {}
    for result in sorted(published(), key=lambda one: -one.top1):
        found.setdefault(result.config, []).append(result)
    return MappingProxyType({config: tuple(results) for config, results in found.items()})


def best_result(config: ResNetConfig, weights: bool = False) -> Result | None:
    """The published result of a network with the highest top-1; of those with published weights, where `weights` says so."""
    return next((one for one in _results().get(config, ()) if one.weights or not weights), None)


@cache
def _with_weights() -> frozenset[ResNetConfig]:
    """Networks of which there are weights, published or shipped."""
    return frozenset({*(one.config for one in published_weights()), *BUNDLED.values()})


def robustness(result: Result | None) -> dict[str, Score]:
    """What was measured with the weights of a result on the sets in `ROBUSTNESS`; timm has torchvision's under names of its own."""
    if result is None or result.weights is None:
        return {}
    copies = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}
    key = result.weights.key
    found = scores().get(f"{result.network}.{copies[key]}" if key in copies else key, {})
    return {name: found[name] for name in ROBUSTNESS if name in found}


def latencies(name: str, config: ResNetConfig, candidate: Candidate) -> dict[str, Latency]:
    """By machine, for one image of the candidate's size. What was measured at another size is scaled by MACs, an estimate:
    small images keep a machine less busy, and large ones are out of its caches."""
    found = {}
    for machine, speed in speeds().get(name, speeds().get(preset_name(config) or "", {})).items():
        scaled = (speed.size, speed.size) != candidate.image_size
        share = candidate.macs / speed.macs if scaled else 1.0
        found[machine] = Latency(speed.milliseconds * share, speed, scaled)
    return found


# -- all of them --------------------------------------------------------------------------


def rows(
    budget: Budget,
    own: Sequence[tuple[str, ResNetConfig]] = (),
    designs: Iterable[Candidate] = (),
    base: ResNetConfig = FIFTY,
) -> list[Row]:
    """All presets, a person's own networks by the names that they are given, and designs around the network `base`: those that fit, designs
    and then the most accurate first, and behind them the nearest."""
    every = [row(budget, name, config) for name, config in [*PRESETS.items(), *own]]
    every += [design_row(budget, one, base) for one in designs]
    return sorted(every, key=lambda one: (one.distance, one.index is None, -one.top1))


class Point(NamedTuple):
    """A published result, and its network under the budget."""

    result: Result
    row: Row

    @property
    def at_size(self) -> bool:
        """Whether the accuracy was measured at the image size that was asked for."""
        return self.row.candidate is not None and self.row.candidate.image_size == (self.result.size,) * 2


def points(budget: Budget) -> tuple[Point, ...]:
    """Every published result, in the order of `published`; those with weights where the budget says so."""
    results = [result for result in published() if result.weights or not budget.weights]
    known = {config: row(budget, name, config) for config, name in {one.config: one.network for one in results}.items()}
    return tuple(Point(result, known[result.config]) for result in results)


def front(places: Sequence[tuple[float, float]]) -> list[int]:
    """Of places (cost, accuracy) those that no other one beats, by rising cost: none is as cheap and more accurate, or as
    accurate and cheaper."""
    best, found = float("-inf"), []
    for index in sorted(range(len(places)), key=lambda index: (places[index][0], -places[index][1])):
        if places[index][1] > best:
            best = places[index][1]
            found.append(index)
    return found


def alone(every: Iterable[Row], measure: str) -> int:
    """How many networks would fit besides, were there no limit on this one measure."""
    return sum({one.measure for one in each.over} == {measure} for each in every)


# -- designs ------------------------------------------------------------------------------


class Searched(NamedTuple):
    """What has come of a space's designs up to the place `stop`: how many are within the limits, over one, or cannot be built, and
    those within that no other one beats (`search.GOALS`)."""

    stop: int = 0
    within: int = 0
    over: int = 0
    invalid: int = 0
    best: tuple[Candidate, ...] = ()


NOTHING = Searched()


def searching(space: Space, limits: Limits, before: Searched = NOTHING) -> Iterator[Searched]:
    """Search the designs of a space part by part, from where a search before has come to."""
    for part in parts(space, limits, start=before.stop):
        before = Searched(
            part.stop,
            before.within + len(part.candidates),
            before.over + part.over,
            before.invalid + part.invalid,
            pareto((*before.best, *part.candidates)),
        )
        yield before
