"""Searches: what a design costs, spaces as text, budgets, and what nothing beats."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

import explorer
from explorer import Candidate, Limits, Space, fits, pareto, search
from explorer.analysis import pieces
from explorer.analysis.layers import Layer
from explorer.analysis.pieces import Costs, costs
from explorer.analysis.receptive_field import PIXEL
from explorer.analysis.search import DESIGNS, GOALS, MEASURES, joined, narrower, parse_goals, parts
from explorer.analysis.space import AXES, MOST_DESIGNS, SIZE
from explorer.analysis.trace import trace
from helpers import narrow
from resnet import ConfigError, ResNetConfig, preset
from resnet.sizes import can_run


def traced(config: ResNetConfig, size: tuple[int, int]) -> Costs:
    """What the whole trace says."""
    whole = trace(config, size)
    return Costs(
        whole.params, whole.macs, whole.inference_memory.bytes, whole.training_memory, whole.field, whole.moved_bytes
    )


# -- what a design costs ------------------------------------------------------------------

SIDES = st.integers(1, 40) | st.integers(8, 80)
ALIKE = ResNetConfig(block="basic", layers=(2, 2, 3), planes=(8, 8, 8), stem="3x3", stem_width=8)
"""Its stages have the same blocks at different maps."""


@given(narrow(), st.lists(st.integers(1, 4), min_size=4, max_size=4), st.tuples(SIDES, SIDES))
@example(ALIKE, [2, 2, 3, 1], (40, 64))
@example(ResNetConfig(planes=(8, 16, 32, 64), order="pre", drop_path=0.5), [1, 2, 3, 2], (65, 33))
@example(ResNetConfig(planes=(8, 8, 8, 8), output_stride=8, shortcut="D", antialias="blur"), [1, 1, 3, 2], (64, 64))
@example(
    ResNetConfig(layers=(1,), planes=(64,), base_width=1, order="pre", shortcut="none", stem_width=4), [1] * 4, (32, 40)
)
@settings(max_examples=80, deadline=None)
def test_costs_are_the_traces(config: ResNetConfig, layers: list[int], size: tuple[int, int]) -> None:
    config = config.with_(layers=tuple(layers[: len(config.layers)]))[0]
    assume(can_run(config, size))
    assert costs(config, size) == traced(config, size)


@pytest.mark.parametrize("name", ["resnet10t", "resnet34d", "seresnextaa101d_32x8d", "resnetv2_50t", "resnet110"])
def test_costs_of_networks_with_a_name(name: str) -> None:
    assert costs(preset(name), (96, 160)) == traced(preset(name), (96, 160))


def test_a_network_too_large_for_memory_costs_what_its_trace_says() -> None:
    config = ResNetConfig(layers=(1, 1), planes=(16384, 16384))
    assert costs(config, (8, 8)) == traced(config, (8, 8))


def test_what_is_alike_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []
    real = pieces.trace_module

    def counted(module: nn.Module, shape: tuple[int, ...]) -> tuple[Layer, ...]:
        calls.append(module)
        return real(module, shape)

    monkeypatch.setattr(pieces, "trace_module", counted)
    pieces.forget_pieces()
    assert len([*search(Space.from_text("resnet18 layers=1..5-1..5-1..5-1..5"), Limits((64, 64)))]) == 625
    assert len(calls) == 9  # stem and head, and of each stage the first block and another; in stage 1 they are alike


# -- spaces -------------------------------------------------------------------------------


def test_a_space_is_every_combination_in_order() -> None:
    space = Space.from_text("resnet18 layers=1..2-3-1..3/2 attention=none,se size=64,96x128")
    layers = [(1, 3, 1), (1, 3, 3), (2, 3, 1), (2, 3, 3)]
    expected = [*product(layers, ("none", "se"), ((64, 64), (96, 128)))]
    assert len(space) == len(expected) == 16
    found = [space.design(index) for index in range(16)]
    assert [(config.layers, config.attention, size) for config, size in found] == expected
    assert {config.block for config, _ in found} == {"basic"}
    assert {config.planes for config, _ in found} == {(64, 128, 256)}
    assert Space().design(0) == (ResNetConfig(), None)
    for place in (-1, 16):
        with pytest.raises(IndexError):
            space.design(place)


def test_options_that_are_no_axis_follow() -> None:
    space = Space(preset("resnext50_32x4d"), (("block", ("basic", "bottleneck")),))
    assert space.design(0)[0] == preset("resnet34")
    assert space.design(1)[0] == preset("resnext50_32x4d")


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "layers": st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    "planes": st.lists(st.sampled_from([8, 16, 24, 40]), min_size=1, max_size=2).map(tuple),
    "groups": st.integers(1, 9),
    "drop_path": st.floats(0, 0.99),
    "zero_pool": st.booleans(),
    "output_stride": st.sampled_from([32, 16, 8]),
    "stem": st.sampled_from(["7x7", "deep", "3x3"]),
    SIZE: st.tuples(st.integers(1, 4), st.integers(1, 3)),
}


@given(
    narrow() | st.sampled_from([ResNetConfig(), preset("resnet18")]),
    st.fixed_dictionaries(
        {}, optional={name: st.lists(values, min_size=1, max_size=6) for name, values in VALUES.items()}
    ),
)
@settings(max_examples=150, deadline=None)
def test_a_space_reads_back_from_its_text(base: ResNetConfig, axes: dict[str, list[Any]]) -> None:
    space = Space(base, tuple((name, tuple(values)) for name, values in axes.items()))
    assert Space.from_text(space.to_text()) == space == pickle.loads(pickle.dumps(space))
    assert [len({*values}) for _, values in space.axes] == [len(values) for _, values in space.axes]


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("", "resnet50"),
        ("ResNet-18", "resnet18"),
        ("layers=1..3-2-4..8/2", "resnet50 layers=1..3-2-4..8/2"),
        ("layers=1-1,1-2,2-1,2-2", "resnet50 layers=1..2-1..2"),
        ("layers=1-1,2-2 groups=3,4,5 base_width=4,64", "resnet50 layers=1-1,2-2 groups=3..5 base_width=4,64"),
        ("size=64x64,96,128", "resnet50 size=64..128/32"),
        ("size=64..96/32x128", "resnet50 size=64..96/32x128"),
        ("?block=basic&layers=2-2 stem=7x7", "?layers=2-2&block=basic stem=7x7"),
        ("?preset=resnet18&groups=1 order=pre,pre", "resnet18 order=pre"),
    ],
)
def test_the_text_of_a_space(typed: str, text: str) -> None:
    assert Space.from_text(typed).to_text() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet51", "preset = resnet51 is not accepted: one of 103 names"),
        ("?depth=3", "option = depth"),
        (
            "resnet50 depth=50",
            "space = depth=50 is not accepted: options with their values, such as groups=1,32, each once",
        ),
        ("resnet50 groups", "space = groups is not accepted: options with their values"),
        (
            "resnet50 ResNet-18 groups=1",
            "space = ResNet-18 is not accepted: the network is ResNet-50 already, and options with",
        ),
        ("layers=2-2 layers=3-3", "space = layers=3-3 is not accepted"),
        ("layers=", "layers = (empty) is not accepted"),
        ("groups=1,", "groups = (empty) is not accepted: a whole number from 1 to 1024, or ranges such as 2..6"),
        ("groups=0", "groups = 0 is not accepted"),
        ("groups=4..2", "groups = 4..2 is not accepted"),
        ("groups=1..4/0", "groups = 1..4/0 is not accepted"),
        ("groups=1-2", "groups = 1-2 is not accepted"),
        ("attention=se,cbam", "attention = cbam is not accepted: one of none, se, eca"),
        ("layers=1-1-1-1-1-1-1", "layers = 1-1-1-1-1-1-1 is not accepted"),
        ("size=0", "size = 0 is not accepted: a side from 1 to 8192 pixels"),
        ("size=8000..9000/500", "size = 8000..9000/500 is not accepted"),
        ("size=1x2x3", "size = 1x2x3 is not accepted"),
        ("layers=1..500-1..500-1..500-1..500-1..500-1..500", "designs is not accepted: at most 100,000"),
        ("groups=1..1000 base_width=1..1000", "space = 1,000,000 designs is not accepted: at most 100,000"),
        ("x=" * 3000, "at most 4000 characters"),
        ("groups=\x1b[31m", "groups = \\x1b[31m"),
    ],
)
def test_a_mistake_in_a_space_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Space.from_text(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "axes",
    [
        (("depth", (50,)),),
        (("groups", ()),),
        (("groups", (1,)), ("groups", (2,))),
        (("groups", ("1",)),),
        (("groups", tuple(range(1, 1001))), ("base_width", tuple(range(1, 1001)))),
    ],
)
def test_a_space_of_something_else_is_refused(axes: Any) -> None:
    with pytest.raises(ConfigError, match=r"^\w+ = .* is not accepted: .*\.$"):
        Space(axes=axes)
    assert MOST_DESIGNS < 10**6 <= AXES["groups"].high ** 2


# -- limits -------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 8192)] * 2), *[st.integers(0, 10**15)] * 3)
def test_limits_read_back_from_their_text(size: tuple[int, int], macs: int, params: int, memory: int) -> None:
    limits = Limits(size, macs, params, memory)
    assert Limits.from_text(limits.to_text()) == limits


@pytest.mark.parametrize("text", ["size-0-1", "macs--1", "macs-" + "9" * 17, "size-224", "ms-12", "macs-5e9"])
def test_limits_that_are_none_are_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^\w+ = .* is not accepted: .*\.$"):
        Limits.from_text(text)


def test_a_limit_is_reached_and_not_exceeded() -> None:
    one = next(search(Space(preset("resnet18")), Limits()))
    assert (one.params, one.macs, one.depth, one.image_size) == (11_689_512, 1_814_073_344, 18, (224, 224))
    for name in ("macs", "params", "memory"):
        value = getattr(one, name)
        assert Limits(**{name: value}).exceeded(one) == ()
        (excess,) = Limits(**{name: value - 1}).exceeded(one)
        assert (excess.measure, excess.value, excess.limit) == (name, value, value - 1)
    assert Limits(macs=10**9).exceeded(one)[0].words == "1.81 GMACs, 1.81 times the limit"
    assert Limits(macs=10**6).exceeded(one)[0].words == "1.81 GMACs, 1,814 times the limit"


# -- searching ----------------------------------------------------------------------------

SPACE = Space.from_text(
    "resnet18 layers=1..3-1..3-1..3 block=basic,bottleneck groups=1,2 size=16,8 antialias=none,blur,avg"
)
"""648 designs; basic blocks have no groups, and for a blur or an average 8 pixels are too few."""
BUDGET = Limits(macs=8 * 10**6, params=4 * 10**6)


def test_a_search_finds_what_every_trace_says() -> None:
    expected, invalid, over = [], 0, 0
    for index in range(0, len(SPACE), 7):
        try:
            config, size = SPACE.design(index)
            assert size is not None
            whole = traced(config, size)
        except ConfigError:
            invalid += 1
            continue
        if whole.macs <= BUDGET.macs and whole.params <= BUDGET.params:
            expected.append((index, config, size, whole))
        else:
            over += 1
    assert min(len(expected), invalid, over) > 5
    found = joined(parts(SPACE, BUDGET))
    mine = [
        (one.index, one.config, one.image_size, Costs(*(getattr(one, name) for name in Costs._fields)))
        for one in found.candidates
        if one.index % 7 == 0
    ]
    assert mine == expected
    assert (found.start, found.stop) == (0, len(SPACE))
    assert len(found.candidates) + found.invalid + found.over == len(SPACE)
    assert [*search(SPACE, BUDGET)] == [*found.candidates]


class Elsewhere(Executor):
    """What is submitted crosses to another process and back as bytes; it is done when it is asked for."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        real = future.result

        def result(timeout: float | None = None) -> Any:
            if not future.done():
                do, given, named = pickle.loads(pickle.dumps((work, args, kwargs)))
                future.set_result(pickle.loads(pickle.dumps(do(*given, **named))))
            return real(timeout)

        future.result = result  # type: ignore[method-assign]
        self.futures.append(future)
        return future


def test_an_executor_changes_nothing_and_a_closed_search_ends() -> None:
    executor = Elsewhere()
    assert [*parts(SPACE, BUDGET, executor)] == [*parts(SPACE, BUDGET)]
    assert len(executor.futures) == -(-len(SPACE) // DESIGNS)
    stopped = Elsewhere()
    large = Space.from_text("resnet18 layers=1..9-1..9-1..9-1..9 size=8")
    running = search(large, Limits(), stopped)
    next(running)
    running.close()  # type: ignore[attr-defined]
    done, *rest = stopped.futures
    assert done.done()
    assert len(rest) == 15
    assert all(future.cancelled() for future in rest)


def test_a_search_goes_on_where_it_stopped() -> None:
    first, *rest = parts(SPACE, BUDGET)
    assert (first.start, first.stop) == (0, DESIGNS)
    assert [*parts(SPACE, BUDGET, start=first.stop)] == rest


# -- what nothing beats -------------------------------------------------------------------

NUMBERS = st.integers(0, 4) | st.just(10**30)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=30),
    st.lists(st.sampled_from(["params", "macs", "memory"]), min_size=1, unique=True),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_nothing_beats_the_pareto_set(figures: list[tuple[int, int, int]], names: list[str], more: list[bool]) -> None:
    every = [
        Candidate(index, ResNetConfig(), (224, 224), *three, training_memory=0, field=PIXEL, moved=0)
        for index, three in enumerate(figures)
    ]
    goals = [(1 if up else -1, name) for name, up in zip(names, more, strict=False)]

    def beats(one: Candidate, two: Candidate) -> bool:
        gains = [sign * (getattr(one, name) - getattr(two, name)) for sign, name in goals]
        return min(gains) >= 0 and max(gains) > 0

    text = " ".join(("+" if sign > 0 else "-") + name for sign, name in goals)
    assert pareto(every, text) == tuple(one for one in every if not any(beats(other, one) for other in every))


def test_measures_are_a_candidates() -> None:
    one = next(search(Space(preset("resnet18")), Limits((64, 96))))
    found = {name: measure.value(one) for name, measure in MEASURES.items()}
    whole = trace(preset("resnet18"), (64, 96))
    assert found == {
        "params": whole.params,
        "macs": whole.macs,
        "memory": whole.inference_memory.bytes,
        "training": whole.training_memory,
        "moved": whole.moved_bytes,
        "field": 435,
        "depth": 18,
        "pixels": 64 * 96,
    }
    assert parse_goals(GOALS) == ((1, "params"), (-1, "macs"), (-1, "memory"))


@pytest.mark.parametrize("text", ["", "params", "+", "+speed", "+params -params", "*macs"])
def test_goals_that_are_none_are_a_sentence(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^goals = .* is not accepted: \+ for more or - for less before each of params"
    ):
        pareto([], text)


# -- networks that have a name ------------------------------------------------------------


def test_one_preset_fits_the_engineer() -> None:
    found = fits(Limits((320, 640), macs=5 * 10**9, params=30 * 10**6))
    (row,) = found.inside
    assert row.name == "resnet10t"
    assert row.candidate is not None
    assert (round(row.candidate.macs / 1e9, 2), row.reason, row.distance) == (4.48, "", 1)
    assert len(found.rows) == 103
    assert [row.name for row in found.outside[:3]] == ["resnet14t", "plain18", "resnet18"]
    assert found.outside[0].reason == "6.84 GMACs, 1.37 times the limit"
    assert [row.distance for row in found.outside] == sorted(row.distance for row in found.outside)
    assert found.left_out["macs"] == 102
    assert found.left_out["params"] == sum(costs(row.config, (320, 640)).params > 30 * 10**6 for row in found.rows)


def test_what_would_fit_is_as_large_as_can_be() -> None:
    limits = Limits((320, 640), macs=5 * 10**9)
    small = narrower(preset("resnet18"), limits)
    assert small.words == "fits at 256×512 pixels, or with 13/16 of its planes"
    assert small.size is not None
    assert small.config == ResNetConfig(block="basic", layers=(2, 2, 2, 2), planes=(52, 104, 208, 416))
    wider = small.config.with_(planes=(56, 112, 224, 448))[0]
    for config, size, within in (
        (preset("resnet18"), small.size, True),
        (preset("resnet18"), (257, 514), False),
        (small.config, (320, 640), True),
        (wider, (320, 640), False),
    ):
        assert (trace(config, size).macs <= limits.macs) == within


def test_the_narrowest_has_a_sixteenth_of_the_planes_and_at_least_one() -> None:
    config = preset("resnet18").with_(planes=(8, 64, 64, 64))[0]
    thin = config.with_(planes=(1, 4, 4, 4))[0]
    found = narrower(config, Limits(params=costs(thin, (224, 224)).params))
    assert (found.config, found.sixteenths) == (thin, 1)
    assert (
        narrower(preset("resnext50_32x4d"), Limits(params=1)).config is None
    )  # of 32 groups none has less than a channel


def test_what_cannot_be_helped_says_so() -> None:
    heavy = narrower(preset("resnet50"), Limits(params=1))
    assert (heavy.size, heavy.config) == (None, None)
    assert heavy.words == "fits neither at a smaller image nor with fewer planes"
    assert narrower(preset("resnet18"), Limits(params=10**7)).size is None
    found = fits(Limits((4, 4)), {"blur": preset("resnetblur50"), "plain": preset("resnet18")})
    assert [row.name for row in found.inside] == ["plain"]
    (row,) = found.outside
    assert (row.candidate, row.reason) == (None, "the image is too small for one of its operations")


def test_the_package_names_what_a_search_takes() -> None:
    for name in ("Candidate", "Fits", "Limits", "Space", "fits", "pareto", "search"):
        assert name in explorer.__all__
        assert getattr(explorer, name).__name__ == name
