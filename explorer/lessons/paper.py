"""He et al. 2015 (https://arxiv.org/abs/1512.03385), table by table and figure by figure, each beside what stands for it here.

Each `Exhibit` computes its outcome from traces, published weights, the shipped degradation runs or the shipped networks,
and its verdict from that. `exhibit` above the computation says what the paper shows and where it can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import cache
from itertools import pairwise
from statistics import mean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from resnet import ResNetConfig, preset
from resnet.presets import short_title
from resnet.shipped import BUNDLED, bundled_path, read_checkpoint
from resnet.weights import published as published_weights

from .. import navigation
from ..analysis.layers import convolutions
from ..analysis.published import Result, published
from ..analysis.table1 import FLOPS, V1, names
from ..analysis.trace import trace
from ..experiments.degradation import Settings, Summary, TrainingRun, shipped_runs, summarise
from ..experiments.responses import layer_responses
from ..experiments.shipped import labelled_inputs, shipped_network
from ..inference.device import Device
from ..link import View
from ..navigation import Page
from ..sharing.threads import single_thread
from .claims import EXPERIMENT, PICTURE, Link, changed, epochs_of

REPRODUCES, SMALL, NOT = "reproduces", "in small", "not at this budget"
"""The verdicts: the paper's own numbers or orders come out; the same comes out of smaller networks, images or trainings; it
does not, or what it takes is not here.
"""


class Row(NamedTuple):
    """One comparison: of what, what the paper says, and what comes out here."""

    what: str
    paper: str
    here: str


class Outcome(NamedTuple):
    """A verdict, what it rests on in a few words, the comparisons, and what they mean."""

    verdict: str
    why: str
    rows: tuple[Row, ...]
    words: str


Check = Callable[[], Outcome]


@dataclass(frozen=True)
class Exhibit:
    """A table or figure: `name` is the paper's for it, `subject` what it is of, `says` what it says, in our words.

    `links` lead to where it can be seen or tried.
    """

    name: str
    subject: str
    says: str
    check: Check
    links: tuple[Link, ...]


_exhibits: list[Exhibit] = []


def exhibit(
    name: str,
    subject: str,
    says: str,
    *,
    picture: tuple[Page, str, View] | None = None,
    experiment: tuple[Page, str, View] | None = None,
) -> Callable[[Check], Check]:
    """Makes the function below the check of an exhibit; they stand in the order of their functions, which is the paper's."""
    links = [
        Link(kind, place[0], f"{words}: {place[1]}", place[2])
        for kind, words, place in ((PICTURE, "See it", picture), (EXPERIMENT, "Try it", experiment))
        if place
    ]

    def add(check: Check) -> Check:
        _exhibits.append(Exhibit(name, subject, says, check, tuple(links)))
        return check

    return add


CPU = Device("cpu", "CPU")
DEGRADATION = View(preset("plain56"), (32, 32), pinned=preset("resnet56"), tab="Degradation")
SMALLER = "20 and 56 narrow layers on Fashion-MNIST at 14×14 pixels, up to 1,000 steps"
"""What the shipped degradation runs are."""


# -- sections 1 to 3 ----------------------------------------------------------------------


@exhibit(
    "Figure 1",
    "Plain networks of 20 and 56 layers on CIFAR-10",
    "The deeper plain network has the higher training error, and with it the higher test error, so it does not overfit: it "
    "is harder to train.",
    experiment=(navigation.EXPERIMENTS, "train them", DEGRADATION),
)
def plain_training() -> Outcome:
    """The plain networks of the shipped degradation runs, of the longest training."""
    small = longest_summary()
    shallow, deep = small.row("plain", False), small.row("plain", True)
    worse = small.deeper_is_worse["plain"]
    rows = (
        Row(
            "Training error of the deeper one",
            "higher",
            f"higher in {worse} of {len(small.seeds)} seeds: a loss of {deep.loss.mean:.2f} against {shallow.loss.mean:.2f}",
        ),
        Row(
            "Test error of the deeper one",
            "higher",
            f"{1 - deep.accuracy.mean:.1%} against {1 - shallow.accuracy.mean:.1%}",
        ),
    )
    seen = worse == len(small.seeds) and deep.accuracy.mean < shallow.accuracy.mean
    return Outcome(
        SMALL if seen else NOT,
        SMALLER,
        rows,
        "Losses and errors are means over the seeds. Training error is a loss here, since the runs keep losses.",
    )


@exhibit(
    "Figure 2",
    "A building block",
    "A block puts out F(x) + x, then ReLU: its layers learn a change F to their input, and the shortcut costs no parameters.",
    picture=(navigation.ARCHITECTURE, "such a block", View(BUNDLED["resnet20"], (28, 28), at="layer1.0.conv1")),
    experiment=(navigation.INFERENCE, "what a block adds", View(BUNDLED["resnet20"], (28, 28), tab="Addition")),
)
def building_block() -> Outcome:
    """The first block of the shipped ResNet-20 against its formula, written with its weights and torch's functions."""
    network = shipped_network("resnet20")
    block, images = network.get_submodule("layer1.0"), labelled_inputs(16)[0]
    weights = block.state_dict()

    def layer(x: torch.Tensor, number: int) -> torch.Tensor:
        norm = (weights[f"bn{number}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(F.conv2d(x, weights[f"conv{number}.weight"], padding=1), *norm)

    with torch.no_grad(), single_thread():
        x = F.relu(network.bn1(network.conv1(images)))
        gap = float((block(x) - F.relu(layer(F.relu(layer(x, 1)), 2) + x)).abs().max())
    extra = sum(layer.params for layer in trace(network.config, 28).blocks["layer1.0"] if layer.role.on_shortcut)
    rows = (
        Row("Output", "ReLU(F(x) + x)", f"the same, to {gap:.1g}" if gap else "the same in every bit"),
        Row("Parameters of the shortcut", "0", f"{extra}"),
    )
    return Outcome(
        REPRODUCES if gap < 1e-4 and not extra else NOT,
        "in our networks' blocks",
        rows,
        "The largest difference between what the first block of the shipped ResNet-20 puts out and the formula, on 16 test images.",
    )


@exhibit(
    "Figure 3",
    "VGG-19, a plain and a residual network of 34 layers",
    "Both networks of 34 layers cost 3.6 billion multiply-adds, under a fifth of VGG-19's 19.6 billion.",
    picture=(
        navigation.CHOOSE,
        "plain beside residual",
        View(preset("plain34"), others=(changed("resnet34", shortcut="A"),)),
    ),
    experiment=(navigation.ARCHITECTURE, "the 34 layers", View(changed("resnet34", shortcut="A"))),
)
def thirty_four_layers() -> Outcome:
    """The multiply-adds of the three, counted."""
    plain, residual = (trace(config).macs for config in (preset("plain34"), changed("resnet34", shortcut="A")))
    vgg = vgg19_macs()
    rows = tuple(
        Row(name, f"{said}×10⁹", f"{count:,}")
        for name, said, count in (
            ("VGG-19", "19.6", vgg),
            ("34 layers, plain", "3.6", plain),
            ("34 layers, residual", "3.6", residual),
        )
    )
    share = residual / vgg
    right = agrees(vgg / 1e9, "19.6") and agrees(plain / 1e9, "3.6") and agrees(residual / 1e9, "3.6")
    return Outcome(
        REPRODUCES if right and share < 1 / 5 else NOT,
        "counted, cut to the digits that are printed",
        rows,
        f"Multiply-adds of convolutions and linear layers for one image of 224×224 pixels. The residual network costs {share:.1%} "
        "of VGG-19; the paper, from its own cut numbers, says 18%.",
    )


@exhibit(
    "Table 1",
    "The five networks for ImageNet",
    "Networks of 18 to 152 layers out of four stages of blocks, basic ones up to 34 layers and bottlenecks from 50; even the "
    "deepest costs less than VGG-16.",
    picture=(navigation.START, "the table, whose cells open what they name", View()),
    experiment=(
        navigation.CHOOSE,
        "all five",
        View(preset("resnet18"), others=tuple(preset(names(V1)[depth]) for depth in (34, 50, 101, 152))),
    ),
)
def architectures() -> Outcome:
    """The depth and the multiply-adds of each column, from the traces of the paper's form (v1)."""
    rows, right = [], True
    for depth, said in FLOPS.items():
        traced = trace(preset(names(V1)[depth]))
        right &= traced.config.depth == depth and agrees(traced.macs / 1e9, said.partition("×")[0])
        rows.append(Row(f"{depth} layers", said, f"{traced.macs:,}"))
    return Outcome(
        REPRODUCES if right else NOT,
        "counted, cut or rounded to the digits that are printed",
        tuple(rows),
        "Multiply-adds, which the table calls FLOPs, at 224×224 pixels, with the stride in the first 1×1 as in the paper. The "
        "networks that torchvision and most others publish have it in the 3×3, and cost more from 50 layers on.",
    )


# -- section 4.1 --------------------------------------------------------------------------


@exhibit(
    "Table 2",
    "Errors on ImageNet, 18 and 34 layers, plain and residual",
    "Without shortcuts the deeper network is the worse one, with them it is the better one by far.",
    picture=(navigation.CHOOSE, "accuracies beside costs", View(preset("resnet34"))),
    experiment=(navigation.EXPERIMENTS, "train such pairs in small", DEGRADATION),
)
def depth_on_imagenet() -> Outcome:
    """torchvision's residual networks of the two depths, and the test errors of the shipped degradation runs."""
    paper, theirs = errors("paper"), errors("torchvision V1")
    rows = []
    for depth in (18, 34):
        plain, residual = preset(f"plain{depth}"), preset(f"resnet{depth}")
        rows.append(Row(short_title(plain), f"{paper[plain]:.2%}", "nobody publishes one"))
        option_a = changed(f"resnet{depth}", shortcut="A")
        rows.append(Row(short_title(residual), f"{paper[option_a]:.2%}", f"{theirs[residual]:.2%} (torchvision V1)"))
    small = longest_summary()
    gaps = {
        kind: small.row(kind, False).accuracy.mean - small.row(kind, True).accuracy.mean
        for kind in ("plain", "residual")
    }
    before = {
        "plain": paper[preset("plain34")] - paper[preset("plain18")],
        "residual": paper[changed("resnet34", shortcut="A")] - paper[changed("resnet18", shortcut="A")],
    }
    rows += [
        Row(f"Deeper less shallower, {kind}", points(before[kind]), f"{points(gap)} in small")
        for kind, gap in gaps.items()
    ]
    seen = (
        gaps["plain"] > 0
        and gaps["residual"] < gaps["plain"]
        and theirs[preset("resnet34")] < theirs[preset("resnet18")]
    )
    return Outcome(
        SMALL if seen else NOT,
        "20 and 56 layers on Fashion-MNIST; on ImageNet the residual half alone",
        tuple(rows),
        "Top-1 errors; the paper's of ten crops and with option A, torchvision's of one crop and with option B. In small: mean test "
        "errors of the longest shipped runs. There the deep residual network does not degrade; that it is better does not show.",
    )


@exhibit(
    "Figure 4",
    "Training on ImageNet, plain and residual",
    "All the way through training the deeper plain network stays above the shallower one, and the deeper residual one below; "
    "at 18 layers the two kinds end alike, but the residual one comes down sooner.",
    experiment=(navigation.EXPERIMENTS, "train all four", DEGRADATION),
)
def training_curves() -> Outcome:
    """The shipped degradation runs of the longest training, both kinds."""
    small, runs = longest_summary(), longest_runs()
    seeds = len(small.seeds)
    sooner = sum(early_loss(run, "residual") < early_loss(run, "plain") for run in runs)
    rows = (
        Row(
            "Deeper plain network", "above the shallower", f"above in {small.deeper_is_worse['plain']} of {seeds} seeds"
        ),
        Row(
            "Deeper residual network",
            "below the shallower",
            f"below in {seeds - small.deeper_is_worse['residual']} of {seeds} seeds",
        ),
        Row(
            "Shallow residual network",
            "comes down sooner",
            f"lower after a fifth of the steps in {sooner} of {seeds} seeds",
        ),
    )
    seen = small.deeper_is_worse["plain"] == seeds and small.gap["residual"] < small.gap["plain"] and sooner == seeds
    return Outcome(SMALL if seen else NOT, SMALLER, rows, f"{residual_words(small)} The same runs as at figure 1.")


@exhibit(
    "Table 3",
    "Errors on ImageNet, ten crops",
    "Projections in the shortcuts help a little and are not needed; from 34 to 152 layers the error falls with depth.",
    picture=(navigation.CHOOSE, "accuracies beside costs", View(preset("resnet50"))),
    experiment=(
        navigation.CHOOSE,
        "options A, B and C",
        View(changed("resnet34", shortcut="A"), others=(preset("resnet34"), changed("resnet34", shortcut="C"))),
    ),
)
def ten_crops() -> Outcome:
    """The paper's errors beside those of torchvision's first weights."""
    paper, theirs = errors("paper"), errors("torchvision V1")
    rows = [
        Row(f"ResNet-34 {option}", f"{paper[changed('resnet34', shortcut=option)]:.2%}", "nobody publishes one")
        for option in ("A", "C")
    ]
    pairs = {depth: (paper[preset(names(V1)[depth])], theirs[preset(f"resnet{depth}")]) for depth in (34, 50, 101, 152)}
    rows += [
        Row(f"ResNet-{depth}{' B' if depth == 34 else ''}", f"{said:.2%}", f"{found:.2%}")
        for depth, (said, found) in pairs.items()
    ]
    found = [here for _, here in pairs.values()]
    apart = max(abs(said - here) for said, here in pairs.values())
    falls = all(after < before for before, after in pairwise(found))
    return Outcome(
        REPRODUCES if falls and apart < 0.025 else NOT,
        f"the order of the depths, and each within {100 * apart:.1f} points, as torchvision trained and measured them",
        tuple(rows),
        "Top-1 errors; the paper's of ten crops, torchvision's (V1) of one, which alone makes a point or two. Its networks of 50 layers "
        "and more have their stride elsewhere (v1.5). The comparison of A, B and C rests on the paper's one training of each.",
    )


@exhibit(
    "Figure 5",
    "The basic block and the bottleneck",
    "Two 3×3 convolutions on 64 channels cost about as much as a bottleneck on 256: that is how 50 layers cost little more than 34.",
    picture=(navigation.KERNELS, "the block up close", View(preset("resnet50"), tab="The block")),
    experiment=(navigation.CHOOSE, "34 against 50 layers", View(preset("resnet34"), others=(preset("resnet50"),))),
)
def two_blocks() -> Outcome:
    """Weights and multiply-adds of the second block of the first stage in ResNet-34 and ResNet-50."""
    basic, bottleneck = (trace(preset(name)).blocks["layer1.1"] for name in ("resnet34", "resnet50"))
    costs = [
        (sum(layer.params for layer in layers), sum(layer.macs for layer in layers))
        for layers in map(convolutions, (basic, bottleneck))
    ]
    ratio = costs[1][1] / costs[0][1]
    rows = (
        Row("Basic block, 64 channels", "similar", f"{costs[0][0]:,} weights, {costs[0][1]:,} multiply-adds"),
        Row("Bottleneck, 256 channels", "similar", f"{costs[1][0]:,} weights, {costs[1][1]:,} multiply-adds"),
    )
    return Outcome(
        REPRODUCES if 0.9 < ratio < 1.1 else NOT,
        f"the bottleneck costs {ratio:.0%} of the basic block",
        rows,
        "On maps of 56×56, without batch norm. Costs and weights differ by the same part, as all convolutions here read maps of one size.",
    )


@exhibit(
    "Table 4",
    "Single networks on ImageNet, several scales",
    "Averaged over five scales, the error falls with depth to 19.38% at 152 layers; its top-5 error of 4.49% is below that of "
    "every ensemble before.",
    picture=(navigation.CHOOSE, "accuracies beside costs", View(preset("resnet152"))),
)
def single_networks() -> Outcome:
    """The paper's errors beside the first and the best weights that anybody publishes for a network of the depth."""
    theirs = errors("torchvision V1")
    rows, apart = [], 0.0
    for depth, said in MULTI_SCALE.items():
        best = best_result(preset(f"resnet{depth}"))
        first = theirs[preset(f"resnet{depth}")]
        apart = max(apart, abs(first - said))
        rows.append(
            Row(
                f"ResNet-{depth}{' B' if depth == 34 else ''}",
                f"{said:.2%}",
                f"{first:.2%} (torchvision V1), {1 - best.top1:.2%} ({best.recipe}, {best.size} px)",
            )
        )
    return Outcome(
        REPRODUCES if apart < 0.01 else NOT,
        "it takes ImageNet's 50,000 validation images, each at five scales, which are not here",
        tuple(rows),
        "Top-1 errors; those on the right are of one crop. Later recipes for the same architectures pass the paper's numbers with "
        "that one crop, so its networks were not trained to their limit.",
    )


@exhibit(
    "Table 5",
    "Ensembles on ImageNet's test set",
    "Six networks together, two of them of 152 layers, name the right class among five on all but 3.57% of the test images, "
    "which won ILSVRC 2015.",
    picture=(navigation.CHOOSE, "single networks", View(preset("resnet152"))),
)
def ensembles() -> Outcome:
    """The best single network that anybody publishes, trained on the same images."""
    found = [one for one in published_weights() if one.top5 and not one.data.pretraining]
    best = max(found, key=lambda one: one.top5 or 0)
    rows = (
        Row(
            "Top-5 error",
            "3.57%, six networks on the test images",
            f"{1 - (best.top5 or 0):.2%}, one network on the validation images ({best.key})",
        ),
    )
    return Outcome(
        NOT,
        "the labels of the test images are not public, and the six networks neither",
        rows,
        "The best top-5 error among the weights that the app lists and that were trained on ImageNet-1k alone. Other images, another "
        "architecture and a later recipe: no comparison with the paper, only where single residual networks have come to.",
    )


# -- section 4.2 --------------------------------------------------------------------------


@exhibit(
    "Table 6",
    "Errors on CIFAR-10",
    "From 20 to 110 layers the error falls from 8.75% to 6.43%; 1202 layers can be trained as well, and do worse, by "
    "overfitting as the authors argue.",
    picture=(navigation.ARCHITECTURE, "ResNet-110", View(preset("resnet110"), (32, 32))),
    experiment=(navigation.INFERENCE, "the shipped ResNet-56", View(BUNDLED["resnet56"], (28, 28))),
)
def cifar_errors() -> Outcome:
    """Parameters of each depth, counted, and what the shipped networks do on Fashion-MNIST."""
    rows, right = [], True
    for depth, (said, error) in CIFAR.items():
        params = trace(preset(f"resnet{depth}"), 32).params
        right &= agrees(params / 1e6, said)
        here = f"{params:,} parameters"
        if f"resnet{depth}" in BUNDLED:
            shipped = read_checkpoint(bundled_path(f"resnet{depth}"))[1]
            here += f"; {1 - shipped.accuracy:.2%} on Fashion-MNIST after {epochs_of(shipped.command)} epochs"
        rows.append(Row(f"ResNet-{depth}", f"{said} M parameters, {error:.2%}", here))
    return Outcome(
        SMALL if right else NOT,
        "the sizes reproduce; the errors are of 20 and 56 layers on Fashion-MNIST, with short trainings",
        tuple(rows),
        "The two shipped trainings differ in length, so they do not compare depths: see figure 6 for that. Networks of 110 and 1202 "
        "layers are not trained here: the paper's training is 64,000 steps of 128 images.",
    )


@exhibit(
    "Figure 6",
    "Training on CIFAR-10, plain and residual, up to 1202 layers",
    "Plain networks get worse with depth, residual ones of up to 110 layers better; at 1202 layers the training error is as low, and "
    "the test error higher.",
    picture=(navigation.BESIDE, "ResNet-56 beside Plain-56", View(tab="On the test set")),
    experiment=(
        navigation.EXPERIMENTS,
        "train 20 and 110 layers",
        replace(DEGRADATION, training=Settings(deep=110).to_text()),
    ),
)
def depths_on_cifar() -> Outcome:
    """The shipped degradation runs of all lengths, and the shipped networks of 56 layers."""
    found = {settings.steps: summarise(runs) for settings, runs in shipped_runs().groups.items()}
    rows = [
        Row(
            f"Loss of 56 less 20 layers, {steps:,} steps",
            "plain above 0, residual below",
            f"plain {one.gap['plain']:+z.2f}, residual {one.gap['residual']:+z.2f}",
        )
        for steps, one in found.items()
    ]
    plain, residual = (read_checkpoint(bundled_path(name))[1].accuracy for name in ("plain56", "resnet56"))
    rows += [
        Row(
            "56 layers, test error",
            "plain above residual",
            f"{1 - plain:.2%} against {1 - residual:.2%}, full-size images",
        ),
        Row("110 and 1202 layers", "6.43% and 7.93%", "not trained"),
    ]
    seen = plain < residual and all(
        one.deeper_is_worse["plain"] == len(one.seeds) and one.gap["residual"] < one.gap["plain"] / 5
        for one in found.values()
    )
    return Outcome(
        SMALL if seen else NOT,
        SMALLER,
        tuple(rows),
        "Means over the seeds. With shortcuts the two depths come out alike here, which is no degradation and no gain. The test errors "
        "of 56 layers are those of the shipped pair, trained alike on the whole training set.",
    )


@exhibit(
    "Figure 7",
    "Standard deviations of layer responses",
    "On CIFAR-10 residual networks respond less strongly than plain ones, and deeper ones less than shallower ones: each block "
    "changes its input only a little.",
    picture=(navigation.INFERENCE, "what each block adds", View(BUNDLED["resnet56"], (28, 28), tab="Addition")),
    experiment=(navigation.EXPERIMENTS, "signals and gradients", View(BUNDLED["resnet56"], (28, 28), tab="Gradients")),
)
def response_sizes() -> Outcome:
    """The responses of the four shipped networks."""
    sizes = {name: mean(found) for name, found in responses().items()}
    rows = tuple(
        Row(
            f"{short_title(BUNDLED[less])} against {short_title(BUNDLED[more])}",
            "smaller",
            f"{sizes[less]:.2f} against {sizes[more]:.2f}: {'smaller' if sizes[less] < sizes[more] else 'not smaller'}",
        )
        for less, more in SMALLER_RESPONSES
    )
    seen = sum(sizes[less] < sizes[more] for less, more in SMALLER_RESPONSES)
    epochs = sorted({epochs_of(read_checkpoint(bundled_path(name))[1].command) for name in BUNDLED})
    scales = [mean_scale(shipped_network(name)) for name in BUNDLED]
    return Outcome(
        SMALL if seen == len(rows) else NOT,
        ""
        if seen == len(rows)
        else f"after {' and '.join(map(str, epochs))} epochs {seen} of {len(rows)} orders show: the scales γ of batch norm, which "
        f"begin at 1, are {min(scales):.2f} to {max(scales):.2f} in the mean of a network",
        rows,
        f"Means over the layers. A response is the output of a 3×3 convolution after batch norm, before the activation and the "
        f"addition; in eval mode, on the first {RESPONSE_IMAGES} test images. Batch norm makes it as large as its scale γ, which "
        "weight decay shrinks slowly: the paper trained for 64,000 steps.",
    )


@exhibit(
    "Tables 7 and 8",
    "Object detection on PASCAL VOC and COCO",
    "With ResNet-101 in the place of VGG-16, the same detector finds more: by 28% more on COCO, in the measure of that benchmark.",
)
def detection() -> Outcome:
    """Nothing here detects objects."""
    return Outcome(
        NOT,
        "it takes training a detector, Faster R-CNN, on COCO's images",
        (),
        "This app builds and runs classifiers. A detector's backbone can be opened as a checkpoint on the Inference page, and its "
        "layers looked at, but boxes are not predicted.",
    )


# -- what the paper prints ----------------------------------------------------------------

MULTI_SCALE: Mapping[int, float] = {34: 0.2184, 50: 0.2074, 101: 0.1987, 152: 0.1938}
"""Top-1 errors in Table 4 by depth, option B."""
CIFAR: Mapping[int, tuple[str, float]] = {
    20: ("0.27", 0.0875),
    32: ("0.46", 0.0751),
    44: ("0.66", 0.0717),
    56: ("0.85", 0.0697),
    110: ("1.7", 0.0643),
    1202: ("19.4", 0.0793),
}
"""Table 6 by depth: millions of parameters, and the test error, the best of five trainings at 110 layers."""
SMALLER_RESPONSES = (("resnet20", "plain20"), ("resnet56", "plain56"), ("resnet56", "resnet20"))
"""In Figure 7 the first of each pair responds less strongly."""
VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of the 3×3 convolutions of each of its stages, which a pool of 2×2 ends (Simonyan 2014, Table 1, E)."""


def agrees(value: float, printed: str) -> bool:
    """Whether a number is what is printed of it, cut or rounded to as many digits."""
    return any(
        Decimal(repr(value)).quantize(Decimal(printed), how) == Decimal(printed) for how in (ROUND_DOWN, ROUND_HALF_UP)
    )


def points(difference: float) -> str:
    """+3.53 points."""
    return f"{100 * difference:+z.2f} points"


# -- what stands beside it ----------------------------------------------------------------


def vgg19_macs() -> int:
    """Multiply-adds of VGG-19's convolutions and linear layers for one image of 224×224 pixels."""
    total, side, inputs = 0, 224, 3
    for channels, count in VGG19:
        for _ in range(count):
            total += side**2 * 9 * inputs * channels
            inputs = channels
        side //= 2
    return total + side**2 * inputs * 4096 + 4096 * 4096 + 4096 * 1000


def errors(recipe: str) -> dict[ResNetConfig, float]:
    """Top-1 errors on ImageNet of the networks that were trained by a recipe of `published`."""
    return {result.config: 1 - result.top1 for result in published() if result.recipe == recipe}


def best_result(config: ResNetConfig) -> Result:
    """The most accurate published result of a network that was trained on ImageNet-1k alone."""
    found = [result for result in published() if result.config == config and not result.more_data]
    return max(found, key=lambda result: result.top1)


def longest_runs() -> tuple[TrainingRun, ...]:
    """The shipped degradation runs with the most steps."""
    return max(shipped_runs().groups.items(), key=lambda group: group[0].steps)[1]


def longest_summary() -> Summary:
    return summarise(longest_runs())


def residual_words(small: Summary) -> str:
    """How far the losses of the residual pair lie apart, beside how far those of one network's seeds do."""
    losses = [small.row("residual", deep).loss for deep in (False, True)]
    gap, seeds = abs(small.gap["residual"]), max(loss.high - loss.low for loss in losses)
    words = f"The losses of the residual pair lie {gap:.3f} apart in the mean, those of one network's seeds up to {seeds:.3f}"
    return f"{words}: no difference between the depths shows." if gap < seeds else f"{words}."


def early_loss(run: TrainingRun, kind: str) -> float:
    """The training loss of the shallow network of a kind after a fifth of the steps, the mean of 20 steps."""
    curve = next(curve for curve in run.curves if curve.network == (kind, run.settings.shallow))
    end = run.settings.steps // 5
    return mean(curve.losses[end - 20 : end])


def mean_scale(network: nn.Module) -> float:
    """The mean over all channels of the scales γ of a network's batch norms."""
    return float(torch.cat([norm.weight for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]).mean())


RESPONSE_IMAGES = 64


@cache
def responses() -> Mapping[str, tuple[float, ...]]:
    """The layer responses of each network that ships."""
    images, _ = labelled_inputs(RESPONSE_IMAGES)
    with single_thread():
        return {name: layer_responses(shipped_network(name), images, CPU) for name in BUNDLED}


EXHIBITS = tuple(_exhibits)
"""Every table and figure, in the order of the paper."""
