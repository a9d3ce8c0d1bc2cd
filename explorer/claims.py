"""What a blog post on ResNet claims, in our own words, and what comes out when it is computed.

The post annotates torchvision's ResNet (2019). Each `Claim` computes its evidence from
traces, torch modules, published figures or measured gradients, and its verdict from that evidence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from resnet import ResNetConfig, build, preset, title
from resnet.train import Recipe
from resnet.weights import BUNDLED, bundled_path, read_checkpoint

from .published import published
from .stacks import CASES, Lab, block_config, single, stack
from .trace import Layer, Trace, trace
from .view import View

HOLDS, WHEN, FAILS = "holds", "holds when", "does not hold"
"""The verdicts. `WHEN` is followed by a condition."""


class Evidence(NamedTuple):
    """One number. `unit` follows it; "%" marks a share from 0 to 1."""

    label: str
    value: float
    unit: str = ""

    @property
    def text(self) -> str:
        """92.57%, 1,179,648, 0.00058."""
        if self.unit == "%":
            return f"{self.value:.2%}"
        number = f"{self.value:,.0f}" if isinstance(self.value, int) or abs(self.value) >= 100 else f"{self.value:.2g}"
        return f"{number} {self.unit}".rstrip()


class Finding(NamedTuple):
    """What came out: a verdict, its condition (for `WHEN`), the numbers, and what they mean."""

    verdict: str
    condition: str
    evidence: tuple[Evidence, ...]
    words: str


@dataclass(frozen=True)
class Claim:
    """`statement` is the post's claim in our words; `page` and `view` open the app where the numbers come from."""

    key: str
    statement: str
    check: Callable[[], Finding]
    page: str
    view: View
    see: str


# -- stacks, blocks and filters -----------------------------------------------------------


def stacked_kernels() -> Finding:
    """Three 3×3 against one 7×7, at equal width and as a stem."""
    small, large = stack(Lab()), single(Lab())
    stem = CASES["As a stem: 32, 32, 64"]
    deep, wide = stack(stem), single(stem)
    square = Lab().inputs ** 2
    evidence = (
        Evidence("Three 3×3 see", small.field.size, "px a side"),
        Evidence("One 7×7 sees", large.field.size, "px a side"),
        Evidence("Weights of three 3×3", small.params // square, "× C²"),
        Evidence("Weights of one 7×7", large.params // square, "× C²"),
        Evidence("As a stem, three 3×3 see", deep.field.size, "px a side"),
        Evidence("As a stem, three 3×3 cost", deep.macs, "MACs"),
        Evidence("As a stem, one 7×7 costs", wide.macs, "MACs"),
    )
    equal = small.field.size == large.field.size and small.params < large.params
    everywhere = equal and deep.field.size == wide.field.size and deep.macs < wide.macs
    return Finding(
        HOLDS if everywhere else WHEN if equal else FAILS,
        "" if everywhere else "the stride is 1 and all widths are equal",
        evidence,
        "The 27 and 49 are factors of C², the channels in times the channels out. The stem has a stride and few input "
        f"channels: there the stack costs {deep.macs / wide.macs:.1f} times as much as the 7×7, and sees further.",
    )


def bottleneck_weights() -> Finding:
    """Two 3×3 at 256 channels against a bottleneck, as the post counts and as the modules do."""
    basic, bottleneck = (
        convolutions(trace(block_config(kind, 256), 8), "layer1.0") for kind in ("basic", "bottleneck")
    )
    real = [sum(layer.params for layer in layers) for layers in (basic, bottleneck)]
    # The post multiplies the kernel by the output channels only.
    said = [sum(layer.kernel**2 * layer.out_shape[0] for layer in layers) for layers in (basic, bottleneck)]
    evidence = (
        Evidence("Two 3×3, the post", said[0], "weights"),
        Evidence("Two 3×3, counted", real[0], "weights"),
        Evidence("Bottleneck, the post", said[1], "weights"),
        Evidence("Bottleneck, counted", real[1], "weights"),
    )
    return Finding(
        HOLDS if said == real else FAILS,
        "",
        evidence,
        "Both sums leave out the input channels: each filter has k·k weights for every channel that it reads. The "
        f"conclusion stands, and more so: the bottleneck is {real[0] / real[1]:.0f} times smaller, not "
        f"{said[0] / said[1]:.0f} times.",
    )


def constant_size() -> Finding:
    """Channels times map size at the end of each stage of ResNet-34."""
    traced = trace(preset("resnet34"))
    last = [block(traced, f"layer{stage}.{count - 1}") for stage, count in enumerate(traced.config.layers, start=1)]
    shapes = [layers[-1].out_shape for layers in last]
    area, side = [prod(shape) for shape in shapes], [shape[0] * shape[1] for shape in shapes]
    macs = [sum(layer.macs for layer in layers) for layers in last]
    evidence = (
        Evidence("Channels × side, first stage", side[0]),
        Evidence("Channels × side, last stage", side[-1]),
        Evidence("Channels × height × width, first stage", area[0]),
        Evidence("Channels × height × width, last stage", area[-1]),
        Evidence("MACs of a block, first stage", macs[0]),
        Evidence("MACs of a block, last stage", macs[-1]),
    )
    values, sides, work = (len(set(numbers)) == 1 for numbers in (area, side, macs))
    return Finding(
        HOLDS if values else WHEN if sides else FAILS,
        "size means the side of the map, not its area" if sides and not values else "",
        evidence,
        f"From one stage to the next the number of values falls to 1/{area[0] / area[1]:.0f}. "
        + ("What the design keeps constant is the work: all blocks of unchanged shape cost the same." if work else ""),
    )


def free_shortcuts() -> Finding:
    """The bill of each shortcut option, for ResNet-50 over the plain network."""
    options = ("none", "A", "B", "C", "D")
    traces = {option: trace(preset("resnet50").with_(shortcut=option)[0]) for option in options}
    plain = traces["none"]
    bills = {option: (traces[option].params - plain.params, traces[option].macs - plain.macs) for option in options[1:]}
    evidence = [Evidence(f"Option {option}", bill[0], "parameters") for option, bill in bills.items()]
    evidence += [Evidence(f"Option {option}", bills[option][1], "MACs") for option in ("A", "B", "C")]
    additions = sum(prod(layer.out_shape) for layer in traces["A"].layers if layer.op == "addition")
    projections = sum(layer.role.on_shortcut for layer in convolutions(traces["B"]))
    free = [option for option, bill in bills.items() if bill == (0, 0)]
    everything = len(free) == len(bills)
    return Finding(
        HOLDS if everything else WHEN if free else FAILS,
        "" if everything else "every shortcut is the identity or zero padding (option A)",
        (*evidence, Evidence("Additions", additions)),
        f"The bills are of ResNet-50, over the same network without shortcuts. As usually built (option B) it pays "
        f"{bills['B'][0] / traces['B'].params:.0%} of its parameters for {projections} projections.",
    )


def filter_sizes() -> Finding:
    """The kernels of ResNet-50's convolutions."""
    kernels = Counter(layer.kernel for layer in convolutions(trace(preset("resnet50"))))
    small = Counter(layer.kernel for layer in convolutions(trace(preset("resnet56"), 32)))
    evidence = [Evidence(f"{size}×{size} convolutions of ResNet-50", kernels[size]) for size in sorted(kernels)]
    evidence += [Evidence(f"{size}×{size} convolutions of ResNet-56", small[size]) for size in sorted(small)]
    return Finding(
        HOLDS if set(kernels) <= {1, 3} else FAILS,
        "",
        tuple(evidence),
        "The exception is the first convolution of the ImageNet networks. Inside the blocks the claim is right, and so "
        "it is for the whole of the CIFAR networks.",
    )


def shrinking_bottleneck() -> Finding:
    """Which bottleneck blocks of ResNet-50 halve the map, and in which convolution."""
    shrinks = {name: shrinking(trace(preset(name))) for name in ("resnet50", "resnet50_v1")}
    blocks = sum(preset("resnet50").layers)
    middle = [layer for layer in shrinks["resnet50"] if layer.role.slot == "conv2"]
    first = [layer for layer in shrinks["resnet50_v1"] if layer.role.slot == "conv1"]
    evidence = (
        Evidence("Bottleneck blocks of ResNet-50", blocks),
        Evidence("Their 3×3 shrinks the map (v1.5)", len(middle), "blocks"),
        Evidence("Their first 1×1 shrinks it (v1)", len(first), "blocks"),
        Evidence("Their 3×3 shrinks it in v1", len(shrinks["resnet50_v1"]) - len(first), "blocks"),
    )
    starts = all(layer.role.block == 0 for layer in middle)
    stages = ", ".join(str(layer.role.stage) for layer in middle)
    return Finding(
        HOLDS if len(middle) == blocks else WHEN if middle and starts else FAILS,
        ""
        if len(middle) == blocks
        else f"the block is the first of its stage (stages {stages}) and the network is v1.5",
        evidence,
        "What every bottleneck narrows in its middle is the channels, to a quarter of what it puts out. The paper's own "
        "networks (v1) have the stride in the first 1×1.",
    )


def one_by_one() -> Finding:
    """The weight matrix of a 1×1 convolution from 64 to 256 channels, at its initialisation."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        conv, x = nn.Conv2d(64, 256, 1, bias=False), torch.randn(1, 64, 28, 28)
        matrix, channels = conv.weight[:, :, 0, 0], x[0].flatten(1)
        put_out = conv(x)[0].flatten(1)
        copies = torch.outer(matrix.mean(1), channels.sum(0))  # the nearest that one repeated sum can come
        gap = (put_out - matrix @ channels).abs().max().item()
        share = 1 - ((put_out - copies).square().sum() / put_out.square().sum()).item()
        rank, repeated = int(torch.linalg.matrix_rank(matrix)), int(torch.linalg.matrix_rank(copies))
    evidence = (
        Evidence("Weights", matrix.numel()),
        Evidence("Weights if one sum were repeated", conv.out_channels),
        Evidence("Independent sums in the outputs", rank),
        Evidence("If one sum were repeated", repeated),
        Evidence("What a repeated sum explains of the output", share, "%"),
        Evidence("Largest gap to matrix times channels", gap),
    )
    return Finding(
        HOLDS if rank == repeated else FAILS,
        "",
        evidence,
        "At every position each output is its own weighted sum of all inputs: a matrix times the vector of channels. "
        "The numbers are of an untrained convolution from 64 to 256 channels.",
    )


def expansion() -> Finding:
    """Channels inside and after a block of each kind, for 64 planes."""
    found = {}
    for name, slot in (("resnet34", "conv1"), ("resnet50", "conv2")):
        traced = trace(preset(name))
        inner, outer = traced.by_name[f"layer1.1.{slot}"].out_shape[0], block(traced, "layer1.1")[-1].out_shape[0]
        found[name] = (inner, outer, traced.config.expansion * traced.config.planes[0])
    (_, _, basic), (inner, outer, product) = found["resnet34"], found["resnet50"]
    evidence = (
        Evidence("Planes of the first stage", preset("resnet50").planes[0]),
        Evidence("Bottleneck, inside", inner, "channels"),
        Evidence("Bottleneck, put out", outer, "channels"),
        Evidence("Basic block, put out", found["resnet34"][1], "channels"),
        Evidence("Planes × expansion, bottleneck", product),
        Evidence("Planes × expansion, basic", basic),
    )
    return Finding(
        HOLDS if inner == product else FAILS,
        "",
        evidence,
        "The product is what a block puts out. The next block and the classifier have to know how many channels they "
        "read, and a bottleneck puts out four times its planes. That is what the factor is for.",
    )


# -- depth --------------------------------------------------------------------------------


def degradation() -> Finding:
    """Plain and residual networks, shallow and deep: the paper's on ImageNet and the shipped ones."""
    paper = {r.config: r.top1 for r in published() if r.recipe == "paper"}
    named = {f"{kind}{depth}": error(paper, kind, depth) for kind in ("plain", "resnet") for depth in (18, 34)}
    shipped = {name: read_checkpoint(bundled_path(name))[1] for name in BUNDLED}
    epochs = {name: epochs_of(checkpoint.command) for name, checkpoint in shipped.items()}
    evidence = [Evidence(f"Paper, {title_of(name)}, ImageNet", value, "%") for name, value in named.items()]
    evidence += [
        Evidence(f"Shipped {title_of(name)}, {epochs[name]} epochs", 1 - shipped[name].accuracy, "%")
        for name in ("plain20", "plain56", "resnet20", "resnet56")
    ]
    worse = named["plain34"] > named["plain18"] and named["resnet34"] < named["resnet18"]
    fair = epochs["plain56"] == epochs["resnet56"]
    gap = shipped["resnet56"].accuracy - shipped["plain56"].accuracy
    same = len(set(epochs.values())) == 1
    words = "All numbers are errors on pictures that were not trained on; the post speaks of training errors. "
    words += (
        f"The shipped pair of depth 56 shares one recipe: without shortcuts it is {100 * gap:.1f} points worse. "
        if fair
        else "The shipped pair of depth 56 was trained for different lengths and is no comparison. "
    )
    words += "" if same else "The recipes of depth 20 and 56 differ in length, so those two depths do not compare. "
    words += "The paper's networks have option A."
    return Finding(
        WHEN if worse and (gap > 0 or not fair) else FAILS,
        "the depths are those of the paper: 18 and 34 on ImageNet, 20 and 56 on CIFAR-10",
        tuple(evidence),
        words,
    )


def vanishing() -> Finding:
    """Gradient norms of the first and the last convolution at initialisation."""
    norms = {
        (norm, kind, n): gradient_norms(norm, kind, n)
        for norm in ("batch", "none")
        for kind in ("none", "A")
        for n in (3, 9)
    }
    evidence = [
        Evidence(
            f"{'Plain' if kind == 'none' else 'Residual'}-{6 * n + 2}, {'batch norm' if norm == 'batch' else 'no norm'}, {place}",
            value,
        )
        for (norm, kind, n), pair in norms.items()
        for place, value in zip(("first", "last"), (pair[0], pair[-1]), strict=True)
    ]
    deep, shallow = norms["batch", "none", 9][0], norms["batch", "none", 3][0]
    bare = norms["none", "none", 9][0], norms["none", "none", 3][0]
    kept, vanish = deep >= shallow, bare[0] < bare[1]
    residual = norms["batch", "A", 9][0] / norms["batch", "A", 3][0]
    return Finding(
        (WHEN if vanish else HOLDS) if kept else FAILS,
        "a batch norm follows every convolution" if kept and vanish else "",
        tuple(evidence),
        f"Norms of the gradient of the first and the last convolution's weights, untrained. From 20 to 56 layers, the "
        f"first one's in a plain network grows {deep / shallow:,.0f} times "
        f"with batch norm: it explodes rather than vanishes. With shortcuts it grows {residual:.1f} times. Without "
        f"batch norm the plain network's gradient falls to 1/{bare[1] / bare[0]:.0f}. Measured on {BATCH} random "
        f"pictures of {SIDE}×{SIDE} pixels.",
    )


BATCH, SIDE = 16, 16


def gradient_norms(norm: str, shortcut: str, n: int) -> list[float]:
    """‖∂loss/∂W‖ of each convolution of a CIFAR network of depth 6n + 2, untrained, on random pictures and labels."""
    config, _ = preset("resnet20").with_(layers=(n, n, n), norm=norm, shortcut=shortcut)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # maps this small are slower on several
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            network = build(config).train()
            pictures, labels = torch.randn(BATCH, config.in_channels, SIDE, SIDE), torch.randint(10, (BATCH,))
            weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
            gradients = torch.autograd.grad(F.cross_entropy(network(pictures), labels), weights)
    finally:
        torch.set_num_threads(threads)
    return [gradient.norm().item() for gradient in gradients]


def error(paper: Mapping[ResNetConfig, float], kind: str, depth: int) -> float:
    """The top-1 error in Table 2 of He et al. 2015, where the residual networks have option A."""
    config = preset(f"{kind}{depth}")
    return 1 - paper[config if kind == "plain" else config.with_(shortcut="A")[0]]


def title_of(name: str) -> str:
    return title(preset(name))


def epochs_of(command: str) -> int:
    """How long a shipped network was trained, from the command in its checkpoint."""
    given = re.search(r"--epochs (\d+)", command)
    return int(given[1]) if given else Recipe().epochs


# -- layers of a trace --------------------------------------------------------------------


def block(traced: Trace, name: str) -> tuple[Layer, ...]:
    """The layers of "layer1.0"."""
    return tuple(layer for layer in traced.layers if layer.name.startswith(f"{name}."))


def convolutions(traced: Trace, name: str = "") -> tuple[Layer, ...]:
    layers = block(traced, name) if name else traced.layers
    return tuple(layer for layer in layers if layer.op == "convolution")


def shrinking(traced: Trace) -> list[Layer]:
    """The convolutions on a stage's main path that put out a smaller map than they read."""
    return [
        layer for layer in convolutions(traced)
        if layer.role.part == "stage" and not layer.role.on_shortcut and layer.out_shape[1] < layer.in_shapes[0][1]
    ]  # fmt: skip


# -- the claims ---------------------------------------------------------------------------

FIFTY = View(preset("resnet50"))

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "stack", "Three 3×3 convolutions in a row see as much as one 7×7, with 27 weights in place of 49.",
        stacked_kernels, "kernels", FIFTY, "See it: kernel stacks",
    ),
    Claim(
        "bottleneck", "At 256 channels, two 3×3 layers have 3·3·256·2 weights and a bottleneck has 64 + 3·3·64 + 256.",
        bottleneck_weights, "kernels", replace(FIFTY, tab="The block"), "See it: the block up close",
    ),
    Claim(
        "constant", "The number of features times the size of the feature map stays about the same.",
        constant_size, "architecture", View(preset("resnet34")), "See it: the stages of ResNet-34",
    ),
    Claim(
        "shortcut", "Shortcuts add neither parameters nor computation, but for the addition.",
        free_shortcuts, "compare",
        replace(FIFTY, others=tuple(preset("resnet50").with_(shortcut=option)[0] for option in ("A", "C", "none"))),
        "See it: ResNet-50 against A, C and plain",
    ),
    Claim(
        "filters", "ResNet has filters of 3×3 and 1×1 and no other size.",
        filter_sizes, "architecture", replace(FIFTY, at="conv1"), "See it: the first convolution",
    ),
    Claim(
        "shrink", "In the middle of a bottleneck the feature map gets smaller.",
        shrinking_bottleneck, "architecture", replace(FIFTY, at="layer2.0.conv2", pinned=preset("resnet50_v1")),
        "See it: the block where it does",
    ),
    Claim(
        "pointwise", "A 1×1 convolution adds all channels to one number and repeats it with different weights.",
        one_by_one, "kernels", replace(FIFTY, tab="The 1×1 convolution"), "See it: a 1×1 by hand",
    ),
    Claim(
        "depth", "A deep network without shortcuts ends up worse than a shallower one, 52 layers against 36.",
        degradation, "inference", View(BUNDLED["plain56"], (28, 28), pinned=BUNDLED["resnet56"]), "See it: the shipped Plain-56",
    ),
    Claim(
        "vanishing", "The reason is not that gradients vanish.",
        vanishing, "architecture", View(preset("plain56"), (32, 32), pinned=preset("resnet56")), "See it: Plain-56 against ResNet-56",
    ),
    Claim(
        "expansion", "Planes times expansion is the width inside a block; why the factor is needed is unclear.",
        expansion, "architecture", replace(FIFTY, at="layer1.1.conv3"), "See it: the last 1×1 of a bottleneck",
    ),
)  # fmt: skip
