"""Inside the addition: what every block adds to its shortcut."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from resnet import ResNet
from resnet.blocks import Block

from .device import Device
from .predict import watching


class Contribution(NamedTuple):
    """The Euclidean norms, over all channels and positions, of a block's branch F(x), shortcut S(x) and of the sum."""

    block: str
    branch: float
    shortcut: float
    total: float

    @property
    def ratio(self) -> float:
        """‖F(x)‖ / ‖S(x)‖; infinite beside a shortcut of zeros, and not a number where both are zero."""
        return float(np.float64(self.branch) / np.float64(self.shortcut)) if self.shortcut else self.branch * np.inf


def contributions(model: ResNet, image: Tensor, device: Device) -> tuple[Contribution, ...]:
    """Every residual block on a 1×C×H×W image, in one pass; none for a plain network.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    found: list[Contribution] = []

    def measure(name: str, args: tuple[Tensor, ...], output: Tensor) -> None:
        norms = (float(torch.linalg.vector_norm(values, dtype=torch.float32)) for values in (*args, output))
        found.append(Contribution(name, *norms))

    @torch.inference_mode()
    def run() -> None:
        with ExitStack() as hooks:
            for name, block in model.named_modules():
                if isinstance(block, Block) and not block.plain:
                    hook = block.add.register_forward_hook(
                        lambda _, args, output, name=name: measure(name, args, output)
                    )
                    hooks.callback(hook.remove)
            model(device.tensor(image))

    device.turn(model, image).run(run)
    return tuple(found)


class Addition(NamedTuple):
    """What meets at a block's addition, each C×H×W: y = σ(F(x) + S(x)).

    `activated` is None in a pre-activation block, where no activation follows.
    """

    shortcut: np.ndarray
    branch: np.ndarray
    total: np.ndarray
    activated: np.ndarray | None


def addition(model: ResNet, image: Tensor, block: str, device: Device) -> Addition:
    """The addition of a residual block ("layer2.0") on a 1×C×H×W image.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    kept: dict[str, Tensor] = {}
    inputs: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> None:
        inputs.extend(args)

    post = model.config.order == "post"
    watched = [f"{block}.add", f"{block}.act"] if post else [f"{block}.add"]

    @torch.inference_mode()
    def run() -> Addition:
        with watching(model, watched, kept.__setitem__):
            hook = model.get_submodule(watched[0]).register_forward_hook(keep)
            try:
                model(device.tensor(image))
            finally:
                hook.remove()
        branch, shortcut, *rest = (values[0].float().cpu().numpy() for values in (*inputs, *kept.values()))
        return Addition(shortcut, branch, rest[0], rest[1] if post else None)

    return device.turn(model, image).run(run)
