"""Table 1 of He et al. 2015 (https://arxiv.org/abs/1512.03385): the five networks for ImageNet, from their traces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from resnet.config import block_path

from .layers import convolutions
from .trace import Trace

FLOPS: Mapping[int, str] = MappingProxyType(
    {18: "1.8×10⁹", 34: "3.6×10⁹", 50: "3.8×10⁹", 101: "7.6×10⁹", 152: "11.3×10⁹"}
)
"""The last row as the paper prints it, by depth: multiply-adds (section 3.3), which we call MACs, cut to two or three digits."""
V1, V15 = "v1", "v1.5"
"""Where a bottleneck halves its map: in its first 1×1, as in the paper, or in its 3×3, as in torchvision."""


def names(version: str) -> dict[int, str]:
    """The preset of each depth in a version, `V1` or `V15`; basic blocks, which have no 1×1, are the same in both."""
    return {depth: f"resnet{depth}_v1" if version == V1 and depth >= 50 else f"resnet{depth}" for depth in FLOPS}


class Stage(NamedTuple):
    """A cell: the convolutions of a block's branch as the paper writes them, "3×3, 64", and how many blocks there are.

    `path` is the first block's, `side` that of the stage's maps in pixels.
    """

    path: str
    convolutions: tuple[str, ...]
    blocks: int
    side: int


def stages(traced: Trace) -> tuple[Stage, ...]:
    """The cells of a network's column, conv2_x to conv5_x."""
    found = []
    for number, blocks in enumerate(traced.config.layers, start=1):
        path = block_path(number, 0)
        branch = [layer for layer in convolutions(traced.blocks[path]) if not layer.role.on_shortcut]
        kernels = tuple(f"{layer.kernel}×{layer.kernel}, {layer.out_shape[0]}" for layer in branch)
        found.append(Stage(path, kernels, blocks, traced.blocks[path][-1].out_shape[-1]))
    return tuple(found)
