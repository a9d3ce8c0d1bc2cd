"""Many blocks left out, and blocks in another order: error against how much of a network was disturbed (Veit 2016,
https://arxiv.org/abs/1605.06431, sections 4.2 and 4.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

from resnet import ResNet, ResNetConfig
from resnet.config import stage_and_index

from ..analysis.parts import switchable_blocks
from ..analysis.trace import Trace
from ..inference.ablation import sequential_modules
from ..inference.device import Device
from ..inference.turns import TooLargeError, forward_in_turn
from ..sharing.store import Progress, no_progress

TOGETHER = 100
"""Images that go through a network at once."""
LEVELS = 25
"""Numbers of blocks taken out, and of swaps, that are measured at most beside none and one, evenly up to all; the deepest
networks that ship have as many blocks that can be taken out.
"""


class Lesion(NamedTuple):
    """A network that was disturbed so many times, by blocks left out or by swaps of two; Kendall's `tau` between the order of
    the blocks that are left and theirs; the share of labelled images that it gets wrong.
    """

    times: int
    tau: float
    error: float


def movable_blocks(config: ResNetConfig) -> tuple[str, ...]:
    """The blocks that keep the shape of what they read, so that a plain network works without them too."""
    plain, _ = config.with_(shortcut="none")
    return tuple(switchable_blocks(plain))


def removals(config: ResNetConfig, seed: int) -> list[tuple[str, ...]]:
    """All blocks, and those that are left after each that is taken out, one after the other by chance, until none is left that
    can be.
    """
    movable = movable_blocks(config)
    order = torch.randperm(len(movable), generator=torch.Generator().manual_seed(seed)).tolist()
    out = [{movable[index] for index in order[:count]} for count in range(len(movable) + 1)]
    return [tuple(name for name in config.blocks if name not in each) for each in out]


def swaps(config: ResNetConfig, seed: int) -> list[tuple[str, ...]]:
    """All blocks in their order, and in that after each swap, until every stage stands backwards but for what must stay.

    A swap is of two by chance that keep the same shape, in one stage, and that still stand in their own order: so none undoes
    another, and Kendall's τ falls to the least that there is.
    """
    generator = torch.Generator().manual_seed(seed)
    movable, order = set(movable_blocks(config)), list(config.blocks)
    result = [tuple(order)]
    while pairs := [
        (place, later)
        for later, two in enumerate(order)
        for place, one in enumerate(order[:later])
        if {one, two} <= movable and stage_and_index(one)[0] == stage_and_index(two)[0]
        if config.blocks.index(one) < config.blocks.index(two)
    ]:
        place, later = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        order[place], order[later] = order[later], order[place]
        result.append(tuple(order))
    return result


def kendall_tau(order: Sequence[str], blocks: Sequence[str]) -> float:
    """Kendall's rank correlation between an order of some of a network's blocks and their own: 1 where no pair is the other
    way round, −1 where all are.
    """
    ranks = [blocks.index(name) for name in order]
    pairs = len(ranks) * (len(ranks) - 1) // 2
    inverted = sum(before > after for index, after in enumerate(ranks) for before in ranks[:index])
    return 1 - 2 * inverted / pairs if pairs else 1.0


def rearranged(model: ResNet, order: Sequence[str]) -> nn.Sequential:
    """The network with these of its blocks in this order; modules are the model's own.

    To leave out a residual block whose shortcut is the identity, after an activation that leaves what it has put out as it is,
    as ReLU does, is what `without_blocks` does.

    Raises:
        ValueError: where a block that changes the shape is left out or moved.
    """
    blocks, sequence = model.config.blocks, sequential_modules(model)
    fixed = set(blocks) - set(movable_blocks(model.config))
    stages = [stage_and_index(name)[0] for name in order]
    if [name for name in order if name in fixed] != [name for name in blocks if name in fixed] or stages != sorted(
        stages
    ):
        raise ValueError(f"these blocks do not fit behind each other: {', '.join(order)}")
    names = list(sequence)
    first, last = names.index(blocks[0]), names.index(blocks[-1])
    return nn.Sequential(*(sequence[name] for name in [*names[:first], *order, *names[last + 1 :]]))


def lesions(
    model: ResNet,
    orders: Sequence[tuple[int, tuple[str, ...]]],
    images: Tensor,
    labels: Tensor,
    device: Device,
    progress: Progress = no_progress,
    together: int = TOGETHER,
) -> tuple[Lesion, ...]:
    """The network in each of these orders, with how many times it was disturbed, on normalised images N×C×H×W of N classes,
    `together` of which go through it at once. What orders begin with alike runs once.

    Raises:
        ValueError: as `rearranged`.
        OutOfMemoryError: where a batch does not fit the device's memory.
    """
    different = sorted({order for _, order in orders})  # those that begin alike stand beside each other
    networks, wrong = [rearranged(model, order) for order in different], dict.fromkeys(different, 0)
    batches = list(zip(images.split(together), labels.split(together), strict=True))
    for number, (batch, truth) in enumerate(batches):
        scores = _outputs(networks, device.tensor(batch))
        for place, (order, each) in enumerate(zip(different, scores, strict=True), start=1):
            wrong[order] += int((each.argmax(1).cpu() != truth).sum())
            progress((number + place / len(different)) / len(batches))
    blocks = model.config.blocks
    return tuple(Lesion(times, kendall_tau(order, blocks), wrong[order] / len(labels)) for times, order in orders)


def _outputs(networks: Sequence[nn.Sequential], batch: Tensor) -> Iterator[Tensor]:
    """What each network puts out; the modules that it begins with as the one before it does are not run again."""
    before: list[nn.Module] = []
    values = [batch]  # before each of these modules, and after the last
    for network in networks:
        modules = list(network)
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], zip(before, modules, strict=False)))
        del values[alike + 1 :]
        for module in modules[alike:]:
            values.append(forward_in_turn(module, values[-1]))
        before = modules
        yield values[-1]


# -- curves -------------------------------------------------------------------------------


class Curves(NamedTuple):
    """A network with blocks taken out, and with blocks swapped: the whole network first, then every number of them by every
    seed.
    """

    removed: tuple[Lesion, ...]
    swapped: tuple[Lesion, ...]


def levels(count: int, most: int = LEVELS) -> list[int]:
    """0, 1, and whole numbers evenly up to `count`, at most so many."""
    steps = min(count, most)
    return sorted({0, min(1, count), *(round(count * step / steps) for step in range(1, steps + 1))})


def draw(
    model: ResNet,
    seed: int,
    images: Tensor,
    labels: Tensor,
    device: Device,
    most: int = LEVELS,
    progress: Progress = no_progress,
    together: int = TOGETHER,
) -> Curves:
    """A network disturbed more and more, up to all that can be, by the order of one seed: at `levels` of blocks and of swaps.

    Raises:
        OutOfMemoryError: as `lesions`.
    """
    found = []
    for part, every in enumerate((removals(model.config, seed), swaps(model.config, seed))):
        orders = [(times, every[times]) for times in levels(len(every) - 1, most)]

        def move(share: float, part: int = part) -> None:
            progress((part + share) / 2)

        found.append(lesions(model, orders, images, labels, device, move, together))
    return Curves(*found)


def joined(draws: Sequence[Curves]) -> Curves:
    """Those of several seeds as one, with the whole network once."""
    first = draws[0]
    return Curves(
        (first.removed[0], *(one for each in draws for one in each.removed[1:])),
        (first.swapped[0], *(one for each in draws for one in each.swapped[1:])),
    )


BUDGET, LEAST_IMAGES = 400e9, 20
"""Multiply-adds that live curves may take, some ten seconds on one core, and the fewest images on which they say something."""


def live_images(trace: Trace, seeds: int, most: int, images: int) -> int:
    """On how many of so many images the curves of a network can be computed live, by these numbers of seeds and of levels.

    Raises:
        TooLargeError: where too few fit the budget, in one sentence with estimate and limit.
    """
    each = trace.macs * seeds * 2 * (most + 2)
    if each * LEAST_IMAGES > BUDGET:
        raise TooLargeError(
            f"these curves are too much to compute here: on {LEAST_IMAGES} images they take {LEAST_IMAGES * each / 1e9:,.0f} GMACs, "
            f"and the limit is {BUDGET / 1e9:,.0f} GMACs."
        )
    return int(min(images, BUDGET // each))
