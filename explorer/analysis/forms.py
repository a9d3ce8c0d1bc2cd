"""In which form numbers are kept, and how many bytes each layer makes in it: on the way forward, and on the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from resnet.blocks import PadShortcut

from .cost import weight_factors
from .layers import FLOAT, IMAGE, VIEWS, Layer, Op
from .memory import POSITION, SAVES_NOTHING, SAVES_OUTPUT, padded_input_bytes

HALF = 2
"""Bytes of a number in bf16 or fp16."""
KERNEL = 9
"""Numbers of a blur's kernel."""


class Precision(StrEnum):
    """In which form numbers are kept; fp16 takes the same room as bf16."""

    FP32 = "fp32"
    AUTOCAST = "autocast"
    BF16 = "bf16"

    @property
    def words(self) -> str:
        """What is kept in which form."""
        return PRECISIONS[self]


PRECISIONS: Mapping[Precision, str] = MappingProxyType(
    {
        Precision.FP32: "everything in fp32",
        Precision.AUTOCAST: "weights in fp32, maps in bf16 or fp16 by torch.autocast",
        Precision.BF16: "everything in bf16 or fp16",
    }
)


class Form(NamedTuple):
    """In which precision a network runs, and where: torch has rules of its own for a GPU (CUDA) and for a CPU."""

    precision: Precision = Precision.FP32
    gpu: bool = True

    @property
    def autocast(self) -> bool:
        """Whether operations choose the form of their inputs."""
        return self.precision == Precision.AUTOCAST

    @property
    def weight(self) -> int:
        """Bytes of a parameter, of its gradient and of an input's number."""
        return HALF if self.precision == Precision.BF16 else FLOAT

    @property
    def statistic(self) -> int:
        """Bytes of a channel's mean that batch norm keeps: on a GPU always fp32."""
        return FLOAT if self.gpu else self.weight

    @property
    def pads_in_fp32(self) -> bool:
        """Whether a blur pads in fp32, as autocast on a CPU has it."""
        return self.autocast and not self.gpu

    def wants(self, op: Op) -> int | None:
        """Bytes of the numbers that an operation reads; None where it takes them as they are."""
        if not self.autocast:
            return None
        if op in LOWERED:
            return HALF
        return FLOAT if self.gpu and op == Op.GROUP_NORM else None


LOWERED = frozenset({Op.CONVOLUTION, Op.CHANNEL_CONVOLUTION, Op.LINEAR})
"""What autocast runs in half precision; a blur is a convolution too, of what it has padded
(https://docs.pytorch.org/docs/stable/amp.html#autocast-op-reference)."""


# -- bytes --------------------------------------------------------------------------------


class Bytes(NamedTuple):
    """Bytes that grow with the batch: `fixed`, and `each` for every image of it."""

    fixed: int = 0
    each: int = 0

    def plus(self, other: Bytes) -> Bytes:
        """Both together."""
        return Bytes(self.fixed + other.fixed, self.each + other.each)

    def minus(self, other: Bytes) -> Bytes:
        """What is left without another."""
        return Bytes(self.fixed - other.fixed, self.each - other.each)

    def of(self, batch: int) -> int:
        """For a batch of so many images."""
        return self.fixed + batch * self.each


NOTHING = Bytes()


def total(amounts: Iterable[Bytes]) -> Bytes:
    """All together."""
    found = NOTHING
    for amount in amounts:
        found = found.plus(amount)
    return found


# -- what each layer makes ----------------------------------------------------------------


def number_sizes(layers: Sequence[Layer], form: Form) -> dict[int, int]:
    """Bytes of a number of each layer's output, and of the image's (−1).

    Where autocast has no rule for an operation it is that of its widest input.
    """
    sizes = {IMAGE: form.weight}
    for layer in layers:
        lowered = form.autocast and layer.op == Op.BLUR
        own = HALF if lowered else form.wants(layer.op)
        sizes[layer.index] = own or max(sizes[producer] for producer in layer.inputs)
    return sizes


def is_view(layer: Layer, training: bool) -> bool:
    """Whether a layer's output is its input's memory, as `VIEWS` has it; in training, stochastic depth makes its own."""
    return layer.op in VIEWS and not (training and layer.op == Op.STOCHASTIC_DEPTH)


def cast_bytes(layer: Layer, form: Form, sizes: Mapping[int, int]) -> int:
    """Bytes for an image of the copies of its inputs that autocast makes in the form that the operation wants."""
    pairs = zip(layer.inputs, layer.in_shapes, strict=True)
    wanted = FLOAT if layer.op == Op.BLUR and form.pads_in_fp32 else form.wants(layer.op)
    return sum(prod(shape) * wanted for producer, shape in pairs if wanted and sizes[producer] != wanted)


def reads_again(layer: Layer, form: Form, sizes: Mapping[int, int]) -> frozenset[int]:
    """The tensors that the way back through a layer needs, by the layer (or image, −1) that made them: `memory.kept_tensors`,
    but for those of which it keeps a copy in another form."""
    if layer.op in SAVES_OUTPUT:
        return frozenset({layer.index})
    if layer.op in SAVES_NOTHING or cast_bytes(layer, form, sizes):
        return frozenset()
    return frozenset(layer.inputs)


def side_bytes(layer: Layer, form: Form, sizes: Mapping[int, int], training: bool) -> Bytes:
    """Bytes of the tensors that an operation makes besides its output, and that the way back needs: copies in another form,
    statistics, positions of maxima, what a blur pads, and which images are dropped."""
    each, channels = cast_bytes(layer, form, sizes), layer.out_shape[0]
    if layer.op == Op.BATCH_NORM and training:
        return Bytes(2 * channels * form.statistic)
    if layer.op == Op.STOCHASTIC_DEPTH and training:
        return Bytes(each=1)
    if layer.op == Op.GROUP_NORM:
        return Bytes(each=each + 2 * layer.groups * form.weight)
    if layer.op == Op.MAX_POOLING:
        return Bytes(each=prod(layer.out_shape) * POSITION)
    if layer.op == Op.BLUR:
        read = HALF if form.autocast else sizes[layer.inputs[0]]
        kernel = KERNEL * channels * HALF if form.autocast else 0
        return Bytes(kernel, each + padded_numbers(layer) * read)
    return Bytes(each=each)


def scratch_bytes(layer: Layer, form: Form, sizes: Mapping[int, int], training: bool) -> Bytes:
    """Bytes of what an operation makes and drops again on the way forward."""
    if layer.op == Op.STOCHASTIC_DEPTH and training:
        return Bytes(each=prod(layer.out_shape) * sizes[layer.index])
    if layer.op == Op.BLUR and form.autocast:
        filled = FLOAT if form.pads_in_fp32 else sizes[layer.inputs[0]]
        return Bytes(each=padded_numbers(layer) * filled if filled != HALF else 0)
    return NOTHING


def back_steps(layer: Layer, sizes: Mapping[int, int]) -> tuple[Bytes, ...]:
    """Bytes of the gradients between that of a layer's output and that of its input, where the way back has several steps."""
    if layer.op == Op.BLUR:
        return (Bytes(each=padded_numbers(layer) * sizes[layer.inputs[0]]),)
    if layer.op == Op.STOCHASTIC_DEPTH:
        return (output_bytes(layer, sizes),)
    if layer.module == PadShortcut.__name__:  # not those that pad on the sides
        (channels, _, width), (_, height, narrowed) = layer.in_shapes[0], layer.out_shape
        size = sizes[layer.index]
        cut = (Bytes(each=channels * height * narrowed * size), Bytes(each=channels * height * width * size))
        return cut if layer.stride > 1 else cut[:1]
    return ()


def back_scratch_bytes(layer: Layer, form: Form, sizes: Mapping[int, int]) -> Bytes:
    """Bytes of what the last step back through a layer makes besides the gradients of its inputs: the product that is summed
    up to a channel weight's gradient, and gradients of copies in another form."""
    cast = 0 if IMAGE in layer.inputs else cast_bytes(layer, form, sizes)
    return Bytes(each=cast).plus(output_bytes(layer, sizes) if layer.op == Op.SCALING else NOTHING)


def padded_numbers(layer: Layer) -> int:
    """Numbers of what a blur reads, a pixel wider on each side."""
    return padded_input_bytes(layer) // FLOAT


def weight_copies(layer: Layer, form: Form) -> tuple[int, int]:
    """Bytes of the half-precision copies that autocast makes of a layer's weights, which the way back needs, and of its bias,
    which goes when autocast ends."""
    if not form.autocast or layer.op not in LOWERED:
        return 0, 0
    weights = prod(weight_factors(layer) or ())
    return weights * HALF, (layer.params - weights) * HALF


def output_bytes(layer: Layer, sizes: Mapping[int, int]) -> Bytes:
    """Bytes of a layer's output, whose numbers take `sizes`."""
    return Bytes(each=prod(layer.out_shape) * sizes[layer.index])


def owners(layers: Sequence[Layer], training: bool) -> dict[int, int]:
    """The layer (or image, −1) that owns the memory of each layer's output."""
    owner = {IMAGE: IMAGE}
    for layer in layers:
        owner[layer.index] = owner[layer.inputs[0]] if is_view(layer, training) else layer.index
    return owner
