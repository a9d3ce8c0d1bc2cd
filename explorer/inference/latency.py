"""How long each layer takes here and now, against what the device could do (the roofline model)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from math import prod
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet import ResNet, ResNetConfig, title
from resnet.weights import randomly

from ..analysis.layers import VIEWS, Layer
from ..analysis.trace import Trace
from ..sharing.store import Progress, no_progress
from ..sharing.threads import computing_on
from .device import Device, synchronise
from .turns import ONE_AT_A_TIME, Turn, copy_of

MAX_ROUNDS = 30


# -- the clock ----------------------------------------------------------------------------


def clock(device: Device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """A function that marks this moment in the device's work, and one that gives the seconds between two marks.

    On CUDA a mark is an event in the stream, which disturbs nothing and is read after synchronisation; elsewhere
    the work is awaited and the time taken.
    """
    if device.torch == "cuda":

        def record() -> torch.cuda.Event:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event

        return record, lambda start, end: start.elapsed_time(end) / 1000

    def read() -> float:
        synchronise(device)
        return time.perf_counter()

    return read, lambda start, end: end - start


def time_action(action: Callable[[], object], device: Device) -> float:
    """From a device at rest to a device at rest."""
    synchronise(device)
    start = time.perf_counter()
    action()
    synchronise(device)
    return time.perf_counter() - start


def rounds_within(budget: float, one: float) -> int:
    """How many rounds of `one` second fit `budget` seconds, 1 to `MAX_ROUNDS`."""
    return max(1, min(MAX_ROUNDS, int(budget / max(one, 1e-9))))


# -- layer by layer -----------------------------------------------------------------------


class Latency(NamedTuple):
    """Median seconds over `rounds`: of each leaf module, in order of execution, and of a whole pass without hooks."""

    layers: dict[str, float]
    whole_pass: float
    rounds: int


def latency(
    model: ResNet,
    image: Tensor,
    device: Device,
    rounds: int | None = None,
    progress: Progress = no_progress,
    budget: float = 2.0,
) -> Latency:
    """Time a pass of a 1×C×H×W image layer by layer, after a warm-up, through a network in the device's form.

    Without `rounds` there are as many as fit `budget` seconds, judged by the second pass. A round is two passes with
    hooks and one without, each in a turn of its own, so that others need not wait for all rounds.

    Raises:
        OutOfMemoryError: where a pass does not fit the device's memory.
    """

    @torch.inference_mode()
    def warm() -> tuple[Tensor, float]:
        given = device.tensor(image)
        model(given)
        return given, time_action(lambda: model(given), device)

    @torch.inference_mode()
    def by_layer() -> dict[str, float]:
        return layer_seconds(model, given, device)

    @torch.inference_mode()
    def at_once() -> float:
        return time_action(lambda: model(given), device)

    turn = device.turn(model, image)
    given, one = turn.run(warm)
    rounds = rounds or rounds_within(budget, 3 * one)
    layers, whole = [], []
    for number in range(rounds):
        layers.append(turn.run(by_layer))
        whole.append(turn.run(at_once))
        progress((number + 1) / rounds)
    return Latency({name: median(times[name] for times in layers) for name in layers[0]}, median(whole), rounds)


def layer_seconds(model: ResNet, inputs: Tensor, device: Device) -> dict[str, float]:
    """The seconds of each leaf module in the second of two passes, by the marks of a hook before it and one after."""
    mark, between = clock(device)
    starts: dict[str, Any] = {}
    ends: dict[str, Any] = {}
    with ExitStack() as hooks:
        for name, module in leaves(model):
            before = module.register_forward_pre_hook(lambda *_, name=name: starts.update({name: mark()}))
            hooks.callback(before.remove)
            after = module.register_forward_hook(lambda *_, name=name: ends.update({name: mark()}))
            hooks.callback(after.remove)
        for _ in range(2):  # the second pass writes over the first, which woke the device and the processor's threads
            synchronise(device)
            model(inputs)
        synchronise(device)
    return {name: between(starts[name], end) for name, end in ends.items()}


def leaves(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that the trace calls layers: those without parts, identities left out."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if not isinstance(module, nn.Identity) and next(module.children(), None) is None
    ]


# -- the roof -----------------------------------------------------------------------------


class Roof(NamedTuple):
    """What a device can do at most: floating-point operations a second, and bytes a second from and to memory."""

    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """The FLOPs per byte above which arithmetic is the limit, and below which memory is."""
        return self.flops / self.bandwidth

    def seconds(self, macs: int, moved: int) -> float:
        """The least time for so many multiply-adds and bytes (Williams 2009, https://doi.org/10.1145/1498765.1498785)."""
        return max(2 * macs / self.flops, moved / self.bandwidth)

    def at(self, intensity: float) -> float:
        """The most FLOP/s at so many FLOPs per byte."""
        return min(self.flops, intensity * self.bandwidth)


def roof(device: Device, progress: Progress = no_progress) -> Roof:
    """The measured roof of a device in its precision and layout.

    Raises:
        OutOfMemoryError: where the largest product or copy does not fit the device's memory.
    """
    flops = peak(device)
    progress(0.5)
    return Roof(flops, bandwidth(device))


MIN_KERNEL_SECONDS = 0.03
"""Seconds after which a kernel is large enough to show what the device can do."""


def peak(device: Device) -> float:
    """FLOP/s: the fastest of matrix products and 3×3 convolutions, each enlarged until one takes `MIN_KERNEL_SECONDS`."""
    found = []
    for size in (256, 512, 1024, 2048, 4096, 8192):
        one = fastest(lambda size=size: product(device, size), device)  # type: ignore[misc]
        found.append(2 * size**3 / one)
        if one > MIN_KERNEL_SECONDS:
            break
    for channels in (64, 128, 256, 512, 1024, 2048):
        one = fastest(lambda channels=channels: convolution(device, channels), device)  # type: ignore[misc]
        found.append(2 * 9 * channels**2 * MAP_SIDE**2 / one)
        if one > MIN_KERNEL_SECONDS:
            break
    return max(found)


def bandwidth(device: Device) -> float:
    """Bytes a second, those read and those written: the fastest of copies of 1 MiB to 64 MiB (1 GiB on a GPU).

    The smaller ones stay in the caches, as a layer's input may that the layer before has just written.
    """
    sizes = [2**20, 2**23, 2**26] + ([2**28, 2**30] if device.torch != "cpu" else [])
    return max(2 * size / fastest(lambda size=size: copy_bytes(device, size), device) for size in sizes)  # type: ignore[misc]


MAP_SIDE = 56
"""The side of the map that `convolution` reads."""


def product(device: Device, size: int) -> Callable[[], object]:
    """A product of two size×size matrices, ready to run."""
    left = torch.ones(size, size, device=device.torch, dtype=device.dtype)
    right, result = torch.ones_like(left), torch.empty_like(left)
    return lambda: torch.mm(left, right, out=result)


def convolution(device: Device, channels: int) -> Callable[[], object]:
    """A 3×3 convolution of as many channels as it reads over a map of 56×56, ready to run."""
    image = device.tensor(torch.ones(1, channels, MAP_SIDE, MAP_SIDE))
    weight = device.tensor(torch.ones(channels, channels, 3, 3))
    return lambda: F.conv2d(image, weight, padding=1)


def copy_bytes(device: Device, size: int) -> Callable[[], object]:
    """A copy of `size` bytes, ready to run."""
    source = torch.ones(size, device=device.torch, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def fastest(make: Callable[[], Callable[[], object]], device: Device, budget: float = 0.1) -> float:
    """The least seconds of what `make` makes, in one turn of about `budget` seconds, after a warm-up."""

    @torch.inference_mode()
    def run() -> float:
        action = make()
        one = time_action(action, device)
        if one > budget:
            return one
        return min(time_action(action, device) for _ in range(max(3, rounds_within(budget, one))))

    return Turn("The measurement of the roof", device.name).run(run)


# -- layers against the roof --------------------------------------------------------------


def moved_bytes(layer: Layer, itemsize: int) -> int:
    """Bytes of memory traffic at least: inputs and parameters read once, the output written once, a view nothing."""
    if layer.op in VIEWS:
        return 0
    return (sum(map(prod, layer.in_shapes)) + prod(layer.out_shape) + layer.params) * itemsize


class TimedLayer(NamedTuple):
    """A layer's measured seconds beside the least that the roof allows, and the bytes it moves at least."""

    layer: Layer
    seconds: float
    bound: float
    moved_bytes: int

    @property
    def ratio(self) -> float:
        """How many times the bound the layer takes."""
        return self.seconds / self.bound

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return 2 * self.layer.macs / self.moved_bytes

    @property
    def achieved(self) -> float:
        """FLOP/s."""
        return 2 * self.layer.macs / self.seconds


def timed_layers(trace: Trace, times: Latency, roof: Roof, itemsize: int) -> tuple[TimedLayer, ...]:
    """Every layer that moves anything, in order of execution; `itemsize` is the bytes of a number."""
    found = []
    for layer in trace.layers:
        if traffic := moved_bytes(layer, itemsize):
            found.append(TimedLayer(layer, times.layers[layer.name], roof.seconds(layer.macs, traffic), traffic))
    return tuple(found)


def slowest_layers(layers: Sequence[TimedLayer], share: float = 0.02, most: int = 8) -> list[TimedLayer]:
    """The layers furthest above their bound, of those that take at least this share of the time."""
    least = share * sum(layer.seconds for layer in layers)
    return sorted((layer for layer in layers if layer.seconds >= least), key=lambda layer: -layer.ratio)[:most]


# -- side by side -------------------------------------------------------------------------


class Spread(NamedTuple):
    """The middle of several numbers, the quartiles around it, and the least and the most of them."""

    median: float
    lower: float
    upper: float
    least: float
    most: float


def spread(numbers: Sequence[float]) -> Spread:
    """Of two numbers or more."""
    lower, middle, upper = quantiles(numbers, n=4, method="inclusive")
    return Spread(middle, lower, upper, min(numbers), max(numbers))


def alternating(
    passes: Sequence[Callable[[], float]], turns: Sequence[Turn], rounds: int, progress: Progress = no_progress
) -> list[list[float]]:
    """What each of some passes returns, its seconds, in so many rounds; each is called in its own turn.

    They go in one order and then in the other, so that they share the machine's moods. A round before the first is not counted.

    Raises:
        OutOfMemoryError: where a pass does not fit the device's memory.
    """
    found: list[list[float]] = [[] for _ in passes]
    for number in range(rounds + 1):
        for place in range(len(passes)) if number % 2 else reversed(range(len(passes))):
            seconds = turns[place].run(passes[place])
            if number:
                found[place].append(seconds)
        progress((number + 1) / (rounds + 1))
    return found


def second_pass(run: Callable[[Tensor], object], batch: Tensor, device: Device) -> float:
    """The seconds of the second of two passes over a batch on the device, as others have taken the caches meanwhile."""
    with torch.inference_mode():
        run(batch)
        return time_action(lambda: run(batch), device)


def noise(shape: Sequence[int]) -> Tensor:
    """The same numbers for the same shape, N×C×H×W."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))


def side_by_side(
    models: Sequence[ResNet],
    shapes: Sequence[tuple[int, int, int, int]],
    device: Device,
    rounds: int,
    progress: Progress = no_progress,
) -> list[list[float]]:
    """Seconds of each network's passes over a batch of noise of its shape N×C×H×W, one a round, in the device's form and
    `alternating`.

    Raises:
        OutOfMemoryError: where a batch does not fit the device's memory.
    """

    def once(model: ResNet, shape: tuple[int, int, int, int]) -> float:
        return second_pass(model, device.tensor(noise(shape)), device)

    passes = [partial(once, model, shape) for model, shape in zip(models, shapes, strict=True)]
    subjects = (
        f"A batch of {'×'.join(map(str, shape))} through {title(model.config)} in {device.form}"
        for model, shape in zip(models, shapes, strict=True)
    )
    return alternating(passes, [Turn(subject, device.name) for subject in subjects], rounds, progress)


class Timed(NamedTuple):
    """A network by its name, its trace, and the seconds of its passes, one a round."""

    name: str
    traced: Trace
    seconds: tuple[float, ...]

    def against(self, first: Timed) -> Spread:
        """How many times as long it takes as another, round by round."""
        return spread([ours / theirs for ours, theirs in zip(self.seconds, first.seconds, strict=True)])


class Machine(NamedTuple):
    """Where networks were timed: what ran them, in which form, torch's threads, the machine's cores and its load (mean number
    of processes that ran or waited in the minute before, None where the system does not say), and torch."""

    device: str
    form: str
    threads: int
    cores: int
    load: float | None
    torch: str


def machine(device: Device) -> Machine:
    """Where this thread's passes run now."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    version = torch.__version__.partition("+")[0]
    return Machine(device.name, device.form, torch.get_num_threads(), os.cpu_count() or 1, load, version)


def time_networks(
    traces: Sequence[tuple[str, Trace]],
    device: Device,
    batch: int,
    rounds: int,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> tuple[list[Timed], Machine]:
    """Networks by their names at the sizes of their traces, with weights at their initialisation, timed `side_by_side` over a
    batch in the device's form; and where that was. On a CPU they compute on so many threads of torch's, else on as many as here.

    Raises:
        OutOfMemoryError: where a batch does not fit the device's memory.
    """
    with computing_on(threads):
        where = machine(device)
        make = ONE_AT_A_TIME.run
        models = [make(partial(initialised, traced.config, device)) for _, traced in traces]
        shapes = [(batch, traced.config.in_channels, *traced.image_size) for _, traced in traces]
        seconds = side_by_side(models, shapes, device, rounds, progress)
    return [Timed(name, traced, tuple(times)) for (name, traced), times in zip(traces, seconds, strict=True)], where


def initialised(config: ResNetConfig, device: Device) -> ResNet:
    """A network with the app's random weights in the device's form."""
    return device.network(randomly(config))


# -- precision and layout -----------------------------------------------------------------


class Effect(NamedTuple):
    """What a form does to an image's pass: median seconds, those of the passes in fp32 with channels first that
    alternate with it, the largest change of a class probability (NaN after an overflow), whether the best class stays, and
    of how many passes the seconds are the median, 0 where they are the first one's.
    """

    device: Device
    seconds: float
    base_seconds: float
    probability_change: float
    same_class: bool
    rounds: int

    @property
    def ratio(self) -> float:
        """How many times as long it takes as fp32 with channels first."""
        return self.seconds / self.base_seconds


def forms(device: Device) -> list[Device]:
    """fp32 and half precision, channels first and last, on a device."""
    return [replace(device, half=half, channels_last=last) for half in (False, True) for last in (False, True)]


def effects(
    model: ResNet, image: Tensor, device: Device, progress: Progress = no_progress, budget: float = 0.6
) -> tuple[Effect, ...]:
    """Measure the `forms` on a 1×C×H×W image, each about `budget` seconds in turn with the first.

    `model` is a network in the device's plain form; the others are copies. On a CPU, where a first pass is much like
    the next, a form that exceeds the budget is measured by its first pass alone.

    Raises:
        OutOfMemoryError: where a form does not fit the device's memory.
    """
    plain, *others = forms(device)
    _, expected = timed_run(model, image, plain)
    one, _ = timed_run(model, image, plain)
    found: list[Effect] = []
    everything = [one]
    for number, form in enumerate(others, start=1):
        progress(number / 4)
        copy = copy_of(model, share=False)
        network = form.turn(model, image).run(partial(form.network, copy))
        first, probabilities = timed_run(network, image, form)
        times, rounds = [(first, one)], 0
        if first <= budget or device.torch != "cpu":
            warm, _ = timed_run(network, image, form)
            rounds = rounds_within(budget, warm + one)
            times = [(timed_run(network, image, form)[0], timed_run(model, image, plain)[0]) for _ in range(rounds)]
            everything += [base for _, base in times]
        change = float((probabilities - expected).abs().max())
        same = int(probabilities.argmax()) == int(expected.argmax())
        ours, base = map(median, zip(*times, strict=True))
        found.append(Effect(form, ours, base, change, same, rounds))
    progress(1.0)
    return (Effect(plain, median(everything), median(everything), 0.0, True, len(everything)), *found)


def timed_run(model: ResNet, image: Tensor, device: Device) -> tuple[float, Tensor]:
    """The seconds of one pass, and its class probabilities."""
    kept: list[Tensor] = []

    @torch.inference_mode()
    def run() -> tuple[float, Tensor]:
        given = device.tensor(image)
        took = time_action(lambda: kept.append(model(given)), device)
        return took, kept[0][0].float().softmax(0).cpu()

    return device.turn(model, image).run(run)
