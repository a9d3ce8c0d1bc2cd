"""A residual network as an ensemble of paths (Veit 2016, https://arxiv.org/abs/1605.06431): how long they are, and what
gradient each length carries.

A path takes one summand of every addition. Its length is the number of blocks whose branch it runs through.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet import ResNet

from ..analysis.paths import path_counts
from ..analysis.trace import Trace
from ..inference.device import Device
from ..inference.limits import Need, within
from ..inference.turns import ONE_AT_A_TIME, TooLargeError, Turn, copy_of

# -- the gradient along one ---------------------------------------------------------------


class Unravelled:
    """One forward pass of a residual network in eval mode, from which the gradient along any path can be taken.

    The forward pass is whole. On the way back, each addition hands its gradient either to the branch or to the
    shortcut (Veit 2016, section 4.3). Activations keep the slopes that the forward pass gave them, so that the
    gradients along all 2^n paths add up to the true one.
    """

    def __init__(self, model: ResNet, images: Tensor, labels: Tensor, turn: Turn = ONE_AT_A_TIME):
        """`images` are N×C×H×W, `labels` N classes; both are where the model is, which is left alone.

        The forward pass takes the `turn`.

        Raises:
            ValueError: for a plain network, which has nothing to choose.
        """
        if model.config.shortcut == "none":
            raise ValueError("a plain network has one path")
        self._through: Collection[str] | None = None
        self._exponent = 0
        routed = copy_of(model).eval()
        self.blocks = model.config.blocks
        for name in self.blocks:
            routed.get_submodule(f"{name}.add").register_forward_hook(self._route(name))
        self.images = images.detach().clone().requires_grad_()
        # The sum, so that each image has the gradient of its own loss: in eval mode images do not mix.
        self.loss = turn.run(lambda: F.cross_entropy(routed(self.images), labels, reduction="sum"))

    def _route(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, Tensor], __: Tensor) -> Tensor:
            return _Fork.apply(*args, self, name)

        return hook

    def fork(self, name: str, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What of the gradient at a block's addition goes on through the branch, and what through the shortcut."""
        if self._through is None:
            return gradient, gradient
        # A path of a hundred branches leaves fp32's range. Powers of two, taken out on the way, round nothing.
        largest = float(gradient.abs().max())
        if 0 < largest < math.inf:
            exponent = math.frexp(largest)[1]
            gradient = gradient * 2.0**-exponent
            self._exponent += exponent
        return (gradient, None) if name in self._through else (None, gradient)

    def along(self, through: Collection[str]) -> Tensor:
        """∂loss/∂images, N×C×H×W in fp64, along the path through the branches of these blocks and no others."""
        self._through, self._exponent = frozenset(through), 0
        try:
            return torch.ldexp(self.whole().cpu().double(), torch.tensor(float(self._exponent), dtype=torch.float64))
        finally:
            self._through = None

    def whole(self) -> Tensor:
        """∂loss/∂images, N×C×H×W, along all paths together."""
        (gradient,) = torch.autograd.grad(self.loss, self.images, retain_graph=True)
        return gradient

    def norm(self, through: Collection[str] | None = None) -> float:
        """The mean over images of ‖∂loss/∂image‖ along one path, or along all together."""
        return _norm(self.whole() if through is None else self.along(through))


class _Fork(torch.autograd.Function):
    """F(x) + S(x) that hands its gradient back as an `Unravelled` says at that time."""

    @staticmethod
    def forward(ctx: Any, branch: Tensor, shortcut: Tensor, owner: Unravelled, name: str) -> Tensor:
        ctx.owner, ctx.name = owner, name
        return branch + shortcut

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # None, unlike zeros, spares the whole way through a branch that is not taken.
        return *ctx.owner.fork(ctx.name, gradient), None, None


# -- by length ----------------------------------------------------------------------------


class Plan(NamedTuple):
    """What is sampled: of each of `lengths`, `draws` paths, each on `images` images of its own."""

    lengths: tuple[int, ...]
    draws: int
    images: int


FEWER_LENGTHS = (28, 20, 14, 10)
"""How many lengths are sampled at most, and what is tried in turn for a network that is too large for so many."""
MAX_DRAWS, MIN_DRAWS, MAX_IMAGES = 48, 6, 2
BUDGET = 160e9
"""Multiply-adds that one measurement may take: some fifteen seconds on one core."""
MAX_HELD = 2**29
"""Bytes that a measurement may hold from one step to the next, while others' passes run."""


def plan(trace: Trace) -> Plan:
    """As much as the budget allows, for a network at the image size of its trace: draws first, then images.

    Raises:
        TooLargeError: where the fewest draws are too much, or what one holds, in one sentence with estimate and limit.
    """
    n = len(path_counts(trace)) - 1
    for most in FEWER_LENGTHS:
        lengths = tuple(sorted({round(k) for k in np.linspace(0, n, min(n + 1, most))}))
        # Forward, the whole gradient, and of each length as much of the way back as it has blocks.
        cost = trace.macs * (2 + sum(k / max(n, 1) for k in lengths))
        affordable = int(BUDGET // cost)
        if affordable >= MIN_DRAWS:
            break
    else:
        raise TooLargeError(
            f"The gradients along its paths are too much to measure here: {MIN_DRAWS} draws take "
            f"{MIN_DRAWS * cost / 1e9:,.0f} GMACs, and the limit is {BUDGET / 1e9:,.0f} GMACs."
        )
    draws = min(MAX_DRAWS, affordable)
    memory = trace.gradient_memory
    within(
        "The gradients along its paths are too much to measure here",
        "A smaller network works",
        Need("an image's activations take", memory, MAX_HELD, "GiB"),
    )
    return Plan(lengths, draws, min(MAX_IMAGES, affordable // draws, int(MAX_HELD // memory)))


class Sample(NamedTuple):
    """‖∂loss/∂image‖ along one path of a length (None: along all paths together), the mean over a draw's images."""

    length: int | None
    norm: float


def samples(
    model: ResNet, images: Tensor, labels: Tensor, plan: Plan, device: Device, seed: int = 0
) -> Iterator[Sample]:
    """The whole gradient and a random path of each length, draw by draw.

    `images` are N×C×H×W with N = draws · images, `labels` their classes. A path's blocks are drawn without
    preference among those of its length.

    Raises:
        OutOfMemoryError: where the passes do not fit the device's memory.
    """
    chance = np.random.default_rng(seed)
    for batch, truth in zip(images.split(plan.images), labels.split(plan.images), strict=True):
        turn = device.turn(model, batch)
        unravelled = Unravelled(model, device.tensor(batch), truth.to(device.torch), turn)
        yield Sample(None, turn.run(unravelled.norm))
        for length in plan.lengths:
            through = chance.choice(len(unravelled.blocks), length, replace=False)
            names = [unravelled.blocks[index] for index in through]
            yield Sample(length, turn.run(partial(unravelled.norm, names)))


def _norm(gradients: Tensor) -> float:
    """The mean over images of the gradient's Euclidean norm over all channels and positions."""
    values = gradients.flatten(1).cpu().double()
    largest = values.abs().max()  # squares of small numbers would be zero
    return float(torch.linalg.vector_norm(values / largest, dim=1).mean() * largest) if largest else 0.0


class PathGradients(NamedTuple):
    """What paths carry: `counts[k]` paths have length k, and `norms[i]` are the draws for paths of `lengths[i]`.

    `whole` holds the norm of the true gradient in each draw.
    """

    counts: tuple[int, ...]
    lengths: tuple[int, ...]
    norms: tuple[tuple[float, ...], ...]
    whole: tuple[float, ...]

    @property
    def finite(self) -> bool:
        return bool(np.isfinite([*self.whole, *np.ravel(self.norms)]).all())

    @property
    def means(self) -> tuple[float, ...]:
        """The mean norm of a path by `lengths`."""
        return tuple(float(np.mean(norms)) for norms in self.norms)

    @property
    def logarithms(self) -> np.ndarray:
        """ln(number of paths × mean norm of one) for every length from 0 to n; −∞ where the norm is 0.

        Between sampled lengths, the norm is interpolated geometrically.
        """
        with np.errstate(divide="ignore"):
            norms = np.log(self.means)
        every = np.interp(range(len(self.counts)), self.lengths, np.where(np.isfinite(norms), norms, -1e6))
        return np.where(every > -1e3, every, -np.inf) + [math.log(count) for count in self.counts]

    @property
    def shares(self) -> list[float]:
        """Each length's part of the summed norms; zeros where no path carries anything."""
        logarithms = self.logarithms
        largest = logarithms.max()
        if not np.isfinite(largest):
            return [0.0] * len(self.counts)
        weights = np.exp(logarithms - largest)
        return (weights / weights.sum()).tolist()

    @property
    def excess(self) -> float:
        """log₁₀ of the summed norms over the norm of the whole: what the paths' directions cancel."""
        logarithms = self.logarithms
        largest = logarithms.max()
        summed = largest + math.log(np.exp(logarithms - largest).sum())
        return float((summed - math.log(np.mean(self.whole))) / math.log(10))


def gathered(counts: Sequence[int], lengths: Sequence[int], found: Iterable[Sample]) -> PathGradients:
    """Samples by length."""
    by_length: dict[int | None, list[float]] = {length: [] for length in (None, *lengths)}
    for sample in found:
        by_length[sample.length].append(sample.norm)
    return PathGradients(
        tuple(counts), tuple(lengths), tuple(tuple(by_length[length]) for length in lengths), tuple(by_length[None])
    )


class Effective(NamedTuple):
    """The shortest run of lengths that carries at least a share of something, and its part of all paths."""

    low: int
    high: int
    paths: float


def effective(shares: Sequence[float], counts: Sequence[int], level: float = 0.95) -> Effective:
    """The effective paths: the fewest lengths in a row whose shares of the gradient reach `level`.

    Raises:
        ValueError: where all shares together do not.
    """
    below = np.concatenate([[0.0], np.cumsum(shares)])
    for width in range(1, len(shares) + 1):
        carried = below[width:] - below[:-width]
        if carried.max() >= level - 1e-12:
            low = int(carried.argmax())
            return Effective(low, low + width - 1, sum(counts[low : low + width]) / sum(counts))
    raise ValueError(f"all shares together are {below[-1]:.3g}, below {level:g}")


def path_shares(counts: Sequence[int]) -> list[float]:
    """Each length's part of all paths."""
    total = sum(counts)
    return [count / total for count in counts]
