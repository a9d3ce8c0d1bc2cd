"""`explorer.latency` and its tab: which layers are timed, the arithmetic of the roof, and what happens without memory.

No test depends on the clock: where seconds matter they are given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import Tensor

from explorer.analysis.trace import Trace, trace
from explorer.figures import inference
from explorer.inference import latency
from explorer.inference.device import Device, devices
from explorer.inference.latency import (
    Effect,
    Latency,
    Roof,
    TimedLayer,
    effects,
    moved_bytes,
    rounds_within,
    slowest_layers,
    timed_layers,
)
from explorer.inference.predict import activation, predict
from explorer.inference.turns import ONE_AT_A_TIME, OutOfMemoryError, Turn
from explorer.views import cached
from explorer.views.inference.latency import slow_frame
from helpers import CPU, captions, closed, hold, hooks, run, turned_to
from resnet import ResNet, ResNetConfig, preset
from resnet.weights import randomly

SMALL = ResNetConfig(
    block="basic", layers=(1, 1), planes=(8, 16), stem="3x3", stem_width=8, stem_pool="none", num_classes=7
)
NETWORKS = {
    "small": SMALL,
    "se": SMALL.with_(attention="se", drop_path=0.5)[0],
    "eca pre": SMALL.with_(attention="eca", order="pre", shortcut="D", activation="silu")[0],
    "blur": ResNetConfig(layers=(1, 1), planes=(8, 16), antialias="blur", stem="deep", num_classes=7),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network() -> ResNet:
    return randomly(SMALL)


def image(side: int = 32) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))


# -- layer by layer -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_the_trace_is_timed_once_and_in_order(name: str) -> None:
    network = randomly(NETWORKS[name])
    shares: list[float] = []
    times = latency.latency(network, image(), CPU, rounds=3, progress=shares.append)
    assert list(times.layers) == [layer.name for layer in trace(network.config, 32).layers]
    assert all(seconds >= 0 for seconds in times.layers.values())
    assert times.whole_pass > 0
    assert times.rounds == 3
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert not hooks(network)


def test_the_median_of_the_second_passes(network: ResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks that count the passes: a layer's time is then what the test says, and not that of the first pass."""
    passes = iter([[100.0], [3.0], [100.0], [1.0], [100.0], [2.0]])
    layers = len(trace(SMALL, 32).layers)
    current: list[float] = []

    def mark() -> float:
        if not current:
            (length,) = next(passes)
            current.extend(moment for _ in range(layers) for moment in (0.0, length))
        return current.pop(0)

    monkeypatch.setattr(latency, "clock", lambda device: (mark, lambda start, end: end - start))
    times = latency.latency(network, image(), CPU, rounds=3)
    assert set(times.layers.values()) == {2.0}


def test_hooks_go_after_a_failure(network: ResNet) -> None:
    with pytest.raises(RuntimeError):
        latency.layer_seconds(network, torch.zeros(1, 5, 32, 32), CPU)
    assert not hooks(network)
    with pytest.raises(RuntimeError):
        latency.latency(network, torch.zeros(1, 5, 32, 32), CPU)
    assert predict(network, image(), CPU).finite


@pytest.mark.parametrize(
    ("budget", "one", "rounds"), [(2.0, 0.5, 4), (2.0, 3.0, 1), (2.0, 0.0, 30), (2.0, 0.01, 30), (1.0, 0.4, 2)]
)
def test_rounds_fit_the_budget(budget: float, one: float, rounds: int) -> None:
    assert rounds_within(budget, one) == rounds


# -- the roof -----------------------------------------------------------------------------


def test_one_convolution_by_hand() -> None:
    """ResNet-50's first: 3×224×224 to 64×112×112 with 64·3·7·7 weights, no bias."""
    layer = trace(preset("resnet50"), 224).by_name["conv1"]
    numbers = 3 * 224 * 224 + 64 * 112 * 112 + 64 * 3 * 49
    assert numbers == 962_752
    assert moved_bytes(layer, 4) == 4 * numbers
    assert moved_bytes(layer, 2) == 2 * numbers
    assert layer.macs == 118_013_952
    timed = TimedLayer(layer, 0.01, 0.004, moved_bytes(layer, 4))
    assert timed.ratio == pytest.approx(2.5)
    assert timed.intensity == pytest.approx(2 * 118_013_952 / 3_851_008)
    assert timed.achieved == pytest.approx(23_602_790_400)


def test_what_other_layers_move() -> None:
    layers = trace(preset("resnet50"), 224).by_name
    assert moved_bytes(layers["layer1.0.add"], 4) == 4 * 3 * 256 * 56 * 56
    assert moved_bytes(layers["bn1"], 4) == 4 * (2 * 64 * 112 * 112 + 128)
    assert moved_bytes(layers["fc"], 4) == 4 * (2048 + 1000 + 2048 * 1000 + 1000)
    assert moved_bytes(layers["flatten"], 4) == 0
    dropping = trace(SMALL.with_(drop_path=0.5)[0], 32)
    views = [layer for layer in dropping.layers if layer.op == "stochastic depth"]
    assert views
    assert all(moved_bytes(layer, 4) == 0 for layer in views)


def test_the_roof_has_two_slopes() -> None:
    roof = Roof(flops=100.0, bandwidth=20.0)
    assert roof.ridge == 5
    assert [roof.at(intensity) for intensity in (1, 5, 50)] == [20, 100, 100]
    assert roof.seconds(macs=500, moved=10) == 10  # 1000 FLOPs at 100 a second, and 10 bytes in half a second
    assert roof.seconds(macs=5, moved=100) == 5
    assert roof.seconds(macs=0, moved=100) == 5


def test_the_roof_is_the_fastest_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"product": {256: 0.001, 512: 0.004, 1024: 0.04}, "convolution": {64: 0.05}}
    kernel: list[tuple[str, int]] = []

    def named(kind: str) -> Any:
        return lambda device, size: kernel.append((kind, size))

    def fastest(make: Any, device: Device) -> float:
        make()
        kind, size = kernel[-1]
        return given[kind][size] if kind in given else {2**20: 1e-4, 2**23: 1e-3, 2**26: 1e-2}[size]

    for kind in ("product", "convolution", "copy_bytes"):
        monkeypatch.setattr(latency, kind, named(kind))
    monkeypatch.setattr(latency, "fastest", fastest)
    roof = latency.roof(CPU)
    assert roof.flops == max(2 * 256**3 / 0.001, 2 * 512**3 / 0.004, 2 * 1024**3 / 0.04, 2 * 9 * 64**2 * 56**2 / 0.05)
    assert roof.bandwidth == max(2 * 2**20 / 1e-4, 2 * 2**23 / 1e-3, 2 * 2**26 / 1e-2)
    assert kernel[:4] == [("product", 256), ("product", 512), ("product", 1024), ("convolution", 64)]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_the_kernels_of_the_roof_compute_what_they_say(half: bool, last: bool) -> None:
    device = replace(CPU, half=half, channels_last=last)
    product = latency.product(device, 8)()
    assert isinstance(product, Tensor)
    assert product.dtype == device.dtype
    assert (product == 8).all()
    convolved = latency.convolution(device, 2)()
    assert isinstance(convolved, Tensor)
    assert convolved.shape == (1, 2, 56, 56)
    assert convolved[0, 0, 5, 5] == 18
    copied = latency.copy_bytes(device, 64)()
    assert isinstance(copied, Tensor)
    assert copied.nbytes == 64
    assert copied.sum() == 64


def made_up(traced: Trace, roof: Roof) -> tuple[TimedLayer, ...]:
    """Times that grow with the layer's index."""
    layers = {layer.name: 1e-3 * (layer.index + 1) for layer in traced.layers}
    return timed_layers(traced, Latency(layers, sum(layers.values()), 1), roof, 4)


def test_layers_against_the_roof() -> None:
    traced = trace(SMALL, 32)
    roof = Roof(1e9, 1e8)
    timed = made_up(traced, roof)
    assert [one.layer for one in timed] == [layer for layer in traced.layers if layer.op != "flatten"]
    for one in timed:
        assert one.seconds == pytest.approx(1e-3 * (one.layer.index + 1))
        assert one.bound == max(2 * one.layer.macs / 1e9, moved_bytes(one.layer, 4) / 1e8)
    chosen = slowest_layers(timed, share=0.05, most=3)
    total = sum(one.seconds for one in timed)
    able = [one for one in timed if one.seconds >= 0.05 * total]
    assert [one.ratio for one in chosen] == sorted((one.ratio for one in able), reverse=True)[:3]
    assert slowest_layers(timed, share=1.1) == []


def test_the_figures_show_every_layer() -> None:
    traced, roof = trace(SMALL, 32), Roof(1e9, 1e8)
    timed = made_up(traced, roof)
    bars = inference.latency_figure(timed, "median of 5 passes")
    assert bars.layout.yaxis.title.text == "ms, median of 5 passes"
    shown = {x: y for bar in bars.data if bar.type == "bar" for x, y in zip(bar.x, bar.y, strict=True)}
    assert shown == pytest.approx({one.layer.index: 1000 * one.seconds for one in timed})
    (bounds,) = (line for line in bars.data if line.type == "scatter")
    assert list(bounds.y) == pytest.approx([1000 * one.bound for one in timed])
    roofline = inference.roofline_figure(timed, roof)
    line, *groups = roofline.data
    assert list(line.y)[1:] == [roof.flops, roof.flops]
    assert line.y[0] == pytest.approx(line.x[0] * roof.bandwidth)
    names = [words[0] for group in groups for words in group.customdata]
    assert names == [one.layer.name for one in timed if one.layer.macs]
    assert roofline.layout.xaxis.type == roofline.layout.yaxis.type == "log"


# -- precision and layout -----------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_other_forms_say_nearly_the_same(name: str) -> None:
    network = randomly(NETWORKS[name])
    exact = network(image()).softmax(1)[0].detach().numpy()
    shares: list[float] = []
    found = effects(network, image(), CPU, shares.append, budget=0.01)
    assert [effect.device.form for effect in found] == ["fp32", "fp32, channels last", "bf16", "bf16, channels last"]
    assert found[0].ratio == 1.0
    assert found[0][3:5] == (0.0, True)
    assert found[1].probability_change < 1e-5
    assert 0 < found[2].probability_change < 0.05
    assert all(effect.seconds > 0 and effect.ratio > 0 for effect in found)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in network.parameters())
    for effect in found:
        other = effect.device.network(randomly(NETWORKS[name]))
        prediction = predict(other, image(), effect.device, ["conv1" if name != "blur" else "conv1.0"])
        assert prediction.probabilities.dtype == np.float32
        assert np.abs(prediction.probabilities - exact).max() == pytest.approx(effect.probability_change, abs=1e-6)
        maps = activation(other, image(), "fc", effect.device)
        assert maps.dtype == np.float32
        assert maps.shape == (7, 1, 1)
        weight = next(parameter for parameter in other.parameters() if parameter.ndim == 4)
        assert weight.dtype == effect.device.dtype
        assert weight.is_contiguous(memory_format=effect.device.layout)


def test_a_class_that_changes_is_told(network: ResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7], [float("nan")] * 2, [0.55, 0.45]])
    monkeypatch.setattr(latency, "timed_run", lambda *_: (2.0, torch.tensor(next(answers))))
    plain, last, half, both = effects(network, image(), CPU)
    assert plain == Effect(CPU, 2.0, 2.0, 0.0, True, 1)
    assert last[3:] == (pytest.approx(0.3), False, 0)  # beyond the budget: its first pass alone
    assert np.isnan(half.probability_change)
    assert both[3:] == (pytest.approx(0.05), True, 0)


def test_half_precision_is_what_the_device_is_fast_at() -> None:
    assert replace(CPU, half=True).form == "bf16"
    assert Device("cuda", "GPU", half=True, channels_last=True).form == "fp16, channels last"
    assert Device("cuda", "GPU", half=True).plain == Device("cuda", "GPU")


# -- without memory -----------------------------------------------------------------------

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.0 GB)"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


def failing(network: ResNet, error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return network.get_submodule("layer1").register_forward_hook(fail)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:12])
def test_no_memory_is_a_sentence_and_the_next_pass_runs(network: ResNet, error: Exception) -> None:
    handle = failing(network, error)
    for attempt in (
        lambda: predict(network, image(), CPU, ["conv1"]),
        lambda: activation(network, image(), "conv1", CPU),
        lambda: latency.latency(network, image(), CPU),
        lambda: effects(network, image(), CPU),
    ):
        with pytest.raises(OutOfMemoryError, match=r"^An image of 3×32×32 through .* in fp32 needs more memory"):
            attempt()
        assert len(hooks(network)) == 1
    handle.remove()
    assert predict(network, image(), CPU).finite


def test_other_errors_stay_what_they_are(network: ResNet) -> None:
    handle = failing(network, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        predict(network, image(), CPU)
    handle.remove()
    assert predict(network, image(), CPU).finite


def test_any_turn_turns_the_error_into_a_sentence_and_lets_tensors_go() -> None:
    import weakref

    seen: list[weakref.ref[Tensor]] = []

    def work() -> None:
        tensor = torch.zeros(3)
        seen.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    sentence = "^What was asked for needs more memory than this server has free; "
    with pytest.raises(OutOfMemoryError, match=sentence) as told:
        ONE_AT_A_TIME.run(work)
    assert told.value.__suppress_context__
    assert seen[0]() is None
    with pytest.raises(ZeroDivisionError):
        Turn().run(lambda: 1 / 0)


# -- where CUDA is ------------------------------------------------------------------------

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
def test_cuda_is_picked_and_the_cpu_stays_a_choice() -> None:
    first, *_, last = devices()
    assert (first.torch, last.torch) == ("cuda", "cpu")
    assert first.name == torch.cuda.get_device_name()


@cuda
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_cuda_predicts_as_the_cpu(half: bool, last: bool) -> None:
    device = replace(devices()[0], half=half, channels_last=last)
    network, names = randomly(SMALL), [layer.name for layer in trace(SMALL, 32).layers]
    expected = predict(network, image(), CPU, names)
    maps = activation(network, image(), "layer1.0.conv1", CPU)
    network = device.network(network)
    found = predict(network, image(), device, names)
    tolerance = 0.05 if half else 5e-3
    assert found.probabilities == pytest.approx(expected.probabilities, abs=tolerance)
    assert list(found.strongest) == names
    scale = np.abs(maps).max()
    assert np.abs(activation(network, image(), "layer1.0.conv1", device) - maps).max() < tolerance * scale


@cuda
def test_cuda_times_every_layer_by_events() -> None:
    device = devices()[0]
    network = device.network(randomly(SMALL))
    times = latency.latency(network, image(), device, rounds=3)
    assert list(times.layers) == [layer.name for layer in trace(SMALL, 32).layers]
    assert all(seconds >= 0 for seconds in times.layers.values())
    assert sum(times.layers.values()) > 0
    assert not hooks(network)


@cuda
@pytest.mark.parametrize("half", [False, True])
def test_cuda_has_a_roof(half: bool) -> None:
    roof = latency.roof(replace(devices()[0], half=half))
    assert 0 < roof.ridge < float("inf")


@cuda
def test_cuda_measures_every_form() -> None:
    device = devices()[0]
    found = effects(device.network(randomly(SMALL)), image(), device, budget=0.01)
    assert [effect.device.form for effect in found] == ["fp32", "fp32, channels last", "fp16", "fp16, channels last"]
    assert all(effect.probability_change < 0.05 for effect in found)


@cuda
def test_cuda_goes_on_after_it_ran_out_of_memory() -> None:
    device = devices()[0]
    network = device.network(randomly(SMALL))
    kept: list[Tensor] = []
    handle = network.get_submodule("layer1").register_forward_hook(
        lambda *_: kept.append(torch.empty(2**50, dtype=torch.uint8, device="cuda"))
    )
    with pytest.raises(OutOfMemoryError, match=r"needs more memory than .* has free; .* the CPU has memory of its own"):
        predict(network, image(), device)
    handle.remove()
    assert predict(network, image(), device).finite


# -- the tab ------------------------------------------------------------------------------


def opened(**held: Any) -> AppTest:
    app = closed(preset="resnet20_fashion", tab="Speed")
    hold(app, **held)
    return turned_to(app, "inference")


def test_the_tab_measures_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "roof", lambda device, progress: Roof(4e10, 1e10))
    app = opened()
    assert not app.dataframe
    app.button(key="layers button").click()
    run(app)
    (table,) = app.dataframe
    assert list(table.value.columns) == list(slow_frame(()).columns)
    assert "40 GFLOP/s" in captions(app)
    assert "10 GB/s" in captions(app)
    assert "Measured on this server" in captions(app)
    app.button(key="effects button").click()
    run(app)
    assert list(app.dataframe[0].value["Form"]) == ["fp32", "fp32, channels last", "bf16", "bf16, channels last"]
    assert set(app.dataframe[0].value["Best class"]) == {"the same"}


@pytest.mark.usefixtures("nothing_loaded")
def test_the_choice_is_what_runs() -> None:
    app = opened()
    assert shown_form(app) == "fp32"
    form = replace(cached.cached_devices()[0], half=True, channels_last=True)
    chosen = opened(form=form)
    assert shown_form(chosen) == "bf16, channels last"
    assert chosen.segmented_control(key="form precision").value == "bf16"
    assert chosen.segmented_control(key="form layout").value == "last"
    chosen.segmented_control(key="form precision").set_value("fp32")
    run(chosen)
    assert shown_form(chosen) == "fp32, channels last"


def shown_form(app: AppTest) -> str:
    """The form that the verdict names."""
    (line,) = (str(caption.value) for caption in app.caption if " M MACs" in str(caption.value))
    return line.partition(" in ")[2].rpartition(", ")[0]


def test_a_tab_without_memory_leaves_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def fail(*_: Any, **__: Any) -> None:
        ONE_AT_A_TIME.run(out_of_memory)

    monkeypatch.setattr(latency, "effects", fail)
    app = opened()
    app.button(key="effects button").click()
    run(app)
    (error,) = (str(error.value) for error in app.error)
    assert error.startswith("What was asked for needs more memory than this server has free")
    assert shown_form(app) == "fp32"


@pytest.mark.usefixtures("nothing_loaded")
def test_the_page_survives_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(ResNet, "forward", fail)
        app = opened()
        (error,) = (str(error.value) for error in app.error)
        assert error.startswith("An image of 1×28×28 through ")
        assert "in fp32 needs more memory" in error
    run(app)
    assert not app.error
    assert shown_form(app) == "fp32"
