"""What a network costs, from the traces of its pieces: the stem, each kind of block, the head.

Few of the pieces of many networks differ, and each is traced once. The totals are the same as those of a `Trace`, to the unit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache
from math import prod
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from resnet import OPTIONS, ResNet, ResNetConfig
from resnet.blocks import BLOCKS, Place
from resnet.model import places

from . import memory
from .layers import FLOAT, IMAGE, Shape, role
from .receptive_field import PIXEL, Field
from .trace import reservable, trace_module


class Costs(NamedTuple):
    """What a `Trace` says of a network: numbers, multiply-adds and bytes for one image in fp32.

    `memory` is the most that a forward pass holds at once (`Trace.inference_memory`), weights not counted;
    `training_memory` what training keeps for the backward pass; `field` that of the last stage, in pixels; `moved` what the
    operations of a forward pass read and write, parameters among them (`Trace.moved_bytes`).
    """

    params: int
    macs: int
    memory: int
    training_memory: int
    field: Field
    moved: int


def costs(config: ResNetConfig, image_size: tuple[int, int]) -> Costs:
    """The totals of `trace(config, image_size)` for an image of (height, width) pixels that `can_run` lets through.

    Sums are over the pieces. The most memory at once is that of one piece, with what outlives it: the image, and the
    input of its stage. What two pieces keep for training counts once, for it is the one's output and the other's input.
    """
    image = _bytes((config.in_channels, *image_size))
    stem = _piece("stem", config, (config.in_channels, *image_size))
    params, macs, peak, field = stem.params, stem.macs, stem.peak, stem.field
    kept, moved, before = stem.kept + image * stem.keeps_input, stem.moved, stem
    for stage in places(config):
        stage_input = _bytes(before.out_shape)
        for index, place in enumerate(stage):
            place = place._replace(drop_path=0.5 if place.drop_path else 0.0)  # whichever, it costs the same
            block = _piece("block", config, before.out_shape, place)
            params, macs, moved = params + block.params, macs + block.macs, moved + block.moved
            kept += block.kept + _between(before, block)
            peak = max(peak, image + stage_input * (index > 0) + block.peak)
            field, before = _behind(field, block.field), block
    head = _piece("head", config, before.out_shape)
    return Costs(
        params + head.params,
        macs + head.macs,
        max(peak, image + head.peak),
        kept + head.kept + _between(before, head),
        field,
        moved + head.moved,
    )


class Piece(NamedTuple):
    """A part of a network alone, with one image's map as its input.

    `peak` are the bytes that it holds at once, its input among them; `moved` those that its operations read and write; `kept`
    those that training keeps, without its input and its output, which `keeps_input` and `keeps_output` tell; `field` is its
    units' in places of its input.
    """

    params: int
    macs: int
    peak: int
    moved: int
    kept: int
    keeps_input: bool
    keeps_output: bool
    out_shape: Shape
    field: Field


def _between(before: Piece, after: Piece) -> int:
    """Bytes that training keeps of the map that one piece hands to the next."""
    return _bytes(before.out_shape) if before.keeps_output or after.keeps_input else 0


def _behind(field: Field, piece: Field) -> Field:
    """The field of a piece's units where its input has a field already."""
    size, stride, start = field
    return Field(size + (piece.size - 1) * stride, stride * piece.effective_stride, start + piece.start * stride)


def _bytes(shape: Shape) -> int:
    return prod(shape) * FLOAT


# -- tracing one --------------------------------------------------------------------------

_IN_STEM = frozenset({"stem", "stem_width", "stem_pool", "zero_pool", "in_channels"})
_IN_BLOCKS = frozenset({"stride_in", "shortcut", "groups", "base_width", "attention", "se_reduction"})
_PLACES = frozenset({"layers", "planes", "output_stride", "drop_path", "zero_init_residual"})
"""Options that only say where blocks stand, how many there are and what their weights are at first."""
_ELSEWHERE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "stem": _IN_BLOCKS | _PLACES | {"block", "num_classes"},
        "block": _IN_STEM | _PLACES | {"num_classes"},
        "head": _IN_STEM | _IN_BLOCKS | _PLACES | {"antialias"},
    }
)
"""The options that a piece does not depend on, but for its place and its planes; all others tell pieces apart."""
_NAMES = {part: tuple(name for name in OPTIONS if name not in elsewhere) for part, elsewhere in _ELSEWHERE.items()}
_GIVEN: Mapping[str, Callable[[ResNetConfig], tuple[Any, ...]]] = MappingProxyType(
    {part: attrgetter(*names) for part, names in _NAMES.items()}
)


def _piece(part: str, config: ResNetConfig, shape: Shape, place: Place | None = None) -> Piece:
    """The "stem", the "head" or the "block" at a place, which reads a map C×H×W of this `shape`."""
    planes = place.planes if place else config.planes[-1] if part == "head" else 64
    return _traced(part, _GIVEN[part](config), planes, shape, place)


@lru_cache(2**15)
def _traced(part: str, given: tuple[Any, ...], planes: int, shape: Shape, place: Place | None) -> Piece:
    """A piece of the smallest network that has it: one block."""
    options = dict(zip(_NAMES[part], given, strict=True))
    if place:
        options["stem_width"] = min(place.inputs, int(OPTIONS["stem_width"].high))
    config = ResNetConfig(layers=(1,), planes=(planes,), **options)
    with nullcontext() if reservable(config) else torch.device("meta"):
        layers = trace_module(_module(part, config, place), shape)
    sizes, owner = memory.tensor_bytes(layers, shape)
    kept, last = memory.kept_tensors(layers, owner), owner[layers[-1].index]
    return Piece(
        sum(layer.params for layer in layers),
        sum(layer.macs for layer in layers),
        memory.inference_memory(layers, shape).bytes,
        memory.moved_bytes(layers, shape),
        sum(sizes[tensor] for tensor in kept - {IMAGE, last}) + sum(map(memory.extra_training_bytes, layers)),
        IMAGE in kept,
        last in kept,
        layers[-1].out_shape,
        layers[-1].field if part != "head" else PIXEL,
    )


def _module(part: str, config: ResNetConfig, place: Place | None) -> nn.Module:
    """A piece under the names that it has in a network, which say what it is."""
    if place:
        return nn.Sequential(OrderedDict(layer1=nn.Sequential(BLOCKS[config.block, config.order](config, place))))
    children = ResNet(config, tied=True).named_children()
    own = ((name, child) for name, child in children if not name.startswith("layer") and role(name).part == part)
    return nn.Sequential(OrderedDict(own))


def forget_pieces() -> None:
    """Let go of what was traced, for a measurement."""
    _traced.cache_clear()
