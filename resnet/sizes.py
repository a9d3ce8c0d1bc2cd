"""Which images a network can take, found by running its operations on shapes alone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache

import torch

from .config import ResNetConfig
from .model import ResNet
from .options import ConfigError, is_int, to_text

MAX_IMAGE_SIDE = 8192


def check_image_size(config: ResNetConfig, size: object) -> tuple[int, int]:
    """(height, width) in pixels from an int or a pair.

    Raises:
        ConfigError: for a side below 1 or above 8192, or an image that one of the network's operations cannot take.
    """
    sides = size if isinstance(size, tuple | list) else (size, size)
    if len(sides) == 2 and all(is_int(side) and 1 <= side <= MAX_IMAGE_SIDE for side in sides):
        checked = int(sides[0]), int(sides[1])
        if can_run(config, checked):
            return checked
    low = least_side(config)
    pair = isinstance(size, tuple | list) and (len(sides) != 2 or sides[0] != sides[1])
    raise ConfigError(
        "size",
        "x".join(map(to_text, sides)) if pair else sides[0],
        f"{low} to {MAX_IMAGE_SIDE} pixels a side, as one number or as height and width"
        + (f"; below {low} a map is too small for one of this network's operations" if low > 1 else ""),
    )


def can_run(config: ResNetConfig, size: tuple[int, int]) -> bool:
    """Whether one image of (height, width) pixels gets through the network in evaluation mode.

    With twice the total stride a side, each map has two positions a side and more, and nothing fails on that.
    """
    return min(size) >= 2 * config.total_stride or _passes(_smallest(config), size)


def least_side(config: ResNetConfig) -> int:
    """The smallest side of a square image that the network's operations can take, in pixels; 1 for most."""
    enough = 2 * config.total_stride
    return 1 + bisect_left(range(1, enough), True, key=lambda side: can_run(config, (side, side)))


def _smallest(config: ResNetConfig) -> ResNetConfig:
    """A network that takes the same images, of few blocks and, where no norm counts them, few channels."""
    layers = tuple(min(count, 2) for count in config.layers)  # a third block is as the second
    if config.norm == "group":
        return replace(config, layers=layers)
    width = {"planes": (8,) * len(layers), "stem_width": 4, "groups": 1, "base_width": 64, "in_channels": 1}
    return replace(config, layers=layers, num_classes=1, **width)  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _passes(config: ResNetConfig, size: tuple[int, int]) -> bool:
    """A pass of no image; of one on the meta device where a norm refuses groups of a single value."""
    device, batch = ("meta", 1) if config.norm == "group" else ("cpu", 0)
    with torch.device(device), torch.no_grad():
        try:
            ResNet(config, tied=True).eval()(torch.empty(batch, config.in_channels, *size))
        except (RuntimeError, ValueError):  # a pooling or padding of too few positions, a norm of a single value
            return False
    return True
