"""What a traced network costs: memory by liveness, each figure as a formula, and a ledger that leads to others' totals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from resnet import preset_name

if TYPE_CHECKING:
    from .trace import Layer, Trace

FLOAT = 4
"""Bytes of an fp32 number."""

POSITION = 8
"""Bytes of the position (int64) of a maximum."""

IMAGE = -1
"""The index that stands for the input image among a layer's `inputs`."""

VIEWS = ("flatten", "stochastic depth")
"""Operations whose output is their input's memory (stochastic depth when it is not training)."""


class Memory(NamedTuple):
    """A peak of activation memory in bytes, and the layer at which it is first reached."""

    bytes: int
    layer: Layer


def inference_memory(trace: Trace) -> Memory:
    """The most that a forward pass of one image holds at once in evaluation mode: maps, and an operation's extra tensors.

    What a module was given lives until its forward returns, at every level, since the frames of Python hold it:
    the image to the end, the input of a stage and of a block until they are through. What a forward keeps in a
    variable lives as long (`variables`). Weights and a kernel's own scratch space are not counted.
    """
    return largest(trace, inference_ends(trace), beside_inference)


def inference_ends(trace: Trace) -> Ends:
    """Up to which layer our own forward pass holds each tensor."""
    ends = last_readers(trace)
    returns = {path: layer.index for layer in trace.layers for path in enclosing(layer.name)}
    for layer in trace.layers:
        for producer in layer.inputs:
            inside = () if producer == IMAGE else enclosing(trace.layers[producer].name)
            path = next((path for path in enclosing(layer.name) if path not in inside), layer.name)
            ends.append((producer, returns.get(path, layer.index)))
    return [*ends, *variables(trace)]


def least_memory(trace: Trace) -> Memory:
    """The same where each output is let go of after its last reader, as a runtime does that plans its memory.

    Operations run one after another in our order, none of them fused or in place.
    """
    return largest(trace, last_readers(trace))


Ends = Iterable[tuple[int, int]]
"""Tensors, as the layer (or image, −1) that put them out, with a layer that still finds them alive."""


def largest(trace: Trace, ends: Ends, beside: Callable[[Layer], int] = lambda layer: 0) -> Memory:
    """The most that is alive while a layer runs; `beside` gives the bytes it needs besides its inputs and output."""
    sizes, owner = tensor_bytes(trace)
    last = {owner[layer.index]: layer.index for layer in trace.layers}
    for tensor, end in ends:
        last[owner[tensor]] = max(last.get(owner[tensor], end), end)
    freed: dict[int, int] = {}
    for tensor, end in last.items():
        freed[end] = freed.get(end, 0) + sizes[tensor]
    live, peak, where = sizes[IMAGE], 0, trace.layers[0]
    for layer in trace.layers:
        live += sizes[layer.index] if owner[layer.index] == layer.index else 0
        if (held := live + beside(layer)) > peak:
            peak, where = held, layer
        live -= freed.get(layer.index, 0)
    return Memory(peak, where)


def last_readers(trace: Trace) -> list[tuple[int, int]]:
    """Each tensor with each layer that reads it."""
    return [(producer, layer.index) for layer in trace.layers for producer in layer.inputs]


def enclosing(name: str) -> list[str]:
    """The modules around a layer, from the network: "", "layer1", "layer1.0" for layer1.0.conv1."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]


_BRANCH = re.compile(r"(conv|bn|act|aa)\d?")


def variables(trace: Trace) -> Iterator[tuple[int, int]]:
    """What `ResNet.forward`, and a block's `forward` and `branch`, still have in a variable when all have read it.

    The last stage's map stays to the end of the head; in a branch, what a convolution reads stays until the next
    one's input is made or the branch ends; in a pre-activation block σ(x) stays until the block ends.
    """
    head = next(layer for layer in trace.layers if layer.role.part == "head")
    yield head.inputs[0], len(trace.layers) - 1
    stages = (layer for layer in trace.layers if layer.role.part == "stage")
    for _, group in groupby(stages, lambda layer: layer.role[:3]):
        block = list(group)
        branch = [layer for layer in block if _BRANCH.fullmatch(layer.role.slot) and layer.role.slot != "act"]
        read = [layer.inputs[0] for layer in branch if layer.op == "convolution"]
        yield from zip(read, [*read[1:], branch[-1].index], strict=True)
        if trace.config.order == "pre":
            yield read[0], block[-1].index


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
        return prod(layer.out_shape) * POSITION
    return padded(layer) if layer.op == "blur" else 0


def beside_inference(layer: Layer) -> int:
    """Bytes of the tensors that an operation makes and drops again: the positions of the maxima, what the blur pads,
    group norm's means and deviations."""
    if layer.op == "group norm":
        return 2 * layer.groups * FLOAT
    if layer.op == "max pooling":
        return prod(layer.out_shape) * POSITION
    return padded(layer) if layer.op == "blur" else 0


def padded(layer: Layer) -> int:
    """Bytes of what a blur reads, a pixel wider on each side."""
    channels, height, width = layer.in_shapes[0]
    return channels * (height + 2) * (width + 2) * FLOAT


# -- what a pass really takes -------------------------------------------------------------

LANES = 16
"""Channels that a vectorised convolution computes at once: it pads to a multiple of them."""

BYTE = 40
"""Multiply-adds in whose time a byte of a fresh tensor is read or written."""


def working_memory(trace: Trace) -> int:
    """The most bytes that a prediction takes beside the network's weights: `inference_memory`, what convolutions lay out
    anew while they run, and the prepared picture, which stays.
    """
    peak = largest(trace, inference_ends(trace), lambda layer: beside_inference(layer) + laid_out(layer))
    return peak.bytes + prod(trace.image_shape) * FLOAT


def gradient_memory(trace: Trace) -> int:
    """The most bytes that one picture takes forward and back: what is kept for the way back, and on it the gradients
    and what a convolution lays out anew.
    """
    largest_step = max(2 * prod(layer.out_shape) * FLOAT + 2 * laid_out(layer) for layer in trace.layers)
    return trace.training_memory + largest_step + 2 * prod(trace.image_shape) * FLOAT


def laid_out(layer: Layer) -> int:
    """Bytes of what a convolution copies for its kernel: input, weights and output in blocks of `LANES` channels.

    A kernel wider than 1×1 reads an input of fewer channels as it lies. At most: oneDNN on a CPU with AVX-512 takes 0.1
    to 1.05 times as much, measured on random convolutions of 1 to 2048 channels at 7 to 4096 pixels.
    """
    if layer.op not in ("convolution", "blur"):
        return 0
    (inputs, *positions), (outputs, *places) = layer.in_shapes[0], layer.out_shape
    read = padded_channels(inputs) * prod(positions) if layer.kernel == 1 or inputs >= LANES else 0
    return (read + padded_channels(outputs) * prod(places) + padded_weights(layer)) * FLOAT


def padded_channels(channels: int) -> int:
    return -(-channels // LANES) * LANES


def padded_weights(layer: Layer) -> int:
    """The weights of a convolution with the channels of each group padded; those of a depthwise one are as they are."""
    inputs, outputs = layer.in_shapes[0][0], layer.out_shape[0]
    if layer.op == "blur" or layer.groups == inputs > 1:
        return layer.kernel**2 * outputs
    each = padded_channels(inputs // layer.groups) * padded_channels(outputs // layer.groups)
    return layer.kernel**2 * layer.groups * each


def work(trace: Trace) -> int:
    """A forward pass of one image in multiply-adds that take as long: those of padded channels too, and `BYTE` for each
    byte that a layer reads, writes or lays out anew.

    At most: on a core with AVX-512, convolutions take 0.2 to 1.3 seconds for 40e9, 0.55 at the median.
    """
    return sum(map(layer_work, trace.layers))


def layer_work(layer: Layer) -> int:
    if layer.op in VIEWS:
        return 0
    numbers = sum(map(prod, layer.in_shapes)) + prod(layer.out_shape)
    moved = (numbers + layer.params) * FLOAT + beside_inference(layer) + laid_out(layer)
    convolved = layer.op in ("convolution", "blur")
    return (padded_weights(layer) * prod(layer.out_shape[1:]) if convolved else layer.macs) + BYTE * moved


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
    positions = "·".join(map(str, layer.out_shape[1:]))
    return f"{product:,} weights · {positions} positions = {layer.macs:,}"


def weight_factors(layer: Layer) -> tuple[int, ...] | None:
    """The factors of a weight's size: k, k, input channels a group, output channels. None for a norm."""
    inputs, outputs = layer.in_shapes[0][0], layer.out_shape[0]
    if layer.op == "convolution":
        return layer.kernel, layer.kernel, inputs // layer.groups, outputs
    if layer.op == "linear":
        return inputs, outputs
    return (layer.kernel,) if layer.params and layer.kernel > 1 else None


# -- the ledger ---------------------------------------------------------------------------


class Line(NamedTuple):
    """One kind of work, and how much of it a network does for one image."""

    name: str
    amount: int


class Tool(NamedTuple):
    """What another tool counts besides our MACs: how often it counts each line of the ledger.

    With `doubled` a multiply-add is two operations, as in FLOPs.
    """

    name: str
    counts: Mapping[str, int]
    doubled: bool
    words: str


def ledger(trace: Trace) -> tuple[Line, ...]:
    """All the work of one image in evaluation mode, by kind. Kinds that the network lacks are left out."""
    lines = (Line(name, sum(map(count, trace.layers))) for name, count in LINES.items())
    return tuple(line for line in lines if line.amount)


def bridge(lines: tuple[Line, ...], tool: Tool) -> dict[str, int]:
    """What each line of a ledger adds on the way from our MACs to a tool's total; what adds nothing is left out.

    Our MACs and these terms sum to what the tool prints.
    """
    terms = {line.name: tool.counts[line.name] * line.amount for line in lines if line.name in tool.counts}
    if tool.doubled:
        terms[DOUBLED] = sum(line.amount for line in lines if line.name in OURS) + sum(terms.values())
    return terms


def paper_flops(trace: Trace) -> int | None:
    """The FLOPs (multiply-adds) that Table 1 of He et al. 2015 prints, for the networks and the image size it has."""
    name = (preset_name(trace.config) or "").removesuffix("_v1")
    return PAPER_FLOPS.get(name) if trace.image_size == (224, 224) else None


def paper_bridge(trace: Trace, v1: Trace) -> dict[str, int]:
    """From our MACs to the paper's: `v1` is the trace of this network with the stride in the first 1×1, as it is there."""
    return {STRIDE: v1.macs - trace.macs} if v1.macs != trace.macs else {}


DOUBLED = "Each multiply-add as two"
STRIDE = "Stride in first 1×1"

PAPER_FLOPS: Mapping[str, int] = {
    "resnet18": 1_800_000_000, "resnet34": 3_600_000_000, "resnet50": 3_800_000_000,
    "resnet101": 7_600_000_000, "resnet152": 11_300_000_000,
}  # fmt: skip
"""As printed in Table 1 of https://arxiv.org/abs/1512.03385."""


def _outputs(*ops: str, times: int = 1) -> Callable[[Layer], int]:
    return lambda layer: times * prod(layer.out_shape) if layer.op in ops else 0


def _inputs(*ops: str) -> Callable[[Layer], int]:
    return lambda layer: prod(layer.in_shapes[0]) if layer.op in ops else 0


def _macs(op: str) -> Callable[[Layer], int]:
    return lambda layer: layer.macs if layer.op == op else 0


def _biased(layer: Layer) -> int:
    weights = weight_factors(layer)
    return prod(layer.out_shape) if weights is not None and layer.params > prod(weights) else 0


def _norm_params(layer: Layer) -> int:
    return layer.params if layer.op in ("batch norm", "group norm") else 0


LINES: Mapping[str, Callable[[Layer], int]] = {
    "Convolution": _macs("convolution"),
    "Convolution along channels": _macs("convolution along channels"),
    "Linear": _macs("linear"),
    "Bias": _biased,
    "Batch norm": _outputs("batch norm"),
    "Group norm": _outputs("group norm"),
    "Norm parameters": _norm_params,
    "ReLU": _outputs("relu"),
    "Leaky ReLU": _outputs("leaky relu"),
    "ELU": _outputs("elu"),
    "SiLU": _outputs("silu"),
    "GELU": _outputs("gelu"),
    "Sigmoid": _outputs("sigmoid"),
    "Max pooling": _inputs("max pooling"),
    "Average pooling": _inputs("average pooling"),
    "Global average pooling": _inputs("global average pooling"),
    "Averages": _outputs("average pooling", "global average pooling"),
    "Blur": _outputs("blur", times=9),
    "Addition": _outputs("addition"),
    "Scaling": _outputs("scaling"),
}
"""How each line is counted in a layer. The first three are our MACs, the blur is multiply-adds too; the rest counts
the values that an operation reads or puts out."""

OURS = tuple(LINES)[:3]

TOOLS: tuple[Tool, ...] = (
    Tool(
        "fvcore", {"Batch norm": 2, "Group norm": 5, "Global average pooling": 1, "Blur": 1}, False,
        "adds 2 for each value of a batch norm, 5 for each of a group norm, and 1 for each value that global pooling "
        "reads. A blur is a convolution to it. It leaves out biases, activations and additions.",
    ),
    Tool(
        "ptflops",
        {
            "Bias": 1, "Batch norm": 2, "Group norm": 2, "ReLU": 2, "ELU": 2, "GELU": 2, "Leaky ReLU": 1, "SiLU": 1,
            "Max pooling": 2, "Average pooling": 2, "Global average pooling": 2,
        },
        False,
        "(pytorch backend) adds biases, 2 for each value of a norm, and activations and poolings. It counts ReLU, ELU, "
        "GELU and the poolings twice: once at the module and once more at the function that the module calls.",
    ),
    Tool(
        "ptflops aten", {"Bias": 1, "Blur": 1}, False,
        "(the other backend of ptflops) sees torch's operations. It adds biases and the blur, and nothing else.",
    ),
    Tool(
        "thop", {"Batch norm": 4, "Global average pooling": 1, "Averages": 1}, False,
        "adds 4 for each value of a batch norm, 1 for each value that global pooling reads, and 1 for each average that "
        "any pooling puts out. It has no rule for a group norm or a blur.",
    ),
    Tool(
        "torchinfo", {"Bias": 1, "Norm parameters": 1}, False,
        "multiplies parameters: by positions in a convolution, by one elsewhere. So it adds biases and one for each "
        "parameter of a norm.",
    ),
    Tool(
        "torch", {"Blur": 1}, True,
        "(torch.utils.flop_counter) counts a multiplication and an addition as two, for convolutions, blurs and linear "
        "layers without their biases. Where there is no blur, its FLOPs are twice our MACs.",
    ),
)  # fmt: skip
"""fvcore 0.1.5, ptflops 0.7.5, thop 0.1.1, torchinfo 1.8 and torch's own counter, all in evaluation mode."""
