"""The parts that a network is drawn in, and which of its blocks can be switched off."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from resnet import ResNetConfig
from resnet.config import block_path

from .layers import NORMS, Layer, Op, Shape
from .trace import Trace

# -- the network as parts -----------------------------------------------------------------


class Part(NamedTuple):
    """What the overview shows as one box: a block, or one layer of stem or head.

    `identifier` is a block's path ("layer2.0") or a layer's name.
    """

    identifier: str
    group: str
    label: str
    layers: tuple[Layer, ...]

    @property
    def shape(self) -> Shape:
        """What the part puts out: C×H×W, or C after flattening."""
        return self.layers[-1].out_shape

    @property
    def shortcut(self) -> str | None:
        """identity, projection, or None in a plain block and outside the stages."""
        if not any(layer.op == Op.ADDITION for layer in self.layers):
            return None
        return "projection" if any(layer.role.on_shortcut for layer in self.layers) else "identity"


SHORT = {
    Op.BATCH_NORM: "norm",
    Op.GROUP_NORM: "norm",
    Op.GLOBAL_AVERAGE_POOLING: "avg",
    Op.LINEAR: "fc",
    Op.MAX_POOLING: "pool",
    Op.AVERAGE_POOLING: "pool",
    Op.BLUR: "blur",
}


def drawn_parts(trace: Trace) -> tuple[Part, ...]:
    """The network from left to right. Norms, activations and flattening stand with the layer before them."""
    result: list[Part] = []
    for path, layers in trace.parts.items():
        group = layers[0].role.group
        if path in trace.blocks:
            result.append(Part(path, group, str(layers[0].role.block), layers))
            continue
        for layer in layers:
            if layer is layers[0] or has_box(layer):
                window = f"{layer.kernel}×{layer.kernel}" if layer.op == Op.CONVOLUTION else layer.op
                result.append(Part(layer.name, group, SHORT.get(layer.op, window), (layer,)))
            else:
                result[-1] = result[-1]._replace(layers=(*result[-1].layers, layer))
    return tuple(result)


def has_box(layer: Layer) -> bool:
    """Whether a layer of the stem or the head is drawn as a box of its own; a norm of the stem is not."""
    in_stem_norm = layer.part == "stem" and layer.op in NORMS
    return not in_stem_norm and (layer.op == Op.CONVOLUTION or layer.op in SHORT)


# -- blocks and channels switched off -----------------------------------------------------


def fixed_blocks(config: ResNetConfig) -> dict[str, str]:
    """The blocks that cannot be switched off, each with the reason: in a plain network, those that change the shape."""
    if config.shortcut != "none":
        return {}
    found, before = {}, config.stem_channels
    for stage, (after, (stride, _)) in enumerate(zip(config.stage_channels, config.stage_strides, strict=True), 1):
        if stride > 1 or before != after:
            found[block_path(stage, 0)] = "it changes the shape, and there is no shortcut to do that in its place"
        before = after
    return found


def switchable_blocks(config: ResNetConfig) -> tuple[str, ...]:
    """The blocks that can be switched off, from input to output."""
    return tuple(name for name in config.blocks if name not in fixed_blocks(config))


def block_channels(config: ResNetConfig) -> dict[str, int]:
    """How many channels each block puts out, from input to output."""
    return {
        block_path(stage, index): channels
        for stage, (count, channels) in enumerate(zip(config.layers, config.stage_channels, strict=True), 1)
        for index in range(count)
    }


def off_channel(name: str) -> tuple[str, int] | None:
    """A block and a channel of its output, of "layer2.0:31"; None for other text."""
    match = re.fullmatch(r"([^:]+):([0-9]{1,7})", name)
    return (match[1], int(match[2])) if match else None


def switched_off(names: Collection[str], config: ResNetConfig) -> tuple[str, ...]:
    """Those of these names that are of blocks that can be switched off, or of channels of any block's output: in order of depth,
    a block before its channels.
    """
    place, wide = {block: number for number, block in enumerate(config.blocks)}, block_channels(config)
    found = [(place[block], -1, block) for block in set(names) & {*switchable_blocks(config)}]
    for block, channel in {each for name in names if (each := off_channel(name))}:
        if block in wide and channel < wide[block]:
            found.append((place[block], channel, f"{block}:{channel}"))
    return tuple(name for *_, name in sorted(found))
