"""How large the layers' responses are (He 2015, section 4.2 and figure 7)."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from resnet import ResNet

from ..inference.device import Device
from ..inference.turns import copy_of


def layer_responses(model: ResNet, images: Tensor, device: Device) -> tuple[float, ...]:
    """The standard deviation, over images, channels and positions, of each layer's output after batch norm and before the
    activation or the addition, in order of depth.

    `images` are N×C×H×W. Norms on shortcuts are left out, so that of a network of basic blocks it is the 3×3 layers'.

    Raises:
        OutOfMemoryError, TooLargeError: as `Turn.run`.
    """
    network = copy_of(model).eval()
    found: list[float] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        found.append(float(output.std(correction=0)))

    def run(batch: Tensor) -> None:
        with torch.inference_mode(), ExitStack() as hooks:
            for name, norm in network.named_modules():
                if isinstance(norm, nn.BatchNorm2d) and "downsample" not in name:
                    hooks.callback(norm.register_forward_hook(keep).remove)
            network(batch)

    device.turn(network, images).run(partial(run, device.tensor(images)))
    return tuple(found)
