"""The parts that residual networks are made of.

Every operation is a module of its own, an addition too, and nothing works in
place: forward hooks therefore see each step with its true input and output.
State-dict names are torchvision's, and timm's for what torchvision lacks.

Feature maps are N × C × H × W throughout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ResNetConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


# -- operations ---------------------------------------------------------------------------


class Conv2d(nn.Conv2d):
    """A convolution whose weights `ResNet.initialise` fills, once, instead of the constructor."""

    def reset_parameters(self) -> None:
        pass


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that is filled like `Conv2d`."""

    def reset_parameters(self) -> None:
        pass


class Linear(nn.Linear):
    """A linear layer that is filled like `Conv2d`."""

    def reset_parameters(self) -> None:
        pass


def conv(
    config: ResNetConfig, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Conv2d:
    """A convolution that keeps H × W at stride 1. A norm that follows makes the bias redundant."""
    padding = dilation * (kernel // 2)
    bias = config.norm == "none"
    return Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)


def norm(config: ResNetConfig, channels: int) -> nn.Module:
    """Normalisation of C channels. Group norm has 32 groups where 32 divides C (Wu & He 2018)."""
    if config.norm == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    return BatchNorm2d(channels) if config.norm == "batch" else nn.Identity()


def activation(config: ResNetConfig) -> nn.Module:
    return ACTIVATIONS[config.activation]()


def antialias(config: ResNetConfig, channels: int) -> nn.Module:
    """A low-pass filter that halves H × W, an odd side rounded up as a convolution with stride 2 does."""
    return BlurPool2d(channels) if config.antialias == "blur" else nn.AvgPool2d(2, ceil_mode=True)


class BlurPool2d(nn.Module):
    """3×3 binomial blur with stride 2 (Zhang 2019, https://arxiv.org/abs/1904.11486)."""

    kernel_size, stride, padding = 3, 2, 1
    kernel: Tensor

    def __init__(self, channels: int):
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row).expand(channels, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.padding,) * 4, mode="reflect")
        return F.conv2d(padded, self.kernel, stride=self.stride, groups=x.shape[1])


class Add(nn.Module):
    """F(x) + S(x)."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch + shortcut


class Scale(nn.Module):
    """Each channel times its weight: N×C×H×W · N×C×1×1."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * weight


class DropPath(nn.Module):
    """Stochastic depth: drop F(x) of whole samples in training (Huang 2016, https://arxiv.org/abs/1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device) >= self.rate
        return x * keep / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


# -- channel attention --------------------------------------------------------------------


class SqueezeExcitation(nn.Module):
    """x · σ(W₂ δ(W₁ mean(x))), one weight a channel (Hu 2018, https://arxiv.org/abs/1709.01507).

    The squeezed width is C / reduction, rounded to a multiple of 8 as timm rounds it.
    """

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        squeezed = max(8, int(channels / reduction + 4) // 8 * 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.fc2 = Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.fc2(self.act(self.fc1(self.pool(x))))))


class ChannelConv1d(nn.Conv1d):
    """A 1-d convolution along the channels of N×C×1×1."""

    def forward(self, x: Tensor) -> Tensor:
        along = x.flatten(1).unsqueeze(1)
        return super().forward(along).squeeze(1)[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """x · σ(conv1d(mean(x))), the kernel growing with log₂ C (Wang 2020, https://arxiv.org/abs/1910.03151)."""

    def __init__(self, channels: int):
        super().__init__()
        kernel = int((math.log2(channels) + 1) / 2) | 1
        kernel = max(kernel, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = ChannelConv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.conv(self.pool(x))))


def attention(config: ResNetConfig, channels: int) -> nn.Module:
    if config.attention == "se":
        return SqueezeExcitation(channels, config.se_reduction)
    return EfficientChannelAttention(channels) if config.attention == "eca" else nn.Identity()


# -- shortcuts ----------------------------------------------------------------------------


class PadShortcut(nn.Module):
    """Option A: every s-th position, the missing channels zero. No parameters, no MACs (paper, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, extra={self.extra}"


def projection(config: ResNetConfig, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Options B and C: a 1×1 convolution W_s x (paper, equation 2)."""
    return nn.Sequential(conv(config, inputs, outputs, 1, stride), shortcut_norm(config, outputs))


def pooled_projection(config: ResNetConfig, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Option D: average first, so that the 1×1 convolution skips no position (He 2018, https://arxiv.org/abs/1812.01187)."""
    pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, conv(config, inputs, outputs, 1), shortcut_norm(config, outputs))


def shortcut_norm(config: ResNetConfig, channels: int) -> nn.Module:
    """Post-activation normalises the projection; pre-activation adds it as it is."""
    return norm(config, channels) if config.order == "post" else nn.Identity()


def shortcut(config: ResNetConfig, inputs: int, outputs: int, stride: int) -> nn.Module:
    """S(x): identity wherever the shapes allow it, except for option C."""
    same = inputs == outputs and stride == 1
    if same and config.shortcut != "C":
        return nn.Identity()
    if config.shortcut == "A":
        return PadShortcut(inputs, outputs, stride)
    return (pooled_projection if config.shortcut == "D" else projection)(config, inputs, outputs, stride)


# -- blocks -------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a block stands: what differs between the blocks of one network."""

    inputs: int
    planes: int
    stride: int
    dilation: int
    first_dilation: int
    """Dilation of the first 3×3: a stage's first block still has that of the stage before."""
    drop_path: float


class Block(nn.Module):
    """y = σ(F(x) + S(x)), or y = σ(F(x)) in a plain network (paper, equation 1).

    A subclass makes the layers of the branch F in `make_branch` and applies them in `branch`.
    """

    def __init__(self, config: ResNetConfig, place: Place):
        super().__init__()
        outputs = place.planes * config.expansion
        self.make_branch(config, place)
        self.se = attention(config, outputs)
        self.drop_path = DropPath(place.drop_path) if place.drop_path else nn.Identity()
        self.plain = config.shortcut == "none"
        if not self.plain:
            self.downsample = shortcut(config, place.inputs, outputs, place.stride)
            self.add = Add()
        self.act = activation(config) if config.order == "post" else nn.Identity()

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        raise TypeError("a Block has no layers: use BasicBlock or Bottleneck")

    def branch(self, x: Tensor) -> Tensor:
        """F(x) up to attention and stochastic depth."""
        raise TypeError("a Block has no layers: use BasicBlock or Bottleneck")

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop_path(self.se(self.branch(x)))
        if not self.plain:
            y = self.add(y, self.downsample(x))
        return self.act(y)


class BasicBlock(Block):
    """F: two 3×3 convolutions (paper, figure 5 left)."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        planes = place.planes
        stride, self.aa = subsampling(config, place.stride, planes)
        self.conv1 = conv(config, place.inputs, planes, 3, stride, place.first_dilation)
        self.bn1 = norm(config, planes)
        self.act1 = activation(config)
        self.conv2 = conv(config, planes, planes, 3, dilation=place.dilation)
        self.bn2 = norm(config, planes)

    def branch(self, x: Tensor) -> Tensor:
        x = self.aa(self.act1(self.bn1(self.conv1(x))))
        return self.bn2(self.conv2(x))


class Bottleneck(Block):
    """F: 1×1 to fewer channels, 3×3 on those, 1×1 to four times the planes (paper, figure 5 right)."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        width, outputs = config.width(place.planes), place.planes * config.expansion
        strides = (place.stride, 1) if config.stride_in == "1x1" else (1, place.stride)
        stride1, self.aa1 = subsampling(config, strides[0], width)
        stride2, self.aa2 = subsampling(config, strides[1], width)
        self.conv1 = conv(config, place.inputs, width, 1, stride1)
        self.bn1 = norm(config, width)
        self.act1 = activation(config)
        self.conv2 = conv(config, width, width, 3, stride2, place.first_dilation, config.groups)
        self.bn2 = norm(config, width)
        self.act2 = activation(config)
        self.conv3 = conv(config, width, outputs, 1)
        self.bn3 = norm(config, outputs)

    def branch(self, x: Tensor) -> Tensor:
        x = self.aa1(self.act1(self.bn1(self.conv1(x))))
        x = self.aa2(self.act2(self.bn2(self.conv2(x))))
        return self.bn3(self.conv3(x))


class PreActivation(Block):
    """y = x + F(σ(x)): the shortcut path from input to output is clean (He 2016, https://arxiv.org/abs/1603.05027).

    Only where the shapes differ does a projection read σ(x) instead of x.
    """

    bn1: nn.Module
    act1: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.bn1(x))
        y = self.drop_path(self.se(self.branch(active)))
        if not self.plain:
            projects = isinstance(self.downsample, nn.Sequential)
            y = self.add(y, self.downsample(active if projects else x))
        return y


class PreActBasicBlock(PreActivation, BasicBlock):
    """The basic block with each normalisation and activation before its convolution."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        super().make_branch(config, place)
        self.bn1 = norm(config, place.inputs)
        self.act2 = activation(config)

    def branch(self, x: Tensor) -> Tensor:
        x = self.aa(self.act2(self.bn2(self.conv1(x))))
        return self.conv2(x)


class PreActBottleneck(PreActivation, Bottleneck):
    """The bottleneck block with each normalisation and activation before its convolution."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        super().make_branch(config, place)
        self.bn1 = norm(config, place.inputs)
        self.bn3 = norm(config, config.width(place.planes))
        self.act3 = activation(config)

    def branch(self, x: Tensor) -> Tensor:
        x = self.aa1(self.act2(self.bn2(self.conv1(x))))
        x = self.aa2(self.act3(self.bn3(self.conv2(x))))
        return self.conv3(x)


def subsampling(config: ResNetConfig, stride: int, channels: int) -> tuple[int, nn.Module]:
    """The stride of a convolution, and the filter after its activation that subsamples instead."""
    if stride > 1 and config.antialias != "none":
        return 1, antialias(config, channels)
    return stride, nn.Identity()


BLOCKS: dict[tuple[str, str], type[Block]] = {
    ("basic", "post"): BasicBlock,
    ("bottleneck", "post"): Bottleneck,
    ("basic", "pre"): PreActBasicBlock,
    ("bottleneck", "pre"): PreActBottleneck,
}
"""The block class for (`block`, `order`) of a configuration."""
