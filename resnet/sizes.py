"""Which images a network can take, found by running its operations on shapes alone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import ResNetConfig


def runs(config: ResNetConfig, size: tuple[int, int]) -> bool:
    """Whether one image of (height, width) pixels gets through the network in evaluation mode.

    With twice the total stride a side, each map has two positions a side and more, and nothing fails on that.
    """
    return min(size) >= 2 * config.total_stride or _passes(config, size)


def least_side(config: ResNetConfig) -> int:
    """The smallest side of a square image that gets through the network, in pixels."""
    enough = 2 * config.total_stride
    return 1 + bisect_left(range(1, enough), True, key=lambda side: runs(config, (side, side)))


@lru_cache(maxsize=4096)
def _passes(config: ResNetConfig, size: tuple[int, int]) -> bool:
    """A pass of no image through few channels; of one on the meta device where a norm refuses groups of a single value."""
    import torch  # which takes seconds that few configurations need

    from .model import ResNet  # it imports the configuration, whose sizes are asked for here

    shallow = replace(config, layers=tuple(min(count, 2) for count in config.layers))  # a third block is as the second
    if config.norm == "group":
        network, device, batch = shallow, "meta", 1
    else:
        narrow = {"planes": (8,) * len(config.planes), "stem_width": 4, "groups": 1, "base_width": 64, "in_channels": 1}
        network, device, batch = replace(shallow, num_classes=1, **narrow), "cpu", 0  # type: ignore[arg-type]
    with torch.device(device), torch.no_grad():
        try:
            ResNet(network, tied=True).eval()(torch.empty(batch, network.in_channels, *size))
        except (RuntimeError, ValueError):  # a pooling or padding of too few positions, a norm of a single value
            return False
    return True
