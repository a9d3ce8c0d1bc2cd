"""The parts that a network is drawn in, and its blocks."""

from __future__ import annotations

from typing import NamedTuple

from resnet import ResNetConfig

from .layers import Layer, Shape
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
        return self.layers[-1].out_shape

    @property
    def shortcut(self) -> str | None:
        """identity, projection, or None in a plain block and outside the stages."""
        if not any(layer.op == "addition" for layer in self.layers):
            return None
        return "projection" if any(layer.role.on_shortcut for layer in self.layers) else "identity"


SHORT = {
    "batch norm": "norm",
    "group norm": "norm",
    "global average pooling": "avg",
    "linear": "fc",
    "max pooling": "pool",
    "average pooling": "pool",
    "blur": "blur",
}


def parts(trace: Trace) -> tuple[Part, ...]:
    """The network from left to right. Norms, activations and flattening stand with the layer before them."""
    result: list[Part] = []
    for layer in trace.layers:
        role = layer.role
        identifier = f"layer{role.stage}.{role.block}" if role.part == "stage" else layer.name
        in_stem_norm = role.part == "stem" and layer.op.endswith("norm")
        starts = role.part != "stage" and not in_stem_norm and (layer.op == "convolution" or layer.op in SHORT)
        same = result and (identifier == result[-1].identifier or (role.part != "stage" and not starts))
        if same and result[-1].group == role.group:
            result[-1] = result[-1]._replace(layers=(*result[-1].layers, layer))
        else:
            window = f"{layer.kernel}×{layer.kernel}" if layer.op == "convolution" else layer.op
            label = str(role.block) if role.part == "stage" else SHORT.get(layer.op, window)
            result.append(Part(identifier, role.group, label, (layer,)))
    return tuple(result)


def part_of(trace: Trace, at: str) -> str:
    """The part that a selected layer or block belongs to: "stem", "head", or a block's path."""
    layer = trace.by_name.get(at)
    if layer is None:
        return at
    return f"layer{layer.role.stage}.{layer.role.block}" if layer.role.part == "stage" else layer.role.part


def part_layers(trace: Trace, part: str) -> tuple[Layer, ...]:
    """The layers of "stem", "head", or a block's path; empty for an unknown part."""
    prefix = f"{part}."
    return tuple(layer for layer in trace.layers if layer.role.part == part or layer.name.startswith(prefix))


# -- blocks switched off ------------------------------------------------------------------


def blocks(config: ResNetConfig) -> tuple[str, ...]:
    """The paths of all blocks from input to output: layer1.0, layer1.1, …"""
    return tuple(f"layer{stage}.{index}" for stage, count in enumerate(config.layers, 1) for index in range(count))


def fixed(config: ResNetConfig) -> dict[str, str]:
    """The blocks that cannot be switched off, each with the reason: in a plain network, those that change the shape."""
    if config.shortcut != "none":
        return {}
    found, before = {}, config.stem_channels
    for stage, (after, (stride, _)) in enumerate(zip(config.stage_channels, config.stage_strides, strict=True), 1):
        if stride > 1 or before != after:
            found[f"layer{stage}.0"] = "it changes the shape, and there is no shortcut to do that in its place"
        before = after
    return found


def switchable(config: ResNetConfig) -> tuple[str, ...]:
    """The blocks that can be switched off, from input to output."""
    return tuple(name for name in blocks(config) if name not in fixed(config))
