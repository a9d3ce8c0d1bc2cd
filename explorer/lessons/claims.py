"""What a blog post on ResNet claims, in our own words, and what comes out when it is computed.

The post annotates torchvision's ResNet (2019). Each `Claim` computes its evidence from
traces, torch modules, published figures or measured gradients, and its verdict from that evidence.
`claim` above that computation says what the post claims and where it can be seen and tried. The last claim is another paper's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod, sqrt
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import skip_init

from resnet import ResNetConfig, preset, title
from resnet.train import Recipe
from resnet.weights import BUNDLED, bundled_path, read_checkpoint

from .. import navigation
from ..analysis.layers import Layer, convolutions
from ..analysis.published import published
from ..analysis.trace import Trace, trace
from ..experiments import landscape
from ..experiments.degradation import Settings, shipped_runs, summarise
from ..experiments.gradients import PLAIN as PLAIN_NET
from ..experiments.gradients import RESIDUAL as RESIDUAL_NET
from ..experiments.gradients import SEEDS, Plan, Twin, initial_flows
from ..experiments.identity import PLAIN, PLAIN_IDENTITY, RESIDUAL_ZERO, AppendResult, AppendSettings, experiment
from ..experiments.kernels import CASES, MATRICES, Lab, block_config, single_kernel, stack
from ..experiments.landscape import shipped_landscape
from ..inference.device import Device
from ..inference.preprocess import normalised
from ..inference.samples import labelled_images
from ..link import View
from ..navigation import Page
from ..sharing.threads import single_thread
from ..units import decimals, scientific
from .notes import NOTES

CPU = Device("cpu", "CPU")

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
            return f"{self.value:z.2%}"
        number = f"{self.value:,.0f}" if isinstance(self.value, int) or abs(self.value) >= 100 else f"{self.value:z.2g}"
        return f"{number} {self.unit}".rstrip()


class Finding(NamedTuple):
    """What came out: a verdict, its condition (for `WHEN`), the numbers, and what they mean."""

    verdict: str
    condition: str
    evidence: tuple[Evidence, ...]
    words: str


Check = Callable[[], Finding]

LINE, PICTURE, EXPERIMENT = "line", "picture", "experiment"
"""Where a claim leads: the source it is about, a page where its numbers are seen, and one where it is put to the test."""


@dataclass(frozen=True)
class Link:
    """A way from a claim into the app: `kind` is `LINE`, `PICTURE` or `EXPERIMENT`, `page` opens with `view`."""

    kind: str
    page: Page
    label: str
    view: View


@dataclass(frozen=True)
class Claim:
    """`statement` is the post's claim in our words, `note` the title of the note beside the lines it is about.

    `picture` is where the numbers are seen, and `experiment` where a change shows what they depend on: a page, what
    is there, and the view that opens it.
    """

    key: str
    statement: str
    check: Check
    note: str
    picture: tuple[Page, str, View]
    experiment: tuple[Page, str, View]

    @property
    def links(self) -> tuple[Link, ...]:
        """The line, the picture and the experiment.

        Raises:
            LookupError: where no note has the claim's title.
        """
        key = next((note.key for note in NOTES if note.title == self.note), None)
        if key is None:
            raise LookupError(f"no note of the source is called {self.note}")
        (seen, what, view), (tried, change, other) = self.picture, self.experiment
        return (
            Link(LINE, navigation.SOURCE, f"The line: {self.note}", View(view.config, view.image_size, tab=key)),
            Link(PICTURE, seen, f"See it: {what}", view),
            Link(EXPERIMENT, tried, f"Try it: {change}", other),
        )


_claims: list[Claim] = []


def claim(
    key: str, statement: str, *, line: str, picture: tuple[Page, str, View], experiment: tuple[Page, str, View]
) -> Callable[[Check], Check]:
    """Makes the function below the check of a claim, `line` its note; claims stand in the order of their functions."""

    def add(check: Check) -> Check:
        _claims.append(Claim(key, statement, check, line, picture, experiment))
        return check

    return add


FIFTY = View(preset("resnet50"))


def changed(name: str, **values: Any) -> ResNetConfig:
    """A preset with other values of some fields."""
    return preset(name).with_(**values)[0]


# -- stacks, blocks and filters -----------------------------------------------------------


@claim(
    "stack",
    "Three 3×3 convolutions in a row see as much as one 7×7, with 27 weights in place of 49.",
    line="Why 3×3",
    picture=(navigation.KERNELS, "kernel stacks", FIFTY),
    experiment=(navigation.KERNELS, "as a stem", replace(FIFTY, lab=CASES["As a stem: 32, 32, 64"].to_text())),
)
def stacked_kernels() -> Finding:
    """Three 3×3 against one 7×7, at equal width and as a stem."""
    small, large = stack(Lab()), single_kernel(Lab())
    stem = CASES["As a stem: 32, 32, 64"]
    deep, wide = stack(stem), single_kernel(stem)
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


@claim(
    "bottleneck",
    "At 256 channels, two 3×3 layers have 3·3·256·2 weights and a bottleneck has 64 + 3·3·64 + 256.",
    line="The bottleneck",
    picture=(navigation.KERNELS, "the block up close", replace(FIFTY, tab="The block")),
    experiment=(navigation.CHOOSE, "ResNet-34 against ResNet-50", View(preset("resnet34"), others=(FIFTY.config,))),
)
def bottleneck_weights() -> Finding:
    """Two 3×3 at 256 channels against a bottleneck, as the post counts and as the modules do."""
    basic, bottleneck = (
        convolutions(trace(block_config(kind, 256), 8).blocks["layer1.0"]) for kind in ("basic", "bottleneck")
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


@claim(
    "constant",
    "The number of features times the size of the feature map stays about the same.",
    line="The design rules",
    picture=(navigation.ARCHITECTURE, "the stages of ResNet-34", View(preset("resnet34"))),
    experiment=(
        navigation.CHOOSE,
        "widths that stay the same",
        View(preset("resnet34"), others=(changed("resnet34", planes=(64,) * 4),)),
    ),
)
def constant_size() -> Finding:
    """Channels times map size at the end of each stage of ResNet-34."""
    traced = trace(preset("resnet34"))
    last = [traced.blocks[stage[-1].block] for stage in traced.stages]
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


@claim(
    "shortcut",
    "Shortcuts add neither parameters nor computation, but for the addition.",
    line="What each option costs",
    picture=(
        navigation.CHOOSE,
        "ResNet-50 against A, C and plain",
        replace(FIFTY, others=tuple(changed("resnet50", shortcut=option) for option in ("A", "C", "none"))),
    ),
    experiment=(
        navigation.KERNELS,
        "one block with a projection",
        replace(FIFTY, tab="The block", lab=Lab(entry="B").to_text()),
    ),
)
def free_shortcuts() -> Finding:
    """The bill of each shortcut option, for ResNet-50 over the plain network."""
    options = ("none", "A", "B", "C", "D")
    traces = {option: trace(preset("resnet50").with_(shortcut=option)[0]) for option in options}
    plain = traces["none"]
    bills = {option: (traces[option].params - plain.params, traces[option].macs - plain.macs) for option in options[1:]}
    evidence = [Evidence(f"Option {option}", bill[0], "parameters") for option, bill in bills.items()]
    evidence += [Evidence(f"Option {option}", bills[option][1], "MACs") for option in ("A", "B", "C")]
    additions = sum(prod(layer.out_shape) for layer in traces["A"].additions)
    projections = sum(layer.role.on_shortcut for layer in traces["B"].convolutions)
    free = [option for option, bill in bills.items() if bill == (0, 0)]
    everything = len(free) == len(bills)
    return Finding(
        HOLDS if everything else WHEN if free else FAILS,
        "" if everything else "every shortcut is the identity or zero padding (option A)",
        (*evidence, Evidence("Additions", additions)),
        f"The bills are of ResNet-50, over the same network without shortcuts. As usually built (option B) it pays "
        f"{bills['B'][0] / traces['B'].params:.0%} of its parameters for {projections} projections.",
    )


@claim(
    "projection",
    "Projecting in every shortcut is only marginally better than the identity.",
    line="Projecting",
    picture=(navigation.CHOOSE, "accuracy and cost of ResNet-34", View(preset("resnet34"))),
    experiment=(
        navigation.EXPERIMENTS,
        "train with option C",
        View(tab="Degradation", training=Settings(shortcut="C").to_text()),
    ),
)
def projections() -> Finding:
    """ResNet-34 with each shortcut option in Table 3 of the paper, and what the options cost."""
    options = ("A", "B", "C")
    paper = {r.config: r.top1 for r in published() if r.recipe == "paper"}
    configs = {option: preset("resnet34").with_(shortcut=option)[0] for option in options}
    errors = {option: 1 - paper[config] for option, config in configs.items()}
    params = {option: trace(config).params for option, config in configs.items()}
    evidence = [Evidence(f"ResNet-34 {option}, top-1 error", errors[option], "%") for option in options]
    evidence += [Evidence(f"ResNet-34 {option}", params[option], "parameters") for option in options]
    gain = errors["A"] - errors["C"]
    return Finding(
        HOLDS if 0 < gain < 0.01 else FAILS,
        "",
        tuple(evidence),
        f"Between zero padding (A) and projections everywhere (C) lie {100 * gain:.2f} points, as the paper measured them on "
        f"ImageNet with one training each. C has {params['C'] / params['A'] - 1:.1%} more parameters than A.",
    )


@claim(
    "downsample",
    "A shortcut is projected where the channels or the map change, and nowhere else.",
    line="When the shortcut must change",
    picture=(navigation.ARCHITECTURE, "the first projection", replace(FIFTY, at="layer1.0.downsample.0")),
    experiment=(
        navigation.ARCHITECTURE,
        "option C, which projects everywhere",
        View(changed("resnet50", shortcut="C"), pinned=FIFTY.config),
    ),
)
def projected_where() -> Finding:
    """Every block of the paper's five networks: whether its shapes differ, and whether it projects."""
    changes = projects = differs = blocks = 0
    first = []
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        traced = trace(preset(name))
        for layers in traced.blocks.values():
            changed = layers[0].in_shapes[0] != layers[-1].out_shape
            projected = any(layer.role.on_shortcut for layer in layers)
            blocks, changes, projects = blocks + 1, changes + changed, projects + projected
            differs += changed != projected
        if any(layer.role.on_shortcut for layer in traced.blocks["layer1.0"]):
            first.append(title_of(name))
    evidence = (
        Evidence("Blocks of the five networks", blocks),
        Evidence("Their shapes differ", changes, "blocks"),
        Evidence("They project", projects, "blocks"),
        Evidence("One without the other", differs, "blocks"),
    )
    return Finding(
        FAILS if differs else HOLDS,
        "",
        evidence,
        f"It is so with option B, which is the usual one. In {', '.join(first)} the first block projects although its stride is "
        "1: the stem puts out fewer channels than the bottleneck does.",
    )


@claim(
    "filters",
    "ResNet has filters of 3×3 and 1×1 and no other size.",
    line="One helper for every convolution",
    picture=(navigation.ARCHITECTURE, "the first convolution", replace(FIFTY, at="conv1")),
    experiment=(
        navigation.ARCHITECTURE,
        "a stem without the 7×7",
        View(changed("resnet50", stem="deep"), at="conv1.0", pinned=FIFTY.config),
    ),
)
def filter_sizes() -> Finding:
    """The kernels of ResNet-50's convolutions."""
    kernels = Counter(layer.kernel for layer in trace(preset("resnet50")).convolutions)
    small = Counter(layer.kernel for layer in trace(preset("resnet56"), 32).convolutions)
    evidence = [Evidence(f"{size}×{size} convolutions of ResNet-50", kernels[size]) for size in sorted(kernels)]
    evidence += [Evidence(f"{size}×{size} convolutions of ResNet-56", small[size]) for size in sorted(small)]
    return Finding(
        HOLDS if set(kernels) <= {1, 3} else FAILS,
        "",
        tuple(evidence),
        "The exception is the first convolution of the ImageNet networks. Inside the blocks the claim is right, and so "
        "it is for the whole of the CIFAR networks.",
    )


@claim(
    "halve",
    "A convolution with stride 2 halves the feature map.",
    line="Making the stages",
    picture=(navigation.ARCHITECTURE, "where ResNet-34 halves", View(preset("resnet34"), at="layer2.0.conv1")),
    experiment=(
        navigation.ARCHITECTURE,
        "a map with an odd side",
        View(preset("resnet34"), (200, 200), at="layer4.0.conv1"),
    ),
)
def halving() -> Finding:
    """The sides that a 3×3 convolution with stride 2 makes of all sides from 1 to 224."""
    conv = nn.Conv2d(1, 1, 3, stride=2, padding=1, device="meta")
    made = {side: conv(torch.empty(1, 1, side, 1, device="meta")).shape[2] for side in range(1, 225)}
    halved = [side for side, after in made.items() if 2 * after == side]
    odd = [side for side in made if side % 2]
    even = [side for side in made if not side % 2]
    evidence = (
        Evidence("Sides tried, 1 to", max(made), "px"),
        Evidence("Halved exactly", len(halved), "sides"),
        Evidence(f"{even[-1]} px become", made[even[-1]], "px"),
        Evidence("7 px become", made[7], "px"),
    )
    thirty_four = trace(preset("resnet34"))
    strided = [layer for layer in thirty_four.convolutions if layer.stride == 2]
    rounded_up = all(made[side] == (side + 1) // 2 for side in odd)
    return Finding(
        HOLDS if len(halved) == len(made) else WHEN if halved == even else FAILS,
        "the side is even" if halved == even else "",
        evidence,
        ("An odd side is rounded up. " if rounded_up else "")
        + f"At {thirty_four.image_size[0]} px, {sum(layer.in_shapes[0][1] % 2 == 0 for layer in strided)} of ResNet-34's "
        f"{len(strided)} convolutions with stride 2 read an even side.",
    )


@claim(
    "relu",
    "ReLU turns every input above a certain value into zero.",
    line="The non-linearity",
    picture=(
        navigation.INFERENCE,
        "maps before and after",
        View(BUNDLED["resnet20"], (28, 28), at="layer1.0.act1", tab="Maps"),
    ),
    experiment=(
        navigation.INFERENCE,
        "with a leaky ReLU",
        View(
            changed("resnet20_fashion", activation="leaky_relu"),
            (28, 28),
            at="layer1.0.act1",
            weights="random",
            tab="Maps",
        ),
    ),
)
def rectifier() -> Finding:
    """ReLU on numbers from −3 to 3, and how much of the first maps of the shipped ResNet-20 it makes zero."""
    inputs = torch.arange(-3.0, 4.0)
    outputs = nn.ReLU()(inputs)
    network, shipped = read_checkpoint(bundled_path("resnet20"))
    images = normalised(labelled_images().images[:BATCH], shipped.data.preprocessing)
    with torch.no_grad():
        maps = network.act1(network.bn1(network.conv1(images)))
    zeros = float((maps == 0).double().mean())
    above, below = outputs[inputs > 0], outputs[inputs < 0]
    evidence = (
        Evidence("ReLU of 3", float(outputs[-1])),
        Evidence("ReLU of 1", float(outputs[4])),
        Evidence("ReLU of −1", float(outputs[2])),
        Evidence("Largest output from below zero", float(below.max())),
        Evidence("Zeros after the stem of the shipped ResNet-20", zeros, "%"),
    )
    return Finding(
        HOLDS if not above.any() and below.all() else FAILS,
        "",
        evidence,
        "It is the other way round: what is below zero becomes zero, and what is above is kept. The post's advice is right all "
        f"the same: many outputs are exactly zero, so do not divide by them. Measured on {BATCH} test images.",
    )


@claim(
    "shrink",
    "In the middle of a bottleneck the feature map gets smaller.",
    line="Where the stride goes",
    picture=(
        navigation.ARCHITECTURE,
        "the block where it does",
        replace(FIFTY, at="layer2.0.conv2", pinned=preset("resnet50_v1")),
    ),
    experiment=(navigation.CHOOSE, "v1 against v1.5", View(preset("resnet50_v1"), others=(FIFTY.config,))),
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


@claim(
    "pointwise",
    "A 1×1 convolution adds all channels to one number and repeats it with different weights.",
    line="What a 1×1 does",
    picture=(navigation.KERNELS, "a 1×1 by hand", replace(FIFTY, tab="The 1×1 convolution")),
    experiment=(
        navigation.KERNELS,
        "sum and copy",
        replace(FIFTY, tab="The 1×1 convolution", lab=Lab(weights=MATRICES["Sum and copy"]).to_text()),
    ),
)
def one_by_one() -> Finding:
    """The weight matrix of a 1×1 convolution from 64 to 256 channels, at its initialisation."""
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        conv = skip_init(nn.Conv2d, 64, 256, 1, bias=False)
        nn.init.kaiming_uniform_(conv.weight, sqrt(5), generator=chance)  # as nn.Conv2d does
        x = torch.randn(1, 64, 28, 28, generator=chance)
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


# -- depth --------------------------------------------------------------------------------


@claim(
    "depth",
    "A deep network without shortcuts ends up worse than a shallower one, 52 layers against 36.",
    line="A block adds a change",
    picture=(
        navigation.INFERENCE,
        "the shipped Plain-56",
        View(BUNDLED["plain56"], (28, 28), pinned=BUNDLED["resnet56"]),
    ),
    experiment=(
        navigation.EXPERIMENTS,
        "train plain and residual networks",
        View(preset("plain56"), (32, 32), pinned=preset("resnet56"), tab="Degradation"),
    ),
)
def degradation() -> Finding:
    """Plain and residual networks, shallow and deep: the paper's on ImageNet, the shipped ones, and those trained in small."""
    paper = {r.config: r.top1 for r in published() if r.recipe == "paper"}
    named = {f"{kind}{depth}": error(paper, kind, depth) for kind in ("plain", "resnet") for depth in (18, 34)}
    shipped = {name: read_checkpoint(bundled_path(name))[1] for name in BUNDLED}
    epochs = {name: epochs_of(checkpoint.command) for name, checkpoint in shipped.items()}
    evidence = [Evidence(f"Paper, {title_of(name)}, ImageNet", value, "%") for name, value in named.items()]
    evidence += [
        Evidence(f"Shipped {title_of(name)}, {epochs[name]} epochs", 1 - shipped[name].accuracy, "%")
        for name in ("plain20", "plain56", "resnet20", "resnet56")
    ]
    settings, runs = next(iter(shipped_runs().groups.items()))
    small = summarise(runs)
    evidence += [Evidence(f"{row.network.name} in small, training loss", row.loss.mean) for row in small.rows]
    worse = named["plain34"] > named["plain18"] and named["resnet34"] < named["resnet18"]
    worse = worse and small.deeper_is_worse["plain"] == len(small.seeds)
    fair = epochs["plain56"] == epochs["resnet56"]
    gap = shipped["resnet56"].accuracy - shipped["plain56"].accuracy
    same = len(set(epochs.values())) == 1
    words = (
        f"Percentages are errors on images that were not trained on; the post speaks of training errors. Those in small are "
        f"losses on the training images, after {settings.steps} steps: the deeper plain network's is the higher one in "
        f"{small.deeper_is_worse['plain']} of {len(small.seeds)} seeds. "
    )
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


@claim(
    "iterations",
    "More training steps alone do not bring the training error down.",
    line="What the branch learns",
    picture=(
        navigation.INFERENCE,
        "what a deep plain network rests on",
        View(BUNDLED["plain56"], (28, 28), tab="Blocks off"),
    ),
    experiment=(
        navigation.EXPERIMENTS,
        "train for longer",
        View(
            preset("plain56"),
            (32, 32),
            pinned=preset("resnet56"),
            tab="Degradation",
            training=Settings(steps=1000).to_text(),
        ),
    ),
)
def iterations() -> Finding:
    """The training losses of the shipped degradation runs after fewer and more steps."""
    lengths = {settings.steps: summarise(runs) for settings, runs in shipped_runs().groups.items()}
    few, many = min(lengths), max(lengths)
    losses = {steps: {row.network.name: row.loss.mean for row in found.rows} for steps, found in lengths.items()}
    shallow, deep = (row.network.name for row in lengths[few].rows if row.network.kind == "plain")
    evidence = [
        Evidence(f"{name}, {steps:,} steps, training loss", losses[steps][name])
        for steps in (few, many)
        for name in (shallow, deep)
    ]
    seeds = [len(found.seeds) for found in lengths.values()]
    stays = all(found.deeper_is_worse["plain"] == len(found.seeds) for found in lengths.values())
    falls = losses[many][deep] < losses[few][deep]
    gaps = {steps: losses[steps][deep] - losses[steps][shallow] for steps in (few, many)}
    return Finding(
        HOLDS if stays and not falls else WHEN if stays else FAILS,
        f"it is about the gap between the depths, at up to {many:,} steps" if stays and falls else "",
        tuple(evidence),
        f"{'More steps lower the loss of the deep plain network' if falls else 'More steps do not lower the loss'}, from "
        f"{losses[few][deep]:.2f} to {losses[many][deep]:.2f}, and the gap to the shallow one goes from {decimals(gaps[few])} to "
        f"{decimals(gaps[many])}. Small networks on few images, means over {' and '.join(map(str, sorted(set(seeds))))} seeds; the "
        "post speaks of the paper's networks.",
    )


COPIES, COPIED = AppendSettings(3, 8), 100
"""What is appended, and the test images it is judged on."""


@claim(
    "identity",
    "In theory a deeper network is never worse: its added layers can be the identity.",
    line="A block adds a change",
    picture=(navigation.INFERENCE, "what each block adds", View(BUNDLED["resnet20"], (28, 28), tab="Addition")),
    experiment=(navigation.EXPERIMENTS, "append blocks that copy", View(BUNDLED["resnet20"], (28, 28), tab="Identity")),
)
def identity() -> Finding:
    """Blocks that copy their input, appended to the shipped networks of depth 20."""
    evidence, kept, copied = [], True, True
    images, labels = labelled_images()
    for name in ("resnet20", "plain20"):
        network, shipped = read_checkpoint(bundled_path(name))
        inputs = normalised(images[:COPIED], shipped.data.preprocessing)
        truth = torch.tensor(labels[:COPIED], dtype=torch.long)
        with single_thread():
            *_, found = experiment(network.requires_grad_(False), COPIES, inputs, truth, CPU)
        assert isinstance(found, AppendResult)
        zero, right = found.outcome(RESIDUAL_ZERO), found.outcome(PLAIN_IDENTITY)
        kept &= zero.equal_images == found.images
        copied &= right.same_class == 1
        evidence += [
            Evidence(f"{title_of(name)}, top-1 accuracy", found.accuracy, "%"),
            Evidence(f"{title_of(name)}, with residual copies", zero.accuracy, "%"),
            Evidence(f"{title_of(name)}, residual, largest change", zero.difference),
            Evidence(f"{title_of(name)}, with plain copies", right.accuracy, "%"),
            Evidence(f"{title_of(name)}, plain, largest change", right.difference),
            Evidence(f"{title_of(name)}, plain blocks as initialised", found.outcome(PLAIN).accuracy, "%"),
        ]
    assert isinstance(found, AppendResult)
    assert found.to_identity is not None
    return Finding(
        HOLDS if kept and copied else FAILS,
        "",
        tuple(evidence),
        f"{COPIES.blocks} blocks after the last stage, on {COPIED} test images. Such weights exist for both kinds. A residual block "
        f"copies as soon as {found.to_zero.changed_parameters} numbers are zero; in the solution for a plain one "
        f"all {found.to_identity.changed_parameters:,} have one value to take. That training does not find these is another matter: see the claims before.",
    )


@claim(
    "vanishing",
    "The reason is not that gradients vanish.",
    line="What the branch learns",
    picture=(
        navigation.ARCHITECTURE,
        "Plain-56 against ResNet-56",
        View(preset("plain56"), (32, 32), pinned=preset("resnet56")),
    ),
    experiment=(navigation.EXPERIMENTS, "measure the gradients", View(preset("plain56"), (32, 32), tab="Gradients")),
)
def vanishing() -> Finding:
    """Gradient norms of the first and the last convolution at initialisation."""
    with single_thread():
        found = {
            depth: initial_flows(trace(preset(f"plain{depth}"), (SIDE, SIDE)), Plan(BATCH, SEEDS), CPU)
            for depth in (20, 56)
        }
    norms = {
        (norm, kind, depth): found[depth][Twin(kind, norm)].ends("gradient")
        for norm in ("batch", "none")
        for kind in (PLAIN_NET, RESIDUAL_NET)
        for depth in found
    }
    evidence = [
        Evidence(f"{kind.capitalize()}-{depth}, {'batch norm' if norm == 'batch' else 'no norm'}, {place}", value)
        for (norm, kind, depth), pair in norms.items()
        for place, value in zip(("first", "last"), pair, strict=True)
    ]
    deep, shallow = norms["batch", PLAIN_NET, 56][0], norms["batch", PLAIN_NET, 20][0]
    bare = norms["none", PLAIN_NET, 56][0]
    kept, vanish = deep >= shallow, bare < norms["none", PLAIN_NET, 20][0]
    residual = norms["batch", RESIDUAL_NET, 56][0] / norms["batch", RESIDUAL_NET, 20][0]
    return Finding(
        (WHEN if vanish else HOLDS) if kept else FAILS,
        "a batch norm follows every convolution" if kept and vanish else "",
        tuple(evidence),
        f"Norms of the gradient of the first and the last convolution's weights, untrained. From 20 to 56 layers, the "
        f"first one's in a plain network grows {deep / shallow:,.0f} times "
        f"with batch norm: it explodes rather than vanishes. With shortcuts it grows {residual:.1f} times. Without "
        f"batch norm the plain network's is {bare:.2g}, 1/{scientific(deep / bare)} of that. Measured on {BATCH} random "
        f"images of {SIDE}×{SIDE} pixels, {SEEDS} seeds.",
    )


# -- expansion ----------------------------------------------------------------------------


@claim(
    "expansion",
    "Planes times expansion is the width inside a block; why the factor is needed is unclear.",
    line="The expansion",
    picture=(navigation.ARCHITECTURE, "the last 1×1 of a bottleneck", replace(FIFTY, at="layer1.1.conv3")),
    experiment=(
        navigation.ARCHITECTURE,
        "the same planes in basic blocks",
        View(changed("resnet50", block="basic"), at="layer1.1.conv2", pinned=FIFTY.config),
    ),
)
def expansion() -> Finding:
    """Channels inside and after a block of each kind, for 64 planes."""
    found = {}
    for name, slot in (("resnet34", "conv1"), ("resnet50", "conv2")):
        traced = trace(preset(name))
        inner, outer = traced.by_name[f"layer1.1.{slot}"].out_shape[0], traced.blocks["layer1.1"][-1].out_shape[0]
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


# -- a claim of another paper -------------------------------------------------------------


@claim(
    "landscape",
    "Around a deep network without shortcuts the loss is a chaotic surface, with them a smooth one (Li et al. 2018).",
    line="A block adds a change",
    picture=(navigation.EXPERIMENTS, "the surfaces", View(tab="Loss landscape")),
    experiment=(
        navigation.EXPERIMENTS,
        "a slice of Plain-20",
        View(BUNDLED["plain20"], (28, 28), tab="Loss landscape", experiment="own"),
    ),
)
def loss_landscape() -> Finding:
    """Planes through the shipped networks of 56 layers, with both statistics that batch norm can take, and the sharpness."""
    found = shipped_landscape()
    residual, plain = landscape.PAIR
    evidence, rougher = [], {}
    for statistics in (landscape.BATCH, landscape.RUNNING):
        rougher[statistics] = found.rougher(statistics)
        evidence += [
            Evidence(
                f"{title_of(name)} not convex, {statistics} statistics",
                mean(one.nonconvex for one in found.of(name, statistics)),
                "%",
            )
            for name in (plain, residual)
        ]
    evidence += [
        Evidence(f"{title_of(name)}, top Hessian eigenvalue, {one.images} images", mean(one.eigenvalues))
        for name in (plain, residual)
        for one in found.sharpness[name]
    ]
    seeds = len(landscape.SEEDS)
    always = [statistics for statistics, count in rougher.items() if count == seeds]
    words = " and ".join(f"{count} of {seeds} with {statistics} statistics" for statistics, count in rougher.items())
    sharper = ", ".join(f"in {count} of {sets} sets of {size}" for size, count, sets in found.sharper)
    return Finding(
        HOLDS if len(always) == len(rougher) else WHEN if always else FAILS,
        f"batch norm takes the {always[0]} statistics" if len(always) == 1 else "",
        tuple(evidence),
        f"Not convex is the share of the points of a plane at which it curves down in some direction, the mean of {seeds} seeds. The plain network's is the "
        f"larger one in these seeds: {words}. Batch statistics are those of the images, as in training; running ones are what the "
        f"paper's code takes. On {found.images} test images, at depth 56, of one training each. Two directions out of 850,000 are all that a plane shows. "
        f"The top eigenvalue, the mean over sets of as many images, is larger for the plain network {sharper}; the verdict does not use it.",
    )


# -- what is measured, and on what --------------------------------------------------------

BATCH, SIDE = 16, 16


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


def shrinking(traced: Trace) -> list[Layer]:
    """The convolutions on a stage's main path that put out a smaller map than they read."""
    return [
        layer
        for layer in traced.convolutions
        if layer.block and not layer.role.on_shortcut and layer.out_shape[1] < layer.in_shapes[0][1]
    ]


CLAIMS = tuple(_claims)
"""Every claim, in the order of the post, and the other paper's after them."""
