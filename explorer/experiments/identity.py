"""Identity is reachable (He 2015, section 1): a deeper network need never be worse, for its added blocks can copy their input.

Blocks are appended to a stage of a network, residual and plain ones with the same weights, and the scores before and
after are compared bit by bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from resnet import ConfigError, ResNet, ResNetConfig
from resnet.blocks import Block, EfficientChannelAttention, PreActivation, SqueezeExcitation
from resnet.config import MAX_STAGES, block_path
from resnet.options import Settings, option

from ..analysis.layers import FLOAT
from ..analysis.trace import Trace
from ..inference.ablation import steps
from ..inference.device import Device
from ..inference.limits import MAX_FORWARD_BYTES, Need, within
from ..inference.turns import TooLargeError, copy_of, step

# -- settings -----------------------------------------------------------------------------

COUNTS = (1, 2, 4, 8, 16)
"""How many blocks can be appended."""


@dataclass(frozen=True)
class Place(Settings):
    """After which stage, counted from 1, and how many blocks.

    Raises:
        ConfigError: for a stage that no network has, or more blocks than are offered.
    """

    key = "appended"
    example = "blocks-4"

    stage: int = option(0, "After stage", "The last one where it is 0.", low=0, high=MAX_STAGES)
    blocks: int = option(8, "Blocks", "How many are appended.", low=1, high=max(COUNTS))

    @classmethod
    def renewed(cls, text: str) -> str:
        """Older links have the two numbers alone: "3-8"."""
        return re.sub(r"^([1-9])-([0-9]+)$", r"stage-\1_blocks-\2", text)


def default_place(config: ResNetConfig) -> Place:
    return Place(len(config.layers))


def parse_place(text: str, config: ResNetConfig) -> Place:
    """The exact inverse of `Place.to_text`; after the last stage where the text names none.

    Raises:
        ConfigError: for another text, a stage that the network does not have, or a count that is not offered.
    """
    last = default_place(config)
    try:
        place = Place.from_text(text)
    except ConfigError:
        place = None
    if place is None or place.stage > last.stage or place.blocks not in COUNTS:
        accepted = f"{last.stage}_blocks-4: a stage from 1 to {last.stage}, and {', '.join(map(str, COUNTS))} blocks"
        raise ConfigError("appended", text, f"stage and blocks joined by _, such as stage-{accepted}")
    return place if place.stage else replace(place, stage=last.stage)


# -- blocks -------------------------------------------------------------------------------

RESIDUAL_ZERO, PLAIN_ZERO = "residual, zero branch", "plain, same weights"
RESIDUAL, PLAIN = "residual, initialised", "plain, initialised alike"
PLAIN_IDENTITY = "plain, identity weights"
KINDS = (RESIDUAL_ZERO, PLAIN_ZERO, RESIDUAL, PLAIN, PLAIN_IDENTITY)
"""What can be appended. Neighbours share their weights and differ by the shortcut."""


def new_blocks(config: ResNetConfig, place: Place, plain: bool, zero: bool, seed: int = 0) -> list[Block]:
    """Blocks as they would follow in a stage of a network, at their initialisation, in eval mode.

    With `zero`, the last layer of each branch that can be is zero, as `zero_init_residual` makes it. Plain and residual
    blocks of one seed have the same weights.
    """
    layers = tuple(place.blocks + 1 if stage == place.stage else 1 for stage in range(1, len(config.layers) + 1))
    shortcut = "B" if config.shortcut == "none" else config.shortcut  # between equal shapes, B is the identity
    changed, _ = config.with_(layers=layers, shortcut=shortcut, zero_init_residual=zero)
    network = ResNet(changed)
    network.initialise(torch.Generator().manual_seed(seed))
    made = _appended(network, place)
    if plain:
        weights = [block.state_dict() for block in made]
        made = _appended(ResNet(changed.with_(shortcut="none")[0]), place)
        for block, state in zip(made, weights, strict=True):
            block.load_state_dict(
                {name: tensor for name, tensor in state.items() if not name.startswith("downsample.")}
            )
    return [block.eval().requires_grad_(False) for block in made]


def _appended(network: ResNet, place: Place) -> list[Block]:
    return [block for block in network.stages[place.stage - 1][1:] if isinstance(block, Block)]


def obstacle(config: ResNetConfig, stage: int) -> str:
    """Why the weights of `become_identity` do not exist for a plain block, in a sentence; empty where they do."""
    if config.norm == "group":
        return "Group norm divides by the deviation of each image, and no fixed weights undo that."
    inside, outside = config.width(config.planes[stage - 1]), config.stage_channels[stage - 1]
    if config.block == "bottleneck" and inside < outside:
        return (
            f"A plain bottleneck cannot copy its input at all: {outside:,} channels do not fit through the {inside:,} in its "
            "middle."
        )
    return ""


def become_identity(blocks: Sequence[Block], features: Tensor) -> Tensor:
    """Give plain blocks the weights that copy N×C×H×W `features`, and return what they make of them.

    Convolutions become Dirac kernels (`nn.init.dirac_`), and each batch norm, its running statistics measured on what it
    reads, gets γ = √(v + ε) and β = m, which undo them. Attention weighs every channel by ½, and the last layer
    doubles. It is exact, up to rounding, where no activation changes the features: ReLU, and nothing below zero.

    Raises:
        ValueError: for blocks that have an `obstacle`.
    """
    for block in blocks:
        convolutions = [layer for name, layer in block.named_children() if isinstance(layer, nn.Conv2d)]
        for conv in convolutions:
            if conv.out_channels < features.shape[1]:
                raise ValueError(f"{features.shape[1]} channels do not fit through {conv.out_channels}")
            nn.init.dirac_(conv.weight, conv.groups)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        if isinstance(block.se, SqueezeExcitation):
            nn.init.zeros_(block.se.fc2.weight)
            nn.init.zeros_(block.se.fc2.bias)  # type: ignore[arg-type]
        elif isinstance(block.se, EfficientChannelAttention):
            nn.init.zeros_(block.se.conv.weight)
        norms = [layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
        if any(isinstance(layer, nn.GroupNorm) for layer in block.modules()):
            raise ValueError("group norm has no fixed inverse")
        with ExitStack() as hooks:
            for norm in norms:
                hooks.callback(norm.register_forward_pre_hook(_undo).remove)
            step(block, features)
        if not isinstance(block.se, nn.Identity):
            last = convolutions[-1] if isinstance(block, PreActivation) or not norms else norms[-1]
            for tensor in last.parameters():
                tensor.mul_(2)
        features = step(block, features)
    return features


def _undo(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
    """A batch norm whose scale and shift undo its normalisation of what it is about to read."""
    assert isinstance(norm, nn.BatchNorm2d)
    x = args[0].double()
    norm.running_mean.copy_(x.mean((0, 2, 3)))  # type: ignore[union-attr]
    norm.running_var.copy_(x.var((0, 2, 3), unbiased=False))  # type: ignore[union-attr]
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())  # type: ignore[operator, union-attr]
    norm.bias.copy_(norm.running_mean)  # type: ignore[arg-type]


# -- how far it is ------------------------------------------------------------------------


class Gap(NamedTuple):
    """From one block's weights to another's: how many parameters change, and the Euclidean distance of all.

    `deviations` is the distance of the convolutions' weights, each in standard deviations of its layer's
    initialisation, and `furthest` the largest change of one such weight; both 0 where no convolution changes.
    """

    numbers: int
    distance: float
    deviations: float
    furthest: float


def gap(before: Block, after: Block) -> Gap:
    """From an initialised block to one with the same layers."""
    numbers, squares, scaled, furthest = 0, 0.0, 0.0, 0.0
    others = dict(after.named_parameters())
    convolutions = {f"{name}.weight" for name, layer in before.named_modules() if isinstance(layer, nn.Conv2d)}
    for name, start in before.named_parameters():
        change = (others[name] - start).double()
        numbers += int((change != 0).sum())
        squares += float(change.square().sum())
        if name in convolutions and change.any():
            change = change / start.double().std()
            scaled += float(change.square().sum())
            furthest = max(furthest, float(change.abs().max()))
    return Gap(numbers, math.sqrt(squares), math.sqrt(scaled), furthest)


# -- before and after ---------------------------------------------------------------------


class Outcome(NamedTuple):
    """A network with blocks of one kind appended, against the network without.

    `difference` is the largest of any score, `equal` how many images' scores are the same in every bit, `same` the
    share of images with the same class named, `right` the share whose label is named.
    """

    kind: str
    difference: float
    equal: int
    same: float
    right: float


class Appended(NamedTuple):
    """All kinds on the same images; `right` is the share that the network itself gets right.

    `to_zero` leads from an initialised block to one whose branch is zero, `to_identity` from a plain one to the
    identity, for the first appended block (None where there are no such weights). `below` is the share of the features that
    the blocks read which are below zero.
    """

    images: int
    right: float
    outcomes: tuple[Outcome, ...]
    to_zero: Gap
    to_identity: Gap | None
    below: float


BUDGET = 100e9
"""Multiply-adds that one experiment may take."""
MAX_IMAGES, MAX_NOISE = 500, 64
"""Images for a trained network, and for another."""


def affordable(trace: Trace, place: Place, trained: bool) -> int:
    """On how many images the experiment runs.

    Raises:
        TooLargeError: where one is too much, in one sentence with estimate and limit.
    """
    last = trace.stages[place.stage - 1][-1]
    block = sum(layer.macs for layer in trace.blocks[last.block] if not layer.role.on_shortcut)
    tail = sum(layer.macs for layer in trace.layers[last.index + 1 :])
    cost = trace.macs + len(KINDS) * (place.blocks * block + tail)
    if cost > BUDGET:
        raise TooLargeError(
            f"Appending {place.blocks} blocks to stage {place.stage} is too much to compute here: one image takes "
            f"{cost / 1e9:,.0f} GMACs, and the limit is {BUDGET / 1e9:,.0f} GMACs."
        )
    features = FLOAT * prod(last.out_shape)
    within(
        f"Appending {place.blocks} blocks to stage {place.stage} is too much to compute here",
        "A smaller network works",
        Need("what they read takes", features, MAX_FEATURES, "GiB"),
    )
    return int(min(MAX_IMAGES if trained else MAX_NOISE, BUDGET // cost, MAX_FEATURES // features))


MAX_FEATURES = 2**28
"""Bytes of what the appended blocks read of all images, which are held from one step to the next."""
AT_ONCE = 100
"""Images that go through together, at most."""


def together(trace: Trace) -> int:
    """How many images go through a network at once."""
    return int(max(1, min(AT_ONCE, MAX_FORWARD_BYTES // trace.working_memory)))


def append(model: ResNet, place: Place, blocks: Sequence[Block]) -> ResNet:
    """The network with blocks after those of a stage; its own parameters are shared, and it is left alone."""
    result = copy_of(model)
    result.stages[place.stage - 1].extend(blocks)
    return result


def experiment(
    model: ResNet, place: Place, images: Tensor, labels: Tensor, device: Device, seed: int = 0, at_once: int = AT_ONCE
) -> Iterator[Outcome | Appended]:
    """Each kind of `KINDS` that there is, one by one, and everything together last.

    `images` are N×C×H×W, `labels` N classes, and `at_once` go through together. What comes before the appended blocks
    runs once for all of them.
    """
    config, sequence = model.config, steps(model)
    names = list(sequence)
    cut = names.index(block_path(place.stage, config.layers[place.stage - 1] - 1)) + 1
    before, after = (nn.Sequential(*(sequence[name] for name in part)) for part in (names[:cut], names[cut:]))
    batches = [device.tensor(batch) for batch in images.split(at_once)]
    features = [step(before, batch) for batch in batches]
    base = _scores(after, features)
    named = base.argmax(1)

    def judged(kind: str, blocks: Sequence[Block]) -> Outcome:
        scores = _scores(nn.Sequential(*blocks, after), features)
        equal = (scores.view(torch.int32) == base.view(torch.int32)).all(1)
        return Outcome(
            kind,
            float((scores - base).abs().max()),
            int(equal.sum()),
            _share(scores.argmax(1) == named),
            _share(scores.argmax(1) == labels),
        )

    def made(plain: bool, zero: bool) -> list[Block]:
        return [block.to(device.torch) for block in new_blocks(config, place, plain, zero, seed)]

    outcomes, blocks = [], {}
    for kind, plain, zero in zip(KINDS, (False, True) * 2, (True, True, False, False), strict=False):
        blocks[kind] = made(plain, zero)
        outcomes.append(judged(kind, blocks[kind]))
        yield outcomes[-1]
    to_identity = None
    if not obstacle(config, place.stage):
        copies = made(True, False)
        become_identity(copies, torch.cat(features))
        to_identity = gap(blocks[PLAIN][0], copies[0])
        outcomes.append(judged(PLAIN_IDENTITY, copies))
        yield outcomes[-1]
    below = sum(int((batch < 0).sum()) for batch in features) / sum(batch.numel() for batch in features)
    to_zero = gap(blocks[RESIDUAL][0], blocks[RESIDUAL_ZERO][0])
    yield Appended(len(labels), _share(named == labels), tuple(outcomes), to_zero, to_identity, below)


def _scores(module: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """N×classes in fp32 on the CPU."""
    return torch.cat([step(module, batch).float().cpu() for batch in features])


def _share(true: Tensor) -> float:
    return float(true.double().mean())
