"""How much memory a traced network takes, by the lifetime of each tensor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

from .layers import FLOAT, IMAGE, VIEWS, Layer, Op, Shape, by_part, convolutions

POSITION = 8
"""Bytes of the position (int64) of a maximum."""


class Memory(NamedTuple):
    """A peak of activation memory in bytes, and the layer at which it is first reached."""

    bytes: int
    layer: Layer


def inference_memory(layers: Sequence[Layer], image: Shape) -> Memory:
    """The most that a forward pass of one image holds at once in evaluation mode: maps, and an operation's extra tensors.

    What a module was given lives until its forward returns, at every level, since the frames of Python hold it:
    the image to the end, the input of a stage and of a block until they are through. What a forward keeps in a
    variable lives as long (`variable_lifetimes`). Weights and a kernel's own scratch space are not counted.
    """
    return peak_memory(layers, image, inference_lifetimes(layers), extra_inference_bytes)


def inference_lifetimes(layers: Sequence[Layer]) -> Lifetimes:
    """Up to which layer our own forward pass holds each tensor."""
    ends = reader_lifetimes(layers)
    returns = {path: layer.index for layer in layers for path in enclosing_modules(layer.name)}
    for layer in layers:
        for producer in layer.inputs:
            inside = () if producer == IMAGE else enclosing_modules(layers[producer].name)
            path = next((path for path in enclosing_modules(layer.name) if path not in inside), layer.name)
            ends.append((producer, returns.get(path, layer.index)))
    return [*ends, *variable_lifetimes(layers)]


def least_memory(layers: Sequence[Layer], image: Shape) -> Memory:
    """The same where each output is let go of after its last reader, as a runtime does that plans its memory.

    Operations run one after another in our order, none of them fused or in place.
    """
    return peak_memory(layers, image, reader_lifetimes(layers))


Lifetimes = Iterable[tuple[int, int]]
"""Tensors, as the layer (or image, −1) that put them out, with a layer that still finds them alive."""


def peak_memory(
    layers: Sequence[Layer], image: Shape, lifetimes: Lifetimes, extra_bytes: Callable[[Layer], int] = lambda layer: 0
) -> Memory:
    """The most that is alive while a layer runs; `extra_bytes` gives the bytes it needs besides its inputs and output."""
    sizes, owner = tensor_bytes(layers, image)
    freed = {
        end: sum(sizes[tensor] for tensor in tensors) for end, tensors in freed_after(layers, owner, lifetimes).items()
    }
    live, peak, where = sizes[IMAGE], 0, layers[0]
    for layer in layers:
        live += sizes[layer.index] if owner[layer.index] == layer.index else 0
        if (held := live + extra_bytes(layer)) > peak:
            peak, where = held, layer
        live -= freed.get(layer.index, 0)
    return Memory(peak, where)


def freed_after(layers: Sequence[Layer], owner: Mapping[int, int], lifetimes: Lifetimes) -> dict[int, list[int]]:
    """The tensors that are let go of after each layer, as the layers (or image, −1) that own their memory."""
    last = {owner[layer.index]: layer.index for layer in layers}
    for tensor, end in lifetimes:
        last[owner[tensor]] = max(last.get(owner[tensor], end), end)
    freed: dict[int, list[int]] = {}
    for tensor, end in last.items():
        freed.setdefault(end, []).append(tensor)
    return freed


def reader_lifetimes(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Each tensor with each layer that reads it."""
    return [(producer, layer.index) for layer in layers for producer in layer.inputs]


def enclosing_modules(name: str) -> list[str]:
    """The modules around a layer, from the network: "", "layer1", "layer1.0" for layer1.0.conv1."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]


_BRANCH = re.compile(r"(conv|bn|act|aa)\d?")


def variable_lifetimes(layers: Sequence[Layer]) -> Iterator[tuple[int, int]]:
    """What `ResNet.forward`, and a block's `forward` and `branch`, still have in a variable when all have read it.

    The last stage's map stays to the end of the head; in a branch, what a convolution reads stays until the next
    one's input is made or the branch ends; what the first one reads stays until the block ends: σ(x) in a
    pre-activation block, else x.
    """
    for part, inside in by_part(layers).items():
        if part == "head":
            yield inside[0].inputs[0], inside[-1].index
        elif part != "stem":
            branch = [layer for layer in inside if _BRANCH.fullmatch(layer.role.slot) and layer.role.slot != "act"]
            read = [layer.inputs[0] for layer in convolutions(branch)]
            yield from zip(read, [*read[1:], branch[-1].index], strict=True)
            yield read[0], inside[-1].index


def tensor_bytes(layers: Sequence[Layer], image: Shape) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes of each layer's output, and the layer (or image, −1) that owns its memory; `image` is its shape C×H×W."""
    sizes, owner = {IMAGE: prod(image) * FLOAT}, {IMAGE: IMAGE}
    for layer in layers:
        sizes[layer.index] = prod(layer.out_shape) * FLOAT
        owner[layer.index] = owner[layer.inputs[0]] if layer.op in VIEWS else layer.index
    return sizes, owner


SAVES_OUTPUT = frozenset({Op.RELU, Op.SIGMOID})
SAVES_NOTHING = VIEWS | {Op.ADDITION, Op.GLOBAL_AVERAGE_POOLING, Op.ZERO_PADDING}
"""What autograd keeps for backward is the inputs of an operation, with these exceptions."""


def training_memory(layers: Sequence[Layer], image: Shape) -> int:
    """Bytes that autograd keeps of one image's forward pass in training mode, parameters not counted.

    A tensor that several operations keep counts once. On top come batch norm's mean and
    deviation, group norm's, the positions of the maxima (int64), what the blur pads, and which images are dropped.
    """
    sizes, owner = tensor_bytes(layers, image)
    return sum(sizes[tensor] for tensor in kept_tensors(layers, owner)) + sum(map(extra_training_bytes, layers))


def kept_tensors(layers: Sequence[Layer], owner: Mapping[int, int]) -> set[int]:
    """The tensors that autograd keeps, as the layers (or image, −1) that own their memory."""
    kept: set[int] = set()
    for layer in layers:
        if layer.op in SAVES_OUTPUT:
            kept.add(owner[layer.index])
        elif layer.op not in SAVES_NOTHING:
            kept.update(owner[producer] for producer in layer.inputs)
    return kept


def extra_training_bytes(layer: Layer) -> int:
    """Bytes that backward needs besides inputs and outputs."""
    channels = layer.out_shape[0]
    if layer.op == Op.BATCH_NORM:
        return 2 * channels * FLOAT
    if layer.op == Op.GROUP_NORM:
        return 2 * layer.groups * FLOAT
    if layer.op == Op.STOCHASTIC_DEPTH:
        return 1
    if layer.op == Op.MAX_POOLING:
        return prod(layer.out_shape) * POSITION
    return padded_input_bytes(layer) if layer.op == Op.BLUR else 0


def extra_inference_bytes(layer: Layer) -> int:
    """Bytes of the tensors that an operation makes and drops again: the positions of the maxima, what the blur pads,
    group norm's means and deviations."""
    if layer.op == Op.GROUP_NORM:
        return 2 * layer.groups * FLOAT
    if layer.op == Op.MAX_POOLING:
        return prod(layer.out_shape) * POSITION
    return padded_input_bytes(layer) if layer.op == Op.BLUR else 0


def padded_input_bytes(layer: Layer) -> int:
    """Bytes of what a blur reads, a pixel wider on each side."""
    channels, height, width = layer.in_shapes[0]
    return channels * (height + 2) * (width + 2) * FLOAT


def moved_bytes(layers: Sequence[Layer], image: Shape) -> int:
    """Bytes that the operations of one image's forward pass read and write: each one's inputs, output and parameters.

    Every operation counts by itself, as where none of them are fused and no cache keeps a map from one to the next.
    """
    sizes, _ = tensor_bytes(layers, image)
    return sum(
        sum(sizes[producer] for producer in layer.inputs) + sizes[layer.index] + layer.params * FLOAT
        for layer in layers
        if layer.op not in VIEWS
    )


# -- what a pass really takes -------------------------------------------------------------

LANES = 16
"""Channels that a vectorised convolution computes at once: it pads to a multiple of them."""


def working_memory(layers: Sequence[Layer], image: Shape) -> int:
    """The most bytes that a prediction takes beside the network's weights: `inference_memory`, what convolutions lay out
    anew while they run, and the prepared image, which stays.
    """
    peak = peak_memory(
        layers,
        image,
        inference_lifetimes(layers),
        lambda layer: extra_inference_bytes(layer) + convolution_copy_bytes(layer),
    )
    return peak.bytes + prod(image) * FLOAT


def gradient_memory(layers: Sequence[Layer], image: Shape) -> int:
    """The most bytes that one image takes forward and back: what is kept for the way back, and on it the gradients
    and what a convolution lays out anew.
    """
    largest_step = max(2 * prod(layer.out_shape) * FLOAT + 2 * convolution_copy_bytes(layer) for layer in layers)
    return training_memory(layers, image) + largest_step + 2 * prod(image) * FLOAT


def convolution_copy_bytes(layer: Layer) -> int:
    """Bytes of what a convolution copies for its kernel: input, weights and output in blocks of `LANES` channels.

    A kernel wider than 1×1 reads an input of fewer channels as it lies. At most: oneDNN on a CPU with AVX-512 takes 0.1
    to 1.05 times as much, measured on random convolutions of 1 to 2048 channels at 7 to 4096 pixels.
    """
    if layer.op not in (Op.CONVOLUTION, Op.BLUR):
        return 0
    (inputs, *positions), (outputs, *places) = layer.in_shapes[0], layer.out_shape
    read = padded_channels(inputs) * prod(positions) if layer.kernel == 1 or inputs >= LANES else 0
    return (read + padded_channels(outputs) * prod(places) + padded_weights(layer)) * FLOAT


def padded_channels(channels: int) -> int:
    """Channels, rounded up to a multiple of `LANES`."""
    return -(-channels // LANES) * LANES


def padded_weights(layer: Layer) -> int:
    """The weights of a convolution with the channels of each group padded; those of a depthwise one are as they are."""
    inputs, outputs = layer.in_shapes[0][0], layer.out_shape[0]
    if layer.op == Op.BLUR or layer.groups == inputs > 1:
        return layer.kernel**2 * outputs
    each = padded_channels(inputs // layer.groups) * padded_channels(outputs // layer.groups)
    return layer.kernel**2 * layer.groups * each
