"""The call with which torchvision or timm builds a network, where they can: the same names in the state dict, and the same
outputs with the same weights. How the weights begin is the library's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from resnet import OPTIONS, ResNetConfig
from resnet.options import to_text
from resnet.presets import GROUPS, TIMM, TORCHVISION

from .errors import ExportError

PLANES = (64, 128, 256, 512)


class Call(NamedTuple):
    """A call, or None and the reason for it in a sentence."""

    code: str | None
    reason: str = ""

    def script(self) -> str:
        """Python that makes the network `model`.

        Raises:
            ExportError: where no call makes it.
        """
        if self.code is None:
            raise ExportError(self.reason)
        modules = [
            name for name in ("functools", "timm", "torch", "torchvision") if re.search(rf"\b{name}\.", self.code)
        ]
        lines = [f"import {name}" for name in modules]
        if modules[0] == "functools":
            lines.insert(1, "")
        return "\n".join([*lines, "", f"model = {self.code}", ""])


def torchvision_call(config: ResNetConfig) -> Call:
    """torchvision's, https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py."""
    own: dict[str, tuple[Any, ...]] = {
        "planes": (PLANES,),
        "stem": ("7x7",),
        "stem_width": (64,),
        "stem_pool": ("max",),
        "zero_pool": (False,),
    }
    own |= {"order": ("post",), "shortcut": ("B",), "stride_in": ("3x3",), "norm": ("batch", "group")}
    own |= {
        name: (OPTIONS[name].default,) for name in ("activation", "attention", "antialias", "drop_path", "in_channels")
    }
    if config.block == "basic":
        own["output_stride"] = (32,)
    if reason := _reason("torchvision", config, own):
        return Call(None, reason)
    given = {}
    if config.num_classes != 1000:
        given["num_classes"] = str(config.num_classes)
    if config.output_stride < 32:
        given["replace_stride_with_dilation"] = str([False, config.output_stride == 8, True])
    if config.zero_init_residual:
        given["zero_init_residual"] = "True"
    if config.norm == "group":
        given["norm_layer"] = f"functools.partial(torch.nn.GroupNorm, {config.norm_groups})"
    same = replace(config, num_classes=1000, output_stride=32, zero_init_residual=False, norm="batch", norm_groups=32)
    if name := _named(same, GROUPS[TORCHVISION]):
        return Call(f"torchvision.models.{name}({_arguments(given)})")
    if config.groups > 1:
        given["groups"] = str(config.groups)
    if config.base_width != 64:
        given["width_per_group"] = str(config.base_width)
    block = f"torchvision.models.resnet.{BLOCKS[config.block]}"
    return Call(f"torchvision.models.ResNet({block}, {list(config.layers)}{_arguments(given, ', ')})")


def timm_call(config: ResNetConfig) -> Call:
    """timm's, https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py.

    Its 2×2 average in front of a stride cuts off the last row or column of a map with an odd side, where ours rounds up.
    """
    own: dict[str, tuple[Any, ...]] = {"stem": ("7x7", "deep", "tiered"), "stem_pool": ("max", "conv")}
    own |= {"order": ("post",), "shortcut": ("B", "D"), "stride_in": ("3x3",), "norm": ("batch", "group")}
    own |= {"zero_pool": (False,)} | ({"stem_width": (64,)} if config.stem == "7x7" else {})
    if reason := _reason("timm", config, own):
        return Call(None, reason)
    if sum(config.layers) < 2 or len(config.layers) > 4:
        return Call(
            None, f"timm's networks have at most 4 stages and at least 2 blocks: this has {to_text(config.layers)}."
        )
    given = {}
    if config.num_classes != 1000:
        given["num_classes"] = str(config.num_classes)
    if config.in_channels != 3:
        given["in_chans"] = str(config.in_channels)
    if config.output_stride < 32:
        given["output_stride"] = str(config.output_stride)
    if config.drop_path:
        given["drop_path_rate"] = str(config.drop_path)
    same = replace(config, num_classes=1000, in_channels=3, output_stride=32, drop_path=0.0, zero_init_residual=False)
    if name := _named(same, {**GROUPS[TORCHVISION], **GROUPS[TIMM]}):
        return Call(f'timm.create_model("{name}"{_arguments(given, ", ")})')
    given |= _timm_layers(config)
    block = f"timm.models.resnet.{BLOCKS[config.block]}"
    return Call(f"timm.models.ResNet({block}, {config.layers}{_arguments(given, ', ')})")


BLOCKS = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}
"""What both call their blocks."""


def _timm_layers(config: ResNetConfig) -> dict[str, str]:
    """What timm's class is told of a network that has no name there."""
    given = {}
    if config.planes != PLANES:
        given["channels"] = str(config.planes)
    if config.groups > 1:
        given["cardinality"] = str(config.groups)
    if config.base_width != 64:
        given["base_width"] = str(config.base_width)
    if config.stem != "7x7":
        given["stem_type"] = '"deep_tiered"' if config.stem == "tiered" else '"deep"'
        given["stem_width"] = str(config.stem_width)
    if config.stem_pool == "conv":
        given["replace_stem_pool"] = "True"
    if config.shortcut == "D":
        given["avg_down"] = "True"
    if config.activation != "relu":
        given["act_layer"] = f'"{config.activation}"'
    if config.norm == "group":
        given["norm_layer"] = f"functools.partial(timm.layers.GroupNorm, num_groups={config.norm_groups})"
    if config.antialias != "none":
        given["aa_layer"] = "timm.layers.BlurPool2d" if config.antialias == "blur" else "torch.nn.AvgPool2d"
    if config.attention == "eca":
        given["block_args"] = 'dict(attn_layer="eca")'
    if config.attention == "se":
        layer = '"se"'
        if config.se_reduction != 16:
            layer = f"functools.partial(timm.layers.SEModule, rd_ratio=1 / {config.se_reduction})"
        given["block_args"] = f"dict(attn_layer={layer})"
    return given


def _reason(library: str, config: ResNetConfig, own: Mapping[str, tuple[Any, ...]]) -> str:
    """What a network has that a library's do not, in a sentence; empty where there is nothing."""
    for name, values in own.items():
        value = getattr(config, name)
        if value not in values:
            accepted = " or ".join(map(to_text, values))
            return f"{library} builds no network with {name} = {to_text(value)}: its own has {accepted}."
    groups = config.norm_groups
    if config.norm == "group" and any(channels % groups for channels in _normalised(config)):
        return f"{library} builds no network with {groups} norm groups of channels that they do not divide."
    return ""


def _normalised(config: ResNetConfig) -> set[int]:
    """How many channels its norms have."""
    stem = {config.stem_channels}
    if config.stem in ("deep", "tiered"):
        stem |= {config.stem_width, config.stem_width // 4 * 3 if config.stem == "tiered" else config.stem_width}
    return {*stem, *map(config.width, config.planes), *config.stage_channels}


def _named(config: ResNetConfig, networks: Mapping[str, ResNetConfig]) -> str | None:
    return next((name for name, network in networks.items() if network == config), None)


def _arguments(given: Mapping[str, str], before: str = "") -> str:
    """Arguments of a call, after the text that stands before them."""
    return before * bool(given) + ", ".join(f"{name}={text}" for name, text in given.items())
