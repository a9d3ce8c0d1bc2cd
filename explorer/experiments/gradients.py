"""What depth does to signals and gradients, and how shortcuts change it.

The size of signals and gradients, layer by layer (He 2015, section 4.1), and how alike the gradients of two neighbouring
inputs are (Balduzzi 2017, "The shattered gradients problem", https://arxiv.org/abs/1702.08591).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet import ResNet, ResNetConfig, preset

from ..analysis.layers import Layer
from ..analysis.trace import Trace
from ..inference.device import Device
from ..inference.limits import MAX_GRADIENT_BYTES, Need, check_needs
from ..inference.turns import TooLargeError, copy_of
from ..sharing.store import Progress, no_progress

RESIDUAL, PLAIN = "residual", "plain"
SEEDS = 3

# -- networks that differ in one thing ----------------------------------------------------


class Twin(NamedTuple):
    """One of four: residual or plain, and with which norm ("batch", "group", "none")."""

    kind: str
    norm: str

    @property
    def has_norm(self) -> bool:
        """Whether it normalises at all."""
        return self.norm != "none"


def twins(config: ResNetConfig) -> dict[Twin, ResNetConfig]:
    """A network with and without shortcuts, each with and without normalisation.

    A plain network gets shortcuts of option A, which have no weights, and one without normalisation batch norm.
    Nothing is dropped in training.
    """
    shortcut = "A" if config.shortcut == "none" else config.shortcut
    normed = "batch" if config.norm == "none" else config.norm
    return {
        Twin(kind, norm): config.with_(shortcut=shortcut if kind == RESIDUAL else "none", norm=norm, drop_path=0)[0]
        for norm in (normed, "none")
        for kind in (RESIDUAL, PLAIN)
    }


def matched_networks(configs: Iterable[ResNetConfig], seed: int) -> Iterator[ResNet]:
    """Networks at their initialisation, in training mode, with equal weights where they have the same layer.

    Branches that start at zero stay at zero.
    """
    first: dict[str, Tensor] = {}
    for config in configs:
        network = ResNet(config)
        network.initialise(torch.Generator().manual_seed(seed))
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if weight.any():
                    weight.copy_(first.setdefault(name, weight))
        yield network


def noise(config: ResNetConfig, size: tuple[int, int], count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian images N×C×H×W, and N labels by chance."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.randn(count, config.in_channels, *size, generator=chance)
    return images, torch.randint(config.num_classes, (count,), generator=chance)


# -- their sizes by layer -----------------------------------------------------------------


def main_path(trace: Trace) -> tuple[Layer, ...]:
    """The convolutions from the image to the classifier, in order of depth; none on a shortcut or in an attention."""
    return tuple(layer for layer in trace.convolutions if not (layer.role.on_shortcut or layer.role.in_attention))


def block_boundaries(trace: Trace) -> tuple[int, ...]:
    """Where each block begins, and where the last one ends, counted in convolutions of the main path from 1."""
    path = main_path(trace)
    first: dict[str, int] = {}
    for number, layer in enumerate(path, start=1):
        first.setdefault(layer.block, number)
    return (*(first[block] for block in trace.blocks), len(path) + 1)


class Flow(NamedTuple):
    """One pass forward and back. Beyond fp32 its numbers are infinite or none.

    `signal` is the standard deviation, over images, channels and positions, of what each block reads and, last, of
    what the last one puts out: what is between is normalised anew. `gradient` is ‖∂loss/∂W‖, the Euclidean norm over
    the weights of each convolution of the `main_path`.
    """

    loss: float
    signal: tuple[float, ...]
    gradient: tuple[float, ...]


def flow(model: ResNet, names: Sequence[str], images: Tensor, labels: Tensor, device: Device) -> Flow:
    """Through a network and back by the cross-entropy of `images` N×C×H×W and their N `labels`.

    The network is in the mode in which it is given; `names` are its convolutions.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    signal: list[float] = []

    def read(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        signal.append(float(args[0].detach().cpu().double().std()))

    every = [model.get_submodule(name) for name in model.config.blocks]

    def run() -> Flow:
        with ExitStack() as hooks:
            for block in every:
                hooks.callback(block.register_forward_pre_hook(read).remove)
            hooks.callback(every[-1].register_forward_hook(lambda block, _, output: read(block, (output,))).remove)
            weights = [model.get_parameter(f"{name}.weight").requires_grad_() for name in names]
            loss = F.cross_entropy(model(device.tensor(images)), labels.to(device.torch))
            gradients = torch.autograd.grad(loss, weights)
        norms = tuple(float(gradient.cpu().double().norm()) for gradient in gradients)
        return Flow(float(loss.detach()), tuple(signal), norms)

    return device.turn(model, images).run(run)


class Plan(NamedTuple):
    """On how many images each network is measured, and with how many seeds."""

    images: int
    seeds: int


PLANS = (Plan(8, SEEDS), Plan(8, 1), Plan(4, 1), Plan(2, 1))
"""What is tried in turn, the more costly first."""
BUDGET = 100e9
"""Multiply-adds that one measurement may take: some ten seconds on one core."""


def plan(trace: Trace) -> Plan:
    """As much as the budget allows for the four twins of a network, at the image size of its trace.

    Raises:
        TooLargeError: where the least is too much, in one sentence with estimate and limit.
    """
    refused = TooLargeError()
    for each in PLANS:
        try:
            check_needs(
                "The gradients of this network are too much to measure here",
                "A smaller network works",
                # Back costs twice the way forward.
                Need("they take", trace.macs * 3 * each.images * each.seeds * 4, BUDGET, "GMACs"),
                Need("their activations take", trace.gradient_memory * each.images, MAX_GRADIENT_BYTES, "GiB"),
            )
        except TooLargeError as error:
            refused = error
        else:
            return each
    raise refused


class Flows(NamedTuple):
    """Several flows through networks that differ in their seed, or through one with several batches.

    Of several values, the mean is the geometric one. It is no number where any is infinite or none, and 0 where one is.
    """

    flows: tuple[Flow, ...]

    def statistics(self, quantity: str) -> np.ndarray:
        """The mean, least and greatest "signal" or "gradient": 3×n, in order of depth."""
        values = np.array([getattr(flow, quantity) for flow in self.flows])
        values = np.where(np.isfinite(values).all(0), values, np.nan)
        with np.errstate(divide="ignore"):
            return np.stack([np.exp(np.log(values).mean(0)), values.min(0), values.max(0)])

    def ends(self, quantity: str) -> tuple[float, float]:
        """The first and the last mean."""
        mean = self.statistics(quantity)[0]
        return float(mean[0]), float(mean[-1])

    @property
    def finite(self) -> bool:
        """Whether every mean, least and greatest is a finite number."""
        return all(np.isfinite(self.statistics(quantity)).all() for quantity in ("signal", "gradient"))


def initial_flows(trace: Trace, plan: Plan, device: Device, progress: Progress = no_progress) -> dict[Twin, Flows]:
    """The twins of a network at their initialisation, in training mode, on noise of the trace's image size.

    Raises:
        OutOfMemoryError: as `flow`.
    """
    names, configs = [layer.name for layer in main_path(trace)], twins(trace.config)
    found: dict[Twin, list[Flow]] = {twin: [] for twin in configs}
    for seed in range(plan.seeds):
        images, labels = noise(trace.config, trace.image_size, plan.images, seed)
        for number, (twin, network) in enumerate(
            zip(configs, matched_networks(configs.values(), seed), strict=True), start=1
        ):
            found[twin].append(flow(network.to(device.torch), names, images, labels, device))
            progress((seed + number / len(configs)) / plan.seeds)
    return {twin: Flows(tuple(flows)) for twin, flows in found.items()}


def flows_by_batch(
    model: ResNet, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]], device: Device
) -> Iterator[Flow]:
    """A network with its weights in training mode, batch by batch of images N×C×H×W and labels; it is left alone.

    Raises:
        OutOfMemoryError: as `flow`.
    """
    copy = copy_of(model, share=False).train()
    for images, labels in batches:
        yield flow(copy, names, images, labels, device)


# -- how alike those of neighbours are ----------------------------------------------------

BLOCK_COUNTS = (1, 2, 3, 5, 9, 18)
"""Blocks in each of the three stages of the networks compared: 8 to 110 layers of basic blocks."""
POINTS = 256
"""Inputs on the way, as many as the paper has on its line."""
WIDTH, IMAGE_SIDE = 8, 14
"""Channels of the first stage, and pixels a side."""
SHARED_OPTIONS = (
    "block",
    "stride_in",
    "order",
    "shortcut",
    "norm",
    "activation",
    "attention",
    "se_reduction",
    "zero_init_residual",
)
"""What the networks compared have in common with the one that is shown."""


def small_pair(config: ResNetConfig, count: int) -> dict[str, ResNetConfig]:
    """A residual and a plain network of 3 × `count` blocks like those of a configuration, small enough to run at once."""
    options = {name: getattr(config, name) for name in SHARED_OPTIONS} | {
        "layers": (count,) * 3,
        "planes": (WIDTH, 2 * WIDTH, 4 * WIDTH),
        "stem_width": WIDTH,
    }
    small, _ = preset("resnet20_fashion").with_(**options)
    return {twin.kind: each for twin, each in twins(small).items() if twin.norm == config.norm}


def noise_line(seed: int) -> Tensor:
    """256×1×14×14: from one image of Gaussian noise to another in equal steps."""
    start, end = torch.randn(2, 1, IMAGE_SIDE, IMAGE_SIDE, generator=torch.Generator().manual_seed(seed))
    return start + (end - start) * torch.linspace(0, 1, POINTS)[:, None, None, None]


def input_gradients(model: ResNet, inputs: Tensor, device: Device) -> Tensor:
    """N×C×H×W: the gradient of the first score of each of N inputs with respect to them.

    In training mode all inputs are one batch, as in the paper, and batch norm lets each have a part in the others'.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """

    def run() -> Tensor:
        given = device.tensor(inputs).detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(model(given)[:, 0].sum(), given)
        return found.cpu()

    return device.turn(model, inputs).run(run)


def neighbour_cosine(gradients: Tensor) -> float:
    """The mean cosine of the angle between one input's gradient and the next one's: 1 is smooth, 0 is white noise."""
    flat = gradients.flatten(1).double()
    return float(F.cosine_similarity(flat[:-1], flat[1:], dim=1, eps=1e-300).mean())


class Point(NamedTuple):
    """One network: `cosine` as of `neighbour_cosine`, and how its score changes along the way at each of its inputs.

    `slope` holds the gradient's part in the direction of the way, with root mean square 1.
    """

    kind: str
    depth: int
    seed: int
    cosine: float
    slope: tuple[float, ...]


def shattering(config: ResNetConfig, device: Device) -> Iterator[Point]:
    """Residual and plain networks like `config` by depth, for `SEEDS` seeds each, in training mode, untrained.

    Raises:
        OutOfMemoryError: as `input_gradients`.
    """
    for count in BLOCK_COUNTS:
        configs = small_pair(config, count)
        for seed in range(SEEDS):
            inputs = noise_line(seed)
            direction = inputs[-1] - inputs[0]
            for (kind, each), network in zip(configs.items(), matched_networks(configs.values(), seed), strict=True):
                gradients = input_gradients(network.to(device.torch), inputs, device)
                slope = (gradients * direction).sum((1, 2, 3)).double()
                scale = float(slope.square().mean().sqrt())
                slope = slope / scale if 0 < scale < math.inf else slope
                yield Point(kind, each.depth, seed, neighbour_cosine(gradients), tuple(slope.tolist()))


POINT_COUNT = len(BLOCK_COUNTS) * SEEDS * 2
"""How many points there are."""


def cosines_by_depth(points: Iterable[Point], kind: str) -> dict[int, list[float]]:
    """The cosines of one kind, by depth."""
    found: dict[int, list[float]] = {}
    for point in points:
        if point.kind == kind:
            found.setdefault(point.depth, []).append(point.cosine)
    return found
