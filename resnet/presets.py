"""Networks that have a name: those of the paper, torchvision and timm.

What the letters in names mean, as timm's `resnet.py` has them
(https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py):

    c       deep stem, three 3×3 of 32, 32 and 64 channels (He 2018, https://arxiv.org/abs/1812.01187, "ResNet-C")
    d       c, and shortcuts that average before they project (there, "ResNet-D")
    s       deep stem of 64, 64 and 128 channels
    t       tiered stem of 24, 32 and 64 channels, and the shortcuts of d
    v1      the stride in the first 1×1 of a bottleneck, as in the paper; without it in the 3×3, "v1.5"
    v2      activation before convolution (He 2016, https://arxiv.org/abs/1603.05027)
    se, eca channel attention (https://arxiv.org/abs/1709.01507, https://arxiv.org/abs/1910.03151)
    blur    a binomial blur before each subsampling (https://arxiv.org/abs/1904.11486); aa: a 2×2 average
    rs      d, se with a quarter of the channels, a convolution in place of max pooling (https://arxiv.org/abs/2103.07579)
    gn      group norm (https://arxiv.org/abs/1803.08494)
    32x4d   ResNeXt: 32 groups of 4 channels (https://arxiv.org/abs/1611.05431)
    wide …_2 twice the channels inside a bottleneck (https://arxiv.org/abs/1605.07146)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from .config import ResNetConfig
from .options import ConfigError

TORCHVISION, PAPER, CIFAR, SHIPPED, TIMM = "torchvision", "paper", "CIFAR", "shipped", "timm"


def _groups() -> dict[str, Mapping[str, ResNetConfig]]:
    """Every named network by where its name is from, as differences from ResNet-50."""
    r18, r34, r50 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)
    r26, r101, r152, r200 = r18, (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)
    r269 = (3, 30, 48, 8)
    basic = {"block": "basic"}
    # The letters of the "bag of tricks" paper (https://arxiv.org/abs/1812.01187) as timm uses them.
    c: dict[str, Any] = {"stem": "deep", "stem_width": 32}
    s: dict[str, Any] = {"stem": "deep", "stem_width": 64}
    d, t = {**c, "shortcut": "D"}, {"stem": "tiered", "stem_width": 32, "shortcut": "D"}
    se, eca, blur, aa = {"attention": "se"}, {"attention": "eca"}, {"antialias": "blur"}, {"antialias": "avg"}
    rs = {**d, **se, "se_reduction": 4, "stem_pool": "conv"}

    def x(groups: int, width: int) -> dict[str, Any]:
        return {"groups": groups, "base_width": width}

    def cifar(n: int, **other: Any) -> dict[str, Any]:
        """Depth 6n + 2 for 32×32 images (paper, section 4.2)."""
        small = {"layers": (n, n, n), "planes": (16, 32, 64), "stem": "3x3", "stem_pool": "none", "num_classes": 10}
        return {**basic, **small, "shortcut": "A", **other}

    v1, plain = {"stride_in": "1x1"}, {"shortcut": "none"}
    table: dict[str, dict[str, dict[str, Any]]] = {
        # with the stride in the 3×3, where a block has one; without that the paper's Table 1
        TORCHVISION: {
            "resnet18": {**basic, "layers": r18},
            "resnet34": {**basic, "layers": r34},
            "resnet50": {"layers": r50},
            "resnet101": {"layers": r101},
            "resnet152": {"layers": r152},
            "resnext50_32x4d": {"layers": r50, **x(32, 4)},
            "resnext101_32x8d": {"layers": r101, **x(32, 8)},
            "resnext101_64x4d": {"layers": r101, **x(64, 4)},
            "wide_resnet50_2": {"layers": r50, "base_width": 128},
            "wide_resnet101_2": {"layers": r101, "base_width": 128},
        },
        # with the paper's own stride; a basic block has no 1x1 to hold it
        PAPER: {
            "resnet18_v1": {**basic, "layers": r18},
            "resnet34_v1": {**basic, "layers": r34},
            "resnet50_v1": {"layers": r50, **v1},
            "resnet101_v1": {"layers": r101, **v1},
            "resnet152_v1": {"layers": r152, **v1},
            "plain18": {**basic, "layers": r18, **plain},
            "plain34": {**basic, "layers": r34, **plain},
        },
        # the paper's Table 6
        CIFAR: {
            "resnet20": cifar(3),
            "resnet32": cifar(5),
            "resnet44": cifar(7),
            "resnet56": cifar(9),
            "resnet110": cifar(18),
            "resnet1202": cifar(200),
            "plain20": cifar(3, **plain),
            "plain56": cifar(9, **plain),
        },
        # the networks whose weights ship with this package
        SHIPPED: {
            **{
                f"{name}_fashion": cifar(n, in_channels=1, **other)
                for name, n, other in (
                    ("resnet20", 3, {}),
                    ("plain20", 3, plain),
                    ("resnet56", 9, {}),
                    ("plain56", 9, plain),
                )
            }
        },
        TIMM: {
            "resnet10t": {**basic, "layers": (1, 1, 1, 1), **t},
            "resnet14t": {"layers": (1, 1, 1, 1), **t},
            "resnet18d": {**basic, "layers": r18, **d},
            "resnet34d": {**basic, "layers": r34, **d},
            "resnet26": {"layers": r26},
            "resnet26t": {"layers": r26, **t},
            "resnet26d": {"layers": r26, **d},
            "resnet50c": {"layers": r50, **c},
            "resnet50d": {"layers": r50, **d},
            "resnet50s": {"layers": r50, **s},
            "resnet50t": {"layers": r50, **t},
            "resnet101c": {"layers": r101, **c},
            "resnet101d": {"layers": r101, **d},
            "resnet101s": {"layers": r101, **s},
            "resnet152c": {"layers": r152, **c},
            "resnet152d": {"layers": r152, **d},
            "resnet152s": {"layers": r152, **s},
            "resnet200": {"layers": r200},
            "resnet200d": {"layers": r200, **d},
            "resnet50_gn": {"layers": r50, "norm": "group"},
            "resnext50d_32x4d": {"layers": r50, **x(32, 4), **d},
            "resnext101_32x4d": {"layers": r101, **x(32, 4)},
            "resnext101_32x16d": {"layers": r101, **x(32, 16)},
            "resnext101_32x32d": {"layers": r101, **x(32, 32)},
            "ecaresnet26t": {"layers": r26, **eca, **t},
            "ecaresnet50d": {"layers": r50, **eca, **d},
            "ecaresnet50t": {"layers": r50, **eca, **t},
            "ecaresnetlight": {"layers": (1, 1, 11, 3), **eca, "shortcut": "D"},
            "ecaresnet101d": {"layers": r101, **eca, **d},
            "ecaresnet200d": {"layers": r200, **eca, **d},
            "ecaresnet269d": {"layers": r269, **eca, **d},
            "ecaresnext26t_32x4d": {"layers": r26, **x(32, 4), **eca, **t},
            "ecaresnext50t_32x4d": {"layers": r50, **x(32, 4), **eca, **t},
            "seresnet18": {**basic, "layers": r18, **se},
            "seresnet34": {**basic, "layers": r34, **se},
            "seresnet50": {"layers": r50, **se},
            "seresnet50t": {"layers": r50, **se, **t},
            "seresnet101": {"layers": r101, **se},
            "seresnet152": {"layers": r152, **se},
            "seresnet152d": {"layers": r152, **se, **d},
            "seresnet200d": {"layers": r200, **se, **d},
            "seresnet269d": {"layers": r269, **se, **d},
            "seresnext26d_32x4d": {"layers": r26, **x(32, 4), **se, **d},
            "seresnext26t_32x4d": {"layers": r26, **x(32, 4), **se, **t},
            "seresnext50_32x4d": {"layers": r50, **x(32, 4), **se},
            "seresnext101_32x4d": {"layers": r101, **x(32, 4), **se},
            "seresnext101_32x8d": {"layers": r101, **x(32, 8), **se},
            "seresnext101d_32x8d": {"layers": r101, **x(32, 8), **se, **d},
            "seresnext101_64x4d": {"layers": r101, **x(64, 4), **se},
            "resnetblur18": {**basic, "layers": r18, **blur},
            "resnetblur50": {"layers": r50, **blur},
            "resnetblur50d": {"layers": r50, **blur, **d},
            "resnetblur101d": {"layers": r101, **blur, **d},
            "resnetaa34d": {**basic, "layers": r34, **aa, **d},
            "resnetaa50": {"layers": r50, **aa},
            "resnetaa50d": {"layers": r50, **aa, **d},
            "resnetaa101d": {"layers": r101, **aa, **d},
            "seresnetaa50d": {"layers": r50, **aa, **se, **d},
            "seresnextaa101d_32x8d": {"layers": r101, **x(32, 8), **aa, **se, **d},
            "seresnextaa201d_32x8d": {"layers": (3, 24, 36, 4), **x(32, 8), **aa, **se, **s, "shortcut": "D"},
            "resnetrs50": {"layers": r50, **rs},
            "resnetrs101": {"layers": r101, **rs},
            "resnetrs152": {"layers": r152, **rs},
            "resnetrs200": {"layers": r200, **rs},
            "resnetrs270": {"layers": (4, 29, 53, 4), **rs},
            "resnetrs350": {"layers": (4, 36, 72, 4), **rs},
            "resnetrs420": {"layers": (4, 44, 87, 4), **rs},
            "resnetv2_18": {**basic, "layers": r18, "order": "pre"},
            "resnetv2_34": {**basic, "layers": r34, "order": "pre"},
            "resnetv2_50": {"layers": r50, "order": "pre"},
            "resnetv2_101": {"layers": r101, "order": "pre"},
            "resnetv2_152": {"layers": r152, "order": "pre"},
            "resnetv2_50d": {"layers": r50, "order": "pre", **d},
            "resnetv2_50t": {"layers": r50, "order": "pre", **t},
        },
    }
    return {
        group: MappingProxyType({name: ResNetConfig(**given) for name, given in named.items()})
        for group, named in table.items()
    }


GROUPS: Mapping[str, Mapping[str, ResNetConfig]] = MappingProxyType(_groups())
"""Networks by name, in groups: whose names these are, or what the networks are for."""
PRESETS: Mapping[str, ResNetConfig] = MappingProxyType({n: c for named in GROUPS.values() for n, c in named.items()})
"""Networks by the names of the paper, torchvision and timm."""

_PRESET_NAMES = {config: name for name, config in reversed(list(PRESETS.items()))}


def without_hub(name: str) -> str:
    """A name in lower case without timm's place on the hub: "resnet50.a1_in1k" of "timm/resnet50.a1_in1k"."""
    return re.sub(r"^(https?://huggingface\.co/|hf[-_]hub:)?timm/", "", name.strip().lower())


def plain_name(name: str) -> str:
    """A name without what people write differently: case, -, _ and spaces, × for x, "v1.5", timm's place on the hub, a tag."""
    name = without_hub(name).replace("×", "x")
    return re.sub(r"[-_\s]|v1\.5$|\.[a-z].*|\?.*", "", name, flags=re.DOTALL)


_BY_PLAIN_NAME = {plain_name(name): config for name, config in PRESETS.items()}


def preset(name: str) -> ResNetConfig:
    """The configuration of a named network, as people type it: "ResNet-50", "50", "wide-resnet50-2", "timm/resnet50.a1_in1k".

    Raises:
        ConfigError: for an unknown name; the sentence offers the nearest known ones, or those of a group that is named.
    """
    plain = plain_name(name)
    if re.fullmatch("[0-9]+", plain):
        plain = f"resnet{plain}"
    if plain not in _BY_PLAIN_NAME:
        group = next((named for group, named in GROUPS.items() if plain_name(group) == plain), None)
        near = list(group)[:6] if group else get_close_matches(name.lower(), PRESETS, n=4, cutoff=0.3)
        near = near or list(PRESETS)[:5]
        raise ConfigError("preset", name, f"one of {len(PRESETS)} names, such as {', '.join(near)}")
    return _BY_PLAIN_NAME[plain]


def preset_name(config: ResNetConfig) -> str | None:
    """The name under which `preset` knows this configuration, or None."""
    return _PRESET_NAMES.get(config)


def name_title(name: str) -> str:
    """A preset's name as it is written in a heading: "ResNet-50 v1" of "resnet50_v1", "seresnet50"."""
    match = re.fullmatch(r"(resnet|plain)(\d+)(_v1|_fashion)?", name)
    if not match:
        return name
    suffix = {"_v1": " v1", "_fashion": " for Fashion-MNIST"}.get(match[3], "")
    return ("ResNet-" if match[1] == "resnet" else "Plain-") + match[2] + suffix


def title(config: ResNetConfig) -> str:
    """What to call a network in a heading: "ResNet-50", "Plain-34, 1 channel", "seresnet50"."""
    for channels, classes in ((config.in_channels, config.num_classes), (3, config.num_classes), (3, 1000), (3, 10)):
        name = preset_name(replace(config, in_channels=channels, num_classes=classes))
        if name:
            break
    else:
        kind = "plain network" if config.shortcut == "none" else "ResNet"
        return f"Custom {kind}, depth {config.depth}"
    name = name_title(name)
    if channels != config.in_channels:
        name += f", {config.in_channels} channel" + "s" * (config.in_channels > 1)
    return name + (f", {config.num_classes} classes" if classes != config.num_classes else "")


def short_title(config: ResNetConfig) -> str:
    """The title without what a network was made for: "ResNet-20" and not "ResNet-20 for Fashion-MNIST"."""
    return title(config).partition(" for ")[0]
