"""The network: stem, stages, head (paper, Table 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from .blocks import BLOCKS, Block, Place, activation, antialias, conv, norm, unfilled
from .config import ResNetConfig


def build(config: ResNetConfig, device: str | torch.device = "cpu") -> ResNet:
    """The network of a configuration, initialised as the paper says, in training mode.

    On the device "meta" it has shapes only: nothing is reserved and nothing initialised.

    Raises:
        RuntimeError: torch's, for a device that it does not know or that is not there.
    """
    with torch.device(device):
        network = ResNet(config)
        if torch.device(device).type != "meta":
            network.initialise()
    return network


class ResNet(nn.Module):
    """Images N × in_channels × H × W to class scores N × num_classes.

    `initialise` or `load_state_dict` gives the weights; see `build`.
    With `tied`, blocks that are alike are one module in several places: enough where only shapes are asked.
    """

    __jit_unused_properties__ = ("stages",)

    def __init__(self, config: ResNetConfig, tied: bool = False):
        super().__init__()
        self.config = config
        post = config.order == "post"

        self.conv1 = stem(config)
        self.bn1 = norm(config, config.stem_channels) if post else nn.Identity()
        self.act1 = activation(config) if post else nn.Identity()
        self.maxpool = stem_pool(config)

        for number, blocks in enumerate(stages(config, tied), start=1):
            self.add_module(f"layer{number}", blocks)

        channels = config.stage_channels[-1]
        self.norm = nn.Identity() if post else norm(config, channels)
        self.act = nn.Identity() if post else activation(config)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = unfilled(nn.Linear, channels, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:  # N × in_channels × H × W
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))  # N × stem_channels × H/4 × W/4
        for name, stage in self.named_children():
            if name.startswith("layer"):
                x = stage(x)  # stage n: N × stage_channels[n] × H/(4·2ⁿ) × W/(4·2ⁿ), n from 0
        return self.fc(self.flatten(self.avgpool(self.act(self.norm(x)))))  # N × num_classes

    @property
    def stages(self) -> list[nn.Sequential]:
        """`layer1`, `layer2`, …: the blocks of each stage."""
        return [self.get_submodule(f"layer{n + 1}") for n in range(len(self.config.layers))]  # type: ignore[misc]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Kaiming normal weights over fan-out (He 2015, https://arxiv.org/abs/1502.01852), as torchvision.

        With `zero_init_residual` the last layer of each branch that can be zero starts at zero.
        Chance comes from `generator`, or from torch's own, which all threads share.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv1d | nn.Linear):  # as torch fills them, but for the generator
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.reset_parameters()
        if self.config.zero_init_residual:
            for block in self.modules():
                if isinstance(block, Block):
                    nn.init.zeros_(block.last().weight)  # type: ignore[arg-type]


def stem(config: ResNetConfig) -> nn.Module:
    """One 7×7 with stride 2, three 3×3 of which the first has it, or one 3×3 at full size."""
    width, channels = config.stem_width, config.in_channels
    if config.stem == "7x7":
        return conv(config, channels, width, 7, stride=2)
    if config.stem == "3x3":
        return conv(config, channels, width, 3)
    first = width // 4 * 3 if config.stem == "tiered" else width
    return nn.Sequential(
        conv(config, channels, first, 3, stride=2),
        norm(config, first),
        activation(config),
        conv(config, first, width, 3),
        norm(config, width),
        activation(config),
        conv(config, width, config.stem_channels, 3),
    )


def stem_pool(config: ResNetConfig) -> nn.Module:
    """What halves the stem's map. Anti-aliased, it subsamples by a low-pass filter instead."""
    channels, filtered = config.stem_channels, config.antialias != "none"
    if config.stem_pool == "none":
        return nn.Identity()
    if config.stem_pool == "conv":
        halving = [conv(config, channels, channels, 3), antialias(config, channels)]
        first = halving if filtered else [conv(config, channels, channels, 3, stride=2)]
        return nn.Sequential(*first, norm(config, channels), activation(config))
    if config.antialias == "avg":
        return nn.AvgPool2d(2)
    if config.antialias == "blur":
        return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), antialias(config, channels))
    if config.zero_pool:
        return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, stride=2))
    return nn.MaxPool2d(3, stride=2, padding=1)


def stages(config: ResNetConfig, tied: bool = False) -> list[nn.Sequential]:
    """The residual stages. With `tied`, equal places get one and the same block."""
    block: Callable[[Place], nn.Module] = partial(BLOCKS[config.block, config.order], config)
    if tied:
        block = cache(block)
    result = []
    for blocks in places(config):
        result.append(nn.Sequential(*map(block, blocks)))
    return result


def places(config: ResNetConfig) -> list[list[Place]]:
    """Where the blocks of each stage stand. The first one changes channels and stride, the others neither."""
    inputs, first_dilation, made, last = config.stem_channels, 1, 0, sum(config.layers) - 1
    result = []
    for count, planes, (stride, dilation) in zip(config.layers, config.planes, config.stage_strides, strict=True):
        blocks = []
        for index in range(count):
            # Stochastic depth grows linearly with depth (Huang 2016, section 4).
            drop_path = config.drop_path * (made / last if last else 1)
            blocks.append(Place(inputs, planes, stride if index == 0 else 1, dilation, first_dilation, drop_path))
            inputs, first_dilation, made = planes * config.expansion, dilation, made + 1
        result.append(blocks)
    return result
