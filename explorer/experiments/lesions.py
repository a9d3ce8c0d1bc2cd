"""Many blocks left out, and blocks in another order: error against how much of a network was disturbed (Veit 2016,
https://arxiv.org/abs/1605.06431, sections 4.2 and 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from resnet import ResNet, ResNetConfig
from resnet.config import stage_and_index

from ..analysis.parts import switchable_blocks
from ..inference.ablation import sequential_modules
from ..inference.device import Device
from ..inference.turns import forward_in_turn

TOGETHER = 100
"""Images that go through a network at once."""


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


def removals(config: ResNetConfig, counts: Sequence[int], seed: int) -> list[tuple[str, ...]]:
    """The blocks that are left after so many are taken out, one after the other by chance."""
    movable = movable_blocks(config)
    order = torch.randperm(len(movable), generator=torch.Generator().manual_seed(seed)).tolist()
    out = [{movable[index] for index in order[:count]} for count in counts]
    return [tuple(name for name in config.blocks if name not in each) for each in out]


def swaps(config: ResNetConfig, counts: Sequence[int], seed: int) -> list[tuple[str, ...]]:
    """All blocks in their order after so many swaps, each of two by chance that keep the same shape, in one stage."""
    generator = torch.Generator().manual_seed(seed)
    movable = movable_blocks(config)
    pairs = [
        (one, other)
        for index, one in enumerate(movable)
        for other in movable[:index]
        if stage_and_index(one)[0] == stage_and_index(other)[0]
    ]
    order, result = list(config.blocks), []
    for step in range(max(counts) + 1):
        if step in counts:
            result.append(tuple(order))
        one, other = (order.index(name) for name in pairs[int(torch.randint(len(pairs), (), generator=generator))])
        order[one], order[other] = order[other], order[one]
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
    model: ResNet, orders: Sequence[tuple[int, tuple[str, ...]]], images: Tensor, labels: Tensor, device: Device
) -> tuple[Lesion, ...]:
    """The network in each of these orders, with how many times it was disturbed, on normalised images N×C×H×W of N classes.

    Raises:
        ValueError: as `rearranged`.
        OutOfMemoryError: where a batch does not fit the device's memory.
    """
    found = []
    for times, order in orders:
        scores = []
        for values in map(device.tensor, images.split(TOGETHER)):
            for module in rearranged(model, order):
                values = forward_in_turn(module, values)
            scores.append(values.argmax(1).cpu())
        wrong = float((torch.cat(scores) != labels).double().mean())
        found.append(Lesion(times, kendall_tau(order, model.config.blocks), wrong))
    return tuple(found)
