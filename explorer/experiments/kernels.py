"""Small experiments beside the network: kernel stacks, one block, a 1×1 convolution on one pixel.

Everything is built from real modules and counted by `trace_module`, as the network is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import skip_init

from resnet import ConfigError, Option, ResNetConfig
from resnet.options import Settings, option

from ..analysis.layers import Layer, convolutions
from ..analysis.receptive_field import Field
from ..analysis.trace import trace_module

# -- settings -----------------------------------------------------------------------------

INPUTS, OUTPUTS = 3, 2
"""Channels that the 1×1 convolution by hand reads and puts out."""


@dataclass(frozen=True)
class Lab(Settings):
    """What the experiments are set to; every field carries its label, help and range.

    `weights` is the 1×1 convolution's matrix row by row (output by output), `pixel` its input.

    Raises:
        ConfigError: for a value outside its range, a width without a quarter, or a map that the kernels do not fit on.
    """

    key = "lab"
    example = "count-2"

    count: int = option(3, "How many", "Convolutions in the stack.", choices=(1, 2, 3, 4, 5, 6))
    kernel: int = option(3, "Small kernel", "Side of each kernel of the stack.", choices=(1, 3, 5, 7))
    single: int = option(7, "Large kernel", "Side of the one kernel.", choices=(3, 5, 7, 9, 11, 13))
    inputs: int = option(64, "Channels in", "", low=1, high=2048)
    between: int = option(64, "Between", "", low=1, high=2048)
    outputs: int = option(64, "Out", "", low=1, high=2048)
    stride: int = option(1, "Stride", "Of the single kernel and of the stack as a whole.", choices=(1, 2, 4))
    strided: str = option(
        "first", "Stride in", "Which convolution of the stack has the stride.", choices=("first", "last")
    )
    padding: str = option(
        "same", "Padding", "Zeros around the map that keep its side at stride 1, or none.", choices=("same", "none")
    )
    activation: str = option("relu", "Activation", "What follows every convolution.", choices=("relu", "none"))
    side: int = option(56, "Map side", "Pixels a side of the map that is read.", low=8, high=512)
    width: int = option(256, "Channels", "Channels that the block reads.", low=4, high=4096)
    entry: str = option(
        "identity",
        "Shortcut",
        "Identity where the block keeps its shape. The first block of a stage halves the map and doubles the channels: zero padding (A), projection (B), pooled projection (D).",
        choices=("identity", "A", "B", "D"),
    )
    weights: tuple[int, ...] = option(
        (1, 0, -1, 2, 1, 1), "Weights", "", low=-9, high=9, least=INPUTS * OUTPUTS, most=INPUTS * OUTPUTS
    )
    pixel: tuple[int, ...] = option((2, 3, 1), "Pixel", "", low=-9, high=9, least=INPUTS, most=INPUTS)

    def check(self) -> None:
        if self.width % 4:
            raise ConfigError(
                "width", self.width, "a multiple of 4 from 4 to 4096, since a bottleneck works on a quarter"
            )
        reach = max(self.single, self.stack_reach)
        if self.padding == "none" and self.side < reach:
            raise ConfigError(
                "side", self.side, f"at least {reach} pixels without padding, as many as the kernels span"
            )

    @property
    def stack_reach(self) -> int:
        """Pixels a side that the stack spans."""
        stride = self.stride if self.strided == "first" else 1
        return self.kernel + (self.count - 1) * (self.kernel - 1) * stride

    @property
    def equal_width(self) -> bool:
        return self.inputs == self.outputs and (self.count == 1 or self.between == self.inputs)

    @property
    def matrix(self) -> tuple[tuple[int, ...], ...]:
        """The weights as `OUTPUTS` rows of `INPUTS`."""
        return tuple(self.weights[row * INPUTS : (row + 1) * INPUTS] for row in range(OUTPUTS))

    @classmethod
    def renewed(cls, text: str) -> str:
        """Older links have a letter for each name: "i3_m32_s2_x224"."""
        names = "|".join(cls.options())
        return re.sub(
            rf"(?<![^_])(?!(?:{names})-)([{''.join(_LETTERS)}])", lambda found: f"{_LETTERS[found[1]]}-", text
        )


_LETTERS = {
    "n": "count",
    "k": "kernel",
    "K": "single",
    "i": "inputs",
    "m": "between",
    "o": "outputs",
    "s": "stride",
    "l": "strided",
    "p": "padding",
    "a": "activation",
    "x": "side",
    "c": "width",
    "e": "entry",
    "w": "weights",
    "v": "pixel",
}
"""What older links call each field."""

LAB: Mapping[str, Option] = Lab.options()


CASES: Mapping[str, Lab] = {
    "Equal width, stride 1": Lab(),
    "Two 3×3, one 5×5": Lab(count=2, single=5),
    "Equal width, stride 2": Lab(stride=2),
    "As a stem: 32, 32, 64": Lab(inputs=3, between=32, stride=2, side=224),
    "That stem, stride last": Lab(inputs=3, between=32, stride=2, strided="last", side=224),
    "No activation": Lab(activation="none"),
}
"""Comparisons to start from. The stem is ResNet-D's against the paper's (He 2018, https://arxiv.org/abs/1812.01187)."""


# -- kernel stacks ------------------------------------------------------------------------


class Kernels(NamedTuple):
    """One side of the comparison: its traced layers."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        return convolutions(self.layers)

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds for one map."""
        return sum(layer.macs for layer in self.layers)

    @property
    def field(self) -> Field:
        """What one unit of the output sees of the map, in its pixels."""
        return self.layers[-1].field

    @property
    def non_linearities(self) -> int:
        return len(self.layers) - len(self.convolutions)


def modules(lab: Lab, kernel: int, channels: Sequence[int]) -> nn.Sequential:
    """Convolutions from each of `channels` to the next, on the device meta: of any width, with nothing reserved.

    They have no bias, as before a batch norm.
    """
    strided = 0 if lab.strided == "first" else len(channels) - 2
    padding = kernel // 2 if lab.padding == "same" else 0
    result = nn.Sequential()
    for index, (before, after) in enumerate(pairwise(channels)):
        stride = lab.stride if index == strided else 1
        conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False, device="meta")
        result.add_module(f"conv{index + 1}", conv)
        if lab.activation == "relu":
            result.add_module(f"relu{index + 1}", nn.ReLU())
    return result


def stack(lab: Lab, between: int | None = None) -> Kernels:
    """The small kernels one after another; another width `between` them may exceed what a `Lab` accepts."""
    channels = (lab.inputs, *[between or lab.between] * (lab.count - 1), lab.outputs)
    layers = trace_module(modules(lab, lab.kernel, channels), (lab.inputs, lab.side, lab.side))
    return Kernels(f"{_NUMBERS[lab.count - 1]} {lab.kernel}×{lab.kernel}", layers)


def single(lab: Lab) -> Kernels:
    layers = trace_module(modules(lab, lab.single, (lab.inputs, lab.outputs)), (lab.inputs, lab.side, lab.side))
    return Kernels(f"One {lab.single}×{lab.single}", layers)


_NUMBERS = ("One", "Two", "Three", "Four", "Five", "Six")


def break_even(lab: Lab, measure: str) -> int | None:
    """The largest width between at which the stack's "params" or "macs" do not exceed the single kernel's.

    None where no width does, or where nothing is between. Found by bisection on traced
    counts, which grow with the width.
    """
    most = getattr(single(lab), measure)

    def fits(width: int) -> bool:
        return getattr(stack(lab, width), measure) <= most

    if lab.count == 1 or not fits(1):
        return None
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


class Claim(NamedTuple):
    """A statement about the stack, whether it holds here, and the numbers that decide."""

    name: str
    holds: bool
    numbers: str


class Comparison(NamedTuple):
    """The stack against the single kernel.

    `widths` are widths between and `curves` the stack's counts at them, `even` the break-even
    widths, both for "params" and "macs".
    """

    lab: Lab
    stack: Kernels
    single: Kernels
    claims: tuple[Claim, ...]
    widths: tuple[int, ...]
    curves: Mapping[str, tuple[int, ...]]
    even: Mapping[str, int | None]


SAMPLES = 25
"""Widths at which the curves are traced."""


def compare(lab: Lab) -> Comparison:
    """Trace both sides, find the break-even widths, and check what is said of stacks."""
    small, large = stack(lab), single(lab)
    even = {measure: break_even(lab, measure) for measure in ("params", "macs")}
    end = max(2 * lab.between, *(3 * (width or 0) // 2 for width in even.values()), SAMPLES)
    marks = {lab.between, *(width for width in even.values() if width)}
    widths = (
        tuple(sorted({max(1, end * step // SAMPLES) for step in range(SAMPLES + 1)} | marks)) if lab.count > 1 else ()
    )
    traced = [stack(lab, width) for width in widths]
    curves = {measure: tuple(getattr(kernels, measure) for kernels in traced) for measure in ("params", "macs")}
    return Comparison(lab, small, large, tuple(_claims(lab, small, large, even)), widths, curves, even)


def _claims(lab: Lab, small: Kernels, large: Kernels, even: Mapping[str, int | None]) -> Iterator[Claim]:
    sees, wanted = small.field.size, large.field.size
    numbers = (
        f"both see {sees}×{sees} pixels." if sees == wanted else f"{sees}×{sees} pixels against {wanted}×{wanted}."
    )
    flat = 1 + lab.count * (lab.kernel - 1)
    if sees != flat:
        numbers += f" The first convolution's stride puts what the later ones read {lab.stride} pixels apart: each adds {(lab.kernel - 1) * lab.stride}."
    elif flat != lab.single:
        numbers += f" At stride 1, {lab.count} kernels of {lab.kernel}×{lab.kernel} see 1 + {lab.count}·{lab.kernel - 1} = {flat}."
    yield Claim("Sees as much", sees == wanted, numbers)

    numbers = f"{small.params:,} against {large.params:,}, {_times(small.params, large.params)}."
    if lab.equal_width:
        square = lab.inputs**2
        numbers = (
            f"{small.params // square}C² against {large.params // square}C² at C = {lab.inputs} channels: {numbers}"
        )
    else:
        through = (lab.inputs, *[lab.between] * (lab.count - 1), lab.outputs)
        channels = "→".join(map(str, through))
        numbers += f" Widths are not equal: the single kernel goes {lab.inputs}→{lab.outputs}, the stack {channels}."
    if small.params > large.params and even["params"]:
        numbers += f" It has no more than the single kernel up to {even['params']:,} channels between."
    yield Claim("Fewer weights", small.params < large.params, numbers)

    numbers = f"{small.macs:,} against {large.macs:,}, {_times(small.macs, large.macs)}."
    if lab.stride > 1 and lab.strided == "last" and lab.count > 1:
        numbers += f" The stride comes last, so the convolutions before it run on a map {lab.stride} times as wide and as tall."
    yield Claim("Fewer MACs", small.macs < large.macs, numbers)

    numbers = f"{small.non_linearities} against {large.non_linearities}."
    if not small.non_linearities and lab.count > 1:
        numbers += " With nothing between them the convolutions are one linear map: away from the border, a single kernel of the same field can compute it."
    yield Claim("More non-linearities", small.non_linearities > large.non_linearities, numbers)


def _times(a: int, b: int) -> str:
    """55% as many, or 3.0 times as many."""
    return "as many" if a == b else f"{a / b:.0%} as many" if a < b else f"{a / b:.1f} times as many"


# -- one block ----------------------------------------------------------------------------


def block_config(kind: str, width: int, entry: str = "identity") -> ResNetConfig:
    """A network whose last block reads `width` channels at the image's size; `block_name` is that block's path.

    `kind` is basic, bottleneck or plain (a basic block without its shortcut). With `entry` "identity" it keeps its
    shape; else it opens a stage, and `entry` is its shortcut's option.
    """
    block = "bottleneck" if kind == "bottleneck" else "basic"
    planes = width // 4 if block == "bottleneck" else width
    stages = 1 if entry == "identity" else 2
    return ResNetConfig(
        block=block,
        layers=(1,) * stages,
        planes=(planes, 2 * planes)[:stages],
        stem="3x3",
        stem_width=width,
        stem_pool="none",
        shortcut="none" if kind == "plain" else "B" if entry == "identity" else entry,
    )


def block_name(config: ResNetConfig) -> str:
    return config.blocks[-1]


# -- the 1×1 convolution ------------------------------------------------------------------

MATRICES = {
    "Sum and copy": (1, 1, 1, 1, 1, 1),
    "Pick channels": (1, 0, 0, 0, 0, 1),
    "Differences": (1, -1, 0, 0, 1, -1),
}
"""Weights of the 1×1 convolution to start from."""


def pointwise(lab: Lab) -> nn.Conv2d:
    """The 1×1 convolution whose weights are the matrix of `lab`, without a bias."""
    conv = skip_init(nn.Conv2d, INPUTS, OUTPUTS, 1, bias=False).requires_grad_(False)
    conv.weight.copy_(torch.tensor(lab.matrix, dtype=torch.float32)[:, :, None, None])
    return conv


def at_pixel(lab: Lab) -> tuple[int, ...]:
    """What that convolution makes of a map of the one pixel of `lab`."""
    image = torch.tensor(lab.pixel, dtype=torch.float32)[None, :, None, None]
    return tuple(int(value) for value in pointwise(lab)(image).flatten())


def on_image(lab: Lab, image: Image.Image, side: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """An image's channels from 0 to 1 (3×side×side), and what the convolution makes of them (`OUTPUTS`×side×side)."""
    pixels = np.asarray(image.convert("RGB").resize((side, side)), dtype=np.float32).transpose(2, 0, 1) / 255
    return pixels, pointwise(lab)(torch.from_numpy(pixels)[None])[0].numpy()
