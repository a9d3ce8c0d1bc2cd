"""The loss around a trained network, cut by planes through its weights (Li 2018, https://arxiv.org/abs/1712.09913).

A direction is random, each filter of it scaled to the norm of the network's own (section 4 there), and zero for biases and
for the parameters of norms. Along two of them, the loss L(w + a·u + b·v) is a surface that can be drawn.

Batch norm is the choice that decides what is seen. With the statistics of the images at hand, as in training, the loss is
that which training minimised, and does not change with the scale of a filter. With the running statistics, as in use and in
the paper's code, every moved layer is normalised by what it put out before it was moved, and the mismatches multiply with
depth. So both are measured.

    python -m explorer landscape --points 11 --images 100   the shipped networks of 56 layers, into landscape.json

It writes into the current folder; `--output explorer/samples/landscape.json` puts the file where it ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import gt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from resnet import ConfigError, ResNet, options
from resnet.command import writable
from resnet.options import option
from resnet.shipped import intact

from ..analysis.trace import Trace
from ..inference.ablation import batch_size
from ..inference.device import Device
from ..inference.samples import labelled_images
from ..inference.turns import ONE_AT_A_TIME, TooLargeError, copy_of
from ..sharing.engine import Run, here
from ..sharing.frozen import frozen
from .shipped import PAIRS, from_json, labelled_inputs, shipped_network, to_json

RESULTS = Path(__file__).parents[1] / "samples" / "landscape.json"
BATCH, RUNNING = "batch", "running"
"""Whose mean and variance batch norm takes: those of the images at hand, or those that training kept."""
SEEDS = (0, 1, 2)
"""Each draws the two directions of a plane."""
PAIR = PAIRS["shipped-56"]
TOLERANCE = 0.02
"""The part of an eigenvalue that its residual is at most."""
TOGETHER, SETS = 50, ((1, 8), (10, 1))
"""Images whose statistics batch norm takes where the sharpness is measured, and of how many such batches each of how many sets
consists on which it is measured anew: the first of the test set, without overlap.
"""
IMAGES, POINTS = 100, 11
"""The first of the test set, on which the loss is the mean, and the points of a surface along either direction."""
SLICE: tuple[float, ...] = tuple(round(step / 10, 1) for step in range(-10, 11))
"""The points of a slice that is computed live."""


@dataclass(frozen=True)
class Settings(options.Settings):
    """Which surface is looked at.

    Raises:
        ConfigError: for a value that is none of the choices.
    """

    key = "landscape"
    example = "seed-2"

    statistics: str = option(
        BATCH,
        "Batch norm takes",
        "The statistics of the images at hand, as in training, or the running ones, as in use and in the paper's code.",
        choices=(BATCH, RUNNING),
    )
    seed: int = option(0, "Seed", "Draws the two directions of the plane.", choices=SEEDS)


# -- the loss as a function of the weights ------------------------------------------------

Direction = Mapping[str, Tensor]
"""A step for each parameter that it moves, by the parameter's name."""


def directions(model: nn.Module, seed: int) -> tuple[Direction, Direction]:
    """Two filter-normalised directions: ‖u_i‖ = ‖w_i‖ for each filter i of a convolution, and each row of the classifier."""
    chance = torch.Generator().manual_seed(seed)
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.dim() > 1}
    first, second = ({name: _like(weight, chance) for name, weight in weights.items()} for _ in range(2))
    return first, second


def _like(weight: Tensor, chance: torch.Generator) -> Tensor:
    """Gaussian numbers with the norm of each filter of a weight, where its first axis counts the filters."""
    drawn = torch.randn(weight.shape, generator=chance).to(weight)
    norms = (each.flatten(1).norm(dim=1) for each in (weight, drawn))
    ratio = torch.div(*norms)
    return drawn * ratio.view(-1, *[1] * (weight.dim() - 1))


class Surroundings:
    """The loss of a network with its weights, and of its neighbours in the space of weights.

    `images` are N×C×H×W, `labels` N classes; the model is left alone, its copy is in eval mode, with batch norm as
    `statistics` says.
    """

    def __init__(self, model: ResNet, images: Tensor, labels: Tensor, statistics: str, device: Device):
        self.network = copy_of(model).eval()
        self.turn = device.turn(self.network, images)
        if statistics == BATCH:
            for norm in self.network.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.running_mean = norm.running_var = None  # in eval mode it has but the images' own then
        self.images, self.labels = device.tensor(images), labels.to(device.torch)
        self.weights = {name: weight.detach() for name, weight in self.network.named_parameters()}

    def _loss(self, weights: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(self.network, dict(weights), (self.images,)), self.labels)

    @torch.inference_mode()
    def _loss_at(self, steps: Sequence[tuple[float, Direction]]) -> float:
        moved = dict(self.weights)
        for step, direction in steps:
            moved |= {name: moved[name] + step * change for name, change in direction.items()}
        return float(self._loss(moved))

    def loss(self, *steps: tuple[float, Direction]) -> float:
        """The mean cross-entropy after steps along directions, in a turn of its own.

        Raises:
            OutOfMemoryError, TooLargeError: as `Turn.run`.
        """
        return self.turn.run(partial(self._loss_at, steps))

    def hessian_product(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """The loss's Hessian by all parameters, times a vector of their shapes, in a turn of its own (Pearlmutter 1994): the
        gradient of gradient · vector.

        Raises:
            OutOfMemoryError: as `Turn.run`.
        """

        def product() -> list[Tensor]:
            weights = {name: weight.clone().requires_grad_() for name, weight in self.weights.items()}
            every = list(weights.values())
            slope = torch.autograd.grad(self._loss(weights), every, create_graph=True)
            return [part.detach() for part in torch.autograd.grad(slope, every, vector)]

        return ONE_AT_A_TIME.run(product)


# -- sharpness ----------------------------------------------------------------------------


class Sharpness(NamedTuple):
    """The eigenvalue of a Hessian H that is largest in magnitude, by so many products with it. `residual` is ‖Hv − λv‖/|λ| of
    its unit vector v: an eigenvalue lies within that part of λ (Parlett 1980, theorem 4.5.1).
    """

    eigenvalue: float
    products: int
    residual: float


class Curvature(NamedTuple):
    """The sharpness of a network on each of several sets of so many images, none of which is in two of them."""

    images: int
    sets: tuple[Sharpness, ...]

    @property
    def eigenvalues(self) -> list[float]:
        return [one.eigenvalue for one in self.sets]


def top_eigenvalue(
    parts: Sequence[Surroundings], most: int = 30, tolerance: float = TOLERANCE, seed: int = 0
) -> Sharpness:
    """Of the Hessian of the mean of the losses of one network on several batches of images, with a residual of at most
    `tolerance` or after `most` products.

    By Lanczos' method, each vector made orthogonal to all before it.

    Raises:
        OutOfMemoryError: as `Surroundings.hessian_product`.
    """
    chance = torch.Generator().manual_seed(seed)
    shapes = list(parts[0].weights.values())
    vector = torch.cat([torch.randn(each.shape, generator=chance).to(each).flatten() for each in shapes])
    sizes, basis, along, beside = [each.numel() for each in shapes], [], [], [float(vector.norm())]
    while True:
        basis.append(vector / beside[-1])
        split = [part.view_as(each) for part, each in zip(basis[-1].split(sizes), shapes, strict=True)]
        products = [part.hessian_product(split) for part in parts]
        vector = torch.stack([torch.cat([one.flatten() for one in each]) for each in products]).mean(0)
        along.append(float(vector @ basis[-1]))
        for _ in range(2):  # rounding leaves a part of what is taken away
            for other in basis:
                vector -= (vector @ other) * other
        beside.append(float(vector.norm()))
        projected = np.diag(along) + np.diag(beside[1:-1], 1) + np.diag(beside[1:-1], -1)
        values, vectors = np.linalg.eigh(projected)
        top = int(np.abs(values).argmax())
        value, rest = float(values[top]), beside[-1] * abs(float(vectors[-1, top]))
        found = Sharpness(value, len(along), rest / abs(value) if value else 0.0)
        if found.residual <= tolerance or len(along) == min(most, len(vector)):
            return found


def slice_losses(around: Surroundings, direction: Direction, steps: Sequence[float] = SLICE) -> Iterator[float]:
    """The losses along one direction, step by step."""
    for step in steps:
        yield around.loss((step, direction))


BUDGET = 160e9
"""Multiply-adds that a live slice may take: some ten seconds on one core."""
LEAST_IMAGES = 8


def image_count(trace: Trace) -> int:
    """On how many images, all of which go through at once, the slices of a network can be computed live.

    Raises:
        TooLargeError: where too few fit the budget, in one sentence with estimate and limit.
    """
    each = trace.macs * len(SLICE)
    count = int(min(IMAGES, BUDGET // each, batch_size(trace)))
    if count < LEAST_IMAGES:
        raise TooLargeError(
            f"A slice of this network's loss is too much to compute here: on {LEAST_IMAGES} images it takes "
            f"{LEAST_IMAGES * each / 1e9:,.0f} GMACs, and the limit is {BUDGET / 1e9:,.0f} GMACs at {batch_size(trace)} images at once."
        )
    return count


# -- surfaces -----------------------------------------------------------------------------


class Surface(NamedTuple):
    """The losses of a network of `BUNDLED` at w + `steps[column]`·u + `steps[row]`·v, with the directions of a seed."""

    network: str
    statistics: str
    seed: int
    losses: tuple[tuple[float, ...], ...]

    @property
    def grid(self) -> np.ndarray:
        """The losses as an array, rows × columns."""
        return np.array(self.losses)

    @property
    def steps(self) -> tuple[float, ...]:
        """The steps along either direction."""
        return grid_steps(len(self.losses))

    @property
    def by_distance(self) -> dict[float, float]:
        """The median loss on each square around the centre, by the longer of the two steps; at 0 the network as trained."""
        lengths = np.abs(self.steps)
        longer = np.maximum(lengths[:, None], lengths)
        return {step: float(np.median(self.grid[longer == step])) for step in self.steps if step >= 0}

    @property
    def nonconvex(self) -> float:
        """The share of points inside the grid at which the surface curves down in some direction: the slice's 2×2 Hessian,
        by finite differences, has a negative eigenvalue of more than a tenth of its largest magnitude.

        The paper looks at the same ratio, of the whole Hessian, in its section 6.
        """
        grid = self.grid
        along = grid[1:-1, 2:] - 2 * grid[1:-1, 1:-1] + grid[1:-1, :-2]
        across = grid[2:, 1:-1] - 2 * grid[1:-1, 1:-1] + grid[:-2, 1:-1]
        mixed = (grid[2:, 2:] - grid[2:, :-2] - grid[:-2, 2:] + grid[:-2, :-2]) / 4
        half, root = (along + across) / 2, np.hypot((along - across) / 2, mixed)
        low, high = half - root, half + root
        return float(np.mean(low < -0.1 * np.maximum(np.abs(low), np.abs(high))))


class Results(NamedTuple):
    """The surfaces, the sharpness of each network by its name where batch norm takes the images' statistics, on sets of ever
    more images, and the command, torch's version and the number of images that the surfaces were made with.
    """

    command: str
    torch: str
    images: int
    surfaces: tuple[Surface, ...]
    sharpness: Mapping[str, tuple[Curvature, ...]]

    def of(self, network: str, statistics: str) -> tuple[Surface, ...]:
        """A network's surfaces, one for each seed."""
        return tuple(one for one in self.surfaces if (one.network, one.statistics) == (network, statistics))

    def rougher(self, statistics: str) -> int:
        """In how many seeds the plain network's surface is not convex at more points than the residual one's."""
        residual, plain = (self.of(name, statistics) for name in PAIR)
        return sum(one.nonconvex < other.nonconvex for one, other in zip(residual, plain, strict=True))

    @property
    def sharper(self) -> list[tuple[int, int, int]]:
        """How many images are in each set, on how many of the sets the plain network's top eigenvalue is the larger one, and how
        many sets there are.
        """
        residual, plain = (self.sharpness[name] for name in PAIR)
        return [
            (one.images, sum(map(gt, other.eigenvalues, one.eigenvalues)), len(one.sets))
            for one, other in zip(residual, plain, strict=True)
        ]


def surroundings(name: str, statistics: str, device: Device, images: int = IMAGES) -> Surroundings:
    """Those of a network that ships, on the first images of the test set.

    Raises:
        WeightsError: where its weights are missing or damaged.
    """
    return Surroundings(shipped_network(name), *labelled_inputs(images), statistics, device)


def sharpness_on(name: str, first: int, batches: int, device: Device, most: int = 30) -> Sharpness:
    """That of a network that ships, on so many batches of the test set from image `first` on, by at most so many products.

    Raises:
        WeightsError: as `surroundings`.
    """
    model, (images, labels) = shipped_network(name), labelled_inputs(first + batches * TOGETHER)
    parts = zip(images[first:].split(TOGETHER), labels[first:].split(TOGETHER), strict=True)
    return top_eigenvalue([Surroundings(model, these, truth, BATCH, device) for these, truth in parts], most)


COMMAND = "python -m explorer landscape"


def grid_steps(points: int) -> tuple[float, ...]:
    """Steps from −1 to 1 with 0 among them; 1 moves each filter by its own length."""
    half = points // 2
    return tuple(round(step / half, 6) for step in range(-half, half + 1))


def point_count(points: int) -> int:
    """How many results `record` has: the points of all surfaces, and each network's sharpness on every set of images."""
    return len(PAIR) * (2 * len(SEEDS) * points**2 + sum(sets for _, sets in SETS))


def record(path: Path, points: int = POINTS, images: int = IMAGES, run: Run = here) -> Iterator[str]:
    """Measure surfaces of `points` × `points`, an odd number, on one thread of where `run` has it done, and write `path` at the
    end; says what was measured last.

    Raises:
        ConfigError: for points or images that are not accepted.
        WeightsError: as `surroundings`.
        OSError: where `path` cannot be written.
    """
    if not (3 <= points <= 51 and points % 2):
        raise ConfigError("points", points, "an odd number from 3 to 51")
    if not 2 <= images <= len(labelled_images().labels):
        raise ConfigError("images", images, f"a number from 2 to {len(labelled_images().labels)}")
    return _record(writable(path), points, images, run)


def _record(path: Path, points: int, images: int, run: Run) -> Iterator[str]:
    for one in run(measure, points, images):
        if isinstance(one, str):
            yield one
        else:
            path.write_text(to_json(one) + "\n", encoding="utf-8", newline="\n")


def measure(points: int, images: int) -> Iterator[str | Results]:
    """What was measured last, and at the end all of it."""
    device, steps = Device("cpu", "CPU"), grid_steps(points)
    surfaces, sharpness = [], {}
    for name in PAIR:
        curvatures = []
        for batches, sets in SETS:
            size, found = batches * TOGETHER, []
            for number in range(sets):
                found.append(sharpness_on(name, number * size, batches, device))
                yield f"{name}, top Hessian eigenvalue on {size} images"
            curvatures.append(Curvature(size, tuple(found)))
        sharpness[name] = tuple(curvatures)
        for statistics in (BATCH, RUNNING):
            around = surroundings(name, statistics, device, images)
            for seed in SEEDS:
                across, up = directions(around.network, seed)
                rows = []
                for second in steps:
                    row = []
                    for first in steps:
                        row.append(around.loss((first, across), (second, up)))
                        yield f"{name}, {statistics} statistics, seed {seed}"
                    rows.append(tuple(row))
                surfaces.append(Surface(name, statistics, seed, tuple(rows)))
    command = f"{COMMAND} --points {points} --images {images}"
    yield Results(command, torch.__version__, images, tuple(surfaces), sharpness)


@cache
def shipped_landscape() -> Results:
    """The results that ship.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    with intact(RESULTS):
        return frozen(from_json(RESULTS.read_text(encoding="utf-8"), Results))
