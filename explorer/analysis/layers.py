"""The vocabulary of a trace: a layer, the role it plays, and the names of what layers compute."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from resnet import blocks
from resnet.config import block_path

from .receptive_field import Field

Shape = tuple[int, ...]

# -- what layers compute ------------------------------------------------------------------


class Op(StrEnum):
    """The operations, as people call them."""

    CONVOLUTION = "convolution"
    CHANNEL_CONVOLUTION = "convolution along channels"
    LINEAR = "linear"
    BATCH_NORM = "batch norm"
    GROUP_NORM = "group norm"
    RELU = "relu"
    LEAKY_RELU = "leaky relu"
    ELU = "elu"
    SILU = "silu"
    GELU = "gelu"
    SIGMOID = "sigmoid"
    MAX_POOLING = "max pooling"
    AVERAGE_POOLING = "average pooling"
    GLOBAL_AVERAGE_POOLING = "global average pooling"
    BLUR = "blur"
    ZERO_PADDING = "zero padding"
    FLATTEN = "flatten"
    SCALING = "scaling"
    STOCHASTIC_DEPTH = "stochastic depth"
    ADDITION = "addition"

    @classmethod
    def activation(cls, name: str) -> Op:
        """What a configuration's activation, such as leaky_relu, is called."""
        return cls(name.replace("_", " "))


WINDOWED = frozenset({Op.CONVOLUTION, Op.MAX_POOLING, Op.AVERAGE_POOLING, Op.BLUR})
STRIDED = WINDOWED | {Op.ZERO_PADDING, Op.CHANNEL_CONVOLUTION}
NORMS = frozenset({Op.BATCH_NORM, Op.GROUP_NORM})
WEIGHTED = NORMS | {Op.CONVOLUTION, Op.CHANNEL_CONVOLUTION, Op.LINEAR}
ACTIVATIONS = frozenset(map(Op.activation, blocks.ACTIVATIONS))
"""The activations that a configuration can choose; the sigmoid is attention's own."""
VIEWS = frozenset({Op.FLATTEN, Op.STOCHASTIC_DEPTH})
"""Operations whose output is their input's memory (stochastic depth when it is not training)."""

# -- where layers stand -------------------------------------------------------------------


class Role(NamedTuple):
    """Where a layer stands, which is what two networks are aligned on.

    `part` is stem, stage or head; `stage` counts from 1, `block` from 0 (both 0 outside the
    stages); `slot` is the layer's name within its block or part.
    """

    part: str
    stage: int
    block: int
    slot: str

    @property
    def group(self) -> str:
        """stem, stage 1, stage 2, …, head."""
        return f"stage {self.stage}" if self.part == "stage" else self.part

    @property
    def block_path(self) -> str:
        """The path of the block: layer2.0; empty outside the stages."""
        return block_path(self.stage, self.block) if self.part == "stage" else ""

    @property
    def part_path(self) -> str:
        """stem, the path of the block, or head."""
        return self.block_path or self.part

    @property
    def on_shortcut(self) -> bool:
        """Whether the layer is part of S(x): a projection, its norm, or zero padding."""
        return self.slot.startswith("downsample")

    @property
    def in_attention(self) -> bool:
        """Whether the layer is part of channel attention."""
        return self.slot.startswith("se.")


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation. Shapes are C×H×W of one image, or C after flattening.

    `name` is its state-dict path, `inputs` the indices of the layers it reads (−1: the
    image). `macs` counts multiply-adds of convolutions and linear layers for one image
    (the paper's "FLOPs"); 0 for the rest. `kernel`, `stride`, `padding` and `dilation` are along each side, in units of
    the map that it reads; `params` are trainable numbers; `field` is in pixels of the image.
    """

    index: int
    name: str
    op: Op
    module: str
    role: Role
    inputs: tuple[int, ...]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape
    kernel: int
    stride: int
    padding: int
    dilation: int
    groups: int
    params: int
    macs: int
    field: Field

    @property
    def block(self) -> str:
        """The path of the block that holds it: layer2.0; empty outside the stages."""
        return self.role.block_path

    @property
    def part(self) -> str:
        """stem, the path of the block, or head."""
        return self.role.part_path

    @property
    def label(self) -> str:
        """What the layer does: "3×3 convolution, stride 2, 32 groups"."""
        text = f"{self.kernel}×{self.kernel} {self.op}" if self.op in WINDOWED else self.op
        text = f"{self.kernel}-wide {self.op}" if self.op == Op.CHANNEL_CONVOLUTION else text
        extras = (("stride", self.stride), ("dilation", self.dilation))
        text += "".join(f", {name} {value}" for name, value in extras if value > 1)
        return text + (f", {self.groups} groups" if self.groups > 1 and self.op == Op.CONVOLUTION else "")


def convolutions(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The 2-d convolutions among layers; blurs and convolutions along channels are none."""
    return tuple(layer for layer in layers if layer.op == Op.CONVOLUTION)


def by_part(layers: Iterable[Layer]) -> dict[str, tuple[Layer, ...]]:
    """The layers of the stem, of each block by its path and of the head, all in the order of execution."""
    return {path: tuple(together) for path, together in groupby(layers, lambda layer: layer.part)}


def shape_text(shape: Shape) -> str:
    """64×56×56."""
    return "×".join(map(str, shape))


_IN_STAGE = re.compile(r"layer(\d+)\.(\d+)\.(.+)")


@lru_cache(2**16)  # the same in every network, so that a server's hundreds of traces share them
def role(name: str) -> Role:
    """Where a layer stands, from its state-dict path."""
    if match := _IN_STAGE.fullmatch(name):
        return Role("stage", int(match[1]), int(match[2]), match[3])
    part = "stem" if name.startswith(("conv1", "bn1", "act1", "maxpool")) else "head"
    return Role(part, 0, 0, name)


# -- what windows leave out ---------------------------------------------------------------

WHOLE_MAP = {Op.GROUP_NORM: "group norm", Op.SCALING: "channel attention"}
"""Operations that bring statistics of the whole map to each of its units, and what people call them."""


def global_dependencies(layers: Iterable[Layer]) -> dict[int, frozenset[str]]:
    """For each layer by its index, through which of `WHOLE_MAP` among `layers` its units depend on more than windows."""
    found: dict[int, frozenset[str]] = {}
    same: dict[frozenset[str], frozenset[str]] = {}
    for layer in layers:
        own = {WHOLE_MAP[layer.op]} if layer.op in WHOLE_MAP else set()
        kinds = frozenset(own.union(*(found.get(i, ()) for i in layer.inputs)))
        found[layer.index] = same.setdefault(kinds, kinds)  # of many layers few differ
    return found


def beyond_windows(kinds: Collection[str], units: str = "Units", first: str = "") -> str:
    """That the windows of `units` are not all they depend on, in a sentence; empty where they are."""
    if not kinds:
        return ""
    at = f", first in {first}" if first else ""
    return f"{units} also depend on the whole map through {' and '.join(sorted(kinds))}{at}."


FLOAT = 4
"""Bytes of an fp32 number."""

IMAGE = -1
"""The index that stands for the input image among a layer's `inputs`."""
