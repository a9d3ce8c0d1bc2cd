"""What is done to the tensors of other people's networks so that ours computes the same function.

Tensors are by our names, but for the projection of a shortcut, which is `downsample.conv` and `downsample.norm`. They
are changed in place of what a dictionary holds; those of the file stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from .config import ResNetConfig
from .model import build

State = MutableMapping[str, Tensor]

EPSILON = 1e-5
"""What a batch norm adds to the variance."""

FOLLOWS = (
    (re.compile(r"conv1"), "bn1"),
    (re.compile(r"conv1\.(0|3)"), "conv1.{}"),
    (re.compile(r"conv1\.6"), "bn1"),
    (re.compile(r"(layer\d+\.\d+)\.conv(\d)"), "{}.bn{}"),
    (re.compile(r"(layer\d+\.\d+)\.downsample\.conv"), "{}.downsample.norm"),
)
"""The norm after each convolution of a post-activation network."""


def norm_after(convolution: str) -> str | None:
    """The norm that reads what a convolution puts out, where the network is post-activation."""
    for pattern, norm in FOLLOWS:
        if match := pattern.fullmatch(convolution):
            parts = match.groups()
            return f"conv1.{int(parts[0]) + 1}" if norm == "conv1.{}" else norm.format(*parts)
    return None


def fold_biases(state: State) -> int:
    """Take the bias of each convolution into the running mean of the batch norm after it; how many there were.

    A bias before a norm without statistics stays.
    """
    folded = 0
    for name in [name for name in state if name.endswith(".bias")]:
        weight = state.get(f"{name.removesuffix('.bias')}.weight")
        if weight is None or weight.ndim != 4:
            continue
        norm = norm_after(name.removesuffix(".bias"))
        mean = state.get(f"{norm}.running_mean") if norm else None
        if mean is not None and mean.shape == state[name].shape:
            state[f"{norm}.running_mean"] = mean - state.pop(name)
            folded += 1
    return folded


def straighten_layers(state: State) -> int:
    """Make the classifier linear and channel attention convolutional, as ours are; how many biases were missing there."""
    if "fc.weight" in state:
        state["fc.weight"] = state["fc.weight"].flatten(1)
    missing = 0
    for name in [name for name in state if re.search(r"\.se\.fc\d\.weight$", name)]:
        if state[name].ndim == 2:
            state[name] = state[name][:, :, None, None]
        bias = name.removesuffix("weight") + "bias"
        if bias not in state:
            state[bias] = torch.zeros(len(state[name]))
            missing += 1
    return missing


def norms(state: Mapping[str, Tensor]) -> set[str]:
    """The norms among tensors: what has a weight of one axis, or statistics."""
    weights = (name.removesuffix(".weight") for name in state if name.endswith(".weight") and state[name].ndim == 1)
    means = (name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean"))
    return {*weights, *means}


def add_statistics(state: State) -> None:
    """Give norms that only scale and shift, as Caffe2's do, the statistics with which a batch norm does the same."""
    for norm in norms(state):
        size = state.get(f"{norm}.weight", state.get(f"{norm}.running_mean", torch.empty(0))).numel()
        state.setdefault(f"{norm}.running_mean", torch.zeros(size))
        state.setdefault(f"{norm}.running_var", torch.full((size,), 1 - EPSILON))


def add_scales(state: State) -> None:
    """Give batch norms that neither scale nor shift the weights with which ours does not either."""
    for norm in norms(state):
        if f"{norm}.running_mean" in state:
            size = state[f"{norm}.running_mean"].numel()  # which a damaged file has without an axis
            state.setdefault(f"{norm}.weight", torch.ones(size))
            state.setdefault(f"{norm}.bias", torch.zeros(size))


def add_projection_norms(state: State) -> bool:
    """Give projections without a norm, where other convolutions have a batch norm after them, one that changes nothing."""
    norms = [f"{name.removesuffix('conv.weight')}norm" for name in state if name.endswith(".downsample.conv.weight")]
    bare = [norm for norm in norms if f"{norm}.running_mean" not in state]
    if "bn1.running_mean" not in state:
        return False
    for norm in bare:
        size = len(state[f"{norm.removesuffix('norm')}conv.weight"])
        state[f"{norm}.running_mean"] = torch.zeros(size)
        state[f"{norm}.running_var"] = torch.full((size,), 1 - EPSILON)
    return bool(bare)


WIDTHS = {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 1, "conv.weight": 2}
"""The axis of a tensor of channel attention that may be narrower than a configuration has it."""


def widen_attention(state: State, config: ResNetConfig) -> bool:
    """Give channel attention that is narrower than ours zeros: after the channels in between, on both sides of ECA's kernel."""
    before = dict(state)
    for name, wanted in build(config, "meta").state_dict().items():
        axis = WIDTHS.get(name.partition(".se.")[2])
        if axis is None or name not in state:
            continue
        more = wanted.shape[axis] - state[name].shape[axis] if state[name].ndim == wanted.ndim else 0
        if more > 0:
            low = more // 2 if name.endswith(".conv.weight") else 0
            pads = [0] * (2 * (wanted.ndim - 1 - axis)) + [low, more - low]
            state[name] = functional.pad(state[name], pads)
    return any(state[name] is not before[name] for name in before)


def standardise(state: State) -> None:
    """Give convolutions that standardise their weights at each use the weights that they use.

    Each kernel less its mean, over its standard deviation (Qiao 2019, https://arxiv.org/abs/1903.10520), in BiT's form:
    https://github.com/google-research/big_transfer/blob/master/bit_pytorch/models.py.
    """
    for name, weight in state.items():
        if weight.ndim == 4:
            variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
            state[name] = (weight - mean) / torch.sqrt(variance + 1e-8)


def pad_after(state: State, config: ResNetConfig, back: bool = False) -> None:
    """Reorder the channels of a network whose option A pads them on both sides, so that ours, which pads after them, is
    the same function; `back` undoes that.

    https://github.com/akamaster/pytorch_resnet_cifar10/blob/master/resnet.py. A stage's channels are those of the stage
    before, wherever they are, then the new ones; all that writes or reads them follows.
    """
    order = torch.arange(config.stem_channels)
    for number, (blocks, channels) in enumerate(zip(config.layers, config.stage_channels, strict=True), start=1):
        for index in range(blocks):
            block, before = f"layer{number}.{index}", order
            if index == 0:
                low = (channels - len(order)) // 2
                high = low + len(order)
                order = torch.cat([low + order, torch.arange(low), torch.arange(high, channels)])
            for name in list(state):
                if name.startswith(f"{block}."):
                    role, ways = name.removeprefix(f"{block}."), (_way(before, back), _way(order, back))
                    state[name] = _reordered(role, state[name], *ways, config)
    for name in list(state):
        if name.startswith("norm."):
            state[name] = _at(state[name], _way(order, back), 0)
    if "fc.weight" in state:
        state["fc.weight"] = _at(state["fc.weight"], _way(order, back), 1)


def _way(order: Tensor, back: bool) -> Tensor:
    """An order, or the one that undoes it."""
    return order.argsort() if back else order


def _reordered(name: str, tensor: Tensor, before: Tensor, order: Tensor, config: ResNetConfig) -> Tensor:
    """A tensor of a block that reads channels in the order `before` and puts them out in `order`."""
    last, pre = 2 if config.block == "basic" else 3, config.order == "pre"
    if name.startswith("conv1.weight"):
        tensor = _at(tensor, before, 1)
    if name.startswith("bn1.") and pre:
        tensor = _at(tensor, before, 0)
    if name.startswith((f"conv{last}.", "se.fc2.")) or (name.startswith(f"bn{last}.") and not pre):
        tensor = _at(tensor, order, 0)
    return _at(tensor, order, 1) if name == "se.fc1.weight" else tensor


def _at(tensor: Tensor, order: Tensor, axis: int) -> Tensor:
    """The tensor with the entries of an axis in this order; a number that counts batches stays."""
    return tensor.index_select(axis, order) if tensor.ndim > axis else tensor


def make_weights(state: State, makers: Mapping[str, Mapping[str, Tensor]]) -> set[str]:
    """Give weights that are computed at each use what they are there; by what: "mask", "g" or "u".

    By a mask, by the length of each part (weight norm, https://arxiv.org/abs/1602.07868), or by the largest singular value
    as the vectors of the last step say it (spectral norm, https://arxiv.org/abs/1802.05957).
    """
    for name, made in makers.items():
        weight = state[name]
        if "mask" in made:
            state[name] = weight * made["mask"]
        elif "g" in made:
            lengths = made["g"]
            axes = [axis for axis in range(weight.ndim) if not lengths.ndim or lengths.shape[axis] == 1]
            state[name] = weight * (lengths / torch.linalg.vector_norm(weight, dim=axes, keepdim=True))
        else:
            state[name] = weight / torch.dot(made["u"], weight.flatten(1) @ made["v"])
    return {next(kind for kind in ("mask", "g", "u") if kind in made) for made in makers.values()}


def is_maker(part: str, maker: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape can be a part of what makes a weight."""
    if part == "g":
        whole = len(maker) == len(weight) and all(size in (1, most) for size, most in zip(maker, weight, strict=True))
        return not maker or (whole and sum(size > 1 for size in maker) <= 1)
    return maker == {"mask": weight, "u": weight[:1], "v": (prod(weight[1:]),)}[part]


def in_order(state: Mapping[str, Tensor], order: str) -> dict[str, Tensor]:
    """The tensors with the one norm outside the blocks where a network of this order has it: after the stem, or before the
    classifier."""
    before, after = ("bn1.", "norm.") if order == "pre" else ("norm.", "bn1.")
    return {
        after + name.removeprefix(before) if name.startswith(before) else name: tensor for name, tensor in state.items()
    }
