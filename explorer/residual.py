"""Inside the addition: what every block adds to its shortcut, and the network with blocks switched off."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet import ResNet, ResNetConfig
from resnet.blocks import Block
from resnet.weights import Preprocessing

from .inference import Device, copy_of, step, watching

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


def without(model: ResNet, off: Collection[str]) -> ResNet:
    """The network with blocks switched off (Veit 2016, https://arxiv.org/abs/1605.06431, section 4.1).

    A residual block becomes σ(S(x)): its branch is dropped, and shortcut and activation stay. A plain block gives
    back its input. Parameters are the model's own, shared and not copied; the model itself is left alone.

    Raises:
        ValueError: for a block that the network does not have or that cannot be switched off.
    """
    if not off:
        return model
    if unknown := set(off) - set(switchable(model.config)):
        raise ValueError(f"cannot be switched off: {', '.join(sorted(unknown))}")
    result = copy_of(model)
    for name in off:
        block = result.get_submodule(name)
        if model.config.shortcut == "none":
            block.register_forward_hook(_input)
        else:
            block.get_submodule("add").register_forward_hook(_shortcut)
    return result


def _input(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> Tensor:
    return args[0]


def _shortcut(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> Tensor:
    return args[1]


# -- inside the addition ------------------------------------------------------------------


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


def contributions(model: ResNet, picture: Tensor, device: Device) -> tuple[Contribution, ...]:
    """Every residual block on a 1×C×H×W picture, in one pass; none for a plain network.

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
            model(device.tensor(picture))

    device.turn(model, picture).run(run)
    return tuple(found)


class Addition(NamedTuple):
    """What meets at a block's addition, each C×H×W: y = σ(F(x) + S(x)).

    `activated` is None in a pre-activation block, where no activation follows.
    """

    shortcut: np.ndarray
    branch: np.ndarray
    total: np.ndarray
    activated: np.ndarray | None


def addition(model: ResNet, picture: Tensor, block: str, device: Device) -> Addition:
    """The addition of a residual block ("layer2.0") on a 1×C×H×W picture.

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
                model(device.tensor(picture))
            finally:
                hook.remove()
        branch, shortcut, *rest = (values[0].float().cpu().numpy() for values in (*inputs, *kept.values()))
        return Addition(shortcut, branch, rest[0], rest[1] if post else None)

    return device.turn(model, picture).run(run)


# -- each block in turn -------------------------------------------------------------------


class Lesion(NamedTuple):
    """A network without one block, on labelled images; `block` is empty for the whole network.

    `error` is the share of images it gets wrong, `right` the mean probability of the right class.
    """

    block: str
    error: float
    right: float


AT_ONCE = 250
"""Images that go through together."""


def lesion(
    model: ResNet, images: Tensor, labels: Sequence[int], off: Sequence[str], device: Device
) -> Iterator[Lesion]:
    """The network without each block of `off` in turn, in order of depth, and the whole network last.

    `images` are N×C×H×W, normalised. What comes before a block runs once for all blocks after it.
    """
    lesioned, sequence = without(model, off), steps(model)
    modules, truth = list(sequence.values()), torch.tensor(labels, dtype=torch.long)
    batches = [device.tensor(batch) for batch in images.split(AT_ONCE)]

    def judged(name: str, scores: list[Tensor]) -> Lesion:
        probabilities = F.softmax(torch.cat(scores).float().cpu(), dim=1)
        wrong = probabilities.argmax(1) != truth
        return Lesion(name, float(wrong.double().mean()), float(probabilities[range(len(truth)), truth].mean()))

    for number, (name, module) in enumerate(sequence.items(), start=1):
        if name in off:
            rest = nn.Sequential(lesioned.get_submodule(name), *modules[number:])
            yield judged(name, [step(rest, batch) for batch in batches])
        batches = [step(module, batch) for batch in batches]
    yield judged("", batches)


def steps(model: ResNet) -> dict[str, nn.Module]:
    """The network as a sequence of modules by their paths, each reading what the one before puts out."""
    result: dict[str, nn.Module] = {}
    for name, module in model.named_children():
        if name.startswith("layer"):
            result |= {f"{name}.{index}": block for index, block in module.named_children()}
        else:
            result[name] = module
    return result


def normalised(images: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """N×H×W grey bytes as the N×1×H×W that a network of this preprocessing takes, size unchanged."""
    return ((torch.tensor(images, dtype=torch.float32) / 255 - preprocessing.mean[0]) / preprocessing.std[0])[:, None]
