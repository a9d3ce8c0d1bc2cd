"""What a network's blocks make of many images: the maps that each puts out, and what the classifier would read in them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from resnet import ResNet

from .ablation import sequential_modules
from .device import Device
from .turns import forward_in_turn


def block_outputs(model: ResNet, images: Tensor, device: Device) -> Iterator[tuple[str, Tensor]]:
    """The name and the output, N×C×H×W, of each block in order of depth, on N×C×H×W images that go through together.

    Raises:
        OutOfMemoryError: where the images do not fit the device's memory.
    """
    values = device.tensor(images)
    for name, module in sequential_modules(model).items():
        values = forward_in_turn(module, values)
        if name in model.config.blocks:
            yield name, values


def pooled(maps: Tensor) -> Tensor:
    """The mean of each channel of N×C×H×W maps over their positions, N×C, which is what a classifier reads."""
    return maps.float().mean((2, 3)).cpu()


def head(model: ResNet) -> nn.Sequential:
    """What comes after the last block, up to the scores. It reads the output of every block of the last stage."""
    sequence = sequential_modules(model)
    last = list(sequence).index(model.config.blocks[-1])
    return nn.Sequential(*list(sequence.values())[last + 1 :])


def early_readers(model: ResNet) -> tuple[str, ...]:
    """The blocks whose output the head can read: those of the last stage."""
    return model.config.blocks[-model.config.layers[-1] :]
