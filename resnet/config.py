"""The configuration of a residual network: one small immutable value.

Everything else in this project is a function of a `ResNetConfig`. Each field
carries its own label, help text and range (`Option`), from which validation,
the link, the exported code and the sidebar all follow.

Symbols: C channels, H × W pixels of a feature map, s stride, d dilation,
F(x) the residual branch of a block, S(x) its shortcut.

Sources: He et al. 2015, https://arxiv.org/abs/1512.03385 ("the paper");
torchvision and timm for the variants that came after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .options import ConfigError, Option, Settings, from_text, option, to_text

MAX_STAGES = 6
MAX_BLOCKS = 1000


def _basic_block(config: ResNetConfig) -> str | None:
    return "only the bottleneck block has it" if config.block == "basic" else None


def _plain(config: ResNetConfig) -> str | None:
    return "a plain network has no shortcut" if config.shortcut == "none" else None


def _no_max_pool(config: ResNetConfig) -> str | None:
    return (
        None if config.stem_pool == "max" and config.antialias == "none" else "only a max pool with its stride has it"
    )


def _no_group_norm(config: ResNetConfig) -> str | None:
    return "only group norm has it" if config.norm != "group" else None


def _no_se(config: ResNetConfig) -> str | None:
    return "only squeeze-and-excitation has it" if config.attention != "se" else None


@dataclass(frozen=True, repr=False)
class ResNetConfig(Settings):
    """Any residual network. The default is ResNet-50 as torchvision builds it.

    Raises:
        ConfigError: for a value outside its range or a combination that cannot
            be built.
    """

    key = "configuration"
    example = "block-basic"

    # Depth: the paper's Table 1 gives 2-2-2-2, 3-4-6-3, 3-4-23-3 and 3-8-36-3.
    layers: tuple[int, ...] = option(
        (3, 4, 6, 3),
        "Blocks per stage",
        "How many residual blocks each stage holds, first stage first.",
        "Depth",
        low=1,
        high=500,
        most=MAX_STAGES,
    )
    # Doubling where the map halves keeps the MACs of every block equal (paper, section 3.3).
    planes: tuple[int, ...] = option(
        (),
        "Planes per stage",
        "Base channel count of each stage; a bottleneck block puts out four times as many.",
        "Depth",
        low=1,
        high=16384,
        most=MAX_STAGES,
    )
    block: str = option(
        "bottleneck",
        "Block",
        "Two 3×3 convolutions (basic), or 1×1, 3×3, 1×1 with four times the channels outside.",
        "Block",
        choices=("basic", "bottleneck"),
    )
    # 3x3 is torchvision's "v1.5"; 1x1 is the paper's and loses three of four positions before the 3x3 sees them.
    stride_in: str = option(
        "3x3",
        "Stride in",
        "Which convolution of a downsampling bottleneck has the stride: 3×3 (v1.5) or the first 1×1 (v1).",
        "Block",
        choices=("3x3", "1x1"),
        unless=_basic_block,
    )
    order: str = option(
        "post",
        "Activation order",
        "Normalise and activate after each convolution (2015) or before it (pre-activation, 2016).",
        "Block",
        choices=("post", "pre"),
    )
    shortcut: str = option(
        "B",
        "Shortcut",
        "Identity everywhere, and where shapes differ: zero padding (A), projection (B), pooled projection (D); C projects everywhere; none is a plain network.",
        "Shortcut",
        choices=("none", "A", "B", "C", "D"),
    )
    stem: str = option(
        "7x7",
        "Stem",
        "What reads the image: one 7×7 with stride 2, three 3×3 (deep, tiered), or one 3×3 with stride 1 for small images.",
        "Stem",
        choices=("7x7", "deep", "tiered", "3x3"),
    )
    stem_width: int = option(
        0,
        "Stem width",
        "Channels of the stem's first convolution; deep and tiered stems put out twice as many.",
        "Stem",
        low=1,
        high=16384,
    )
    stem_pool: str = option(
        "max",
        "Stem pool",
        "What halves the map after the stem: 3×3 max pooling, a 3×3 convolution with stride 2, or nothing.",
        "Stem",
        choices=("max", "conv", "none"),
    )
    # https://github.com/google-research/big_transfer/blob/master/bit_pytorch/models.py: after convolutions alone,
    # whose outputs can all be negative, a zero at the border counts.
    zero_pool: bool = option(
        False,
        "Zero-padded pool",
        "Pad the stem's max pool with zeros, as BiT does, where it otherwise sees nothing beyond the border.",
        "More",
        unless=_no_max_pool,
    )
    groups: int = option(
        1,
        "Groups",
        "Groups of the 3×3 convolution in a bottleneck block (ResNeXt's cardinality).",
        "More",
        low=1,
        high=1024,
        unless=_basic_block,
    )
    base_width: int = option(
        64,
        "Base width",
        "Channels per group of the inner 3×3 for 64 planes: 4 in ResNeXt-50 32×4d, 128 in Wide ResNet-50-2.",
        "More",
        low=1,
        high=1024,
        unless=_basic_block,
    )
    norm: str = option(
        "batch",
        "Normalisation",
        "Batch norm, group norm, or none (convolutions then get a bias).",
        "More",
        choices=("batch", "group", "none"),
    )
    norm_groups: int = option(
        32,
        "Norm groups",
        "Groups of each group norm; where they do not divide the channels, their greatest common divisor.",
        "More",
        low=1,
        high=1024,
        unless=_no_group_norm,
    )
    activation: str = option(
        "relu",
        "Activation",
        "The non-linearity after each normalisation and after each addition.",
        "More",
        choices=("relu", "leaky_relu", "elu", "silu", "gelu"),
    )
    attention: str = option(
        "none",
        "Channel attention",
        "Weigh the channels of F(x) by the whole image: squeeze-and-excitation (se) or its lighter form (eca).",
        "More",
        choices=("none", "se", "eca"),
    )
    se_reduction: int = option(
        16,
        "SE reduction",
        "By how much squeeze-and-excitation narrows the channels in between (16 in the SE paper, 4 in ResNet-RS).",
        "More",
        low=1,
        high=256,
        unless=_no_se,
    )
    antialias: str = option(
        "none",
        "Anti-aliasing",
        "Low-pass filter before each subsampling: 3×3 binomial blur, or 2×2 average.",
        "More",
        choices=("none", "blur", "avg"),
    )
    output_stride: int = option(
        32,
        "Output stride",
        "Stages that would subsample beyond this are dilated instead. The receptive field stays; with anti-aliasing it can shrink a little.",
        "More",
        choices=(32, 16, 8),
    )
    zero_init_residual: bool = option(
        False,
        "Zero-init branches",
        "Start every F(x) at zero, so that each block begins as its shortcut.",
        "More",
        unless=_plain,
    )
    drop_path: float = option(
        0.0,
        "Stochastic depth",
        "Chance that the last block's branch is dropped in training; earlier blocks get a share in proportion.",
        "More",
        low=0,
        high=0.99,
        unless=_plain,
    )
    in_channels: int = option(
        3, "Input channels", "Channels of the image: 3 for colour, 1 for grey.", "More", low=1, high=1024
    )
    num_classes: int = option(
        1000,
        "Classes",
        "Outputs of the last layer: 1000 for ImageNet, 10 for CIFAR-10 and Fashion-MNIST.",
        "More",
        low=1,
        high=100_000,
    )

    def check(self) -> None:
        """Rules that concern more than one value.

        Raises:
            ConfigError: where one is broken.
        """
        if sum(self.layers) > MAX_BLOCKS:
            raise ConfigError("layers", self.layers, f"at most {MAX_BLOCKS} blocks in all")
        for name, each in OPTIONS.items():
            reason, default = each.unless(self), self.default(name)
            if reason and getattr(self, name) != default:
                raise ConfigError(name, getattr(self, name), f"{reason}, so it stays {default}")
        if len(self.planes) != len(self.layers):
            raise ConfigError("planes", self.planes, f"one number for each of the {len(self.layers)} stages")
        if self.stem == "tiered" and self.stem_width < 4:
            raise ConfigError("stem_width", self.stem_width, "at least 4 for a tiered stem")
        for planes in self.planes:
            if not 1 <= self.width(planes) <= 2**20:
                raise ConfigError(
                    "base_width",
                    self.base_width,
                    "base width · planes / 64 at least 1 and, times groups, at most 1048576 channels",
                )
        if self.shortcut == "A":
            channels = (self.stem_channels, *self.stage_channels)
            if any(after < before for before, after in pairwise(channels)):
                raise ConfigError(
                    "shortcut",
                    "A",
                    "B, C or D where a stage has fewer channels than its input, since A only adds zeros",
                )

    # -- what follows from the fields ---------------------------------------------------

    def default(self, name: str) -> Any:
        """The value of field `name` where none is given; that of `planes` and `stem_width` follows from other fields."""
        if name == "planes":
            return tuple(64 * 2**stage for stage in range(len(self.layers)))
        if name == "stem_width":
            halved = self.stem in ("deep", "tiered")
            return max(4, self.planes[0] // 2) if halved else self.planes[0]
        return OPTIONS[name].default

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its planes: 4 for bottleneck, 1 for basic."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def stem_channels(self) -> int:
        """Channels that the stem hands to the first stage."""
        return self.stem_width * (2 if self.stem in ("deep", "tiered") else 1)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Output channels of each stage: planes · expansion."""
        return tuple(planes * self.expansion for planes in self.planes)

    def width(self, planes: int) -> int:
        """Channels inside a block of so many planes (ResNeXt, section 3.1; Wide ResNet)."""
        return planes * self.base_width // 64 * self.groups if self.block == "bottleneck" else planes

    @property
    def blocks(self) -> tuple[str, ...]:
        """The paths of all blocks from input to output: layer1.0, layer1.1, …"""
        return tuple(block_path(stage, index) for stage, count in enumerate(self.layers, 1) for index in range(count))

    @property
    def stem_stride(self) -> int:
        """By how much stem and pool shrink the image: 1, 2 or 4."""
        return (1 if self.stem == "3x3" else 2) * (1 if self.stem_pool == "none" else 2)

    @property
    def stage_strides(self) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of each stage; beyond `output_stride` dilation replaces the stride.

        A dilated network has the values of the strided one at every second place, unless it averages over the map
        (attention, group norm), filters (anti-aliasing) or pools its shortcut (D), where it does what timm does.
        """
        total, dilation, strides = self.stem_stride, 1, []
        for stage in range(len(self.layers)):
            stride = 1 if stage == 0 else 2
            if total >= self.output_stride:
                stride, dilation = 1, dilation * stride
            total *= stride
            strides.append((stride, dilation))
        return tuple(strides)

    @property
    def total_stride(self) -> int:
        """Pixels of the image between two neighbouring units of the last stage."""
        stride = self.stem_stride
        for step, _ in self.stage_strides:
            stride *= step
        return stride

    @property
    def depth(self) -> int:
        """Weighted layers from input to output (paper, Table 1): convolutions on the main
        path and the classifier; projections and attention stand beside it."""
        stem = (3 if self.stem in ("deep", "tiered") else 1) + (self.stem_pool == "conv")
        return stem + sum(self.layers) * (3 if self.block == "bottleneck" else 2) + 1

    # -- changing, writing and reading ----------------------------------------------------

    def with_(self, **changes: Any) -> tuple[ResNetConfig, tuple[str, ...]]:
        """This configuration with `changes`, and a sentence for each other field that had to follow.

        Fields that no longer apply return to their defaults; `planes` grows by doubling or is
        cut where the number of stages changes; defaults that follow from other fields follow.

        Raises:
            ConfigError: where the changes themselves are not accepted.
        """
        values = self.given() | changes
        layers = values.get("layers", self.layers)
        layers = tuple(layers) if isinstance(layers, list) else layers
        notes = []
        planes = values.get("planes", ())
        if "planes" not in changes and planes and isinstance(layers, tuple) and len(planes) != len(layers):
            grown = tuple(min(planes[-1] * 2 ** (i + 1), 16384) for i in range(len(layers) - len(planes)))
            values["planes"] = (*planes[: len(layers)], *grown)
            notes.append(f"Planes per stage went from {to_text(planes)} to {to_text(values['planes'])}.")
        draft = _Draft(values)
        for name, each in OPTIONS.items():
            reason = each.unless(draft)
            if reason and name in values and name not in changes:
                notes.append(f"{each.label} went from {values.pop(name)} to {OPTIONS[name].default}: {reason}.")
        return ResNetConfig(**values), tuple(notes)

    def to_query(self) -> dict[str, str]:
        """What differs from the default, as a link's query: `{"layers": "3-8-36-3"}`."""
        return {name: to_text(value) for name, value in self.given().items()}

    @classmethod
    def from_query(cls, query: Mapping[str, str], base: ResNetConfig | None = None) -> ResNetConfig:
        """The exact inverse of `to_query`; with `base`, what differs from that network.

        Raises:
            ConfigError: for an unknown field or a value that is not accepted.
        """
        given = {name: from_text(name, _known(name), text) for name, text in query.items()}
        return cls(**((base.given() if base else {}) | given))

    def to_json(self) -> str:
        """What differs from the default, as a JSON object."""
        return json.dumps(self.given())

    @classmethod
    def from_json(cls, text: str) -> ResNetConfig:
        """The exact inverse of `to_json`.

        Raises:
            ConfigError: for text that is no JSON object, an unknown field, or a value not accepted.
        """
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise ConfigError("configuration", text, "a JSON object of fields")
        return cls(**{name: value for name, value in given.items() if _known(name)})

    def to_code(self) -> str:
        """Python that builds this network."""
        return f"from resnet import ResNetConfig, build\n\nmodel = build({self!r})\n"

    def __repr__(self) -> str:
        return f"ResNetConfig({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"


def block_path(stage: int, index: int) -> str:
    """Where a block stands in the network: layer2.0 is the first block, of index 0, of stage 2."""
    return f"layer{stage}.{index}"


def stage_and_index(path: str) -> tuple[int, int]:
    """The inverse of `block_path`.

    Raises:
        ValueError: for what is no block's path.
    """
    stage, _, index = path.removeprefix("layer").partition(".")
    return int(stage), int(index)


OPTIONS: Mapping[str, Option] = ResNetConfig.options()
"""Every field of `ResNetConfig` with its label, help, group and range."""


def _known(name: str) -> Option:
    if name not in OPTIONS:
        raise ConfigError("option", name, "one of " + ", ".join(OPTIONS))
    return OPTIONS[name]


class _Draft:
    """Field values that are not checked yet, for `Option.unless` to look at."""

    def __init__(self, values: Mapping[str, Any]):
        for name, each in OPTIONS.items():
            setattr(self, name, values.get(name, each.default))
