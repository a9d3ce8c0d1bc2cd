"""The network with blocks and channels switched off, and without each block in turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet import ResNet
from resnet.weights import noise_side

from ..analysis.cost import work_macs
from ..analysis.parts import off_channel, switched_off
from ..analysis.trace import Trace, trace
from .device import Device
from .limits import MAX_FORWARD_BYTES
from .turns import copy_of, forward_in_turn


def without_blocks(model: ResNet, off: Collection[str]) -> ResNet:
    """The network with blocks switched off (Veit 2016, https://arxiv.org/abs/1605.06431, section 4.1), and channels of blocks'
    outputs zeroed ("layer2.0:31").

    A residual block becomes σ(S(x)): its branch is dropped, and shortcut and activation stay. A plain block gives
    back its input. Parameters are the model's own, shared and not copied; the model itself is left alone.

    Raises:
        ValueError: for a block or a channel that the network does not have, or a block that cannot be switched off.
    """
    if not off:
        return model
    if unknown := set(off) - set(switched_off(off, model.config)):
        raise ValueError(f"cannot be switched off: {', '.join(sorted(unknown))}")
    result = copy_of(model)
    zeroed: dict[str, list[int]] = {}
    for name in off:
        if channel := off_channel(name):
            zeroed.setdefault(channel[0], []).append(channel[1])
            continue
        block = result.get_submodule(name)
        if model.config.shortcut == "none":
            block.register_forward_hook(_input)
        else:
            block.get_submodule("add").register_forward_hook(_shortcut)
    if zeroed:
        side = noise_side(model.config)
        blocks = trace(model.config, (side, side)).blocks
        for name, channels in zeroed.items():
            # Its last layer too, so that who looks there sees what goes on.
            for path in (blocks[name][-1].name, name):
                result.get_submodule(path).register_forward_hook(_zeroed(channels))
    return result


def _zeroed(channels: Sequence[int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook after which these channels of N×C×H×W are zero."""

    def zero(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.index_fill(1, torch.tensor(channels, device=output.device), 0)

    return zero


def _input(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> Tensor:
    return args[0]


def _shortcut(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> Tensor:
    return args[1]


# -- each block in turn -------------------------------------------------------------------


class Ablation(NamedTuple):
    """A network without one block, on labelled images; `block` is empty for the whole network.

    `error` is the share of images it gets wrong, `right_probability` the mean probability of the right class.
    """

    block: str
    error: float
    right_probability: float


BATCH_SIZE, BATCH_WORK = 250, 150e9
"""Images that go through together at most, and their multiply-adds: as long as one of the largest images may take."""


def batch_size(trace: Trace) -> int:
    """How many images go through a network at once."""
    fitting = min(BATCH_WORK // work_macs(trace), MAX_FORWARD_BYTES // trace.working_memory)
    return int(max(1, min(BATCH_SIZE, fitting)))


def ablations(
    model: ResNet, images: Tensor, labels: Sequence[int], off: Sequence[str], device: Device, batch: int | None = None
) -> Iterator[Ablation]:
    """The network without each block of `off` in turn, in order of depth, and the whole network last.

    `images` are N×C×H×W, normalised, `labels` N classes; `batch` of them go through together, `BATCH_SIZE` where that is not
    given. What comes before a block runs once for all blocks after it.

    Raises:
        ValueError: as `without_blocks`.
        OutOfMemoryError: where a batch does not fit the device's memory.
    """
    ablated, sequence = without_blocks(model, off), sequential_modules(model)
    modules, truth = list(sequence.values()), torch.tensor(labels, dtype=torch.long)
    batches = [device.tensor(batch) for batch in images.split(batch or BATCH_SIZE)]

    def judged(name: str, scores: list[Tensor]) -> Ablation:
        probabilities = F.softmax(torch.cat(scores).float().cpu(), dim=1)
        wrong = probabilities.argmax(1) != truth
        return Ablation(name, float(wrong.double().mean()), float(probabilities[range(len(truth)), truth].mean()))

    for number, (name, module) in enumerate(sequence.items(), start=1):
        if name in off:
            rest = nn.Sequential(ablated.get_submodule(name), *modules[number:])
            yield judged(name, [forward_in_turn(rest, batch) for batch in batches])
        batches = [forward_in_turn(module, batch) for batch in batches]
    yield judged("", batches)


def sequential_modules(model: ResNet) -> dict[str, nn.Module]:
    """The network as a sequence of modules by their paths, each reading what the one before puts out."""
    result: dict[str, nn.Module] = {}
    for name, module in model.named_children():
        if name.startswith("layer"):
            result |= {f"{name}.{index}": block for index, block in module.named_children()}
        else:
            result[name] = module
    return result
