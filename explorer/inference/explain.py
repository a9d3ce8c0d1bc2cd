"""One number, all the way down: how the value of one unit comes about from those that it reads, with the real weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from resnet import ConfigError, ResNet
from resnet.blocks import PadShortcut

from .. import notebook
from ..analysis.layers import IMAGE, Layer, Op
from ..analysis.parts import off_channel
from ..analysis.projective_field import OUTSIDE, positions
from ..analysis.trace import Trace
from ..analysis.trace import trace as trace_config
from .device import Device
from .predict import watching_outputs

IMAGE_NAME = "image"
"""The layer that a pixel is a unit of, as the network takes it."""
Outputs = Callable[[str], np.ndarray]
"""A layer's output on one image by the layer's name, C×H×W (C×1×1 where it is no map); of "image" the image itself."""


class Unit(NamedTuple):
    """One number of a layer's output: of a map, by row and column, or of C values, at 0, 0. `layer` may be "image"."""

    layer: str
    channel: int
    row: int = 0
    column: int = 0

    @property
    def words(self) -> str:
        """layer2.0.conv1, channel 5, row 3, column 4."""
        return f"{self.layer}, channel {self.channel}, row {self.row}, column {self.column}"


class Term(NamedTuple):
    """A summand of a unit's value: what it `kind` is in words, and the `unit` that it came from, None for a constant.

    Where it is a product, it is `factor` times the unit's own value `input`; `factor_unit` is the unit that the factor is
    the value of, None for a weight.
    """

    value: float
    kind: str
    unit: Unit | None = None
    factor: float | None = None
    input: float | None = None
    factor_unit: Unit | None = None


class Step(NamedTuple):
    """A line of the calculation, in words and in KaTeX with its numbers."""

    words: str
    tex: str


@dataclass(frozen=True, eq=False)
class Window:
    """What a unit reads, multiplied place by place: `inputs` and `weights` are N×K×K' in float64, of channels `first` on.

    `inside` is where there is an input; beyond it is padding, whose input is zero. Rows and columns are those of the layer
    that is read; a blur's reflect, so that one may occur twice.
    """

    layer: str
    first: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    inputs: np.ndarray
    weights: np.ndarray
    inside: np.ndarray

    @property
    def products(self) -> np.ndarray:
        """Weight times input, N×K×K'; zero in the padding."""
        return self.inputs * self.weights

    def unit(self, number: int, row: int, column: int) -> Unit | None:
        """The unit at one place of the window; None in the padding."""
        if not self.inside[number, row, column]:
            return None
        return Unit(self.layer, self.first + number, self.rows[row], self.columns[column])


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The `value` of a unit, torch's own, as a sum of terms. Where it is one over a `window`, `constants` are the rest of it."""

    unit: Unit
    op: Op
    value: float
    constants: tuple[Term, ...]
    steps: tuple[Step, ...]
    window: Window | None = None

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """Every summand, those of the window first."""
        return (*(window_terms(self.window, PRODUCTS[self.op]) if self.window else ()), *self.constants)

    @property
    def total(self) -> float:
        """The sum of the terms, in float64."""
        products = self.window.products.sum() if self.window else 0.0
        return float(products + math.fsum(term.value for term in self.constants))

    @property
    def difference(self) -> float:
        """The sum less torch's value, which torch rounds to its own precision on the way."""
        return self.total - self.value

    @property
    def followed(self) -> Unit | None:
        """The one unit that it comes from, where there is one only: an activation's, a norm's."""
        units = [term.unit for term in self.constants if term.unit] + [
            term.factor_unit for term in self.constants if term.factor_unit
        ]
        return units[0] if len(units) == 1 and not self.window else None

    @property
    def heading(self) -> str:
        """layer2.0.conv1, channel 5, row 3, column 4: convolution = -0.1234."""
        return f"{self.unit.words}: {self.op} = {self.value:.6g}"

    def __repr__(self) -> str:
        """The unit, its value and how many terms sum to it, in a line."""
        size = len(self.constants) + (self.window.inputs.size if self.window else 0)
        return f"Explanation({self.heading}, of {size:,} {'term' if size == 1 else 'terms'})"

    def _repr_html_(self) -> str:
        """In a notebook: the steps in words, and the terms, the largest first, of many the rest as one."""
        ranked = sorted(self.terms, key=lambda term: -abs(term.value))
        shown, rest = ranked[: notebook.ROWS], [term.value for term in ranked[notebook.ROWS :]]
        rows = [
            (term.kind, term.unit.words if term.unit else "", _four(term.factor), _four(term.input), _four(term.value))
            for term in shown
        ]
        rows += [(f"{len(rest):,} more", "", "", "", _four(math.fsum(rest)))] if rest else []
        rows.append(("sum", "", "", "", _four(self.total)))
        return (
            notebook.heading(self.heading)
            + notebook.paragraphs(f"{step.words}." for step in self.steps)
            + notebook.table(("Term", "From", "Factor", "Input", "Value"), rows)
        )


def _four(value: float | None) -> str:
    """Four figures; empty for what has none."""
    return "" if value is None else f"{value:z.4g}"


PRODUCTS = {
    Op.CONVOLUTION: "weight × input",
    Op.CHANNEL_CONVOLUTION: "weight × pooled channel",
    Op.LINEAR: "weight × pooled channel",
    Op.BLUR: "filter × input",
    Op.AVERAGE_POOLING: "share × input",
    Op.GLOBAL_AVERAGE_POOLING: "share × input",
    Op.MAX_POOLING: "the largest counts",
}
"""What a product is, of the operations that sum over a window."""


def window_terms(window: Window, kind: str) -> list[Term]:
    """A term for each place of a window."""
    terms = []
    for place in np.ndindex(window.inputs.shape):
        factor, given = float(window.weights[place]), float(window.inputs[place])
        unit = window.unit(*place)
        terms.append(Term(factor * given, kind if unit else "padding", unit, factor, given))
    return terms


# -- a network on an image ----------------------------------------------------------------


def explain(network: ResNet, images: Tensor, layer: str, channel: int, row: int = 0, column: int = 0) -> Explanation:
    """How one number of a network in eval mode comes about on one image, 1×C×H×W, normalised.

    Of a layer that puts out no map, row and column are 0. The terms' units can be explained in turn, down to the pixels.

    Raises:
        ConfigError: for what is not one image of the network's input channels, a network in training mode, or a layer,
            channel, row or column that the network has not on an image of this size.
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    wide = network.config.in_channels
    if images.ndim != 4 or images.shape[:2] != (1, wide):
        raise ConfigError("images", "×".join(map(str, images.shape)), f"one image, 1×{wide}×H×W")
    if network.training:
        raise ConfigError("network", "in training mode", "a network in eval mode, which `network.eval()` gives")
    trace = trace_config(network.config, (images.shape[2], images.shape[3]))
    unit = Unit(layer, channel, row, column)
    check_unit(trace, unit)
    parameter = next(network.parameters())
    device = Device(parameter.device.type, parameter.device.type)
    names = [layer, *(trace.sources(trace.by_name[layer]) if layer in trace.by_name else ())]
    outputs = record(network, images.to(parameter.dtype), names, device)
    return explanation(network, trace, outputs.__getitem__, unit)


def check_unit(trace: Trace, unit: Unit) -> None:
    """
    Raises:
        ConfigError: for a layer, channel, row or column that the network has not.
    """
    if unit.layer not in trace.by_name:
        known = [layer.name for layer in trace.layers]
        raise ConfigError(
            "layer", unit.layer, f"a layer of this network, {known[0]} to {known[-1]} in order of execution"
        )
    shape = trace.by_name[unit.layer].out_shape
    for name, value, count in zip(("channel", "row", "column"), unit[1:], sizes(shape), strict=True):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < count:
            accepted = f"0 to {count - 1}" if count > 1 else "0"
            raise ConfigError(name, value, f"{accepted} in {unit.layer}")


def sizes(shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, rows and columns of an output; of values that are no map, their number, 1 and 1."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[-1], 1, 1)


def record(model: ResNet, image: Tensor, names: Collection[str], device: Device) -> dict[str, np.ndarray]:
    """The outputs of the named layers on a 1×C×H×W image as `Outputs` have them, in the network's precision, bf16 as fp32.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    kept: dict[str, np.ndarray] = {}

    def keep(name: str, output: Tensor) -> None:
        kept[name] = array(output[0])

    @torch.inference_mode()
    def run() -> None:
        with watching_outputs(model, [name for name in names if name != IMAGE_NAME], keep):
            model(image.to(device.torch))

    device.turn(model, image).run(run)
    return kept | {IMAGE_NAME: array(image[0])}


def array(output: Tensor) -> np.ndarray:
    """C×H×W, or any shape of C values as C×1×1, for numpy, which knows no bf16."""
    known = output.float() if output.dtype == torch.bfloat16 else output
    return (known if known.ndim == 3 else known.reshape(-1, 1, 1)).cpu().numpy()


def sources(trace: Trace, layer: Layer, off: Collection[str] = ()) -> tuple[str, ...]:
    """The names of what a layer reads: past the blocks of a plain network that are `off`, which hand on their input."""
    return tuple(trace.layers[index].name if index != IMAGE else IMAGE_NAME for index in producers(trace, layer, off))


def producers(trace: Trace, layer: Layer, off: Collection[str]) -> tuple[int, ...]:
    found = []
    for index in layer.inputs:
        passed = read_past(trace, index, layer, off)
        found.append(trace.blocks[passed[-1]][0].inputs[0] if passed else index)
    return tuple(found)


def read_past(trace: Trace, index: int, reader: Layer, off: Collection[str]) -> list[str]:
    """The blocks of a plain network that are off between a layer and what it reads, from the layer on."""
    passed: list[str] = []
    while trace.config.shortcut == "none" and index != IMAGE:
        block = trace.layers[index].block
        if block not in off or block == reader.block:
            break
        passed.append(block)
        index = trace.blocks[block][0].inputs[0]
    return passed


def as_read(trace: Trace, layer: Layer, outputs: Outputs, off: Collection[str]) -> Outputs:
    """The outputs as a layer reads them: past a block that is off, at zero in those of its channels that are off too."""
    passed = {block for index in layer.inputs for block in read_past(trace, index, layer, off)}
    zeroed = [channel[1] for name in off if (channel := off_channel(name)) and channel[0] in passed]

    def read(name: str) -> np.ndarray:
        output = outputs(name).copy()
        output[zeroed] = 0
        return output

    return read if zeroed else outputs


# -- one unit -----------------------------------------------------------------------------


def explanation(network: ResNet, trace: Trace, outputs: Outputs, unit: Unit, off: Collection[str] = ()) -> Explanation:
    """How a unit of a layer comes about, from outputs of the network, whose blocks and channels `off` are switched off.

    Raises:
        ConfigError: as `check_unit`.
    """
    check_unit(trace, unit)
    layer, module = trace.by_name[unit.layer], network.get_submodule(unit.layer)
    names = sources(trace, layer, off)
    value = float(outputs(unit.layer)[unit[1:]])
    if f"{layer.block}:{unit.channel}" in off and layer is trace.blocks[layer.block][-1]:
        return Explanation(unit, layer.op, value, (Term(0.0, "channel off"),), (Step("The channel is off", "0"),))
    read = as_read(trace, layer, outputs, off)
    if layer.op in PRODUCTS:
        window = read_window(layer, module, names[0], read(names[0]), unit)
        constants = bias(module, unit.channel)
        steps = window_steps(layer, window, constants, value)
        if layer is trace.layers[-1]:
            steps = (*steps, softmax_step(outputs(unit.layer)[:, 0, 0], unit.channel))
        return Explanation(unit, layer.op, value, constants, steps, window)
    given = [Unit(name, *place_read(layer, module, unit)) for name in names]
    if layer.op == Op.SCALING:
        given[1] = Unit(names[1], unit.channel)
    if layer.op == Op.ADDITION:
        terms, step = addition(given, [float(read(one.layer)[one[1:]]) for one in given], layer.block in off)
    elif layer.op == Op.ZERO_PADDING and not exists(given[0], read(names[0])):
        terms, step = (Term(0.0, "padding"),), Step("There is nothing to read here: the place is padded", "0")
    elif layer.op == Op.GROUP_NORM:
        terms, step = group_norm(module, read(names[0]), given[0])
    else:
        x = [float(read(one.layer)[one[1:]]) for one in given]
        terms, step = ELEMENTWISE.get(layer.op, activation)(module, layer.op, x, given)
    return Explanation(unit, layer.op, value, terms, (step,))


def chain(
    network: ResNet, trace: Trace, outputs: Outputs, unit: Unit, off: Collection[str] = ()
) -> tuple[Explanation, ...]:
    """A unit's explanation, and while that comes from one unit of the same block, stem or head, the explanation of that.

    So a block's output is σ of a sum and the sum, and a normalised convolution is the norm and the convolution.

    Raises:
        ConfigError: as `check_unit`.
    """
    found = [explanation(network, trace, outputs, unit, off)]
    part = trace.by_name[unit.layer].part
    while (next_unit := found[-1].followed) and trace.part_of(next_unit.layer) == part:
        found.append(explanation(network, trace, outputs, next_unit, off))
    return tuple(found)


def place_read(layer: Layer, module: nn.Module, unit: Unit) -> tuple[int, int, int]:
    """Channel, row and column that one unit of an operation without sum reads; `OUTSIDE` in what is padded."""
    (_, height, width) = sizes(layer.in_shapes[0])
    (row,), (column,) = positions(layer, unit.row, height), positions(layer, unit.column, width)
    beyond = isinstance(module, PadShortcut) and unit.channel >= layer.in_shapes[0][0]
    return OUTSIDE if beyond else unit.channel, row, column


def exists(unit: Unit, output: np.ndarray) -> bool:
    return all(0 <= place < size for place, size in zip(unit[1:], output.shape, strict=True))


# -- sums over a window -------------------------------------------------------------------


def read_window(layer: Layer, module: Any, name: str, output: np.ndarray, unit: Unit) -> Window:
    """What a unit reads of the output C×H×W of the layer called `name`, and what it is multiplied with."""
    rows, columns = positions(layer, unit.row, output.shape[1]), positions(layer, unit.column, output.shape[2])
    first, weights = unit.channel, np.ones((1, len(rows), len(columns)))
    if layer.op == Op.CONVOLUTION:
        weights = numbers(module.weight[unit.channel])
        first = unit.channel // (module.out_channels // module.groups) * len(weights)
    elif layer.op == Op.BLUR:
        weights = numbers(module.kernel[unit.channel])
    elif layer.op == Op.LINEAR:
        first, weights = 0, numbers(module.weight[unit.channel])[:, None, None]
    elif layer.op == Op.CHANNEL_CONVOLUTION:
        first, weights = unit.channel - layer.padding, numbers(module.weight[0, 0])[:, None, None]
    channels = np.arange(first, first + len(weights))
    places = channels[:, None, None], np.array(rows)[:, None], np.array(columns)
    channel_exists, row_exists, column_exists = (
        (axis >= 0) & (axis < size) for axis, size in zip(places, output.shape, strict=True)
    )
    inside = channel_exists & row_exists & column_exists
    near = output[tuple(axis.clip(0, size - 1) for axis, size in zip(places, output.shape, strict=True))]
    inputs = np.where(inside, near, 0.0).astype(np.float64)
    if layer.op == Op.MAX_POOLING:
        weights = np.zeros_like(inputs)
        weights.flat[np.where(inside, inputs, -np.inf).argmax()] = 1
    elif layer.op in (Op.AVERAGE_POOLING, Op.GLOBAL_AVERAGE_POOLING):
        weights = inside / inside.sum()
    return Window(name, first, rows, columns, inputs, weights, inside)


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor's values in float64."""
    return tensor.detach().cpu().double().numpy()


def number(tensor: Tensor, index: int) -> float:
    return tensor.detach()[index].item()


def bias(module: nn.Module, channel: int) -> tuple[Term, ...]:
    """The bias of a convolution or a linear layer, where it has one."""
    given = getattr(module, "bias", None)
    return () if given is None else (Term(number(given, channel), "bias b"),)


def window_steps(layer: Layer, window: Window, constants: Sequence[Term], value: float) -> tuple[Step, ...]:
    """What is summed, and the sum, in a line."""
    count, inside = window.inputs.size, int(window.inside.sum())
    beyond = f", {count - inside} of them in the padding" if inside < count else ""
    total = tex(float(window.products.sum()))
    if layer.op == Op.MAX_POOLING:
        return (Step(f"The largest of {inside:,} inputs", rf"\max_{{i,j}} x_{{ij}} = {tex(value)}"),)
    if layer.op in (Op.AVERAGE_POOLING, Op.GLOBAL_AVERAGE_POOLING):
        mean = rf"\dfrac{{1}}{{{inside}}}\sum_{{i,j}} x_{{ij}} = \dfrac{{{tex(float(window.inputs.sum()))}}}{{{inside}}} = {tex(value)}"
        return (Step(f"The mean of {inside:,} inputs", mean),)
    if layer.op == Op.BLUR:
        words = f"{count} products of the binomial filter and the map, which is reflected at its border"
        return (Step(words, rf"\sum_{{i,j}} k_{{ij}}\,x_{{ij}} = {total}"),)
    if layer.op == Op.LINEAR:
        words, sum_ = f"{count:,} products of a weight and a pooled channel", r"\sum_{c} w_{c}\,x_{c}"
    elif layer.op == Op.CHANNEL_CONVOLUTION:
        words, sum_ = f"{count} products of a weight and a neighbouring channel{beyond}", r"\sum_{i} w_{i}\,x_{c+i}"
    else:
        channels, size = len(window.weights), f"{layer.kernel}×{layer.kernel}"
        words = f"{count:,} products of a weight and an input, {size} of each of {channels:,} channels{beyond}"
        sum_ = r"\sum_{c,i,j} w_{cij}\,x_{cij}" if layer.kernel > 1 else r"\sum_{c} w_{c}\,x_{c}"
    if not constants:
        return (Step(words, f"{sum_} = {total}"),)
    return (Step(f"{words}, and a bias", f"{sum_} + b = {total} {added(constants[0].value)} = {tex(value)}"),)


def softmax_step(scores: np.ndarray, channel: int) -> Step:
    """The probability of a class, from the scores of all."""
    exponents = np.exp(scores.astype(np.float64) - scores.max())
    share = float(exponents[channel] / exponents.sum())
    score = rf"e^{{{tex(float(scores[channel]))}}}"
    rest = float(np.log(exponents.sum()) + scores.max())
    return Step(
        f"Softmax makes a probability of this score: e to it over the sum of e to each of the {len(scores):,} classes' scores",
        rf"\dfrac{{e^{{z_c}}}}{{\sum_k e^{{z_k}}}} = \dfrac{{{score}}}{{e^{{{tex(rest)}}}}} = {tex(share)}",
    )


# -- one place ----------------------------------------------------------------------------


def addition(units: Sequence[Unit], values: Sequence[float], off: bool) -> tuple[tuple[Term, ...], Step]:
    """F(x) + S(x); of a block that is `off`, S(x) alone."""
    branch, shortcut = units
    if off:
        terms = (
            Term(0.0, "branch F(x), off", branch, 0.0, values[0]),
            Term(values[1], "shortcut S(x)", shortcut, 1.0, values[1]),
        )
        return terms, Step("The block is off: its shortcut goes on alone", rf"S(x) = {tex(values[1])}")
    terms = (
        Term(values[0], "branch F(x)", branch, 1.0, values[0]),
        Term(values[1], "shortcut S(x)", shortcut, 1.0, values[1]),
    )
    total = tex(values[0] + values[1])
    return terms, Step(
        "What the branch adds to the shortcut", rf"F(x) + S(x) = {tex(values[0])} {added(values[1])} = {total}"
    )


def batch_norm(module: Any, _: Op, x: Sequence[float], units: Sequence[Unit]) -> tuple[tuple[Term, ...], Step]:
    """γ (x − μ) / √(v + ε) + β with the running mean and variance (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167)."""
    channel = units[0].channel
    mean, variance = number(module.running_mean, channel), number(module.running_var, channel)
    return normalised(module, channel, x[0], units[0], mean, variance, "running mean and variance of the channel")


def group_norm(module: Any, output: np.ndarray, unit: Unit) -> tuple[tuple[Term, ...], Step]:
    """As batch norm, with mean and variance of the group's channels on this image (Wu and He 2018, https://arxiv.org/abs/1803.08494)."""
    width = len(output) // module.num_groups
    first = unit.channel // width * width
    group = output[first : first + width].astype(np.float64)
    words = f"mean and variance of the {group.size:,} units of channels {first} to {first + width - 1} on this image"
    value = float(output[unit[1:]])
    return normalised(module, unit.channel, value, unit, float(group.mean()), float(group.var()), words)


def normalised(
    module: Any, channel: int, x: float, unit: Unit, mean: float, variance: float, words: str
) -> tuple[tuple[Term, ...], Step]:
    """A norm's three terms."""
    gamma, beta = number(module.weight, channel), number(module.bias, channel)
    scale = gamma / math.sqrt(variance + module.eps)
    terms = (
        Term(scale * x, "γ / √(v + ε) × input", unit, scale, x),
        Term(-scale * mean, "−γ μ / √(v + ε)"),
        Term(beta, "β"),
    )
    total = scale * (x - mean) + beta
    return terms, Step(
        f"μ and v are the {words}",
        rf"\gamma\,\dfrac{{x-\mu}}{{\sqrt{{v+\varepsilon}}}}+\beta = {factor_tex(gamma)}\cdot"
        rf"\dfrac{{{tex(x)} {added(-mean)}}}{{\sqrt{{{tex(variance)} {added(module.eps)}}}}} {added(beta)} = {tex(total)}",
    )


def scaling(_: nn.Module, __: Op, x: Sequence[float], units: Sequence[Unit]) -> tuple[tuple[Term, ...], Step]:
    """A channel's unit times the channel's weight, by channel attention."""
    term = Term(x[0] * x[1], "channel's weight × input", units[0], x[1], x[0], units[1])
    return (term,), Step(
        "The channel's weight, which attention made of the whole map",
        f"{factor_tex(x[1])} \\cdot {factor_tex(x[0])} = {tex(term.value)}",
    )


def same(_: nn.Module, op: Op, x: Sequence[float], units: Sequence[Unit]) -> tuple[tuple[Term, ...], Step]:
    """Zero padding within the map, flattening, and stochastic depth outside of training hand on what they read."""
    return (Term(x[0], str(op), units[0], 1.0, x[0]),), Step("Handed on as it is", f"x = {tex(x[0])}")


def activation(module: Any, op: Op, x: Sequence[float], units: Sequence[Unit]) -> tuple[tuple[Term, ...], Step]:
    """A non-linearity; where it is a product of its input, with the factor."""
    given, (formula, words) = x[0], FORMULAS[op]
    if op == Op.RELU:
        factor: float | None = float(given > 0)
    elif op == Op.LEAKY_RELU:
        factor = 1.0 if given > 0 else module.negative_slope
        formula = formula.replace(r"\alpha", tex(module.negative_slope))
    elif op == Op.SILU:
        factor = sigmoid(given)
    elif op == Op.GELU:
        factor = (1 + math.erf(given / math.sqrt(2))) / 2
    else:
        factor = 1.0 if op == Op.ELU and given > 0 else None
    if factor is not None:
        value = factor * given
    else:
        value = sigmoid(given) if op == Op.SIGMOID else module.alpha * math.expm1(given)
    words = words.format("above zero" if given > 0 else "not above zero")
    return (Term(value, f"{op} of the input", units[0], factor, given),), Step(
        words, rf"{formula} = {tex(value)},\quad x = {tex(given)}"
    )


FORMULAS = {
    Op.RELU: (r"\max(0,\,x)", "ReLU lets through what is above zero; the input is {}"),
    Op.LEAKY_RELU: (r"\max(x,\,\alpha\,x)", "Leaky ReLU makes what is below zero small; the input is {}"),
    Op.ELU: (r"x>0\;?\;x : e^{x}-1", "ELU bends what is below zero towards −1; the input is {}"),
    Op.SILU: (r"x\,/\,(1+e^{-x})", "SiLU is the input times its sigmoid; the input is {}"),
    Op.GELU: (r"x\,\Phi(x)", "GELU is the input times the normal distribution's share below it; the input is {}"),
    Op.SIGMOID: (r"1\,/\,(1+e^{-x})", "The sigmoid makes a weight from 0 to 1; the input is {}"),
}
"""Each non-linearity in KaTeX, and in words that end with where its input is."""

ELEMENTWISE = {
    Op.BATCH_NORM: batch_norm,
    Op.SCALING: scaling,
    Op.ZERO_PADDING: same,
    Op.FLATTEN: same,
    Op.STOCHASTIC_DEPTH: same,
}
"""What reads one place of each input; all others are activations."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


# -- numbers in KaTeX ---------------------------------------------------------------------


def tex(value: float) -> str:
    """Four figures: 0.1234, -5.432\\cdot10^{-7}."""
    mantissa, _, exponent = f"{value:z.4g}".partition("e")
    return rf"{mantissa}\cdot10^{{{int(exponent)}}}" if exponent else mantissa


def factor_tex(value: float) -> str:
    """In brackets where it is negative."""
    return f"({tex(value)})" if value < 0 else tex(value)


def added(value: float) -> str:
    """A number with the sign that adds it."""
    return f"- {tex(-value)}" if value < 0 else f"+ {tex(value)}"
