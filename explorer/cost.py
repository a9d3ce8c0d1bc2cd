"""What a traced network costs: memory by liveness, and each figure as a formula with its numbers."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .trace import Layer, Trace

FLOAT = 4
"""Bytes of an fp32 number."""

IMAGE = -1
"""The index that stands for the input image among a layer's `inputs`."""

VIEWS = ("flatten", "stochastic depth")
"""Operations whose output is their input's memory (stochastic depth when it is not training)."""


class Memory(NamedTuple):
    """A peak of activation memory in bytes, and the layer at which it is first reached."""

    bytes: int
    layer: Layer


def inference_memory(trace: Trace) -> Memory:
    """The most that activations hold at once: an output lives until its last reader has run.

    Counts the outputs of layers and the image, not weights or a kernel's own workspace.
    """
    sizes, owner = tensor_bytes(trace)
    last_use = {owner[layer.index]: layer.index for layer in trace.layers}
    for layer in trace.layers:
        for producer in layer.inputs:
            last_use[owner[producer]] = layer.index
    ends: dict[int, list[int]] = {}
    for tensor, end in last_use.items():
        ends.setdefault(end, []).append(tensor)
    live, peak, where = sizes[IMAGE], 0, trace.layers[0]
    for layer in trace.layers:
        live += sizes[layer.index] if owner[layer.index] == layer.index else 0
        if live > peak:
            peak, where = live, layer
        live -= sum(sizes[tensor] for tensor in ends.get(layer.index, ()))
    return Memory(peak, where)


def tensor_bytes(trace: Trace) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes of each layer's output, and the layer (or image, −1) that owns its memory."""
    sizes, owner = {IMAGE: prod(trace.image_shape) * FLOAT}, {IMAGE: IMAGE}
    for layer in trace.layers:
        sizes[layer.index] = prod(layer.out_shape) * FLOAT
        owner[layer.index] = owner[layer.inputs[0]] if layer.op in VIEWS else layer.index
    return sizes, owner


SAVES_OUTPUT = ("relu", "sigmoid")
SAVES_NOTHING = ("addition", "global average pooling", "zero padding", *VIEWS)
"""What autograd keeps for backward is the inputs of an operation, with these exceptions."""


def training_memory(trace: Trace) -> int:
    """Bytes that autograd keeps of one image's forward pass in training mode, parameters not counted.

    A tensor that several operations keep counts once. On top come batch norm's mean and
    deviation, group norm's, the positions of the maxima (int64), what the blur pads, and which pictures are dropped.
    """
    sizes, owner = tensor_bytes(trace)
    kept: set[int] = set()
    extra = 0
    for layer in trace.layers:
        if layer.op in SAVES_OUTPUT:
            kept.add(owner[layer.index])
        elif layer.op not in SAVES_NOTHING:
            kept.update(owner[producer] for producer in layer.inputs)
        extra += kept_beside(layer)
    return sum(sizes[tensor] for tensor in kept) + extra


def kept_beside(layer: Layer) -> int:
    """Bytes that backward needs besides inputs and outputs."""
    channels = layer.out_shape[0]
    if layer.op == "batch norm":
        return 2 * channels * FLOAT
    if layer.op == "group norm":
        return 2 * layer.groups * FLOAT
    if layer.op == "stochastic depth":
        return 1
    if layer.op == "max pooling":
        return prod(layer.out_shape) * 8
    if layer.op == "blur":
        _, height, width = layer.in_shapes[0]
        return channels * (height + 2) * (width + 2) * FLOAT
    return 0


# -- formulas -----------------------------------------------------------------------------


def params_formula(layer: Layer) -> str:
    """The parameter count with its numbers: "3·3·64·64 = 36,864". Empty for a layer without any."""
    if not layer.params:
        return ""
    weights = weight_factors(layer)
    if weights is None:
        return f"2·{layer.out_shape[0]} = {layer.params:,}"
    product = prod(weights)
    bias = f" + {layer.params - product:,}" if layer.params > product else ""
    return f"{'·'.join(map(str, weights))}{bias} = {layer.params:,}"


def macs_formula(layer: Layer) -> str:
    """The MACs with their numbers: "36,864 weights · 56·56 positions = 115,605,504". Empty where 0."""
    weights = weight_factors(layer)
    if not layer.macs or weights is None:
        return ""
    product = prod(weights)
    if layer.op == "linear":
        return f"{product:,} weights, each used once = {layer.macs:,}"
    positions = f"{layer.out_shape[0]}" if len(weights) == 1 else "·".join(map(str, layer.out_shape[1:]))
    return f"{product:,} weights · {positions} positions = {layer.macs:,}"


def weight_factors(layer: Layer) -> tuple[int, ...] | None:
    """The factors of a weight's size: k, k, input channels a group, output channels. None for a norm."""
    inputs, outputs = layer.in_shapes[0][0], layer.out_shape[0]
    if layer.op == "convolution":
        return layer.kernel, layer.kernel, inputs // layer.groups, outputs
    if layer.op == "linear":
        return inputs, outputs
    return (layer.kernel,) if layer.params and layer.kernel > 1 else None
