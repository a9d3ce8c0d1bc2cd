"""What a traced network costs: work, each figure as a formula, and a ledger that leads to others' totals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

from resnet import preset_name

from .layers import FLOAT, NORMS, VIEWS, Layer, Op
from .memory import convolution_copy_bytes, extra_inference_bytes, padded_weights
from .trace import Trace

BYTE = 40
"""Multiply-adds in whose time a byte of a fresh tensor is read or written."""


def work_macs(trace: Trace) -> int:
    """A forward pass of one image in multiply-adds that take as long: those of padded channels too, and `BYTE` for each
    byte that a layer reads, writes or lays out anew.

    At most: on a core with AVX-512, convolutions take 0.2 to 1.3 seconds for 40e9, 0.55 at the median.
    """
    return sum(map(layer_work_macs, trace.layers))


def layer_work_macs(layer: Layer) -> int:
    """One layer's share of `work_macs`; a view has none."""
    if layer.op in VIEWS:
        return 0
    numbers = sum(map(prod, layer.in_shapes)) + prod(layer.out_shape)
    moved = (numbers + layer.params) * FLOAT + extra_inference_bytes(layer) + convolution_copy_bytes(layer)
    convolved = layer.op in (Op.CONVOLUTION, Op.BLUR)
    return (padded_weights(layer) * prod(layer.out_shape[1:]) if convolved else layer.macs) + BYTE * moved


class Count(NamedTuple):
    """What a network is and does for one image in fp32: layers, parameters, MACs, and the bytes that its layers move
    (`Trace.moved_bytes`)."""

    layers: int
    params: int
    macs: int
    moved_bytes: int


def count(trace: Trace) -> Count:
    return Count(len(trace.layers), trace.params, trace.macs, trace.moved_bytes)


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
    if layer.op == Op.LINEAR:
        return f"{product:,} weights, each used once = {layer.macs:,}"
    positions = "·".join(map(str, layer.out_shape[1:]))
    return f"{product:,} weights · {positions} positions = {layer.macs:,}"


def weight_factors(layer: Layer) -> tuple[int, ...] | None:
    """The factors of a weight's size: k, k, input channels a group, output channels. None for a norm."""
    inputs, outputs = layer.in_shapes[0][0], layer.out_shape[0]
    if layer.op == Op.CONVOLUTION:
        return layer.kernel, layer.kernel, inputs // layer.groups, outputs
    if layer.op == Op.LINEAR:
        return inputs, outputs
    return (layer.kernel,) if layer.params and layer.kernel > 1 else None


# -- the ledger ---------------------------------------------------------------------------


class LedgerLine(NamedTuple):
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


def ledger(trace: Trace) -> tuple[LedgerLine, ...]:
    """All the work of one image in evaluation mode, by kind. Kinds that the network lacks are left out."""
    lines = (LedgerLine(name, sum(map(count, trace.layers))) for name, count in LINES.items())
    return tuple(line for line in lines if line.amount)


def bridge(lines: tuple[LedgerLine, ...], tool: Tool) -> dict[str, int]:
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
    "resnet18": 1_800_000_000,
    "resnet34": 3_600_000_000,
    "resnet50": 3_800_000_000,
    "resnet101": 7_600_000_000,
    "resnet152": 11_300_000_000,
}
"""As printed in Table 1 of https://arxiv.org/abs/1512.03385."""


def _outputs(*ops: Op, times: int = 1) -> Callable[[Layer], int]:
    return lambda layer: times * prod(layer.out_shape) if layer.op in ops else 0


def _inputs(*ops: Op) -> Callable[[Layer], int]:
    return lambda layer: prod(layer.in_shapes[0]) if layer.op in ops else 0


def _macs(op: Op) -> Callable[[Layer], int]:
    return lambda layer: layer.macs if layer.op == op else 0


def _biased(layer: Layer) -> int:
    weights = weight_factors(layer)
    return prod(layer.out_shape) if weights is not None and layer.params > prod(weights) else 0


def _norm_params(layer: Layer) -> int:
    return layer.params if layer.op in NORMS else 0


LINES: Mapping[str, Callable[[Layer], int]] = {
    "Convolution": _macs(Op.CONVOLUTION),
    "Convolution along channels": _macs(Op.CHANNEL_CONVOLUTION),
    "Linear": _macs(Op.LINEAR),
    "Bias": _biased,
    "Batch norm": _outputs(Op.BATCH_NORM),
    "Group norm": _outputs(Op.GROUP_NORM),
    "Norm parameters": _norm_params,
    "ReLU": _outputs(Op.RELU),
    "Leaky ReLU": _outputs(Op.LEAKY_RELU),
    "ELU": _outputs(Op.ELU),
    "SiLU": _outputs(Op.SILU),
    "GELU": _outputs(Op.GELU),
    "Sigmoid": _outputs(Op.SIGMOID),
    "Max pooling": _inputs(Op.MAX_POOLING),
    "Average pooling": _inputs(Op.AVERAGE_POOLING),
    "Global average pooling": _inputs(Op.GLOBAL_AVERAGE_POOLING),
    "Averages": _outputs(Op.AVERAGE_POOLING, Op.GLOBAL_AVERAGE_POOLING),
    "Blur": _outputs(Op.BLUR, times=9),
    "Addition": _outputs(Op.ADDITION),
    "Scaling": _outputs(Op.SCALING),
}
"""How each line is counted in a layer. The first three are our MACs, the blur is multiply-adds too; the rest counts
the values that an operation reads or puts out."""

OURS = tuple(LINES)[:3]

TOOLS: tuple[Tool, ...] = (
    Tool(
        "fvcore",
        {"Batch norm": 2, "Group norm": 5, "Global average pooling": 1, "Blur": 1},
        False,
        "adds 2 for each value of a batch norm, 5 for each of a group norm, and 1 for each value that global pooling "
        "reads. A blur is a convolution to it. It leaves out biases, activations and additions.",
    ),
    Tool(
        "ptflops",
        {
            "Bias": 1,
            "Batch norm": 2,
            "Group norm": 2,
            "ReLU": 2,
            "ELU": 2,
            "GELU": 2,
            "Leaky ReLU": 1,
            "SiLU": 1,
            "Max pooling": 2,
            "Average pooling": 2,
            "Global average pooling": 2,
        },
        False,
        "(pytorch backend) adds biases, 2 for each value of a norm, and activations and poolings. It counts ReLU, ELU, "
        "GELU and the poolings twice: once at the module and once more at the function that the module calls.",
    ),
    Tool(
        "ptflops aten",
        {"Bias": 1, "Blur": 1},
        False,
        "(the other backend of ptflops) sees torch's operations. It adds biases and the blur, and nothing else.",
    ),
    Tool(
        "thop",
        {"Batch norm": 4, "Global average pooling": 1, "Averages": 1},
        False,
        "adds 4 for each value of a batch norm, 1 for each value that global pooling reads, and 1 for each average that "
        "any pooling puts out. It has no rule for a group norm or a blur.",
    ),
    Tool(
        "torchinfo",
        {"Bias": 1, "Norm parameters": 1},
        False,
        "multiplies parameters: by positions in a convolution, by one elsewhere. So it adds biases and one for each "
        "parameter of a norm.",
    ),
    Tool(
        "torch",
        {"Blur": 1},
        True,
        "(torch.utils.flop_counter) counts a multiplication and an addition as two, for convolutions, blurs and linear "
        "layers without their biases. Where there is no blur, its FLOPs are twice our MACs.",
    ),
)
"""fvcore 0.1.5, ptflops 0.7.5, thop 0.1.1, torchinfo 1.8 and torch's own counter, all in evaluation mode."""
