"""The parts that residual networks are made of.

Every operation is a module of its own, an addition too, and nothing works in
place: forward hooks therefore see each step with its true input and output.
State-dict names are torchvision's, and timm's for what torchvision lacks.

Feature maps are N × C × H × W throughout.
"""

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

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


Weighted = TypeVar("Weighted", nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm)


def unfilled(kind: type[Weighted], *args: Any, **kwargs: Any) -> Weighted:
    """One of torch's own layers, its weights reserved: `ResNet.initialise` fills them, once, instead of the constructor.

    Tools know an operation by its exact class, so the subclass that skips the filling is left once the layer is made.
    """
    module = _UNFILLED[kind](*args, **kwargs)
    module.__class__ = kind
    return module


_UNFILLED: dict[type, Any] = {
    kind: type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})
    for kind in (nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm)
}


def conv(
    config: ResNetConfig, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps H × W at stride 1. A norm that follows makes the bias redundant."""
    padding = dilation * (kernel // 2)
    bias = config.norm == "none"
    return unfilled(nn.Conv2d, inputs, outputs, kernel, stride, padding, dilation, groups, bias)


def norm(config: ResNetConfig, channels: int) -> nn.Module:
    """Normalisation of C channels. Group norm has its groups, 32 in Wu & He 2018, where these divide C."""
    if config.norm == "group":
        return unfilled(nn.GroupNorm, math.gcd(config.norm_groups, channels), channels)
    return unfilled(nn.BatchNorm2d, channels) if config.norm == "batch" else nn.Identity()


def activation(config: ResNetConfig) -> nn.Module:
    return ACTIVATIONS[config.activation]()


def antialias(config: ResNetConfig, channels: int) -> nn.Module:
    """A low-pass filter that halves H × W, an odd side rounded up as a convolution with stride 2 does."""
    return BlurPool2d(channels) if config.antialias == "blur" else nn.AvgPool2d(2, ceil_mode=True)


class BlurPool2d(nn.Module):
    """3×3 binomial blur, with stride 2 for subsampling (Zhang 2019, https://arxiv.org/abs/1904.11486)."""

    kernel: Tensor

    def __init__(self, channels: int, stride: int = 2):
        super().__init__()
        self.kernel_size, self.stride, self.padding = 3, stride, 1
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row).expand(channels, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, [self.padding, self.padding, self.padding, self.padding], mode="reflect")
        return F.conv2d(padded, self.kernel, stride=self.stride, groups=self.kernel.shape[0])


class Add(nn.Module):
    """F(x) + S(x)."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch + shortcut


class Scale(nn.Module):
    """Each channel times its weight: N×C×H×W · C weights an image, as N×C×1×1 or N×1×C."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * weight.flatten(1)[:, :, None, None]


class DropPath(nn.Module):
    """Stochastic depth: drop F(x) of whole samples in training (Huang 2016, https://arxiv.org/abs/1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand_like(x[:, :1, :1, :1]) >= self.rate
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
        self.fc1 = unfilled(nn.Conv2d, channels, squeezed, 1)
        self.act = nn.ReLU()
        self.fc2 = unfilled(nn.Conv2d, squeezed, channels, 1)
        self.gate = nn.Sigmoid()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.fc2(self.act(self.fc1(self.pool(x))))))


class FlattenChannels(nn.Module):
    """The channels of N×C×1×1 as a line N×1×C, for a convolution to move along."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).unsqueeze(1)


class EfficientChannelAttention(nn.Module):
    """x · σ(conv1d(mean(x))), the kernel growing with log₂ C (Wang 2020, https://arxiv.org/abs/1910.03151)."""

    def __init__(self, channels: int):
        super().__init__()
        kernel = int((math.log2(channels) + 1) / 2) | 1
        kernel = max(kernel, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = FlattenChannels()
        self.conv = unfilled(nn.Conv1d, 1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.conv(self.flatten(self.pool(x)))))


def attention(config: ResNetConfig, channels: int) -> nn.Module:
    if config.attention == "se":
        return SqueezeExcitation(channels, config.se_reduction)
    return EfficientChannelAttention(channels) if config.attention == "eca" else nn.Identity()


# -- places -------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a block stands: what differs between the blocks of one network."""

    inputs: int
    planes: int
    stride: int
    dilation: int
    first_dilation: int
    """Dilation up to where the stride would be: a stage's first block still has that of the stage before."""
    drop_path: float

    @property
    def dilates(self) -> bool:
        """Whether dilation grows here, in place of a stride."""
        return self.dilation > self.first_dilation


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


def projection(config: ResNetConfig, place: Place, outputs: int) -> nn.Sequential:
    """Options B and C: a 1×1 convolution W_s x (paper, equation 2)."""
    return nn.Sequential(conv(config, place.inputs, outputs, 1, place.stride), shortcut_norm(config, outputs))


def pooled_projection(config: ResNetConfig, place: Place, outputs: int) -> nn.Sequential:
    """Option D: average first, so that the 1×1 convolution skips no position (He 2018, https://arxiv.org/abs/1812.01187).

    Dilated, it averages at every position, a zero beyond the last one, as timm does.
    """
    pool: nn.Module = nn.Identity()
    if place.stride > 1:
        pool = nn.AvgPool2d(2, place.stride, ceil_mode=True, count_include_pad=False)
    elif place.dilates:
        pool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, stride=1))
    return nn.Sequential(pool, conv(config, place.inputs, outputs, 1), shortcut_norm(config, outputs))


def shortcut_norm(config: ResNetConfig, channels: int) -> nn.Module:
    """Post-activation normalises the projection; pre-activation adds it as it is."""
    return norm(config, channels) if config.order == "post" else nn.Identity()


def shortcut(config: ResNetConfig, place: Place, outputs: int) -> nn.Module:
    """S(x): identity wherever the shapes allow it, except for option C."""
    same = place.inputs == outputs and place.stride == 1
    if same and config.shortcut != "C":
        return nn.Identity()
    if config.shortcut == "A":
        return PadShortcut(place.inputs, outputs, place.stride)
    return (pooled_projection if config.shortcut == "D" else projection)(config, place, outputs)


# -- blocks -------------------------------------------------------------------------------


class Block(nn.Module):
    """y = σ(F(x) + S(x)), or y = σ(F(x)) in a plain network (paper, equation 1).

    A subclass makes the layers of the branch F in `make_branch` and applies them in `branch`.
    """

    plain: Final[bool]

    def __init__(self, config: ResNetConfig, place: Place):
        super().__init__()
        outputs = place.planes * config.expansion
        self.make_branch(config, place)
        self.se = attention(config, outputs)
        self.drop_path = DropPath(place.drop_path) if place.drop_path else nn.Identity()
        self.plain = config.shortcut == "none"
        if not self.plain:
            self.downsample = shortcut(config, place, outputs)
            self.add = Add()
        self.act = activation(config) if config.order == "post" else nn.Identity()

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        raise TypeError("a Block has no layers: use BasicBlock or Bottleneck")

    def branch(self, x: Tensor) -> Tensor:
        """F(x) up to attention and stochastic depth."""
        raise TypeError("a Block has no layers: use BasicBlock or Bottleneck")

    def last(self) -> nn.Module:
        """The last layer of the branch: where its weights are zero, the block begins as its shortcut."""
        raise TypeError("a Block has no layers: use BasicBlock or Bottleneck")

    def forward(self, x: Tensor) -> Tensor:  # N × C × H × W
        y = self.drop_path(self.se(self.branch(x)))  # N × C' × H/s × W/s
        if not self.plain:
            y = self.add(y, self.downsample(x))  # both N × C' × H/s × W/s
        return self.act(y)


class BasicBlock(Block):
    """F: two 3×3 convolutions (paper, figure 5 left)."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        planes = place.planes
        stride, self.aa = subsampling(config, place, planes)
        self.conv1 = conv(config, place.inputs, planes, 3, stride, place.first_dilation)
        self.bn1 = norm(config, planes)
        self.act1 = activation(config)
        self.conv2 = conv(config, planes, planes, 3, dilation=place.dilation)
        self.bn2 = norm(config, planes)

    def branch(self, x: Tensor) -> Tensor:  # N × C × H × W
        x = self.aa(self.act1(self.bn1(self.conv1(x))))  # N × planes × H/s × W/s
        return self.bn2(self.conv2(x))

    def last(self) -> nn.Module:
        return self.conv2 if isinstance(self.bn2, nn.Identity) else self.bn2


class Bottleneck(Block):
    """F: 1×1 to fewer channels, 3×3 on those, 1×1 to four times the planes (paper, figure 5 right)."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        width, outputs = config.width(place.planes), place.planes * config.expansion
        early = config.stride_in == "1x1"
        stride1, self.aa1 = subsampling(config, place, width, early)
        stride2, self.aa2 = subsampling(config, place, width, not early)
        dilation = place.dilation if early else place.first_dilation
        self.conv1 = conv(config, place.inputs, width, 1, stride1)
        self.bn1 = norm(config, width)
        self.act1 = activation(config)
        self.conv2 = conv(config, width, width, 3, stride2, dilation, config.groups)
        self.bn2 = norm(config, width)
        self.act2 = activation(config)
        self.conv3 = conv(config, width, outputs, 1)
        self.bn3 = norm(config, outputs)

    def branch(self, x: Tensor) -> Tensor:  # N × C × H × W
        x = self.aa1(self.act1(self.bn1(self.conv1(x))))  # N × width × H × W, v1: H/s × W/s
        x = self.aa2(self.act2(self.bn2(self.conv2(x))))  # N × width × H/s × W/s
        return self.bn3(self.conv3(x))  # N × 4 planes × H/s × W/s

    def last(self) -> nn.Module:
        return self.conv3 if isinstance(self.bn3, nn.Identity) else self.bn3


class PreActivation(Block):
    """y = x + F(σ(x)): the shortcut path from input to output is clean (He 2016, https://arxiv.org/abs/1603.05027).

    Only where the shapes differ does a projection read σ(x) instead of x.
    """

    projects: Final[bool]
    if TYPE_CHECKING:  # TorchScript reads annotations and accepts no module's
        bn1: nn.Module
        act1: nn.Module

    def __init__(self, config: ResNetConfig, place: Place):
        super().__init__(config, place)
        self.projects = not self.plain and isinstance(self.downsample, nn.Sequential)

    def forward(self, x: Tensor) -> Tensor:  # N × C × H × W
        active = self.act1(self.bn1(x))
        y = self.drop_path(self.se(self.branch(active)))  # N × C' × H/s × W/s
        if not self.plain:
            y = self.add(y, self.downsample(active if self.projects else x))  # both N × C' × H/s × W/s
        return y


class PreActBasicBlock(PreActivation, BasicBlock):
    """The basic block with each normalisation and activation before its convolution."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        super().make_branch(config, place)
        self.bn1 = norm(config, place.inputs)
        self.act2 = activation(config)

    def branch(self, x: Tensor) -> Tensor:  # N × C × H × W
        x = self.aa(self.act2(self.bn2(self.conv1(x))))  # N × planes × H/s × W/s
        return self.conv2(x)

    def last(self) -> nn.Module:
        return self.conv2


class PreActBottleneck(PreActivation, Bottleneck):
    """The bottleneck block with each normalisation and activation before its convolution."""

    def make_branch(self, config: ResNetConfig, place: Place) -> None:
        super().make_branch(config, place)
        self.bn1 = norm(config, place.inputs)
        self.bn3 = norm(config, config.width(place.planes))
        self.act3 = activation(config)

    def branch(self, x: Tensor) -> Tensor:  # N × C × H × W
        x = self.aa1(self.act2(self.bn2(self.conv1(x))))  # N × width × H × W, v1: H/s × W/s
        x = self.aa2(self.act3(self.bn3(self.conv2(x))))  # N × width × H/s × W/s
        return self.conv3(x)  # N × 4 planes × H/s × W/s

    def last(self) -> nn.Module:
        return self.conv3


def subsampling(config: ResNetConfig, place: Place, channels: int, here: bool = True) -> tuple[int, nn.Module]:
    """The stride of a convolution, if it is `here`, and the filter after its activation that subsamples instead.

    Where dilation stands for the stride a blur stays, an average does not, as in timm.
    """
    if here and place.stride > 1 and config.antialias != "none":
        return 1, antialias(config, channels)
    if here and place.dilates and config.antialias == "blur":
        return 1, BlurPool2d(channels, stride=1)
    return place.stride if here else 1, nn.Identity()


BLOCKS: dict[tuple[str, str], type[Block]] = {
    ("basic", "post"): BasicBlock,
    ("bottleneck", "post"): Bottleneck,
    ("basic", "pre"): PreActBasicBlock,
    ("bottleneck", "pre"): PreActBottleneck,
}
"""The block class for (`block`, `order`) of a configuration."""
