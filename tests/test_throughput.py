"""Throughput against batch: which batches pass, where it ends, and what is said of it. No test asks how fast anything is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from explorer.analysis.cost import work_macs
from explorer.analysis.trace import trace
from explorer.figures.throughput import throughput_figure
from explorer.inference import throughput as subject
from explorer.inference.device import Device
from explorer.inference.limits import MAX_FORWARD_BYTES, MAX_WORK_MACS
from explorer.inference.throughput import ENOUGH, MEMORY, TIME, WORK, Point, Throughput, limit, throughput
from explorer.inference.turns import OutOfMemoryError, Turn
from explorer.sharing.store import StoppedError
from explorer.views.inference import deployed
from explorer.views.inference import throughput as view
from explorer.views.inference.throughput import verdict
from helpers import CPU, SMALL, click, opened
from resnet import ResNet, preset
from resnet.weights import randomly

TRACED = trace(SMALL, (32, 48))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets a pass of so many seconds an image seem to take them; each batch is passed as often as it has to be."""
    monkeypatch.setattr(subject, "BATCH_SECONDS", 0.0)

    def of_an_image(seconds: float) -> None:
        def time(action: Callable[[], Tensor], device: Device) -> float:
            return len(action()) * seconds

        monkeypatch.setattr(subject, "time_action", time)

    return of_an_image


@pytest.fixture
def network() -> tuple[ResNet, list[tuple[int, ...]]]:
    """A network, and the shapes of what passes through it."""
    made, seen = randomly(SMALL), []
    made.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    return made, seen


def test_batches_double(network: tuple[ResNet, list[tuple[int, ...]]], clock: Callable[[float], None]) -> None:
    clock(2**-10)
    moved: list[float] = []
    watched: list[bool] = []

    def turn(what: str, where: str, model: ResNet | None) -> Turn:
        watched.append(model is not None)
        return Turn(what, where, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "MAX_BATCH", 8)
        patch.setattr(subject, "MIN_WATCHED_SIZE", 4 * 3 * 32 * 48)
        patch.setattr(subject, "Turn", turn)
        found = throughput(network[0], TRACED, CPU, moved.append)
    assert found == Throughput(tuple(Point(batch, (batch * 2**-10,) * 3) for batch in (1, 2, 4, 8)), ENOUGH)
    assert network[1] == [(batch, 3, 32, 48) for batch in (1, 2, 4, 8) for _ in range(4)]  # one warms up
    assert watched == [False, False, True, True]  # a long pass ends where who asked leaves
    assert moved == [0, 1 / 4, 1 / 2, 3 / 4, 1]
    assert {point.images_per_second.median for point in found.points} == {2**10}


def test_it_ends_where_a_pass_would_take_too_long(
    network: tuple[ResNet, list[tuple[int, ...]]], clock: Callable[[float], None]
) -> None:
    clock(0.4)
    found = throughput(network[0], TRACED, CPU)
    assert ([point.batch for point in found.points], found.ended) == ([1, 2, 4], TIME)


def test_it_ends_where_memory_does(
    network: tuple[ResNet, list[tuple[int, ...]]], clock: Callable[[float], None]
) -> None:
    """With what was measured; where a single image finds none, with the reason."""
    clock(2**-10)
    most = [2]

    def refuse(_: ResNet, given: tuple[Tensor]) -> None:
        if len(given[0]) > most[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    network[0].register_forward_pre_hook(refuse)
    found = throughput(network[0], TRACED, CPU)
    assert ([point.batch for point in found.points], found.ended) == ([1, 2], MEMORY)
    most[0] = 0
    with pytest.raises(OutOfMemoryError, match=r"^A batch of 1 images through .* in fp32 needs more memory than"):
        throughput(network[0], TRACED, CPU)


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [("resnet18", (320, 640), WORK), ("resnet20", (224, 224), WORK), ("resnet10t", (32, 32), MEMORY)],
)
def test_a_batch_takes_no_more_than_one_image_may(
    name: str, size: tuple[int, int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = trace(preset(name), size)
    most, told = limit(traced, CPU)
    assert told == why
    assert most * traced.working_memory <= MAX_FORWARD_BYTES
    assert most * work_macs(traced) <= MAX_WORK_MACS
    over = {MEMORY: traced.working_memory / MAX_FORWARD_BYTES, WORK: work_macs(traced) / MAX_WORK_MACS}
    assert (most + 1) * over[why] > 1
    monkeypatch.setattr(subject, "MAX_WORK_MACS", 1)
    assert limit(traced, CPU) == (1, WORK)  # what may be run at all is measured


def test_the_fastest_batch_is_named() -> None:
    points = tuple(
        Point(batch, seconds) for batch, seconds in ((1, (0.1, 0.3, 0.2)), (2, (0.25, 0.25)), (4, (1.0, 1.0)))
    )
    assert verdict(Throughput(points, ENOUGH)) == (
        "**Batches of 2 are fastest here: 8.0 images a second**, 1.60 times as many as one at a time."
    )
    assert verdict(Throughput(points[:1], TIME)) == "**One image at a time is fastest here: 5.0 images a second.**"
    assert list(view.frame(Throughput(points, ENOUGH))["ms a batch"]) == pytest.approx([200, 250, 1000])
    upper, lower, line = throughput_figure(Throughput(points, ENOUGH)).data
    assert (list(line.x), list(line.y)) == ([1, 2, 4], [5, 8, 4])
    assert upper.y[0] == pytest.approx((1 / 0.2 + 1 / 0.1) / 2)
    assert lower.y[0] == pytest.approx((1 / 0.3 + 1 / 0.2) / 2)


def test_the_page_measures_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "BATCH_SECONDS", 0.0)
    monkeypatch.setattr(subject, "MAX_BATCH", 2)
    app = opened("inference", preset="resnet20_fashion", tab="Speed")
    assert not any("images a second" in text.value for text in app.markdown)
    click(app, "Measure throughput")
    assert any("images a second" in text.value for text in app.markdown)
    (table,) = (frame.value for frame in app.dataframe if "Images/s" in frame.value)
    assert list(table["Batch"]) == [1, 2]
    assert list(table["Passes"]) == [3, 3]
    again = click(app, "Measure throughput again")
    (anew,) = (frame.value for frame in again.dataframe if "Images/s" in frame.value)
    assert list(anew["Images/s"]) != list(table["Images/s"])
    (words,) = [each.value for each in app.caption if "It ends here" in each.value]
    assert "28×28 pixels in fp32" in words
    assert ENOUGH[:20] in words
    for off, measured in (("", True), ("layer2.2", False)):
        again = opened("inference", preset="resnet20_fashion", tab="Speed", off=off)
        assert any("images a second" in text.value for text in again.markdown) == measured


def test_measurements_are_shared_by_all_that_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "attempt", lambda button: 0)

    def key(weights: str = "a", off: str = "", half: bool = False, size: tuple[int, int] = (32, 48)) -> object:
        form, traced = SimpleNamespace(form=replace(CPU, half=half)), SimpleNamespace(image_size=size)
        return view.measurement_key(SimpleNamespace(weights=weights, off=off, key=form, trace=traced))  # type: ignore

    every = [key(), key("b"), key(off="layer1.0"), key(half=True), key(size=(48, 32))]
    assert len({*every}) == len(every)
    assert key() == every[0]


@pytest.mark.parametrize(
    ("panel", "asked", "other"),
    [(view, "Measure throughput", "Measure the forms"), (deployed, "Measure the forms", "Measure throughput")],
)
def test_who_stops_it_keeps_the_other_panels(
    panel: ModuleType, asked: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(panel, "cached_result", stopped)
    app = opened("inference", preset="resnet20", tab="Speed", weights="random")
    click(app, asked)
    assert other in [button.label for button in app.button]


# -- where CUDA is ------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("half", [False, True])
def test_cuda_passes_batches(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "BATCH_SECONDS", 0.01)
    monkeypatch.setattr(subject, "MAX_BATCH", 8)
    device = Device("cuda", torch.cuda.get_device_name(), half=half)
    found = throughput(device.network(randomly(SMALL)), TRACED, device)
    assert [point.batch for point in found.points] == [1, 2, 4, 8]
    assert all(second > 0 for point in found.points for second in point.seconds)
