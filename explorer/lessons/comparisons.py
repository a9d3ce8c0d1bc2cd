"""Comparisons worth opening: which networks, and what to look at, with every number computed from the traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from resnet import ResNetConfig, preset

from ..analysis.compare import activation_bytes
from ..analysis.layers import convolutions
from ..analysis.trace import Trace
from ..units import amount, mebibytes

Words = Callable[[Sequence[Trace]], str]


class ReadyComparison(NamedTuple):
    """Two to four networks, and a function of their traces that says in Markdown what to look at.

    `at` is the block that is compared slot by slot at first, empty for the first that differs.
    """

    name: str
    configs: tuple[ResNetConfig, ...]
    words: Words
    at: str = ""


_ready: list[ReadyComparison] = []


def ready(name: str, configs: tuple[ResNetConfig, ...], at: str = "") -> Callable[[Words], Words]:
    """Makes the function below the words of a comparison; comparisons stand in the order of their functions."""

    def add(words: Words) -> Words:
        _ready.append(ReadyComparison(name, configs, words, at))
        return words

    return add


def presets(*names: str) -> tuple[ResNetConfig, ...]:
    return tuple(map(preset, names))


def variants(name: str, *values: str | int) -> tuple[ResNetConfig, ...]:
    """ResNet-50 with each of the values in one field."""
    return tuple(ResNetConfig(**{name: value}) for value in values)  # type: ignore[arg-type]


def block_weights(traced: Trace, block: str) -> int:
    """Weights of the convolutions of a block such as "layer1.1", projections left out."""
    return sum(layer.params for layer in convolutions(traced.blocks[block]) if not layer.role.on_shortcut)


def stem(traced: Trace) -> tuple[int, int]:
    """MACs of the stem, and the pixels a side that its last convolution sees."""
    return sum(layer.macs for layer in traced.stem), convolutions(traced.stem)[-1].field.size


def map_rows(traced: Trace) -> int:
    """Rows of the last stage's map."""
    return traced.stages[-1][-1].out_shape[1]


def last_field(traced: Trace, stage: int) -> int:
    """Pixels a side that the end of a stage sees."""
    return traced.stages[stage - 1][-1].field.size


def times(number: float, base: float) -> str:
    return f"{number / base:.3g} times"


# -- what to look at ----------------------------------------------------------------------


@ready("Basic or bottleneck", presets("resnet34", "resnet50"))
def bottleneck(traces: Sequence[Trace]) -> str:
    basic, narrow = traces
    # Both blocks take and put out 256 channels: stage 3 of basic blocks, stage 1 of bottlenecks.
    two, three = block_weights(basic, "layer3.1"), block_weights(narrow, "layer1.1")
    return (
        f"**Why the bottleneck exists.** On 256 channels a basic block has {two:,} convolution weights, a bottleneck "
        f"{three:,}: **{two / three:.1f} times fewer**, because its 3×3 works on a quarter of the channels. So with "
        f"{times(narrow.macs, basic.macs)} the MACs ({amount(narrow.macs)} against {amount(basic.macs)}) ResNet-50 has "
        f"{narrow.config.depth - basic.config.depth} more layers and ends on {narrow.config.stage_channels[-1]:,} channels "
        f"instead of {basic.config.stage_channels[-1]:,}. The price is sight and memory: one 3×3 a block instead of two, so it "
        f"sees {narrow.field.size} pixels against {basic.field.size}, and its activations take "
        f"{times(activation_bytes(narrow), activation_bytes(basic))} the memory."
    )


@ready("18 sees more than 50", presets("resnet18", "resnet50"))
def sight(traces: Sequence[Trace]) -> str:
    shallow, deep = traces
    stages = range(1, len(deep.config.layers) + 1)
    ends = ", ".join(f"{last_field(deep, stage)} against {last_field(shallow, stage)}" for stage in stages)
    ahead = [stage for stage in stages if last_field(deep, stage) > last_field(shallow, stage)]
    blocks = ", ".join(
        f"stage {stage}, with {deep.config.layers[stage - 1]} blocks against {shallow.config.layers[stage - 1]}"
        for stage in ahead
    )
    return (
        f"**Deeper, and yet it sees less.** ResNet-18 sees {shallow.field.size} pixels a side at its end, ResNet-50 "
        f"{deep.field.size}: **{shallow.field.size - deep.field.size} fewer**. Stage by stage "
        f"it is {ends} pixels: behind everywhere but in {blocks}. In the blocks only the 3×3 convolutions widen the field, and a "
        f"bottleneck has one where a basic block has two; most of ResNet-50's {deep.config.depth} layers are 1×1."
    )


@ready("Plain or residual", presets("plain34", "resnet34"))
def plain(traces: Sequence[Trace]) -> str:
    bare, residual = traces
    identity = sum(residual.config.layers) - sum(layer.role.on_shortcut for layer in residual.convolutions)
    return (
        f"**Same layers, same sight, same cost.** Both have depth {residual.config.depth} and see {residual.field.size} pixels. "
        f"{identity} of the {sum(residual.config.layers)} shortcuts are the identity and have no weights; the projections "
        f"where shapes change are the whole difference of {amount(residual.params - bare.params)} parameters "
        f"({(residual.params - bare.params) / bare.params:.1%}) and {amount(residual.macs - bare.macs)} MACs. Look for the "
        "arcs and additions: what makes a residual network train does not show in its size."
    )


# In layer1.0 A and B differ in nothing that has weights; where the map shrinks, each does something of its own.
@ready("Shortcut A, B, C, D", variants("shortcut", "A", "B", "C", "D"), at="layer2.0")
def shortcuts(traces: Sequence[Trace]) -> str:
    a, b, c, d = traces
    weights = sum(layer.params for layer in b.convolutions if layer.role.on_shortcut)
    return (
        f"**What option B costs.** A pads with zeros and has no weights. B projects where shapes change, and costs ResNet-50 "
        f"**{amount(weights)} weights** and {b.params - a.params - weights:,} parameters of their norms "
        f"({(b.params - a.params) / b.params:.1%} of all), and {amount(b.macs - a.macs)} MACs. C projects in every block and costs {amount(c.params - b.params)} parameters and "
        f"{amount(c.macs - b.macs)} MACs more than B. D has B's {amount(d.params)} parameters but averages 2×2 positions before "
        f"its 1×1, which B's stride skips; that takes {mebibytes(activation_bytes(d) - activation_bytes(b))} of activations. None of "
        f"them changes the {b.field.size} pixels that the network sees."
    )


@ready("v1 or v1.5", presets("resnet50_v1", "resnet50"))
def version(traces: Sequence[Trace]) -> str:
    v1, v15 = traces
    return (
        f"**Where the stride stands.** Same {amount(v15.params)} parameters. v1 strides in the first 1×1 of a stage, which "
        f"drops three of four positions unseen; v1.5 strides in the 3×3, so the 1×1 before it runs on the larger map: "
        f"**{v1.macs / 1e9:.3f} G against {v15.macs / 1e9:.3f} G MACs** (+{(v15.macs - v1.macs) / v1.macs:.1%}). v1's 3×3 "
        f"works where units are already twice as far apart and so sees further: **{v1.field.size} against {v15.field.size} "
        "pixels**."
    )


@ready("Stems", variants("stem", "7x7", "deep", "3x3"))
def stems(traces: Sequence[Trace]) -> str:
    one, deep, small = traces
    (one_macs, one_sees), (deep_macs, deep_sees), (small_macs, small_sees) = map(stem, traces)
    return (
        f"**How to read the image.** The 7×7 costs {amount(one_macs)} MACs and sees {one_sees} pixels. Three 3×3 (deep) cost "
        f"{amount(deep_macs)}, {times(deep_macs, one_macs)} as many, and see {deep_sees}: as a stem, small kernels are not "
        f"cheaper. One 3×3 with stride 1 costs only {amount(small_macs)} itself and sees {small_sees}, but every later map is "
        f"twice as large a side: **{amount(small.macs)} MACs in all against {amount(one.macs)}**, and at the end a unit sees "
        f"{small.field.size} pixels instead of {one.field.size} ({deep.field.size} with the deep stem). It is meant for "
        "small images."
    )


@ready("ResNeXt or ResNet", presets("resnet50", "resnext50_32x4d"))
def resnext(traces: Sequence[Trace]) -> str:
    dense, grouped = traces
    wide, narrow = grouped.config.width(64), dense.config.width(64)
    return (
        f"**Groups buy width.** ResNeXt splits the 3×3 into {grouped.config.groups} groups, which makes it "
        f"{grouped.config.groups} times cheaper for its width, and spends that on {wide} inner channels instead of {narrow} in the "
        f"first stage. The bill comes out even: {amount(grouped.params)} parameters against {amount(dense.params)}, "
        f"{amount(grouped.macs)} MACs against {amount(dense.macs)} ({times(grouped.macs, dense.macs)} as many), and the same "
        f"{dense.field.size} pixels. Activations take {times(activation_bytes(grouped), activation_bytes(dense))} the memory, which MACs do "
        "not count. In the bill, see how one field takes back what the other costs."
    )


@ready("Wide or deep", presets("wide_resnet50_2", "resnet152"))
def wide(traces: Sequence[Trace]) -> str:
    broad, deep = traces
    return (
        f"**Spend on width or on depth.** Nearly the same MACs: {amount(broad.macs)} for Wide ResNet-50-2, "
        f"{amount(deep.macs)} for ResNet-152. The wide one has {broad.config.depth} layers and "
        f"{times(broad.params, deep.params)} the parameters; the deep one has {deep.config.depth} layers, needs "
        f"{times(activation_bytes(deep), activation_bytes(broad))} the activation memory, and sees {deep.field.size:,} pixels against "
        f"{broad.field.size}. Width does not widen the field."
    )


@ready("Post- or pre-activation", presets("resnet50", "resnetv2_50"))
def order(traces: Sequence[Trace]) -> str:
    post, pre = traces
    difference = abs(post.params - pre.params)
    return (
        f"**Where the norm stands.** Pre-activation normalises and activates before each convolution, so nothing stands on "
        f"the way from one addition to the next. Same convolutions, so {amount(pre.macs)} MACs and {pre.field.size} pixels in both; "
        f"the norms stand at other widths, which makes {difference:,} parameters of {amount(post.params)}. "
        f"Activations take {times(activation_bytes(pre), activation_bytes(post))} the memory. In a block's layers, look at what follows the addition."
    )


@ready("CIFAR nets", presets("resnet20", "resnet56", "resnet110"))
def cifar(traces: Sequence[Trace]) -> str:
    a, c = traces[0], traces[-1]
    counts = ", ".join(f"{one.config.depth} layers {amount(one.params)}" for one in traces)
    sizes = ", ".join(f"{one.field.size}" for one in traces)
    return (
        f"**Depth alone.** For 32×32 images the paper builds 6n + 2 layers in three stages of 16, 32 and 64 channels. "
        f"Parameters: {counts}, all far below ResNet-50's. From {a.config.depth} to {c.config.depth} layers MACs grow to "
        f"{times(c.macs, a.macs)} and parameters to {times(c.params, a.params)} as many. Units see {sizes} pixels: "
        f"{'all of them' if a.field.size > a.image_size[0] else 'the deeper ones'} more than the image has."
    )


@ready("Dilation 32, 16, 8", variants("output_stride", 32, 16, 8))
def dilation(traces: Sequence[Trace]) -> str:
    full, half, quarter = traces
    maps = ", ".join(f"{map_rows(one)}×{map_rows(one)}" for one in traces)
    same = full.field.size == half.field.size == quarter.field.size
    return (
        f"**{'Same field' if same else 'Almost the same field'}, more memory.** Dilation replaces the last strides, so the last map "
        f"keeps more positions ({maps}) while a unit still sees {quarter.field.size} pixels. The same {amount(full.params)} weights run at "
        f"more places: {amount(full.macs)}, {amount(half.macs)} and {amount(quarter.macs)} MACs; activations "
        f"{mebibytes(activation_bytes(full))}, {mebibytes(activation_bytes(half))} and **{mebibytes(activation_bytes(quarter))}**. "
        "Segmentation pays this for finer maps."
    )


READY_COMPARISONS = tuple(_ready)
